"""The events that paused work waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from audit.statements.rows import run

__all__ = ["MOST_ENTRIES", "Awaited", "awaited", "awaiting"]

MOST_ENTRIES = 1_000
"""So many entries of the pause queue are looked at."""
_NAMES = 20

_AWAITED = """
SELECT event, count(*), min(paused_at)
FROM (SELECT event, paused_at FROM audit_pause_queue WHERE event <> '' ORDER BY event, id LIMIT %s) AS few
GROUP BY event ORDER BY 2 DESC, 3 LIMIT %s
"""
_AWAITING = "SELECT count(*) FROM (SELECT FROM audit_pause_queue WHERE event = %s AND event <> '' LIMIT %s) AS few"


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """An event that somebody waits for."""

    name: str
    tasks: int
    """How many tasks wait for it."""
    since: datetime
    """When the first of them was paused."""


def awaited(using: str) -> Sequence[Awaited]:
    """Name the events that paused tasks wait for, those with the most tasks first, twenty at most.

    Args:
        using: the alias to read through.
    """
    rows = run(using, _AWAITED, [MOST_ENTRIES, _NAMES])
    return [Awaited(name=name, tasks=tasks, since=since) for name, tasks, since in rows]


def awaiting(using: str, name: str) -> int:
    """Count the tasks that wait for an event; `MOST_ENTRIES + 1` stands for more than `MOST_ENTRIES`.

    Args:
        using: the alias to read through.
        name: the event's.
    """
    [(count,)] = run(using, _AWAITING, [name, MOST_ENTRIES + 1])
    return int(count)
