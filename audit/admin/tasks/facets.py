"""The filter column: what there is to choose, with how often it occurs among the newest tasks of the list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit.admin.shared.links import Link, filter_url
from audit.admin.shared.query import ListQuery
from audit.admin.shared.wording import shown
from audit.admin.tasks.chart_counts import LONGEST, Counts, Others
from audit.reading.filters import TaskFilter
from audit.reading.filters.values import BY_FIELD
from audit.status import FailureClass, Status
from audit.values.failures import CLASSES
from audit.values.names import apart

__all__ = ["Facet", "facets", "seals", "statuses"]


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


def statuses(query: ListQuery, counted: Sequence[Link] = (), others: Mapping[str, int] | None = None) -> list[Link]:
    """The statuses, each as a toggle, with the numbers that were counted.

    Args:
        query: of the list.
        counted: the legend of the chart.
        others: the numbers of all statuses, had none been chosen; none where that was not counted.
    """
    counts = {link.tone: link.count for link in counted}
    chosen = query.filter.statuses
    if others:
        counts |= {each: others.get(each, 0) for each in Status.values if each not in chosen}
    return [
        Link(
            label=Status(each).label,
            url=query.links.toggling("status", "statuses", each),
            chosen=each in chosen,
            value=each,
            tone=each,
            count=counts.get(each),
        )
        for each in map(str, Status)
    ]


def seals(query: ListQuery) -> list[Link]:
    """What a seal may be looked for."""
    return [
        Link(
            label=_("Does not verify"),
            url=query.links.toggling("seal", "seals", "failed"),
            chosen="failed" in query.filter.seals,
            value="failed",
        )
    ]


def facets(query: ListQuery, counts: Counts, others: Others) -> list[Facet]:
    """Lay out the choices: those that are chosen first, then the frequent ones.

    Args:
        query: of the list.
        counts: what `failures` and `overview` counted, under the filter.
        others: what could be chosen beside, where something is.
    """
    laid_out = []
    for key, field, title, add in _FACETS:
        numbers: Mapping[str, int | None] = counts.get(key, {})
        beside = others.get(key, {})
        modes: list[Link] = []
        if key == "service":
            modes = _modes(query)
            if query.filter.any_services and not query.filter.services:
                key, field = "any_service", "any_services"
        if key == "failure" and not query.filter.failures:
            numbers = {each: numbers.get(each, 0) for each in FailureClass.values} if numbers else {}
        if beside:
            chosen = getattr(query.filter, field)
            own = {name: number for name, number in numbers.items() if name in chosen}
            numbers = own | {name: number for name, number in beside.items() if name not in chosen}
        laid_out.append(
            Facet(
                key=key,
                title=title,
                add=add,
                choices=list(_choices(query, key, field, numbers)),
                hidden=list(query.links.hidden()),
                longest=BY_FIELD[field].longest,
                modes=modes,
            )
        )
    return laid_out


def _modes(query: ListQuery) -> list[Link]:
    """Links that turn "touched all of these services" into "any of these" and back, once some are chosen."""
    wanted = query.filter
    chosen = (*wanted.services, *wanted.any_services)
    if not chosen:
        return []
    return [
        Link(label=_("all"), url=filter_url(_meaning(wanted, chosen, ())), chosen=bool(wanted.services)),
        Link(label=_("any"), url=filter_url(_meaning(wanted, (), chosen)), chosen=bool(wanted.any_services)),
    ]


def _meaning(wanted: TaskFilter, every: tuple[str, ...], some: tuple[str, ...]) -> TaskFilter:
    return replace(wanted, services=every, any_services=some)


def _choices(query: ListQuery, key: str, field: str, counts: Mapping[str, int | None]) -> list[Link]:
    chosen = getattr(query.filter, field)
    names = [*chosen, *(name for name in counts if name not in chosen)]
    short = apart(names, 40)
    links = []
    for name in names:
        url = query.links.toggling(key, field, name)
        # A name as long as the column was perhaps cut, and a part of a name finds nothing.
        if url and len(name) < LONGEST:
            links.append(
                Link(
                    label=FailureClass(name).label if key == "failure" else shown(short[name]),
                    value=shown(name),
                    title=CLASSES[FailureClass(name)] if key == "failure" else "",
                    url=url,
                    chosen=name in chosen,
                    count=counts.get(name),
                )
            )
    return links
