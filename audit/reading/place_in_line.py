"""How many come before a task or an entry of the pause queue, in the order in which workers claim."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from audit.statements.rows import run

__all__ = ["MOST", "entries_ahead", "tasks_ahead"]

MOST = 100
"""So many are counted; of more it is only known that there are more."""

# Of each priority a range of the claim's own index, so that what is not due yet costs nothing.
_AHEAD = """
SELECT count(*) FROM (
    SELECT FROM generate_series(1, %s) AS class (priority)
    CROSS JOIN LATERAL (
        SELECT FROM {table}
        WHERE {waits} AND {table}.priority = class.priority AND {due} <= statement_timestamp()
            AND ({due}, id) < (
                CASE WHEN class.priority < %s THEN 'infinity' ELSE %s END,
                CASE WHEN class.priority < %s THEN {last} ELSE %s END)
        ORDER BY {due}, id LIMIT %s
    ) AS first
    LIMIT %s
) AS earlier
"""
_TASKS = _AHEAD.format(
    table="audit_task",
    waits="status = 'approved'",
    due="available_at",
    last="uuid 'ffffffff-ffff-ffff-ffff-ffffffffffff'",
)
_ENTRIES = _AHEAD.format(table="audit_pause_queue", waits="NOT held", due="due_at", last="9223372036854775807::bigint")


def tasks_ahead(using: str, *, task: UUID, priority: int, available_at: datetime) -> int:
    """Count the approved tasks that are due and would be claimed before this one.

    Args:
        using: the alias to read through.
        task: its id.
        priority: its priority.
        available_at: since when it may be claimed.

    Returns:
        Their number; `MOST + 1` stands for more than `MOST`.
    """
    return _count(using, _TASKS, task, priority, available_at)


def entries_ahead(using: str, *, entry: int, priority: int, due_at: datetime) -> int:
    """Count the entries of the pause queue that are due and would be claimed before this one.

    Args:
        using: the alias to read through.
        entry: its id.
        priority: its priority.
        due_at: since when it is due.

    Returns:
        Their number; `MOST + 1` stands for more than `MOST`.
    """
    return _count(using, _ENTRIES, entry, priority, due_at)


def _count(using: str, sql: str, key: UUID | int, priority: int, due: datetime) -> int:
    [(count,)] = run(using, sql, [priority, priority, due, priority, key, MOST + 1, MOST + 1])
    return int(count)
