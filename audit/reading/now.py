"""How the trail stands now: what waits and runs, and how today's work ended against yesterday's; counted in bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from audit.statements.rows import run
from audit.status import PauseReason

__all__ = ["MOST", "MOST_ENDED", "Day", "Ended", "Standing", "Waiting", "ended", "standing", "waiting"]

MOST = 1_000
"""So many of a kind are counted; of more it is only known that there are more."""
MOST_ENDED = 50_000
"""So many of the newest ends of work are looked at."""
_ACTIONS = 5

# Each sorted as its index is, which keeps the planner from reading a table from its beginning.
_STANDING = """
SELECT
    (SELECT count(*) FROM (SELECT FROM audit_task WHERE status = 'pending' ORDER BY created_at DESC
        LIMIT %(most)s) AS few),
    (SELECT min(created_at) FROM audit_task WHERE status = 'pending'),
    (SELECT min(approve_before) FROM audit_task WHERE status = 'pending' AND approve_before IS NOT NULL),
    (SELECT count(*) FROM (SELECT FROM audit_task WHERE status = 'approved' ORDER BY created_at DESC
        LIMIT %(most)s) AS few),
    (SELECT count(*) FROM (SELECT FROM audit_task WHERE status = 'executing' ORDER BY id LIMIT %(most)s) AS few),
    (SELECT count(*) FROM (
        SELECT FROM audit_task WHERE status = 'executing' AND lease_expires_at <= statement_timestamp()
        ORDER BY id LIMIT %(most)s
    ) AS few),
    (SELECT min(status_since) FROM (
        SELECT status_since FROM audit_task WHERE status = 'executing' ORDER BY id LIMIT %(most)s) AS few)
"""
_WAITING = """
SELECT
    (SELECT count(*) FROM (SELECT FROM audit_pause_queue WHERE NOT held AND id > 0
        AND due_at <= statement_timestamp()
        AND (lease_expires_at IS NULL OR lease_expires_at <= statement_timestamp())
        ORDER BY due_at, id LIMIT %(most)s) AS few),
    (SELECT count(*) FROM (SELECT FROM audit_pause_queue WHERE NOT held AND id > 0
        AND due_at > statement_timestamp() ORDER BY due_at, id LIMIT %(most)s) AS few),
    (SELECT count(*) FROM (SELECT FROM audit_pause_queue
        WHERE paused_at < statement_timestamp() - interval '24 hours'
        ORDER BY paused_at, id LIMIT %(most)s) AS few),
    (SELECT jsonb_object_agg(reason, tasks) FROM (
        SELECT reason, count(*) AS tasks
        FROM (SELECT reason FROM audit_pause_queue WHERE held ORDER BY due_at, id LIMIT %(most)s) AS few
        GROUP BY reason) AS counted)
"""
# By the index of ends; of the rows it reads only what is in them, no document.
_ENDED = """
WITH newest AS MATERIALIZED (
    SELECT action, status, finished_at FROM audit_task
    WHERE status IN ('completed', 'failed', 'rejected') AND finished_at >= %s AND finished_at < %s
    ORDER BY finished_at DESC LIMIT %s
), marked AS (
    SELECT action, status, finished_at >= %s AS today, finished_at < %s AS by_now FROM newest
)
SELECT NULL,
    count(*) FILTER (WHERE today AND status = 'failed'), count(*) FILTER (WHERE today AND status = 'completed'),
    count(*) FILTER (WHERE by_now AND status = 'failed'), count(*) FILTER (WHERE by_now AND status = 'completed'),
    count(*) FILTER (WHERE NOT today AND status = 'failed'),
    count(*) FILTER (WHERE NOT today AND status = 'completed'), count(*)
FROM marked
UNION ALL
(SELECT action,
    count(*) FILTER (WHERE today AND status = 'failed'), count(*) FILTER (WHERE today AND status = 'completed'),
    count(*) FILTER (WHERE by_now AND status = 'failed'), count(*) FILTER (WHERE by_now AND status = 'completed'),
    count(*) FILTER (WHERE NOT today AND status = 'failed'),
    count(*) FILTER (WHERE NOT today AND status = 'completed'), 0
FROM marked GROUP BY action HAVING count(*) FILTER (WHERE today AND status = 'failed') > 0
ORDER BY 2 DESC, 1 LIMIT %s)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Tasks that are not finished; numbers of `MOST + 1` stand for more than `MOST`."""

    pending: int
    oldest_pending: datetime | None
    next_deadline: datetime | None
    """When the first pending request is rejected if nobody approves it."""
    approved: int
    executing: int
    expired: int
    """Executing ones whose lease has run out."""
    longest: datetime | None
    """Since when the one that has run longest has been executing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The pause queue; numbers as those of `Standing`."""

    due: int
    scheduled: int
    """Not due yet."""
    long: int
    """Paused for more than 24 hours."""
    held: Mapping[str, int]
    """By reason, what only a person or an event releases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """How work ended in a stretch of time."""

    failed: int
    completed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Today beside yesterday."""

    action: str
    """Empty for all of them."""
    today: Day
    by_now: Day
    """Yesterday, up to this time of the day."""
    yesterday: Day
    """All of yesterday."""


def standing(using: str) -> Standing:
    """Count the tasks that are not finished.

    Args:
        using: the alias to read through.
    """
    [row] = run(using, _bound(_STANDING), [])
    names = ("pending", "oldest_pending", "next_deadline", "approved", "executing", "expired", "longest")
    return Standing(**dict(zip(names, row, strict=True)))


def waiting(using: str) -> Waiting:
    """Count the entries of the pause queue.

    Args:
        using: the alias to read through.
    """
    [(due, scheduled, long, held)] = run(using, _bound(_WAITING), [])
    held = json.loads(held or "{}")
    return Waiting(due=due, scheduled=scheduled, long=long, held={each: held.get(each, 0) for each in PauseReason})


def ended(
    using: str, *, yesterday: datetime, by_now: datetime, today: datetime, now: datetime
) -> tuple[Ended, Sequence[Ended], bool]:
    """Count how work ended today and yesterday.

    Args:
        using: the alias to read through.
        yesterday: when yesterday began.
        by_now: the moment of yesterday that is compared with now.
        today: when today began.
        now: where today ends so far.

    Returns:
        All of it, the actions that failed most often today, and whether these are all (else the newest `MOST_ENDED`).
    """
    [total, *actions] = run(using, _ENDED, [yesterday, now, MOST_ENDED + 1, today, by_now, _ACTIONS])
    return _ended(total), [_ended(action) for action in actions], total[-1] <= MOST_ENDED


def _ended(row: Sequence[int | str | None]) -> Ended:
    action, *counts, _all = row
    today, by_now, yesterday = (
        Day(failed=int(counts[at] or 0), completed=int(counts[at + 1] or 0)) for at in (0, 2, 4)
    )
    return Ended(action=str(action or ""), today=today, by_now=by_now, yesterday=yesterday)


def _bound(sql: str) -> str:
    return sql % {"most": MOST + 1}
