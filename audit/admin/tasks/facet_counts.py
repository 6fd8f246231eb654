"""The numbers of choices that the chart's sample does not give: how tasks failed, and what else could be chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db.models import F, Func, TextField, Value
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce, Left

from audit.admin.shared.query import ListQuery
from audit.admin.shared.samples import newest, rows_of, sized
from audit.admin.tasks.chart_counts import LONGEST, MOST, SERVICES_A_TASK
from audit.status import FailureClass, Status
from audit.values.failures import failure_class, resource_errors

__all__ = ["FAILURES", "OTHERS", "failures", "others"]

FAILURES = 500
"""How many of the newest tasks that failed, and of those that were rejected, the error types are counted in."""
OTHERS = 500
"""How many of the newest tasks what else could be chosen is counted in."""

_FAILED = """
(SELECT 'error_type', kind, count(*) FROM sample WHERE kind <> '' GROUP BY 2 ORDER BY 3 DESC, 2 LIMIT %s)
UNION ALL (SELECT 'failure', CASE WHEN kind = ANY(%s) THEN 'resource' ELSE 'application' END, count(*)
 FROM sample WHERE status = 'failed' GROUP BY 2)
UNION ALL (SELECT 'unwell', status, count(*) FROM sample GROUP BY 2)
"""

_OTHERS = """
SELECT facet, name, found FROM (
    SELECT facet, name, count(*), row_number() OVER (PARTITION BY facet ORDER BY count(*) DESC, name)
    FROM sample CROSS JOIN unnest(names) AS name WHERE name <> '' OR facet = 'failure' GROUP BY 1, 2
) AS counted (facet, name, found, place) WHERE place <= %s OR facet = 'failure'
UNION ALL SELECT facet, NULL, count(*) FROM sample GROUP BY 1
"""


def failures(using: str, tasks: Any, sample: int = FAILURES) -> dict[str, dict[str, int]]:
    """Count classes of failures and error types among the newest tasks that did not end well, in one query.

    Args:
        using: the database alias.
        tasks: the queryset that answers the query.
        sample: how many tasks of each of the two statuses are counted at the most.

    Returns:
        Under `failure` and `error_type` the names and their numbers; under `unwell` how many tasks of each status were
        counted.
    """
    columns = tasks.values("status", kind=Left(KeyTextTransform("error_type", "outcome"), LONGEST))
    # Status by status, each is a range of an index; both together would be looked for among all the others.
    failed, rejected = (
        newest(columns.filter(status=each), "created_at", sample) for each in (Status.FAILED, Status.REJECTED)
    )
    found: dict[str, dict[str, int]] = {}
    params = [MOST, list(resource_errors())]
    for key, name, count in rows_of(using, failed.union(rejected, all=True), _FAILED, params):
        found.setdefault(key, {})[name] = count
    return found


def others(using: str, tasks: Any, query: ListQuery) -> dict[str, dict[str, int | None]]:
    """Count, in one query, what else could be chosen where something is: each group of choices without its own filter.

    What touched all of some services is no such group, for each further one narrows it.

    Args:
        using: the database alias.
        tasks: all tasks there are, as a queryset.
        query: of the list.

    Returns:
        For each group the most frequent names among a few of the newest tasks. Their numbers are there where those
        are all of them: the numbers of a sample, beside others of the filter, would be no numbers of the list.
    """
    error_type = Coalesce(Left(KeyTextTransform("error_type", "outcome"), LONGEST), Value(""))
    groups = {
        "failure": ("failures", tasks.filter(status=Status.FAILED), _one(error_type)),
        "error_type": ("error_types", tasks.filter(status__in=(Status.FAILED, Status.REJECTED)), _one(error_type)),
        "service": ("any_services", tasks, F(f"services_touched__0_{SERVICES_A_TASK}")),
        "action": ("actions", tasks, _one(F("action"))),
        "actor": ("actors", tasks, _one(Left("actor", LONGEST))),
    }
    samples, sizes = [], {}
    for key, (field, rows, names) in groups.items():
        if getattr(query.filter, field):
            without: dict[str, Any] = {field: ()}
            without_it = replace(query.effective, **without)
            sizes[key] = sized(OTHERS, without_it)
            columns = without_it.apply(rows).values(facet=Value(key, output_field=TextField()), names=names)
            samples.append(newest(columns, "created_at", sizes[key] + 1))
    if not samples:
        return {}
    found: dict[str, dict[str, int]] = {key: {} for key in sizes}
    totals = dict.fromkeys(sizes, 0)
    sample = samples[0].union(*samples[1:], all=True) if samples[1:] else samples[0]
    for key, name, count in rows_of(using, sample, _OTHERS, [MOST]):
        if name is None:
            totals[key] = count
        else:
            found[key][name] = count
    if "failure" in found:
        classes = dict.fromkeys(FailureClass.values, 0)
        for name, count in found["failure"].items():
            if kind := failure_class(Status.FAILED, name):
                classes[kind] += count
        found["failure"] = classes
    return {
        key: {name: count if totals[key] <= sizes[key] else None for name, count in numbers.items()}
        for key, numbers in found.items()
    }


def _one(name: Any) -> Func:
    return Func(name, template="ARRAY[%(expressions)s]", output_field=ArrayField(TextField()))
