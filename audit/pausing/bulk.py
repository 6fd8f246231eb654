"""Pauses, resumes and defers many at once: a pass costs as many statements for a thousand as for one.

Each locks tasks before entries, as the verbs do, and skips what somebody else has locked or moved meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from django.db import transaction

from audit.leases.wakeup import announce
from audit.models import PauseQueueEntry, Task
from audit.pausing.capacity import CapacityVerdict
from audit.pausing.capacity_wait import capacity_wait
from audit.statements.rows import columns, fetch, run
from audit.values import validation
from audit.verbs.end_waits import PausedWork, resume_waits

__all__ = ["EVIDENCE", "defer", "pause", "resume_claimed", "resume_timed"]

EVIDENCE = "capacity"
"""The `action` of the log row that keeps the evidence of a pause."""

# In the words of the index audit_pause_queue_timed.
_TIMED = PausedWork(
    where="NOT entry.held AND entry.reason IN ('manual_pause', 'awaiting_event') AND entry.event = ''"
    " AND entry.due_at <= statement_timestamp()"
    " AND (entry.lease_expires_at IS NULL OR entry.lease_expires_at <= statement_timestamp())",
    order="entry.due_at, entry.id",
    by_priority=True,
)
_CLAIMED = PausedWork(where="entry.id = ANY (%s) AND entry.claim_token = %s")

_EARLIER = f"""
SELECT task_id, count(*) FROM audit_executionlog
WHERE task_id = ANY (%s) AND kind = 'note' AND action = '{EVIDENCE}' GROUP BY task_id
"""  # noqa: S608 - a constant
_PAUSE = """
WITH picked AS MATERIALIZED (
    SELECT task.id FROM audit_task AS task WHERE task.id = ANY (%s) AND task.status = 'approved'
    ORDER BY task.id FOR NO KEY UPDATE SKIP LOCKED
), moved AS (
    UPDATE audit_task AS task SET status = 'paused', actor = %s, revision = task.revision + 1
    WHERE task.id = ANY (ARRAY(SELECT picked.id FROM picked)) AND task.status = 'approved'
    RETURNING task.id, task.work_plan, task.actor, task.priority
), queued AS (
    INSERT INTO audit_pause_queue (task_id, work_plan, reason, note, paused_by, resume_after, held, priority, actor)
    SELECT moved.id, moved.work_plan, 'insufficient_capacity', (%s::text[])[given.said], moved.actor,
        statement_timestamp() + given.wait, false, moved.priority, moved.actor
    FROM moved JOIN unnest(%s::uuid[], %s::interval[], %s::integer[]) AS given (task_id, wait, said)
        ON given.task_id = moved.id
    RETURNING *
)
"""
_NOTE = f"""
INSERT INTO audit_executionlog (task_id, kind, revision, attempt, actor, action, output_summary, detail)
SELECT task.id, 'note', task.revision, task.attempt, entry.paused_by, '{EVIDENCE}', entry.note,
    (%s::text[])[given.said]::jsonb
FROM unnest(%s::uuid[], %s::integer[]) AS given (task_id, said)
JOIN audit_task AS task ON task.id = given.task_id JOIN audit_pause_queue AS entry ON entry.task_id = task.id
RETURNING id
"""  # noqa: S608 - a constant
_DEFER = """
UPDATE audit_pause_queue AS entry
SET held = false, resume_after = statement_timestamp() + given.wait, note = given.note, claimed_by = '',
    claim_token = NULL, lease_expires_at = NULL, actor = %s, revision = entry.revision + 1
FROM unnest(%s::bigint[], %s::interval[], %s::text[]) AS given (id, wait, note)
WHERE entry.id = given.id AND entry.claim_token = %s
RETURNING entry.id
"""


def pause(using: str, verdicts: Mapping[UUID, CapacityVerdict], *, actor: str) -> list[PauseQueueEntry]:
    """Pause approved tasks for want of capacity, with the evidence in their log: four statements and one commit.

    Args:
        using: the alias to write through.
        verdicts: why, by the id of the task.
        actor: who pauses.

    Returns:
        The entries, in the given order; none of a task that is not approved any more, or locked.
    """
    if not verdicts:
        return []
    # Many tasks share one verdict: it is checked once, and sent once.
    said = {id(verdict): verdict for verdict in verdicts.values()}
    number = {key: count for count, key in enumerate(said, 1)}
    notes = [validation.text("note", each.summary) for each in said.values()]
    evidence = [validation.document("evidence", each.evidence) for each in said.values()]
    ids = list(verdicts)
    numbers = [number[id(verdict)] for verdict in verdicts.values()]
    with transaction.atomic(using=using):
        earlier = dict(run(using, _EARLIER, [ids]))
        waits = [capacity_wait(earlier.get(key, 0) + 1) for key in ids]
        sql = f"{_PAUSE} SELECT {columns(PauseQueueEntry, 'queued')} FROM queued"  # noqa: S608 - column names of our own model
        entries = fetch(PauseQueueEntry, using, sql, [ids, actor, notes, ids, waits, numbers])
        if entries:
            paused = [each.task_id for each in entries]
            reasons = dict(zip(ids, numbers, strict=True))
            run(using, _NOTE, [evidence, paused, [reasons[key] for key in paused]])
    place = {key: count for count, key in enumerate(ids)}
    return sorted(entries, key=lambda entry: place[entry.task_id])


def resume_timed(using: str, *, limit: int, actor: str) -> list[Task]:
    """Resume work that was paused by hand, or for an event without a name, for a time that has passed.

    Args:
        using: the alias to write through.
        limit: how many at most.
        actor: who resumes.
    """
    return _announced(using, resume_waits(using, _TIMED, [], limit=limit, actor=actor))


def resume_claimed(using: str, entries: Sequence[PauseQueueEntry], *, actor: str) -> list[Task]:
    """Resume entries of one claim.

    Args:
        using: the alias to write through.
        entries: that were claimed together.
        actor: who resumes.
    """
    if not entries:
        return []
    params = [[entry.pk for entry in entries], entries[0].claim_token]
    return _announced(using, resume_waits(using, _CLAIMED, params, limit=len(entries), actor=actor))


def defer(using: str, waits: Sequence[tuple[PauseQueueEntry, timedelta, str]], *, actor: str) -> None:
    """Make entries of one claim due later, and give the claim back.

    Args:
        using: the alias to write through.
        waits: each entry, how long it waits from now, and why: its note from now on. The log keeps the first one.
        actor: who defers.
    """
    if waits:
        entries, spans, notes = zip(*waits, strict=True)
        given = [[each.pk for each in entries], list(spans), [validation.text("note", each) for each in notes]]
        run(using, _DEFER, [actor, *given, entries[0].claim_token])


def _announced(using: str, tasks: list[Task]) -> list[Task]:
    announce(using, [task.action for task in tasks])
    return tasks
