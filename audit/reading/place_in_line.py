"""How many tasks come before an approved one, in the order in which workers claim."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from audit.statements.rows import run

__all__ = ["MOST", "ahead"]

MOST = 100
"""So many are counted; of more it is only known that there are more."""

# Of each priority a range of the claim's own index, so that what is not due yet costs nothing.
_AHEAD = """
SELECT count(*) FROM (
    SELECT FROM generate_series(1, %s) AS class (priority)
    CROSS JOIN LATERAL (
        SELECT FROM audit_task
        WHERE status = 'approved' AND audit_task.priority = class.priority
            AND available_at <= statement_timestamp()
            AND (available_at, id) < (
                CASE WHEN class.priority < %s THEN 'infinity' ELSE %s END,
                CASE WHEN class.priority < %s THEN 'ffffffff-ffff-ffff-ffff-ffffffffffff' ELSE %s END)
        ORDER BY available_at, id LIMIT %s
    ) AS first
    LIMIT %s
) AS before
"""


def ahead(using: str, *, task: UUID, priority: int, available_at: datetime, most: int = MOST) -> int:
    """Count the approved tasks that are due and would be claimed before another one.

    Args:
        using: the alias to read through.
        task: the other one's id.
        priority: its priority.
        available_at: since when it may be claimed.
        most: how many to count at most.

    Returns:
        Their number; `most + 1` stands for more than `most`.
    """
    params = [priority, priority, available_at, priority, task, most + 1, most + 1]
    [(count,)] = run(using, _AHEAD, params)
    return int(count)
