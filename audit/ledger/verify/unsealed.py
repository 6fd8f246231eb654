"""Finished rows that have no leaf: those that wait for the sealer, and those that it can never have seen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audit.ledger.verify.findings import MAX_FINDINGS, Code, Findings
from audit.models import LedgerHead

__all__ = ["Unsealed", "backlog", "look_for_unsealed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsealed:
    """Rows that wait for the sealer."""

    count: int
    oldest: datetime | None
    """When the oldest was written."""


# A row below the sealer's mark was there when the sealer looked, or lies about its transaction.
_INSERTED_TASKS = """
SELECT task.id FROM audit_task AS task
WHERE task.status IN ('completed', 'failed', 'rejected') AND (task.finished_xid < %s::xid8) IS NOT FALSE
    AND NOT EXISTS (SELECT FROM audit_ledger_leaf AS leaf WHERE leaf.task_id = task.id)
ORDER BY task.id LIMIT %s
"""
_INSERTED_LOGS = """
SELECT log.id FROM audit_executionlog AS log
WHERE (log.xid < %s::xid8) IS NOT FALSE
    AND NOT EXISTS (SELECT FROM audit_ledger_leaf AS leaf WHERE leaf.log_id = log.id)
ORDER BY log.id LIMIT %s
"""
_UNSEALED = """
SELECT count(*), min(finished_at) FROM audit_task AS task
WHERE task.finished_xid >= %s::xid8
    AND NOT EXISTS (SELECT FROM audit_ledger_leaf AS leaf WHERE leaf.task_id = task.id)
UNION ALL
SELECT count(*), min(at) FROM audit_executionlog AS log
WHERE log.xid >= %s::xid8
    AND NOT EXISTS (SELECT FROM audit_ledger_leaf AS leaf WHERE leaf.log_id = log.id)
"""
# The trigger that logs a task's end is an ordinary one: a session that leaves it out leaves this.
_UNTOLD = """
SELECT task.id FROM audit_task AS task
WHERE task.status IN ('completed', 'failed', 'rejected') AND NOT EXISTS (
    SELECT FROM audit_executionlog AS log
    WHERE log.task_id = task.id AND log.kind = 'transition' AND log.revision = task.revision
        AND log.to_status = task.status)
ORDER BY task.id LIMIT %s
"""


def look_for_unsealed(cursor: Any, head: LedgerHead, findings: Findings) -> Unsealed:
    """Look for finished rows without a leaf.

    Args:
        cursor: in the verification's snapshot.
        head: where sealing stands in that snapshot.
        findings: takes those that were put in behind the sealer's back.
    """
    low = _low(cursor, head)
    if low != "0":
        cursor.execute(_INSERTED_TASKS, [low, MAX_FINDINGS + 1])
        for (task,) in cursor.fetchall():
            findings.add(
                Code.ROW_INSERTED,
                f"The finished task {task} has no leaf, and claims a transaction that was sealed long ago.",
                task=str(task),
            )
        cursor.execute(_INSERTED_LOGS, [low, MAX_FINDINGS + 1])
        for (log,) in cursor.fetchall():
            findings.add(
                Code.ROW_INSERTED,
                f"The row {log} of the execution log has no leaf, and claims a transaction that was sealed long ago.",
                log=log,
            )
    cursor.execute(_UNTOLD, [MAX_FINDINGS + 1])
    for (task,) in cursor.fetchall():
        findings.add(
            Code.ROW_INSERTED, f"No row of the execution log tells how the task {task} finished.", task=str(task)
        )
    return backlog(cursor, head)


def backlog(cursor: Any, head: LedgerHead) -> Unsealed:
    """Count what waits for the sealer; costs no more than there is.

    Args:
        cursor: on the database of the head.
        head: where sealing stands.
    """
    low = _low(cursor, head)
    cursor.execute(_UNSEALED, [low, low])
    counted = cursor.fetchall()
    return Unsealed(
        count=sum(count for count, _ in counted), oldest=min((at for _, at in counted if at is not None), default=None)
    )


def _low(cursor: Any, head: LedgerHead) -> str:
    cursor.execute("SELECT system_identifier::text FROM pg_control_system()")
    (system,) = cursor.fetchone()
    # On another server the mark says nothing until the sealer has run there (see `seal`, Note [Another server]).
    return str(head.low_xid or 0) if head.system_identifier == system else "0"
