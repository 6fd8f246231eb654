"""What the log says of every task, live or finished: each step goes on from the one before, the last one is the task's
status, the plan is the one that was approved, and who is paused waits in the queue.

None of it needs a seal: it holds for rows that wait for the sealer, too. A session that gets around the triggers that
write the log leaves this.
"""

from __future__ import annotations

from hashlib import sha256
from uuid import UUID

from audit.ledger.binary_rows import Raw, number
from audit.ledger.verify.findings import Code, Findings
from audit.status import FINISHED, TRANSITIONS

__all__ = ["look_at_history"]

_LEGAL = [f"{before} {after}" for before, steps in TRANSITIONS.items() for after in steps]

# Ordered as the unique index has them, so that nothing needs to be sorted.
_STEPS = """
SELECT step.task_id, step.id, step.to_status, task.status, step.broken, task.id IS NULL
FROM (
    SELECT task_id, id, to_status, revision, lead(id) OVER ways IS NULL AS newest, coalesce(
        from_status IS DISTINCT FROM lag(to_status) OVER ways OR revision <= lag(revision) OVER ways
        OR from_status || ' ' || to_status <> ALL (%s::text[]), false) OR to_status IS NULL OR revision IS NULL
        AS broken
    FROM audit_executionlog WHERE kind = 'transition' WINDOW ways AS (PARTITION BY task_id ORDER BY revision)
) AS step
LEFT JOIN audit_task AS task ON step.newest AND task.id = step.task_id
WHERE step.broken OR step.newest AND (
    task.status IS DISTINCT FROM step.to_status OR task.revision < step.revision
    OR task.revision <> step.revision AND task.status = ANY (%s::text[]))
"""
_UNLOGGED = """
SELECT task.id, task.status FROM audit_task AS task WHERE NOT EXISTS (
    SELECT FROM audit_executionlog AS log WHERE log.task_id = task.id AND log.kind = 'transition')
"""
_APPROVALS = """
SELECT log.task_id, log.id, log.detail, task.plan
FROM audit_executionlog AS log JOIN audit_task AS task ON task.id = log.task_id
WHERE log.kind = 'transition' AND log.to_status = 'approved' AND coalesce(log.from_status, 'pending') = 'pending'
"""
_PAUSES = """
SELECT coalesce(task.id, entry.task_id), task.status, entry.id IS NULL
FROM (SELECT id, status FROM audit_task WHERE status = 'paused') AS paused
FULL JOIN audit_pause_queue AS entry ON entry.task_id = paused.id
LEFT JOIN audit_task AS task ON task.id = coalesce(paused.id, entry.task_id)
WHERE paused.id IS NULL OR entry.id IS NULL
"""
_TRUE = b"\x01"


def look_at_history(raw: Raw, findings: Findings) -> None:
    """Compare tasks, their log and the pause queue.

    Args:
        raw: reads rows in the verification's snapshot.
        findings: takes what does not fit.
    """
    for key, log, step, status, broken, gone in raw.rows(_STEPS, _LEGAL, list(FINISHED)):
        task, row = str(UUID(bytes=key)), number(log)
        if broken == _TRUE:
            findings.add(
                Code.HISTORY_BROKEN,
                f"The transition in the row {row} of the execution log does not go on from the one before it of the "
                f"task {task}, or is none that a task can make: it is forged, or one between them is missing.",
                task=task,
                log=row,
            )
        elif gone == _TRUE:
            findings.add(Code.ROW_DELETED, f"The task {task} is gone, and its log is there.", task=task, log=row)
        else:
            findings.add(
                Code.STATUS_UNLOGGED,
                f"The task {task} is {_text(status)}, and the last transition in its log, the row {row}, is another "
                f"one, to {_text(step)}.",
                task=task,
                log=row,
            )
    for key, status in raw.rows(_UNLOGGED):
        task = str(UUID(bytes=key))
        findings.add(
            Code.ROW_INSERTED,
            f"No row of the execution log says how the task {task} became {_text(status)}.",
            task=task,
        )
    _look_at_plans(raw, findings)
    for key, status, lacking in raw.rows(_PAUSES):
        task = str(UUID(bytes=key))
        findings.add(
            Code.PAUSE_BROKEN,
            f"The task {task} is paused, and the pause queue has no entry for it."
            if lacking == _TRUE
            else f"The pause queue has an entry for the task {task}, which is {_text(status) or 'not there'}.",
            task=task,
        )


def _look_at_plans(raw: Raw, findings: Findings) -> None:
    for key, log, detail, plan in raw.rows(_APPROVALS):
        # JSONB comes as its text behind the number of its version.
        digest = None if plan is None else sha256(plan[1:]).hexdigest()
        if detail == b'\x01{"plan_sha256": %s}' % (f'"{digest}"' if digest else "null").encode():
            continue
        task, row = str(UUID(bytes=key)), number(log)
        holds = f"a plan with the SHA-256 {digest}" if digest else "no plan"
        approved = _text(detail and detail[1:]) or "nothing"
        findings.add(
            Code.PLAN_CHANGED,
            f"The plan of the task {task} is not the one that was approved: the task holds {holds}, and the approval "
            f"in the row {row} of the execution log says {approved}.",
            task=task,
            log=row,
        )


def _text(value: bytes | None) -> str:
    text = "" if value is None else value.decode(errors="replace")
    return text if len(text) <= 200 else f"{text[:200]}…"
