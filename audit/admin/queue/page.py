"""The pause queue: what is due first, then what waits, what is held, and what somebody is working on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponseRedirect
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.admin.decide.offers import ON_ENTRIES, offer
from audit.admin.queue.rows import QueueRow, list_columns, queue_row
from audit.admin.queue.states import STATES, WHOLE, in_state
from audit.admin.shared.export import Export, ExportingAdmin
from audit.admin.shared.health import health_facts
from audit.admin.shared.links import Link
from audit.admin.shared.paging import Order, Page, read_cursor, read_page
from audit.admin.shared.panels import panel
from audit.admin.shared.query import unknown_keys
from audit.admin.shared.read_only_admin import NotThere
from audit.admin.shared.titles import task_titles
from audit.admin.shared.wording import shown
from audit.models import Agent, Event, PauseQueueEntry, Task
from audit.reading.health import health
from audit.values import moments

__all__ = ["PauseQueueEntryAdmin"]

_ORDER = Order(moment="due_at", key=int, descending=False)
_LONGEST_FIRST = Order(moment="paused_at", key=int, descending=False)
_SECTION_SIZE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Entries in one state."""

    state: str
    title: Any
    text: Any
    rows: list[QueueRow]
    url: str
    more: bool = False
    degraded: bool = False


class PauseQueueEntryAdmin(ExportingAdmin):
    """Work that waits; the page of an entry is its place in the page of its task."""

    list_template = "audit/admin/queue/list.html"

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        now = moments.now()
        state, problems = _state(request)
        order = _LONGEST_FIRST if state == "overdue" else _ORDER
        cursor, unread = read_cursor(request.GET, order) if state else (None, [])
        pages: dict[str, Page | None] = {}
        for name in [state] if state else WHOLE:
            rows = list_columns(PauseQueueEntry.objects.using(self.using).listed().filter(in_state(name, now)))
            if state:
                pages[name] = read_page(rows, order, cursor)
            else:
                pages[name] = panel(self.using, partial(read_page, rows, _ORDER, None, _SECTION_SIZE)).value
        keys = {row["task_id"] for page in pages.values() if page for row in page.rows}
        tasks = self.sees(request, Task)
        titles = task_titles(self.using, keys) if tasks else {}
        task_url = self.urls_of("change", model="task") if tasks else None
        only = pages[state] if state else None
        events = self.url("changelist", model="event") if self.sees(request, Event) else ""
        agents = self.url("changelist", model="agent") if self.sees(request, Agent) else ""
        queue = panel(self.using, partial(health, self.using))

        def row(values: dict[str, Any]) -> QueueRow:
            task = values["task_id"]
            return queue_row(values, titles.get(task, ""), task_url(task) if task_url else "", now, events, agents)

        return {
            "title": _("Pause queue"),
            "now": now,
            "state": state,
            "problems": [*problems, *unread],
            "states": [
                Link(label=_("All"), url="?", chosen=not state),
                *(
                    Link(label=title, url=f"?state={name}", chosen=name == state, tone=name)
                    for name, (title, _text) in STATES.items()
                ),
            ],
            "health": health_facts(queue.value) if queue.value else [],
            "health_degraded": queue.degraded,
            "sections": [_section(name, page, row) for name, page in pages.items()],
            "empty": all(page is not None and not page.rows for page in pages.values()),
            "newer": _link(state, before=only.before) if only and only.before else "",
            "older": _link(state, after=only.after) if only and only.after else "",
            "newest": f"?state={state}" if only and not only.first else "",
            "decide": offer(self, request, ON_ENTRIES),
            "zone": timezone.get_current_timezone_name(),
            "exports": self.export_links([("state", state)] if state else []),
        }

    def to_export(self, request: HttpRequest) -> Export:
        state, problems = _state(request)
        rows = PauseQueueEntry.objects.using(self.using)
        if state:
            rows = rows.filter(in_state(state, moments.now()))
        return Export(name="queue", rows=rows, range=state or "all", problems=problems)

    def detail_context(self, request: HttpRequest, key: Any) -> Any:
        entries = PauseQueueEntry.objects.using(self.using).filter(pk=key)
        for task in entries.values_list("task_id", flat=True):
            if not self.sees(request, Task):
                return HttpResponseRedirect(self.url("changelist"))
            return HttpResponseRedirect(f"{self.url('change', task, model='task')}#pause")
        raise NotThere


def _section(state: str, page: Page | None, row: Callable[[dict[str, Any]], QueueRow]) -> Section:
    title, text = STATES[state]
    return Section(
        state=state,
        title=title,
        text=text,
        rows=[row(each) for each in page.rows] if page else [],
        url=f"?state={state}",
        more=bool(page and page.after),
        degraded=page is None,
    )


def _state(request: HttpRequest) -> tuple[str, list[str]]:
    state = request.GET.get("state", "")
    problems = unknown_keys(request.GET, ("state",))
    if not state or state in STATES:
        return state, problems
    return "", [*problems, _("There is no state %(state)s; this is the whole queue.") % {"state": shown(state, 80)}]


def _link(state: str, **place: str) -> str:
    return f"?{urlencode({'state': state, **place})}"
