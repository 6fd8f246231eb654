"""The pause queue: what is due first, then what waits, what is held, and what somebody is working on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.db.models import OuterRef, Q, Subquery
from django.db.models.functions import Left
from django.http import HttpRequest, HttpResponseRedirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit.admin.decide.offers import ON_ENTRIES, offer, pick
from audit.admin.log.page import titles
from audit.admin.shared.base import NotThere
from audit.admin.shared.export import Export, ExportingAdmin
from audit.admin.shared.paging import BadCursor, Cursor, Order, Page, turn
from audit.admin.shared.panels import panel
from audit.admin.shared.question import Link, strangers
from audit.admin.shared.wording import ago, moment, shown, span
from audit.models import PauseQueueEntry, Task
from audit.reading.filters.values import short_id
from audit.status import PauseReason, Status

__all__ = ["OVERDUE", "PauseQueueEntryAdmin", "QueueRow", "Section"]

ORDER = Order(moment="due_at", key=int, descending=False)
_LONGEST_FIRST = Order(moment="paused_at", key=int, descending=False)
OVERDUE = timedelta(hours=24)
"""How long work may be paused before it stands out."""
_SECTION_SIZE = 20

STATES = {
    "due": (gettext_lazy("Due"), gettext_lazy("Ready for a worker to resume.")),
    "waiting": (gettext_lazy("Waiting"), gettext_lazy("Not due before their resume time.")),
    "held": (gettext_lazy("Held"), gettext_lazy("Only a person or the awaited event releases them.")),
    "overdue": (gettext_lazy("Over 24 h"), gettext_lazy("Paused for longer than a day; the longest first.")),
    "leased": (gettext_lazy("Leased"), gettext_lazy("A worker has claimed them and is deciding.")),
}
# Each entry is in exactly one of these.
_WHOLE = ("due", "waiting", "held", "leased")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRow:
    """One entry of the queue, as text."""

    id: int
    title: str
    short: str
    url: str
    reason: str
    reason_label: str
    note: str
    age: str
    paused: str
    paused_iso: str
    paused_by: str
    overdue: bool
    due: str
    due_exact: str
    due_iso: str
    held: bool
    priority: int
    lease: str
    worker: str
    pick: str


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
        now = timezone.now()
        state, problems = _state(request)
        cursor = None
        order = _LONGEST_FIRST if state == "overdue" else ORDER
        if state:
            try:
                cursor = Cursor.read(request.GET, order)
            except BadCursor as error:
                problems.append(
                    _("The place %(place)s means nothing; this is the first page.") % {"place": shown(error)}
                )
        pages: dict[str, Page | None] = {}
        for name in [state] if state else _WHOLE:
            rows = _columns(PauseQueueEntry.objects.using(self.using).listed().filter(_in_state(name, now)))
            if state:
                pages[name] = turn(rows, order, cursor)
            else:
                pages[name] = panel(self.using, partial(turn, rows, ORDER, None, _SECTION_SIZE)).value
        keys = {row["task_id"] for page in pages.values() if page for row in page.rows}
        tasks = self.sees(request, Task)
        found = titles(self.using, keys) if tasks else {}
        task_page = self.urls_of("change", model="task") if tasks else None
        only = pages[state] if state else None

        def row(values: dict[str, Any]) -> QueueRow:
            task = values["task_id"]
            return _row(values, found.get(task, ""), task_page(task) if task_page else "", now)

        return {
            "title": _("Pause queue"),
            "now": now,
            "state": state,
            "problems": problems,
            "states": [
                Link(label=_("All"), url="?", chosen=not state),
                *(
                    Link(label=title, url=f"?state={name}", chosen=name == state, tone=name)
                    for name, (title, _text) in STATES.items()
                ),
            ],
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
            rows = rows.filter(_in_state(state, timezone.now()))
        return Export(name="queue", rows=rows, range=state or "all", problems=problems)

    def detail_context(self, request: HttpRequest, object_id: str) -> Any:
        if not object_id.isascii() or not object_id.isdigit() or len(object_id) > 18:
            raise NotThere
        entries = PauseQueueEntry.objects.using(self.using).filter(pk=int(object_id))
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


def _row(values: dict[str, Any], title: str, task_page: str, now: datetime) -> QueueRow:
    task = values["task_id"]
    lease = values["lease_expires_at"]
    due = values["due_at"]
    return QueueRow(
        id=values["id"],
        title=title,
        short=short_id(task),
        url=f"{task_page}#pause" if task_page else "",
        reason=values["reason"],
        reason_label=str(PauseReason(values["reason"]).label),
        note=shown(values["words"], 200),
        age=span(now - values["paused_at"]),
        paused=moment(values["paused_at"], now),
        paused_iso=values["paused_at"].isoformat(),
        paused_by=shown(values["who"], 60),
        overdue=now - values["paused_at"] > OVERDUE,
        due="" if values["held"] else ago(due, now),
        due_exact=moment(due, now),
        due_iso=due.isoformat(),
        held=values["held"],
        priority=values["priority"],
        lease=_("lease ends %(when)s") % {"when": ago(lease, now)} if lease and lease > now else "",
        worker=shown(values["worker"], 60),
        pick=pick(task, values["task_revision"], Status.PAUSED, values["id"], values["revision"]),
    )


def _state(request: HttpRequest) -> tuple[str, list[str]]:
    state = request.GET.get("state", "")
    problems = strangers(request.GET, ("state",))
    if not state or state in STATES:
        return state, problems
    return "", [*problems, _("There is no state %(state)s; this is the whole queue.") % {"state": shown(state, 80)}]


def _in_state(state: str, now: datetime) -> Q:
    leased = Q(claim_token__isnull=False, lease_expires_at__gt=now)
    if state == "leased":
        return leased
    free = Q(claim_token__isnull=True) | Q(lease_expires_at__isnull=True) | Q(lease_expires_at__lte=now)
    if state == "overdue":
        return Q(paused_at__lt=now - OVERDUE)
    if state == "held":
        return free & Q(held=True)
    if state == "due":
        return free & Q(held=False, due_at__lte=now)
    return free & Q(held=False, due_at__gt=now)


def _columns(rows: Any) -> Any:
    return rows.values(
        "id",
        "task_id",
        "reason",
        "paused_at",
        "due_at",
        "held",
        "priority",
        "lease_expires_at",
        "revision",
        # Of the rows shown, by primary key; a join could be planned the other way round.
        task_revision=Subquery(Task.objects.filter(pk=OuterRef("task_id")).values("revision")),
        words=Left("note", 300),
        who=Left("paused_by", 100),
        worker=Left("claimed_by", 100),
    )


def _link(state: str, **place: str) -> str:
    return f"?{urlencode({'state': state, **place})}"
