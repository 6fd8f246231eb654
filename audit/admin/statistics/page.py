"""The page of the figures: what `audit_stats` prints, drawn, for the filter and the range of a list of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import UUID

from django.db.models import Min
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from audit.admin.shared.binning import Cut
from audit.admin.shared.chips import chips
from audit.admin.shared.drawing import meter
from audit.admin.shared.facts import Fact
from audit.admin.shared.links import FilterLinks, filter_url
from audit.admin.shared.paging import Order
from audit.admin.shared.panels import panel
from audit.admin.shared.query import ListQuery
from audit.admin.shared.read_only_admin import ReadOnlyAdmin
from audit.admin.shared.samples import sized
from audit.admin.shared.wording import grouped, moment, shown, span
from audit.admin.statistics.charts import PERCENTILES, Charts, charts, percent
from audit.models import Task
from audit.reading.filters import TaskFilter
from audit.reading.statistics import Group, Statistics, statistics
from audit.status import Status

__all__ = ["MOST_TASKS", "StatisticsAdmin"]

MOST_TASKS = 10_000
"""How many of the newest tasks the figures are of, at the most."""
_BY = {"action": "actions", "service": "services", "actor": "actors"}
_BARS = 60
_ORDER = Order(moment="created_at", key=UUID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A figure of a table, with a link into the list."""

    text: str
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    """Tasks that have something in common, as text."""

    name: str
    title: str
    url: str
    tasks: str
    failed: str
    failed_url: str
    rate: str
    rate_drawn: SafeString | str
    waited: Sequence[str]
    ran: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The groups of one kind."""

    name: str
    title: str
    column: str
    rows: Sequence[GroupRow]


class StatisticsAdmin(ReadOnlyAdmin):
    """The figures of tasks, at an address beside their list."""

    def more_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.statistics_view)
        return [*super().more_urls(), path("statistics/", view, name="audit_task_statistics")]

    def statistics_view(self, request: HttpRequest) -> HttpResponse:
        """Show the figures of what the URL asks for, as the list reads it."""
        return self.page(request, "audit/admin/statistics/page.html", lambda: self.statistics_context(request))

    def statistics_context(self, request: HttpRequest) -> dict[str, Any]:
        """Read what the page needs: one statement, within the time of a panel."""
        query = ListQuery.read(request, _ORDER)
        tasks = query.effective.apply(Task.objects.using(self.using))
        most = sized(MOST_TASKS, query.effective)
        found = panel(self.using, partial(self._figures, tasks, query, most))
        list_url = self.url("changelist")
        figures, cut = found.value or (None, None)
        return {
            "title": _("Statistics"),
            "problems": query.problems,
            "query": query,
            "chips": chips(query),
            "list_url": list_url,
            "same_list": list_url + filter_url(query.filter),
            "degraded": found.degraded,
            "facts": _facts(figures, query, list_url) if figures else [],
            "covered": _covered(figures, query, most) if figures else "",
            "charts": _charts(figures, cut, query, list_url) if figures and cut and figures.total.tasks else None,
            "tables": [_table(kind, figures, query, list_url) for kind in _BY] if figures else [],
            "percentiles": PERCENTILES,
            "errors": _errors(figures, query, list_url) if figures else [],
            "empty": figures is not None and not figures.total.tasks,
            "widened": query.links.widened(7 * query.default_span) if query.default_span else "",
            "all_time": query.links.all_time(),
            "is_detail": True,
        }

    def _figures(self, tasks: Any, query: ListQuery, most: int) -> tuple[Statistics, Cut | None]:
        start, end = query.range.start, query.range.end or query.range.now
        if start is None:
            counted = tasks.order_by("-created_at", "-id").values("created_at")[:most]
            start = counted.aggregate(first=Min("created_at"))["first"]
            if start is None:
                return statistics(tasks, by=tuple(_BY), most_rows=most), None
        cut = Cut.of(start, end)
        return statistics(tasks, by=tuple(_BY), most_rows=most, edges=cut.edges), cut


def _facts(found: Statistics, query: ListQuery, list_url: str) -> list[Fact]:
    total = found.total
    failed = total.statuses.get(Status.FAILED, 0)
    facts = [
        Fact(
            label=_("Tasks"),
            value=grouped(total.tasks) + ("" if found.complete else "+"),
            url=list_url + filter_url(query.filter),
        ),
        Fact(label=_("Failed"), value=grouped(failed), url=_narrowed(query, list_url, statuses=(Status.FAILED,))),
        Fact(label=_("Failure rate"), value=percent(total.failure_rate), title=_("of those that ran to an end")),
    ]
    for label, spread in ((_("Waited"), total.waited), (_("Ran"), total.ran), (_("Was paused"), total.paused)):
        if spread.p50 is not None:
            words = " · ".join(f"{each} {span(getattr(spread, each))}" for each in PERCENTILES)
            facts.append(
                Fact(label=label, value=words, title=_("the longest %(span)s") % {"span": span(spread.longest)})
            )
    return facts


def _covered(found: Statistics, query: ListQuery, most: int) -> str:
    if found.complete or found.first is None:
        return ""
    return _("These figures are of the newest %(count)s tasks, since %(moment)s.") % {
        "count": grouped(most),
        "moment": moment(found.first, query.now),
    }


def _charts(found: Statistics, cut: Cut, query: ListQuery, list_url: str) -> Charts:
    end = query.range.end or query.range.now
    beyond = max(sum(1 for at in cut.edges[:-1] if at < end), 1)
    numbers = [number for number in range(beyond) if number < len(cut.edges) - 1]
    return charts(query, list_url, cut, numbers, found.spans)


def _table(kind: str, found: Statistics, query: ListQuery, list_url: str) -> Table:
    titles = {"action": _("By action"), "service": _("By service"), "actor": _("By actor")}
    columns = {"action": _("Action"), "service": _("Service"), "actor": _("Actor")}
    failed = FilterLinks(filter=_with(query.filter, statuses=(Status.FAILED,)), range=query.range)

    def row(group: Group) -> GroupRow:
        rate = group.failure_rate
        url, failed_url = query.links.adding(_BY[kind], group.name), failed.adding(_BY[kind], group.name)
        return GroupRow(
            name=shown(group.name, 60, name=True) or "—",
            title=shown(group.name, 300),
            url=list_url + url if url and group.name else "",
            tasks=grouped(group.tasks),
            failed=grouped(group.statuses.get(Status.FAILED, 0)),
            failed_url=list_url + failed_url if failed_url and group.name else "",
            rate=percent(rate),
            rate_drawn=meter(rate, "failed") if rate is not None else "",
            waited=[span(getattr(group.waited, each)) for each in PERCENTILES],
            ran=[span(getattr(group.ran, each)) for each in PERCENTILES],
        )

    return Table(name=kind, title=titles[kind], column=columns[kind], rows=[row(each) for each in found.groups[kind]])


def _errors(found: Statistics, query: ListQuery, list_url: str) -> list[Fact]:
    facts = []
    for name, count in found.error_types:
        url = query.links.adding("error_types", name)
        facts.append(Fact(label=shown(name, 80), value=grouped(count), url=list_url + url if url else ""))
    return facts


def _narrowed(query: ListQuery, list_url: str, **conditions: Any) -> str:
    return list_url + filter_url(_with(query.filter, **conditions))


def _with(wanted: TaskFilter, **conditions: Any) -> TaskFilter:
    return replace(wanted, **conditions)
