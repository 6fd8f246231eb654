"""The filter column: what there is to choose, with how often it occurs among the newest tasks of the question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Left
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit.admin.question import Link, Question
from audit.admin.samples import newest, rows_of
from audit.admin.wording import shown
from audit.failures import resource_errors
from audit.filters import TaskFilter
from audit.filters.values import BY_FIELD
from audit.status import FailureClass, Status

__all__ = ["FAILURES", "Counts", "Facet", "by_status", "facets", "failures"]

FAILURES = 500
"""How many of the newest tasks that did not end well the error types are counted in."""
_MOST = 10
_LONGEST = 200

_FAILED = """
(SELECT 'error_type', kind, count(*) FROM sample WHERE kind <> '' GROUP BY 2 ORDER BY 3 DESC, 2 LIMIT %s)
UNION ALL (SELECT 'failure', CASE WHEN kind = ANY(%s) THEN 'resource' ELSE 'application' END, count(*)
 FROM sample WHERE status = 'failed' GROUP BY 2)
UNION ALL (SELECT 'unwell', '', count(*) FROM sample)
"""

_STATUSES = "SELECT status, count(*) FROM sample GROUP BY 1"

Counts = Mapping[str, Mapping[str, int]]


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

    Returns:
        Under `failure` and `error_type` the names and their numbers; under `unwell` how many tasks were counted.
    """
    unwell = tasks.filter(status__in=(Status.FAILED, Status.REJECTED))
    columns = unwell.values("status", kind=Left(KeyTextTransform("error_type", "outcome"), _LONGEST))
    found: dict[str, dict[str, int]] = {}
    params = [_MOST, list(resource_errors())]
    for key, name, count in rows_of(using, newest(columns, "created_at", sample), _FAILED, params):
        found.setdefault(key, {})[name] = count
    return found


def facets(question: Question, counts: Counts) -> list[Facet]:
    """Lay out the choices: those that are chosen first, then the frequent ones."""
    laid_out = []
    for key, field, title, add in _FACETS:
        numbers = counts.get(key, {})
        modes: list[Link] = []
        if key == "service":
            modes = _modes(question)
            if question.asked.any_services and not question.asked.services:
                key, field = "any_service", "any_services"
        if key == "failure" and not question.asked.failures:
            numbers = {each: numbers.get(each, 0) for each in FailureClass.values} if numbers else {}
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


def _choices(question: Question, key: str, field: str, counts: Mapping[str, int]) -> list[Link]:
    chosen = getattr(question.asked, field)
    names = [*chosen, *(name for name in counts if name not in chosen)]
    links = []
    for name in names:
        url = question.toggled(key, field, name)
        # A name as long as the column was perhaps cut, and a part of a name finds nothing.
        if url and len(name) < _LONGEST:
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
