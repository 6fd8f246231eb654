"""Finished rows that have no leaf: those that wait for the sealer, and those that it can never have seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from audit.ledger.rows import Raw
from audit.ledger.tlog.canonical import LOG_V1, TASK_V1, Form, Uncanonical
from audit.ledger.tlog.wire import wire_hash
from audit.ledger.verify.findings import MAX_FINDINGS, Code, Findings
from audit.models import LedgerHead

__all__ = ["Unsealed", "backlog", "look_for_unsealed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsealed:
    """Rows that wait for the sealer."""

    count: int
    oldest: datetime | None
    """When the oldest was written."""


_BATCH = 2_000

# By their ids alone, in pages: what a row holds may be long.
_TASKS = """
SELECT task.id FROM audit_task AS task
WHERE task.status IN ('completed', 'failed', 'rejected') AND task.id > %s
    AND NOT EXISTS (SELECT FROM audit_ledger_leaf AS leaf WHERE leaf.task_id = task.id)
ORDER BY task.id LIMIT %s
"""
_LOGS = """
SELECT log.id FROM audit_executionlog AS log
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
# The trigger that logs a task's end is an ordinary one: a session that leaves it out leaves this.
_UNTOLD = """
SELECT task.id FROM audit_task AS task
WHERE task.status IN ('completed', 'failed', 'rejected') AND NOT EXISTS (
    SELECT FROM audit_executionlog AS log
    WHERE log.task_id = task.id AND log.kind = 'transition' AND log.revision = task.revision
        AND log.to_status = task.status)
ORDER BY task.id LIMIT %s
"""
# What `chain_log_v1.sql` demands of each transition when it is written.
_BROKEN = """
SELECT task_id, id FROM (
    SELECT task_id, id, from_status, revision, lag(to_status) OVER earlier AS last_status,
        lag(revision) OVER earlier AS last_revision
    FROM audit_executionlog WHERE kind = 'transition' WINDOW earlier AS (PARTITION BY task_id ORDER BY revision, id)
) AS told
WHERE from_status IS DISTINCT FROM last_status OR revision <= last_revision
ORDER BY id LIMIT %s
"""
_NO_TASK = UUID(int=0)
_NO_LOG = -(2**63)


def look_for_unsealed(raw: Raw, cursor: Any, head: LedgerHead, findings: Findings) -> Unsealed:
    """Look for finished rows without a leaf: is each whole, and can the sealer have left it?

    Args:
        raw: reads rows in the verification's snapshot.
        cursor: in the same.
        head: where sealing stands in that snapshot.
        findings: takes those that are not whole, or were put in behind the sealer's back.
    """
    low = _low(cursor, head, findings)
    tasks = _Waiting(raw, TASK_V1, low, findings, lambda key: {"task": str(UUID(bytes=key))})
    logs = _Waiting(raw, LOG_V1, low, findings, lambda key: {"log": int.from_bytes(key, "big", signed=True)})
    tasks.read(_TASKS, _NO_TASK, lambda key: UUID(bytes=key))
    logs.read(_LOGS, _NO_LOG, lambda key: int.from_bytes(key, "big", signed=True))
    cursor.execute(_UNTOLD, [MAX_FINDINGS + 1])
    for (task,) in cursor.fetchall():
        findings.add(
            Code.ROW_INSERTED, f"No row of the execution log tells how the task {task} finished.", task=str(task)
        )
    cursor.execute(_BROKEN, [MAX_FINDINGS + 1])
    for task, log in cursor.fetchall():
        findings.add(
            Code.HISTORY_BROKEN,
            f"The row {log} of the execution log tells a transition of the task {task} that does not go on from the "
            "one before: one of them is forged, or one between them is missing.",
            task=str(task),
            log=log,
        )
    oldest = [each.oldest for each in (tasks, logs) if each.oldest is not None]
    return Unsealed(count=tasks.count + logs.count, oldest=_moment(min(oldest)) if oldest else None)


class _Waiting:
    """Rows of one table that have no leaf."""

    def __init__(
        self, raw: Raw, form: Form, low: int, findings: Findings, where: Callable[[bytes], dict[str, Any]]
    ) -> None:
        self.count = 0
        self.oldest: int | None = None
        self._raw = raw
        self._form = form
        self._low = low
        self._findings = findings
        self._where = where
        names = [column.name for column in form.columns]
        # The later one is when a task became what it is: what was imported may have finished years before.
        written = ("recorded_at", "finished_at") if form is TASK_V1 else ("at",)
        self._written = [names.index(each) for each in written]

    def read(self, query: str, after: Any, key_of: Callable[[bytes], Any]) -> None:
        """Read all of them, ids first."""
        while page := [key_of(key) for (key,) in self._raw.rows(query, after, _BATCH)]:
            for *values, stored in self._raw.sealed(self._form, "id", page):
                self._judge(values, stored)
            after = page[-1]

    def _judge(self, values: list[bytes | None], stored: bytes | None) -> None:
        key = values[0] or b""
        name = "finished task {task}" if self._form is TASK_V1 else "row {log} of the execution log"
        told = f"The {name.format_map(self._where(key))} has no leaf"
        try:
            whole = wire_hash(self._form, values) == stored
        except Uncanonical:
            whole = False
        if not whole:
            self._findings.add(Code.ROW_TAMPERED, f"{told} yet, and is not what its row_hash says.", **self._where(key))
        xid = values[-1]  # the last column of each form
        if xid is None or int.from_bytes(xid, "big") < self._low:
            self._findings.add(
                Code.ROW_INSERTED,
                f"{told}, although everything of its transaction was sealed long ago.",
                **self._where(key),
            )
            return
        self.count += 1
        written = [int.from_bytes(at, "big", signed=True) for each in self._written if (at := values[each]) is not None]
        if written:
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
    low = str(_low(cursor, head))
    cursor.execute(_WAITING, [low, low])
    counted = cursor.fetchall()
    return Unsealed(
        count=sum(count for count, _ in counted), oldest=min((at for _, at in counted if at is not None), default=None)
    )


def _low(cursor: Any, head: LedgerHead, findings: Findings | None = None) -> int:
    cursor.execute(
        "SELECT system_identifier::text, pg_snapshot_xmax(pg_current_snapshot())::text FROM pg_control_system()"
    )
    system, upper_end = cursor.fetchone()
    # On another server the mark says nothing until the sealer has run there (see `seal`, Note [Another server]).
    if head.system_identifier != system:
        return 0
    low = head.low_xid or 0
    if low <= int(upper_end):
        return low
    if findings is not None:
        findings.add(
            Code.FRONTIER_ALTERED,
            f"The ledger's head says that everything below transaction {low} is sealed, and this server has not begun "
            f"transaction {upper_end}.",
        )
    return 0
