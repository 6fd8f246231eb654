"""Counting within bounds: the newest rows of a list, taken once by index and grouped in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections

from audit.reading.filters import TaskFilter

__all__ = ["newest", "rows_of", "sized"]


def sized(size: int, wanted: TaskFilter) -> int:
    """How large a sample may be: smaller where its rows are dear to find.

    Words and documents have to be read in every row of it; tasks that touched a service are found by the index of
    services, but in no order, or in the order of time, among all the others.
    """
    if wanted.words or wanted.documents:
        return size // 10
    return size // 4 if wanted.services or wanted.any_services else size


def newest(queryset: Any, moment: str, limit: int) -> Any:
    """The newest rows of a `values()` queryset, for use as the sample of `rows_of`."""
    return queryset.order_by(f"-{moment}")[:limit]


def rows_of(
    using: str, sample: Any, sql: str, params: Sequence[Any] = (), *, nearest: Any = None
) -> list[tuple[Any, ...]]:
    """Run a statement over a sample.

    Args:
        using: the database alias.
        sample: a sliced `values()` queryset; the statement finds its columns in `sample`, under the queryset's names.
        sql: the rest of the statement after `WITH sample AS (…)`: either `, more AS (…) SELECT …` or `SELECT …`.
        params: the parameters of `sql`.
        nearest: the same queryset for the newest stretch of time, sliced alike, while `sample` has what is older, which
            is read only as far as these rows do not fill the sample. The moment must be a column of both.

    Returns:
        The rows; none for a filter that can have no answer.
    """
    names = ", ".join([*sample.query.values_select, *sample.query.annotation_select])
    try:
        inner, given = _sql(using, sample)
        if nearest is None:
            begin = f"sample ({names}) AS MATERIALIZED ({inner})"
        else:
            near, near_given = _sql(using, nearest)
            moment = sample.query.order_by[0].removeprefix("-")
            begin = (
                f"nearest ({names}) AS MATERIALIZED ({near}), sample ({names}) AS MATERIALIZED (SELECT * FROM nearest"  # noqa: S608 - Django's text
                f" UNION ALL (SELECT * FROM ({inner}) AS older ({names}) ORDER BY {moment} DESC"
                " LIMIT %s - (SELECT count(*) FROM nearest)))"
            )
            given = [*near_given, *given, sample.query.high_mark]
    except EmptyResultSet:
        return []
    with connections[using].cursor() as cursor:
        cursor.execute(f"WITH {begin}{sql}", [*given, *params])
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _sql(using: str, queryset: Any) -> tuple[str, Sequence[Any]]:
    statement: tuple[str, Sequence[Any]] = queryset.query.get_compiler(using).as_sql()
    return statement
