"""The filter column: what there is to choose, with how often it occurs among the newest tasks of the question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db.models import F, Func, TextField, Value
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce, Left
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit.admin.shared.question import Link, Question
from audit.admin.shared.wording import shown
from audit.admin.tasks.samples import newest, rows_of, sized
from audit.reading.filters import TaskFilter
from audit.reading.filters.values import BY_FIELD
from audit.status import FailureClass, Status
from audit.values.failures import failure_class, resource_errors

__all__ = [
    "FAILURES",
    "LONGEST",
    "MOST",
    "OTHERS",
    "SERVICES_A_TASK",
    "Counts",
    "Facet",
    "Others",
    "by_status",
    "facets",
    "failures",
    "others",
]

FAILURES = 500
"""How many of the newest tasks that failed, and of those that were rejected, the error types are counted in."""
OTHERS = 500
"""How many of the newest tasks what else could be chosen is counted in."""
MOST = 10
"""How many choices of a kind are named."""
LONGEST = 200
"""How many characters of a name are read."""
SERVICES_A_TASK = 50
"""How many services of a task are counted."""

_FAILED = """
(SELECT 'error_type', kind, count(*) FROM sample WHERE kind <> '' GROUP BY 2 ORDER BY 3 DESC, 2 LIMIT %s)
UNION ALL (SELECT 'failure', CASE WHEN kind = ANY(%s) THEN 'resource' ELSE 'application' END, count(*)
 FROM sample WHERE status = 'failed' GROUP BY 2)
UNION ALL (SELECT 'unwell', status, count(*) FROM sample GROUP BY 2)
"""

_STATUSES = "SELECT status, count(*) FROM sample GROUP BY 1"

_OTHERS = """
SELECT facet, name, found FROM (
    SELECT facet, name, count(*), row_number() OVER (PARTITION BY facet ORDER BY count(*) DESC, name)
    FROM sample CROSS JOIN unnest(names) AS name WHERE name <> '' OR facet = 'failure' GROUP BY 1, 2
) AS counted (facet, name, found, place) WHERE place <= %s OR facet = 'failure'
UNION ALL SELECT facet, NULL, count(*) FROM sample GROUP BY 1
"""

Counts = Mapping[str, Mapping[str, int]]
Others = Mapping[str, Mapping[str, int | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facet:
    """A group of choices in the filter column, and the field that adds another."""

    key: str
    title: Any
    add: Any
    choices: Sequence[Link]
    hidden: Sequence[tuple[str, str]]
    longest: int | None
    """How many characters another one may have."""
    modes: Sequence[Link] = ()
    """Whether all of the chosen ones are meant or any."""


_FACETS = (
    ("failure", "failures", gettext_lazy("By failure reason"), ""),
    ("error_type", "error_types", gettext_lazy("By error type"), gettext_lazy("error type")),
    ("service", "services", gettext_lazy("By service"), gettext_lazy("service")),
    ("action", "actions", gettext_lazy("By action"), gettext_lazy("action")),
    ("actor", "actors", gettext_lazy("By actor"), gettext_lazy("actor")),
)


def by_status(using: str, tasks: Any, sample: int) -> dict[str, int]:
    """Count all statuses of a question whose own filter of statuses was left out, in one query.

    Args:
        using: the database alias.
        tasks: the queryset that answers it.
        sample: how many tasks are counted at the most.

    Returns:
        The numbers; none where there are more tasks than the sample holds, for those of a sample would be no numbers
        of the question.
    """
    found = dict(rows_of(using, newest(tasks.values("status"), "created_at", sample + 1), _STATUSES))
    return found if sum(found.values()) <= sample else {}


def failures(using: str, tasks: Any, sample: int = FAILURES) -> dict[str, dict[str, int]]:
    """Count classes of failures and error types among the newest tasks that did not end well, in one query.

    Args:
        using: the database alias.
        tasks: the queryset that answers the question.
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


def others(using: str, tasks: Any, question: Question) -> dict[str, dict[str, int | None]]:
    """Count, in one query, what else could be chosen where something is: each group of choices without its own filter.

    What touched all of some services is no such group, for each further one narrows it.

    Args:
        using: the database alias.
        tasks: all tasks there are, as a queryset.
        question: what was asked.

    Returns:
        For each group the most frequent names among a few of the newest tasks. Their numbers are there where those
        are all of them: the numbers of a sample, beside others of the filter, would be no numbers of the question.
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
        if getattr(question.asked, field):
            without: dict[str, Any] = {field: ()}
            asked = replace(question.answered, **without)
            sizes[key] = sized(OTHERS, asked)
            columns = asked.apply(rows).values(facet=Value(key, output_field=TextField()), names=names)
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


def facets(question: Question, counts: Counts, others: Others) -> list[Facet]:
    """Lay out the choices: those that are chosen first, then the frequent ones.

    Args:
        question: what was asked.
        counts: what `failures` and the overview counted, under the filter.
        others: what could be chosen beside, where something is.
    """
    laid_out = []
    for key, field, title, add in _FACETS:
        numbers: Mapping[str, int | None] = counts.get(key, {})
        beside = others.get(key, {})
        modes: list[Link] = []
        if key == "service":
            modes = _modes(question)
            if question.asked.any_services and not question.asked.services:
                key, field = "any_service", "any_services"
        if key == "failure" and not question.asked.failures:
            numbers = {each: numbers.get(each, 0) for each in FailureClass.values} if numbers else {}
        if beside:
            chosen = getattr(question.asked, field)
            own = {name: number for name, number in numbers.items() if name in chosen}
            numbers = own | {name: number for name, number in beside.items() if name not in chosen}
        laid_out.append(
            Facet(
                key=key,
                title=title,
                add=add,
                choices=list(_choices(question, key, field, numbers)),
                hidden=list(question.hidden()),
                longest=BY_FIELD[field].longest,
                modes=modes,
            )
        )
    return laid_out


def _modes(question: Question) -> list[Link]:
    """Links that turn "touched all of these services" into "any of these" and back, once some are chosen."""
    asked = question.asked
    chosen = (*asked.services, *asked.any_services)
    if not chosen:
        return []
    return [
        Link(label=_("all"), url=question.url(_meaning(asked, chosen, ())), chosen=bool(asked.services)),
        Link(label=_("any"), url=question.url(_meaning(asked, (), chosen)), chosen=bool(asked.any_services)),
    ]


def _meaning(asked: TaskFilter, every: tuple[str, ...], some: tuple[str, ...]) -> TaskFilter:
    return replace(asked, services=every, any_services=some)


def _choices(question: Question, key: str, field: str, counts: Mapping[str, int | None]) -> list[Link]:
    chosen = getattr(question.asked, field)
    names = [*chosen, *(name for name in counts if name not in chosen)]
    links = []
    for name in names:
        url = question.toggled(key, field, name)
        # A name as long as the column was perhaps cut, and a part of a name finds nothing.
        if url and len(name) < LONGEST:
            links.append(
                Link(
                    label=FailureClass(name).label if key == "failure" else shown(name, 40),
                    value=shown(name),
                    url=url,
                    chosen=name in chosen,
                    count=counts.get(name),
                )
            )
    return links
