"""The list of tasks: the chart, the search, the filter column and the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.utils.translation import gettext as _

from audit.admin.decide.offers import ON_TASKS, offer
from audit.admin.shared.chips import chips
from audit.admin.shared.export import Export, range_name
from audit.admin.shared.links import Link, filter_url
from audit.admin.shared.paging import PAGE_SIZE, Order, Page, read_page
from audit.admin.shared.panels import Panel, panel
from audit.admin.shared.query import ListQuery
from audit.admin.shared.samples import sized
from audit.admin.shared.seal_badge import seals_of_tasks
from audit.admin.shared.tail import TailingAdmin
from audit.admin.shared.timerange import DEFAULT_SPAN
from audit.admin.shared.wording import ago, grouped, moment, shown
from audit.admin.tasks.chart_counts import CHOICES, Others, Overview, Stretch, by_status, overview
from audit.admin.tasks.facet_counts import FAILURES, failures, others
from audit.admin.tasks.facets import facets, seals, statuses
from audit.admin.tasks.rows import list_columns, task_row
from audit.admin.tasks.search_plan import searched
from audit.models import PauseQueueEntry, Task
from audit.reading.filters import TaskFilter
from audit.reading.filters.actors import close_to, is_pattern
from audit.reading.filters.conditions import CONDITIONS
from audit.status import FINISHED, FailureClass
from audit.values.names import apart
from audit.values.validation import EARLIEST, LATEST

__all__ = ["TaskListAdmin"]

_MOST_MEANT = 3
_ORDER = Order(moment="created_at", key=UUID)


class TaskListAdmin(TailingAdmin):
    """What was asked, who decided, who did it, and how it ended, of many tasks."""

    order = _ORDER
    list_template = "audit/admin/tasks/list.html"

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        query = ListQuery.read(request, _ORDER).naming(self.using)
        tasks = query.effective.apply(Task.objects.using(self.using))
        tasks = searched(self.using, tasks, query.effective)
        page = read_page(list_columns(tasks), _ORDER, query.cursor)
        badges = seals_of_tasks(self.using, {row["id"]: row["status"] in FINISHED for row in page.rows}, query.now)
        url = self.urls_of("change")
        actors = apart((row["who"] for row in page.rows), 40)
        rows = [task_row(each, query, badges[each["id"]], url(each["id"]), actors) for each in page.rows]
        counted = panel(self.using, partial(overview, self.using, tasks, query, _stretch(page)))
        most = sized(FAILURES, query.effective)
        errors = panel(self.using, partial(failures, self.using, tasks, most))
        all_statuses = self._all_statuses(query)
        drawn, counts = (counted.value.chart, counted.value.counts) if counted.value else (None, {})
        elsewhere = None if rows else self._newest_elsewhere(query)
        hidden = list(query.links.hidden())
        return {
            "title": _("Task audit trail"),
            "query": query,
            "problems": query.problems,
            "chips": chips(query),
            "chart": Panel(value=drawn, degraded=counted.degraded),
            "statuses": statuses(query, drawn.legend if drawn else (), all_statuses),
            "facets": facets(query, {**counts, **(errors.value or {})}, self._others(query)),
            "seals": seals(query),
            "facets_note": _facets_note(counted.value, errors.value or {}, most),
            "facets_degraded": counted.degraded or errors.degraded,
            "views": _views(query, self._queue_url(request)),
            "rows": rows,
            "decide": offer(self, request, ON_TASKS) if any(row["checkbox"] for row in rows) else None,
            "empty_table": not rows and not query.filter and elsewhere is None,
            "elsewhere": elsewhere,
            "meant": [] if rows or elsewhere else self._meant(query),
            "conditions": [(name, str(text).replace("`", "")) for name, text in CONDITIONS.items()],
            "newer": query.links.page(before=page.before) if page.before else "",
            "older": query.links.page(after=page.after) if page.after else "",
            "newest": "" if page.first else query.links.page(),
            "widened": query.links.widened(DEFAULT_SPAN * 7),
            "all_time": query.links.all_time(),
            "statistics_url": self.url("statistics") + filter_url(query.filter),
            "exports": self.export_links(hidden),
            "live": self.live(hidden, page, query.now) if page.first and not query.range.end else None,
        }

    def _queue_url(self, request: HttpRequest) -> str:
        return self.url("changelist", model="pausequeueentry") if self.sees(request, PauseQueueEntry) else ""

    def _newest_elsewhere(self, query: ListQuery) -> Link | None:
        """Say when the newest task was requested that an empty list would find at another time."""
        if query.effective.words or query.effective.documents:
            return None
        wanted = replace(query.filter, since=None, until=None, all_time=True).apply(Task.objects.using(self.using))
        found = panel(self.using, partial(_newest, wanted)).value
        if found is None:
            return None
        until = found + timedelta(seconds=1)
        return Link(
            label=moment(found, query.now),
            value=ago(found, query.now),
            url=query.links.between(found - min(DEFAULT_SPAN, found - EARLIEST), until if until < LATEST else None),
        )

    def _meant(self, query: ListQuery) -> list[Link]:
        """Suggest names like those that an empty list was asked for."""
        using, wanted = self.using, query.filter
        if replace(wanted, since=None, until=None, all_time=False) != TaskFilter(actors=wanted.actors):
            return []
        return [
            Link(label=shown(name, 100, name=True), value=shown(name), url=filter_url(_by(query.filter, name)))
            for actor in query.filter.actors[:_MOST_MEANT]
            if not is_pattern(actor)
            for name in panel(using, partial(close_to, using, actor)).value or ()
        ]

    def _all_statuses(self, query: ListQuery) -> dict[str, int] | None:
        """Count what the filter of statuses leaves out, when there is one and the rest is cheap to find."""
        if not query.filter.statuses or query.effective.words or query.effective.documents:
            return None
        relaxed = replace(query.effective, statuses=()).apply(Task.objects.using(self.using))
        return panel(self.using, partial(by_status, self.using, relaxed, CHOICES)).value

    def _others(self, query: ListQuery) -> Others:
        """Count what else could be chosen, under the same conditions."""
        wanted = query.filter
        chosen = wanted.failures or wanted.error_types or wanted.any_services or wanted.actions or wanted.actors
        if not chosen or query.effective.words or query.effective.documents:
            return {}
        return panel(self.using, partial(others, self.using, Task.objects.using(self.using), query)).value or {}

    def narrower(self, request: HttpRequest) -> list[tuple[str, str]]:
        return ListQuery.read(request, _ORDER).links.narrower()

    def to_export(self, request: HttpRequest) -> Export:
        query = ListQuery.read(request, _ORDER).naming(self.using)
        tasks = query.effective.apply(Task.objects.using(self.using))
        return Export(name="tasks", rows=tasks, range=range_name(query.range), problems=query.problems)


def _stretch(page: Page) -> Stretch | None:
    """The oldest and the newest moment of a page; None if it is not full."""
    return (page.rows[-1]["created_at"], page.rows[0]["created_at"]) if len(page.rows) == PAGE_SIZE else None


def _by(wanted: TaskFilter, name: str) -> TaskFilter:
    return replace(wanted, actors=(name,))


def _newest(tasks: Any) -> datetime | None:
    found: datetime | None = tasks.order_by("-created_at").values_list("created_at", flat=True).first()
    return found


def _facets_note(counted: Overview | None, errors: Mapping[str, Mapping[str, int]], most: int) -> str:
    notes = []
    if counted and counted.sample:
        notes.append(_("Counted among the newest %(count)s.") % {"count": grouped(counted.sample)})
    if max(errors.get("unwell", {}).values(), default=0) >= most:
        notes.append(_("Failures and rejections: among the newest %(count)s of each.") % {"count": grouped(most)})
    return " ".join(notes)


def _views(query: ListQuery, queue_url: str) -> list[Link]:
    """Filters that people need every day, ready to choose."""
    filters = {
        _("Needs attention"): TaskFilter(statuses=("failed", "paused"), since=DEFAULT_SPAN * 7),
        _("Awaiting approval"): TaskFilter(statuses=("pending",), all_time=True),
        _("Running now"): TaskFilter(statuses=("executing",), all_time=True),
        _("Resource failures"): TaskFilter(failures=(FailureClass.RESOURCE,), since=DEFAULT_SPAN * 7),
        _("Integrity problems"): TaskFilter(seals=("failed",)),
    }
    views = [Link(label=name, url=filter_url(each), chosen=query.filter == each) for name, each in filters.items()]
    return [*views, Link(label=_("Long pauses"), url=f"{queue_url}?state=overdue")] if queue_url else views
