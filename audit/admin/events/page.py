"""The page of the events: what was emitted, what paused work waits for, and emitting one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.db.models import F, TextField
from django.db.models.functions import Cast, Left, Length
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.admin.events.emit import EmitForm, may_emit, receive
from audit.admin.shared.ids import BadId, read_id
from audit.admin.shared.jsontree import Tree, tree
from audit.admin.shared.links import Link
from audit.admin.shared.media import DECIDING
from audit.admin.shared.panels import page_now, panel
from audit.admin.shared.query import unknown_keys
from audit.admin.shared.read_only_admin import NotThere, ReadOnlyAdmin
from audit.admin.shared.wording import ago, moment, shown
from audit.models import Event, PauseQueueEntry
from audit.reading.awaited import Awaited, awaited
from audit.verbs.pausing import MAX_EVENT_NAME

__all__ = ["EventAdmin"]

PAGE_SIZE = 50
"""How many events a page has."""
_PAYLOAD = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """An event, as text."""

    id: int
    name: str
    url: str
    when: str
    exact: str
    iso: str
    who: str
    role: str
    payload: Tree | None


class EventAdmin(ReadOnlyAdmin):
    """Events, the newest first; the page of one is its line in the list."""

    list_template = "audit/admin/events/list.html"

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        using, now = self.using, page_now()
        name = request.GET.get("name", "")[:MAX_EVENT_NAME].replace("\0", "")
        events = Event.objects.using(using).order_by("-id")
        if name:
            events = events.filter(name=name)
        before = request.GET.get("older", "")
        problems = unknown_keys(request.GET, ("name", "older"))
        if before:
            try:
                events = events.filter(pk__lt=read_id(before, int))
            except BadId:
                said = _("The place %(place)s means nothing; this is the first page.")
                problems.append(said % {"place": shown(before, 80)})
        rows = list(_columns(events)[: PAGE_SIZE + 1])
        more, rows = len(rows) > PAGE_SIZE, rows[:PAGE_SIZE]
        queue = self.sees(request, PauseQueueEntry)
        waits = panel(using, partial(awaited, using)) if queue else None
        emits = may_emit(self, request)
        return {
            "title": _("Events"),
            "problems": problems,
            "name": shown(name, MAX_EVENT_NAME),
            "rows": [_row(each, now) for each in rows],
            "waits": list(_waits(waits.value or (), now, emits)) if waits else [],
            "waits_degraded": bool(waits and waits.degraded),
            "form": EmitForm(initial={"name": name}) if emits else None,
            "emit_url": self.url("emit"),
            "most": MAX_EVENT_NAME,
            "back": self.url("changelist"),
            "older": f"?{urlencode({'older': rows[-1]['id']})}" if more else "",
            "newest": "?" if before else "",
            "zone": timezone.get_current_timezone_name(),
        }

    def frame(self, request: HttpRequest) -> dict[str, Any]:
        return {**super().frame(request), "media": self.media + DECIDING}

    def detail_context(self, request: HttpRequest, key: Any) -> HttpResponse:
        for name in Event.objects.using(self.using).filter(pk=key).values_list("name", flat=True):
            return HttpResponseRedirect(f"{self.url('changelist')}?{urlencode({'name': name})}")
        raise NotThere

    def more_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(partial(receive, self))
        return [*super().more_urls(), path("emit/", view, name="audit_event_emit")]


def _columns(events: Any) -> Any:
    document = Cast(F("payload"), TextField())
    return events.values(
        "id",
        "name",
        "emitted_at",
        who=Left("emitted_by", 400),
        role=Left("db_role", 100),
        document=Left(document, _PAYLOAD),
        length=Length(document),
    )


def _row(row: Mapping[str, Any], now: datetime) -> EventRow:
    return EventRow(
        id=row["id"],
        name=shown(row["name"], MAX_EVENT_NAME),
        url=f"?{urlencode({'name': row['name']})}",
        when=ago(row["emitted_at"], now),
        exact=moment(row["emitted_at"], now),
        iso=row["emitted_at"].isoformat(),
        who=shown(row["who"], 80, name=True),
        role=shown(row["role"], 60),
        payload=tree(row["document"], row["length"]) if row["document"] is not None else None,
    )


def _waits(found: Any, now: datetime, emits: bool) -> Iterator[Link]:
    each: Awaited
    for each in found:
        yield Link(
            label=shown(each.name, MAX_EVENT_NAME),
            value=_("the longest since %(when)s") % {"when": ago(each.since, now)},
            url=f"?{urlencode({'name': each.name})}#emit" if emits else "",
            count=each.tasks,
        )
