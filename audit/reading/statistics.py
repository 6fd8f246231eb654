"""Counts, failure rates and durations of some tasks: one statement, one pass over rows that an index finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import Case, When
from django.db.models.fields.json import KeyTextTransform
from django.utils import timezone

from audit.status import Status

if TYPE_CHECKING:
    from audit.models.querysets.task import TaskQuerySet

__all__ = ["GROUPS", "MOST_ROWS", "ORDERS", "Group", "Spread", "Statistics", "statistics"]

MOST_ROWS = 1_000_000
"""How many tasks, newest first, are looked at unless the caller says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How long something took: half of the tasks at most `p50`, and so on; none when nothing was measured."""

    p50: timedelta | None
    p90: timedelta | None
    p99: timedelta | None
    longest: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Tasks that have something in common: an action, a service, an actor, an hour, or nothing but the filter."""

    name: str
    """Of an hour its beginning, in ISO 8601 and UTC."""
    tasks: int
    statuses: Mapping[str, int]
    waited: Spread
    """Neither executing nor paused, of tasks that were started."""
    ran: Spread
    """Executing, of tasks that have finished."""
    paused: Spread
    """Of tasks that were paused and have finished."""

    @property
    def failure_rate(self) -> float | None:
        """Failed tasks among those that ran to an end (completed or failed), 0 to 1; none when none did."""
        failed, completed = self.statuses.get(Status.FAILED, 0), self.statuses.get(Status.COMPLETED, 0)
        return failed / (failed + completed) if failed or completed else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What `statistics` found."""

    total: Group
    groups: Mapping[str, tuple[Group, ...]]
    """For each kind that was asked for (see `GROUPS`), in the order that was asked for."""
    error_types: tuple[tuple[str, int], ...]
    first: datetime | None
    """When the oldest of the tasks was created."""
    last: datetime | None
    spans: Mapping[int, Group]
    """Where edges were given: the tasks created from edge `n` to the next one, by `n`, where there are any."""
    complete: bool
    """Whether every task that the filter means was looked at; if not, the newest were."""


def statistics(
    queryset: TaskQuerySet,
    *,
    by: Sequence[str] = ("action", "service"),
    order: str | None = None,
    top: int | None = None,
    most_rows: int = MOST_ROWS,
    edges: Sequence[datetime] = (),
) -> Statistics:
    """Count the tasks of a queryset by status, error type and what is asked, and measure how long they took.

    Args:
        queryset: tasks, filtered; bound it in time.
        by: kinds of groups, of `GROUPS`.
        order: which groups come first, of `ORDERS`; when left out, those with the most tasks, and hours in time.
        top: how many groups of a kind and error types to name; when left out, 10, and the newest 168 of hours that are
            in the order of time.
        most_rows: how many tasks to look at, newest first.
        edges: moments in ascending order, for `spans`.

    Returns:
        The figures; those of a queryset that matches nothing are zero and none.
    """
    picked = queryset.order_by("-created_at", "-id").values_list(
        "action",
        "status",
        "services_touched",
        "requested_by",
        "actor",
        "created_at",
        "started_at",
        "finished_at",
        "status_since",
        "executing_ms",
        "paused_ms",
        # Only where it counts: an outcome may be large, and stored apart from its row.
        Case(When(status=Status.FAILED, then=KeyTextTransform("error_type", "outcome"))),
    )[: most_rows + 1]
    try:
        inner, params = picked.query.get_compiler(queryset.db).as_sql()
    except EmptyResultSet:
        rows: list[Any] = [("total", "", 0, [0] * len(Status), None, None, None, None, None, False, 1)]
    else:
        sql = _SQL.replace("{inner}", inner)
        given = [*params, most_rows, most_rows]
        for kind in ("error", *by):
            in_time = kind == "hour" and order is None
            sql += _GROUPED.format(kind=kind, order=_NEWEST if in_time else ORDERS[order or "tasks"], **_SOURCES[kind])
            if kind == "hour":
                given.append(timezone.get_current_timezone_name())
            given.append(top or (_HOURS if in_time else _TOP))
        if edges:
            sql += _GROUPED.format(
                kind="span", order="min(created_at)", name="named::text", source=_NAMED.format(_SPAN)
            )
            given += [list(edges), len(edges) + 1]
        with connections[queryset.db].cursor() as cursor:
            cursor.execute(sql, given)
            rows = cursor.fetchall()
    (total,) = (row for row in rows if row[0] == "total")
    return Statistics(
        total=_group(total),
        groups={kind: _groups(rows, kind, in_time=kind == "hour" and order is None) for kind in by},
        error_types=tuple((group.name, group.tasks) for group in _groups(rows, "error")),
        first=total[7],
        last=total[8],
        spans={int(group.name): group for group in _groups(rows, "span")},
        complete=not total[9],
    )


def _groups(rows: Sequence[Any], kind: str, *, in_time: bool = False) -> tuple[Group, ...]:
    found = sorted((row for row in rows if row[0] == kind), key=lambda row: row[-1], reverse=in_time)
    return tuple(map(_group, found))


def _group(row: Sequence[Any]) -> Group:
    _, name, tasks, statuses, waited, ran, paused, *_ = row
    return Group(
        name=name,
        tasks=tasks,
        statuses={status: count for status, count in zip(Status.values, statuses, strict=True) if count},
        waited=_spread(waited),
        ran=_spread(ran),
        paused=_spread(paused),
    )


def _spread(values: Sequence[timedelta] | None) -> Spread:
    p50, p90, p99, longest = values or (None,) * 4
    return Spread(p50=p50, p90=p90, p99=p99, longest=longest)


_QUARTILES = "percentile_disc(ARRAY[0.5, 0.9, 0.99, 1]) WITHIN GROUP (ORDER BY {})"
# Until a task has left the statuses in which it waits, its waiting is not over.
_WAITED = (
    "CASE WHEN started_at IS NOT NULL AND status NOT IN ('pending', 'approved') THEN greatest(interval '0',"
    " coalesce(finished_at, status_since) - created_at - (executing_ms + paused_ms) * interval '1 millisecond') END"
)
_RAN = "CASE WHEN started_at IS NOT NULL AND finished_at IS NOT NULL THEN executing_ms * interval '1 millisecond' END"
_PAUSED = "CASE WHEN paused_ms > 0 AND finished_at IS NOT NULL THEN paused_ms * interval '1 millisecond' END"
_FIGURES = f"""
    count(*) AS tasks,
    ARRAY[{", ".join(f"count(*) FILTER (WHERE status = '{status}')" for status in Status.values)}] AS statuses,
    {_QUARTILES.format(_WAITED)} AS waited, {_QUARTILES.format(_RAN)} AS ran, {_QUARTILES.format(_PAUSED)} AS paused,
    min(created_at) AS first, max(created_at) AS last
"""

_FAILED = "count(*) FILTER (WHERE status = 'failed')"
_ENDED = "count(*) FILTER (WHERE status IN ('failed', 'completed'))"
ORDERS = {
    "tasks": "count(*) DESC",
    "failed": f"{_FAILED} DESC, count(*) DESC",
    "failure-rate": f"{_FAILED}::float / nullif({_ENDED}, 0) DESC NULLS LAST, count(*) DESC",
    "ran": f"percentile_disc(0.5) WITHIN GROUP (ORDER BY {_RAN}) DESC NULLS LAST",
    "longest": f"max({_RAN}) DESC NULLS LAST",
}
"""Which groups may come first: those with the most tasks or failures, the highest rate, the longest run."""
_NEWEST = "named DESC"
_TOP = 10
_HOURS = 168

_HOUR = """to_char(date_trunc('hour', created_at, %s) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""
_SPAN = "width_bucket(created_at, %s::timestamptz[]) - 1"
_TOUCHED = "picked CROSS JOIN LATERAL (SELECT DISTINCT unnest(services_touched)) AS touched (service)"
_NAMED = "(SELECT *, {} AS named FROM picked) AS picked"
_SOURCES = {
    "error": {"name": "error_type", "source": "picked WHERE error_type IS NOT NULL"},
    "action": {"name": "action", "source": "picked"},
    "service": {"name": "service", "source": _TOUCHED},
    # Who requested it; of recorded work that nobody requested, who acted.
    "actor": {"name": "named", "source": _NAMED.format("coalesce(nullif(requested_by, ''), actor)")},
    "hour": {"name": "named", "source": _NAMED.format(_HOUR)},
}
GROUPS = tuple(each for each in _SOURCES if each != "error")
"""What tasks may be grouped by: an actor is who requested the work, an hour one of the clock in the current zone."""

_SQL = f"""
WITH found (
    action, status, services_touched, requested_by, actor, created_at, started_at, finished_at, status_since,
    executing_ms, paused_ms, error_type, place
) AS MATERIALIZED (
    SELECT *, row_number() OVER () FROM ({{inner}}) AS newest
), picked AS NOT MATERIALIZED (
    SELECT * FROM found WHERE place <= %s
)
SELECT 'total' AS kind, '' AS name, {_FIGURES}, EXISTS (SELECT FROM found WHERE place > %s) AS more, 1 AS rank
FROM picked
"""  # noqa: S608 - constants; `inner` is what Django compiled, and every value is a parameter
_GROUPED = f"""
UNION ALL
(SELECT '{{kind}}', {{name}}, {_FIGURES}, false, row_number() OVER (ORDER BY {{order}}, {{name}}) AS rank
 FROM {{source}} GROUP BY {{name}} ORDER BY rank LIMIT %s)
"""  # noqa: S608 - as above
