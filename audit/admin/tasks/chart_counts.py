"""The numbers around the list of tasks, of its chart and choices: counted among the newest tasks in one query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import connections

from audit.admin.shared.binning import Cut
from audit.admin.shared.paging import PAGE_SIZE
from audit.admin.shared.query import ListQuery
from audit.admin.shared.samples import newest, rows_of, sized
from audit.admin.tasks.histogram import Chart, chart
from audit.reading.filters import TaskFilter

__all__ = [
    "BOUNDED",
    "CHOICES",
    "LONGEST",
    "MOST",
    "SERVICES_A_TASK",
    "UNBOUNDED",
    "Counts",
    "Others",
    "Overview",
    "Stretch",
    "by_status",
    "overview",
]

BOUNDED = 50_000
"""How many of the newest tasks a chart counts in a range of time."""
UNBOUNDED = 10_000
"""How many of the newest tasks a chart counts over all time."""
CHOICES = 1_000
"""How many of those the choices of the filter are counted in."""
MOST = 10
"""How many choices of a kind are named."""
LONGEST = 200
"""How many characters of a name are read."""
SERVICES_A_TASK = 50
"""How many services of a task are counted."""

Counts = Mapping[str, Mapping[str, int]]
Others = Mapping[str, Mapping[str, int | None]]

_STATUSES = "SELECT status, count(*) FROM sample GROUP BY 1"

# The rows that are found once, which may be the dear part, serve both; the wide columns are read of a few of them.
_COUNTED = """,
chosen AS MATERIALIZED (
    SELECT action, left(actor, %s) AS who, services_touched[1:%s] AS services
    FROM audit_task WHERE id = ANY (ARRAY(SELECT id FROM sample ORDER BY created_at DESC LIMIT %s))
)
{bars}
UNION ALL SELECT 'newest', NULL, NULL, max(created_at), NULL FROM sample
UNION ALL (SELECT 'service', name, count(*), NULL, NULL FROM chosen CROSS JOIN unnest(services) AS name
    GROUP BY 2 ORDER BY 3 DESC, 2 LIMIT %s)
UNION ALL (SELECT 'action', action, count(*), NULL, NULL FROM chosen GROUP BY 2 ORDER BY 3 DESC, 2 LIMIT %s)
UNION ALL (SELECT 'actor', who, count(*), NULL, NULL FROM chosen WHERE who <> '' GROUP BY 2
    ORDER BY 3 DESC, 2 LIMIT %s)
UNION ALL (SELECT 'oldest', status, 1, created_at, NULL FROM sample WHERE (SELECT count(*) FROM sample) > %s
    ORDER BY created_at LIMIT 2)
"""
_BARS = """SELECT 'bar', status, count(*), NULL::timestamptz, width_bucket(created_at, %s::timestamptz[]) - 1
FROM sample GROUP BY 2, 5"""
# How all time is cut is known when all moments are; of so few tasks Python does it as fast. Bars begin at whole
# seconds, and numbers in one text are read in a tenth of the time that an array of moments takes.
_SECONDS = """SELECT 'seconds', status, count(*), min(created_at),
    string_agg(date_part('epoch', date_trunc('second', created_at))::bigint::text, ' ')
FROM sample GROUP BY 2"""

_CHOICES = ("service", "action", "actor")

Bins = dict[int, dict[str, int]]
Stretch = tuple[datetime, datetime]

_AROUND = """
SELECT (SELECT count(*) FROM (SELECT FROM audit_task WHERE created_at BETWEEN %s AND %s LIMIT %s) AS around),
    (SELECT created_at FROM audit_task ORDER BY created_at LIMIT 1)
"""
# A sample is cut where at least so many tasks lie beside each that is wanted, and where less than one part in so many
# of all time will do. Otherwise one index alone is as fast.
_RARE = 25
_SHORT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What was counted."""

    chart: Chart
    counts: Counts
    """For each of `service`, `action` and `actor` the most frequent names and their numbers."""
    sample: int | None
    """How many tasks those numbers are of, when they are not of all."""


def overview(using: str, tasks: Any, query: ListQuery, page: Stretch | None = None) -> Overview:
    """Count the newest tasks of a list by time and status, and the newest of those by what they touched.

    Args:
        using: the database alias.
        tasks: the queryset that answers the query.
        query: gives the range, and the links of bars and legend.
        page: the oldest and the newest moment of the page, if it is full; says about how dense these tasks are.
    """
    start = query.range.start
    cap = sized(BOUNDED if start is not None else UNBOUNDED, query.effective)
    choices = min(CHOICES, cap)
    columns = tasks.values("created_at", "status", "id")
    near, sample = _split(using, columns, query, cap + 1, page)

    def read(bars: str, *params: Any) -> dict[str, list[Any]]:
        given = [LONGEST, SERVICES_A_TASK, choices, *params, *[MOST] * 3, cap]
        found: dict[str, list[Any]] = {}
        for key, *row in rows_of(using, sample, _COUNTED.format(bars=bars), given, nearest=near):
            found.setdefault(key, []).append(row)
        return found

    if start is None:
        found = read(_SECONDS)
        ends = [at for key in ("seconds", "newest") for _name, _count, at, _none in found.get(key, ()) if at]
        cut = Cut.around(query.range, ends)
        bins = _binned(
            (number, status, count)
            for status, _count, _oldest, seconds in found.get("seconds", ())
            for number, count in cut.counted(map(int, seconds.split())).items()
        )
    else:
        cut = Cut.of(start, query.range.end or query.range.now)
        found = read(_BARS, cut.edges)
        [[_name, _count, latest, _none]] = found.get("newest", [[None] * 4])
        # Moments of the future are rare: an import may have brought them.
        if latest is not None and latest >= cut.edges[-1]:
            cut = Cut.of(start, latest)
            found = read(_BARS, cut.edges)
        bins = _binned((number, status, count) for status, count, _at, number in found.get("bar", ()))
    drawn = chart(query, cut, bins, [(at, status) for status, _count, at, _none in found.get("oldest", ())])
    counts = {key: {name: count for name, count, *_rest in found.get(key, ())} for key in _CHOICES}
    return Overview(chart=drawn, counts=counts, sample=choices if drawn.capped or drawn.total > choices else None)


def _split(using: str, columns: Any, query: ListQuery, limit: int, page: Stretch | None) -> tuple[Any, Any]:
    """Cut a sample of tasks that touched a service where it will about be full; no cut where that would not help.

    Their index has no order of time. To find the newest of them, the database reads all of them, or every task on the
    way back. In a short stretch of time it finds them by both indexes, and reads no other task.
    """
    wanted = replace(query.effective, since=None, until=None, all_time=False)
    by_service = wanted.services or wanted.any_services
    if page and by_service and replace(wanted, services=(), any_services=()) == TaskFilter():
        since, until = page
        with connections[using].cursor() as cursor:
            cursor.execute(_AROUND, [since, until, PAGE_SIZE * _RARE])
            found, oldest = cursor.fetchone()
        end = query.range.end or query.range.now
        room = end - max(filter(None, (oldest, query.range.start)))
        stretch = (until - since) / PAGE_SIZE * limit
        if found == PAGE_SIZE * _RARE and stretch < room / _SHORT:
            near, older = columns.filter(created_at__gte=end - stretch), columns.filter(created_at__lt=end - stretch)
            return newest(near, "created_at", limit), newest(older, "created_at", limit)
    return None, newest(columns, "created_at", limit)


def _binned(counted: Iterable[tuple[int, str, int]]) -> Bins:
    bins: Bins = {}
    for number, status, count in counted:
        bar = bins.setdefault(number, {})
        bar[status] = bar.get(status, 0) + count
    return bins


def by_status(using: str, tasks: Any, sample: int) -> dict[str, int]:
    """Count all statuses of a list whose own filter of statuses was left out, in one query.

    Args:
        using: the database alias.
        tasks: the queryset that answers it.
        sample: how many tasks are counted at the most.

    Returns:
        The numbers; none where there are more tasks than the sample holds, for those of a sample would be no numbers
        of the list.
    """
    found = dict(rows_of(using, newest(tasks.values("status"), "created_at", sample + 1), _STATUSES))
    return found if sum(found.values()) <= sample else {}
