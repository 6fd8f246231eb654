"""Finished rows that have no leaf: those that wait for the sealer, and those that it can never have seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from audit.ledger.binary_rows import Raw, number
from audit.ledger.verify.findings import Code, Findings
from audit.models import LedgerHead

__all__ = ["Unsealed", "backlog", "look_for_unsealed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsealed:
    """Rows that wait for the sealer."""

    count: int
    oldest: datetime | None
    """When the oldest was written."""


_BATCH = 2_000

# When a task became what it is, is the later of two moments: what was imported may have finished years before.
_TASKS = """
SELECT task.id, task.finished_xid, task.recorded_at, task.finished_at FROM audit_task AS task
WHERE task.status IN ('completed', 'failed', 'rejected') AND task.id > %s
    AND NOT EXISTS (SELECT FROM audit_ledger_leaf AS leaf WHERE leaf.task_id = task.id)
ORDER BY task.id LIMIT %s
"""
_LOGS = """
SELECT log.id, log.xid, log.at FROM audit_executionlog AS log
WHERE log.id > %s AND NOT EXISTS (SELECT FROM audit_ledger_leaf AS leaf WHERE leaf.log_id = log.id)
ORDER BY log.id LIMIT %s
"""
_WAITING = """
SELECT count(*), min(greatest(recorded_at, finished_at)) FROM audit_task AS task
WHERE task.finished_xid >= %s::xid8
    AND NOT EXISTS (SELECT FROM audit_ledger_leaf AS leaf WHERE leaf.task_id = task.id)
UNION ALL
SELECT count(*), min(at) FROM audit_executionlog AS log
WHERE log.xid >= %s::xid8
    AND NOT EXISTS (SELECT FROM audit_ledger_leaf AS leaf WHERE leaf.log_id = log.id)
"""
_NO_TASK = UUID(int=0)
_NO_LOG = -(2**63)
_NEVER = 2**64


def look_for_unsealed(raw: Raw, cursor: Any, head: LedgerHead, findings: Findings) -> Unsealed:
    """Look for finished rows without a leaf: can the sealer have left them?

    Args:
        raw: reads rows in the verification's snapshot.
        cursor: in the same.
        head: where sealing stands in that snapshot.
        findings: takes those that were put in behind the sealer's back.
    """
    bounds = _bounds(cursor, head, findings)
    tasks = _Waiting(bounds, findings, lambda key: (f"finished task {key}", {"task": str(key)}))
    logs = _Waiting(bounds, findings, lambda key: (f"row {key} of the execution log", {"log": key}))
    tasks.read(raw, _TASKS, _NO_TASK, lambda key: UUID(bytes=key))
    logs.read(raw, _LOGS, _NO_LOG, number)
    oldest = [each.oldest for each in (tasks, logs) if each.oldest is not None]
    return Unsealed(count=tasks.count + logs.count, oldest=_moment(min(oldest)) if oldest else None)


class _Waiting:
    """Rows of one table that have no leaf.

    Args:
        bounds: the sealer's mark, and the first transaction that is still to come.
        findings: takes those that are not between them.
        named: names a row for a message and for a finding.
    """

    def __init__(
        self, bounds: tuple[int, int], findings: Findings, named: Callable[[Any], tuple[str, dict[str, Any]]]
    ) -> None:
        self.count = 0
        self.oldest: int | None = None
        self._low, self._upper_end = bounds
        self._findings = findings
        self._named = named

    def read(self, raw: Raw, query: str, after: Any, key_of: Callable[[bytes], Any]) -> None:
        """Read all of them, in pages."""
        while page := raw.narrow(query, after, _BATCH):
            for key, xid, *moments in page:
                after = key_of(key)
                self._judge(after, xid, moments)

    def _judge(self, key: Any, xid: bytes | None, moments: list[bytes | None]) -> None:
        name, where = self._named(key)
        if xid is None or number(xid) < self._low:
            self._findings.add(
                Code.ROW_INSERTED,
                f"The {name} has no leaf, although everything of its transaction was sealed long ago.",
                **where,
            )
            return
        if number(xid) >= self._upper_end:
            self._findings.add(
                Code.ROW_INSERTED,
                f"The {name} has no leaf, and is of a transaction that this server has not begun.",
                **where,
            )
            return
        self.count += 1
        if written := [number(moment) for moment in moments if moment is not None]:
            self.oldest = max(written) if self.oldest is None else min(self.oldest, max(written))


def _moment(microseconds: int) -> datetime:
    """Read a moment as PostgreSQL sends it; one beyond Python's years becomes the first or last of them."""
    epoch = datetime(2000, 1, 1, tzinfo=UTC)
    try:
        return epoch + timedelta(microseconds=microseconds)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC) if microseconds < 0 else datetime.max.replace(tzinfo=UTC)


def backlog(cursor: Any, head: LedgerHead) -> Unsealed:
    """Count what waits for the sealer; costs no more than there is.

    Args:
        cursor: on the database of the head.
        head: where sealing stands.
    """
    low = str(_bounds(cursor, head)[0])
    cursor.execute(_WAITING, [low, low])
    counted = cursor.fetchall()
    return Unsealed(
        count=sum(count for count, _ in counted), oldest=min((at for _, at in counted if at is not None), default=None)
    )


def _bounds(cursor: Any, head: LedgerHead, findings: Findings | None = None) -> tuple[int, int]:
    """Between which transactions rows may wait: from the sealer's mark up to, and without, those still to come."""
    cursor.execute(
        "SELECT system_identifier::text, pg_snapshot_xmax(pg_current_snapshot())::text FROM pg_control_system()"
    )
    system, upper_end = cursor.fetchone()
    # On another server both say nothing until the sealer has run there (see `seal`, Note [Another server]).
    if head.system_identifier != system:
        return 0, _NEVER
    low, upper_end = head.low_xid or 0, int(upper_end)
    if low <= upper_end:
        return low, upper_end
    if findings is not None:
        findings.add(
            Code.FRONTIER_ALTERED,
            f"The ledger's head says that everything below transaction {low} is sealed, and this server has not begun "
            f"transaction {upper_end}.",
        )
    return 0, _NEVER
