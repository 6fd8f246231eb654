"""The numbers around the list of tasks, of its chart and choices: counted among the newest tasks in one query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audit.admin.shared.query import ListQuery
from audit.admin.tasks.binning import AIM, Binning
from audit.admin.tasks.histogram import Chart, chart
from audit.admin.tasks.samples import newest, rows_of, sized
from audit.values import validation

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
step AS (
    SELECT width FROM
        (SELECT max(created_at) - coalesce(%s::timestamptz, min(created_at)) AS length FROM sample) AS whole,
        unnest(%s::interval[]) AS given (width)
    WHERE width * %s >= length ORDER BY width LIMIT 1
), chosen AS MATERIALIZED (
    SELECT action, left(actor, %s) AS who, services_touched[1:%s] AS services
    FROM audit_task WHERE id = ANY (ARRAY(SELECT id FROM sample ORDER BY created_at DESC LIMIT %s))
)
SELECT 'bar', status, count(*), greatest(date_bin((SELECT width FROM step), created_at, %s), %s),
    (SELECT width FROM step)
FROM sample GROUP BY 2, 4
UNION ALL (SELECT 'service', name, count(*), NULL, NULL FROM chosen CROSS JOIN unnest(services) AS name
    GROUP BY 2 ORDER BY 3 DESC, 2 LIMIT %s)
UNION ALL (SELECT 'action', action, count(*), NULL, NULL FROM chosen GROUP BY 2 ORDER BY 3 DESC, 2 LIMIT %s)
UNION ALL (SELECT 'actor', who, count(*), NULL, NULL FROM chosen WHERE who <> '' GROUP BY 2
    ORDER BY 3 DESC, 2 LIMIT %s)
UNION ALL (SELECT 'oldest', status, 1, created_at, NULL FROM sample WHERE (SELECT count(*) FROM sample) > %s
    ORDER BY created_at LIMIT 2)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What was counted."""

    chart: Chart
    counts: Counts
    """For each of `service`, `action` and `actor` the most frequent names and their numbers."""
    sample: int | None
    """How many tasks those numbers are of, when they are not of all."""


def overview(using: str, tasks: Any, query: ListQuery) -> Overview:
    """Count the newest tasks of a list by time and status, and the newest of those by what they touched.

    Args:
        using: the database alias.
        tasks: the queryset that answers the query.
        query: gives the range, and the links of bars and legend.
    """
    binning = Binning.of(query.range)
    cap = sized(BOUNDED if binning.start is not None else UNBOUNDED, query.effective)
    choices = min(CHOICES, cap)
    sample = newest(tasks.values("created_at", "status", "id"), "created_at", cap + 1)
    # A bar of centuries may begin before any moment that Python can read.
    params = [binning.start, list(binning.steps), AIM, LONGEST, SERVICES_A_TASK, choices]
    params += [binning.origin, validation.EARLIEST, *[MOST] * 3, cap]
    bars = []
    oldest = []
    counts: dict[str, dict[str, int]] = {}
    for key, name, count, at, width in rows_of(using, sample, _COUNTED, params):
        if key == "bar":
            bars.append((at, name, count, width))
        elif key == "oldest":
            oldest.append((at, name))
        else:
            counts.setdefault(key, {})[name] = count
    drawn = chart(query, binning, bars, oldest)
    return Overview(chart=drawn, counts=counts, sample=choices if drawn.capped or drawn.total > choices else None)


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
