"""Which rows are sealed next.

Note [Low-water mark]
    Rows are found by the transaction that wrote them. Every transaction below the `pg_snapshot_xmin` of a snapshot
    has ended: nothing new can appear below it. So a run looks through the rows at or above the mark that earlier
    runs left, in the order of (xid, id), and, when it has come to the end, moves the mark to the xmin that its first
    statement saw. Rows of transactions above that may be sealed already, and those that commit late are not missed:
    the next run meets both, and whether a row has its leaf is asked of the leaves (anti-join). Within a run each batch
    goes on behind the last row of the batch before, so that an import of a million rows in one transaction is walked
    through once.

Note [Another server]
    Transaction ids do not survive dump and restore: the new server counts anew. The head keeps the server's
    `system_identifier`; where it differs, or the mark lies in this server's future, one run looks at every row whatever
    its xid. Other runs leave out rows that claim a transaction which this server has not begun.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from audit.ledger.binary_rows import Raw, number

__all__ = ["BEFORE_ALL", "NOWHERE", "Picked", "Run", "pick"]

NOWHERE = bytes(16)
"""In front of every id of a task."""
BEFORE_ALL = -(2**63)
"""In front of every id of a log row."""

_PICK = """
SELECT * FROM (
    (SELECT task.finished_xid AS xid, task.id AS task_id, NULL::bigint AS log_id
    FROM audit_task AS task
    WHERE task.finished_xid IS NOT NULL AND (task.finished_xid, task.id) > (%s::xid8, %s::uuid)
        AND (%s OR task.finished_xid < %s::xid8)
        AND (SELECT leaf.index FROM audit_ledger_leaf AS leaf WHERE leaf.task_id = task.id LIMIT 1) IS NULL
    ORDER BY task.finished_xid, task.id LIMIT %s)
    UNION ALL
    (SELECT log.xid, NULL, log.id
    FROM audit_executionlog AS log
    WHERE (log.xid, log.id) > (%s::xid8, %s)
        AND (%s OR log.xid < %s::xid8)
        AND (SELECT leaf.index FROM audit_ledger_leaf AS leaf WHERE leaf.log_id = log.id LIMIT 1) IS NULL
    ORDER BY log.xid, log.id LIMIT %s)
) AS found ORDER BY xid, log_id NULLS FIRST, task_id LIMIT %s
"""


Picked = tuple[bytes, bytes | None, bytes | None]
"""A row's transaction, and its key as a task or as a row of the log, all as they come."""


@dataclass(slots=True, kw_only=True)
class Run:
    """Where one run stands between its batches."""

    task: tuple[int, bytes] = (0, NOWHERE)
    """Behind which (xid, id) of the tasks it goes on."""
    log: tuple[int, int] = (0, 0)
    horizon: int = 0
    """The xmin that its first statement saw."""
    whole: bool = False
    """Whether it looks at every row: Note [Another server]."""

    def goes_on_behind(self, rows: Sequence[Picked]) -> None:
        """Go on behind the last task and the last row of the log among those that were sealed."""
        if last := next(((xid, task) for xid, task, _ in reversed(rows) if task is not None), None):
            self.task = number(last[0]), last[1]
        if last := next(((xid, log) for xid, _, log in reversed(rows) if log is not None), None):
            self.log = number(last[0]), number(last[1])


def pick(raw: Raw, run: Run, upper_end: str, limit: int) -> list[Picked]:
    """Look for the next rows, in the order of the tree: Note [Low-water mark].

    Args:
        raw: reads them.
        run: behind which rows it goes on.
        upper_end: the `pg_snapshot_xmax` of a snapshot: no row is of a transaction from there on.
        limit: how many at most.
    """
    # xid8 has a cast from text alone.
    (task_xid, task), (log_xid, log) = run.task, run.log
    return raw.narrow(
        *(_PICK, str(task_xid), task.hex(), run.whole, upper_end, limit),
        *(str(log_xid), log, run.whole, upper_end, limit, limit),
    )
