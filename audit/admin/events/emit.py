"""Saying that an event has happened: first what that lets go on, then, confirmed, the event."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, router
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from audit.admin.decide.offers import way_back
from audit.admin.shared.jsontree import tree
from audit.admin.shared.read_only_admin import ReadOnlyAdmin
from audit.admin.shared.wording import ago, grouped, shown
from audit.events import MAX_PAYLOAD_BYTES, emit_event
from audit.exceptions import AuditError, InvalidValue
from audit.models import Event
from audit.reading.awaited import MOST_ENTRIES, awaiting
from audit.values import moments, validation
from audit.verbs.arguments import jsonb
from audit.verbs.pausing import MAX_EVENT_NAME

__all__ = ["EmitForm", "may_emit", "receive"]


class EmitForm(forms.Form):
    """The name of an event and what those who wait should know."""

    name = forms.CharField(
        max_length=MAX_EVENT_NAME,
        strip=False,
        error_messages={"required": gettext_lazy("Give the name of the event.")},
    )
    payload = forms.CharField(required=False, strip=True, widget=forms.Textarea)

    def clean_name(self) -> Any:
        """Check what the database could not store."""
        return _checked(lambda: validation.label("name", self.cleaned_data["name"], max_length=MAX_EVENT_NAME))

    def clean_payload(self) -> Any:
        """Read the JSON; nothing is no payload."""
        text = self.cleaned_data["payload"]
        if not text:
            return None
        if len(text.encode()) > MAX_PAYLOAD_BYTES:
            raise forms.ValidationError(
                _("%(size)s bytes are more than the %(most)s that a payload may have; store a reference.")
                % {"size": grouped(len(text.encode())), "most": grouped(MAX_PAYLOAD_BYTES)}
            )
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            words = {"problem": error.msg, "line": error.lineno, "column": error.colno}
            raise forms.ValidationError(
                _("That is no JSON: %(problem)s, in line %(line)d at character %(column)d.") % words
            ) from None
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(_("That is no JSON: %(problem)s.") % {"problem": shown(error, 100)}) from None
        _checked(lambda: jsonb("payload", value))
        return value

    def kept(self) -> dict[str, str]:
        """What was typed, to go on from."""
        return {
            "name": shown(self["name"].value() or "", MAX_EVENT_NAME + 100),
            "payload": (self["payload"].value() or "")[: MAX_PAYLOAD_BYTES * 2],
        }


def may_emit(page: ReadOnlyAdmin, request: HttpRequest) -> bool:
    """Whether the person may emit events: with `view_event` and `add_event`."""
    return page.has_view_permission(request) and request.user.has_perm("audit.add_event")


def receive(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Show what emitting an event lets go on, or do it when that comes back confirmed; by POST alone.

    Raises:
        PermissionDenied: the person may not see events, or not emit them.
    """
    if not may_emit(page, request):
        raise PermissionDenied
    if request.method != "POST":
        return page.problem(request, 405, "post", headers={"Allow": "POST"})
    back = way_back(page, request, request.POST.get("next", ""), home="event")
    form = EmitForm(request.POST)
    if "confirmed" not in request.POST or not form.is_valid():
        return _confirmation(page, request, form, back)
    name, primary = form.cleaned_data["name"], router.db_for_write(Event)
    try:
        earlier = Event.objects.using(primary).filter(name=name).exists()
        event = emit_event(
            name,
            form.cleaned_data["payload"],
            actor=request.user.get_username(),
            using=primary,
        )
    except DatabaseError as error:
        return page.unread(request, error, primary)
    except AuditError as error:
        messages.error(request, shown(error, 300))
        return HttpResponseRedirect(back)
    words = {"name": shown(name, 80, name=True), "who": shown(event.emitted_by, 80, name=True)}
    if earlier:
        messages.warning(request, _("“%(name)s” was emitted before, by %(who)s; the first one is kept.") % words)
    else:
        messages.success(request, _("“%(name)s” is emitted; what waited for it may go on.") % words)
    return HttpResponseRedirect(back)


def _confirmation(page: ReadOnlyAdmin, request: HttpRequest, form: EmitForm, back: str) -> HttpResponse:
    primary, now = router.db_for_write(Event), moments.now()

    def build() -> dict[str, Any]:
        valid = form.is_valid()
        name = form.cleaned_data.get("name", "")
        waiting = awaiting(primary, name) if name else 0
        first = (
            Event.objects.using(primary).filter(name=name).only("emitted_by", "emitted_at").first() if name else None
        )
        payload = form.cleaned_data.get("payload")
        text = json.dumps(payload, ensure_ascii=False) if payload is not None else ""
        return {
            "title": _("Emit “%(name)s”?") % {"name": shown(name, 80)} if valid else _("Emit an event"),
            "valid": valid,
            "form": form,
            "name": shown(name, MAX_EVENT_NAME),
            "payload": tree(text, len(text)) if text else None,
            "first": _(
                "%(who)s emitted it %(when)s. The first one is kept, with its payload; this one only lets go on"
                " what waits for it."
            )
            % {"who": shown(first.emitted_by, 80, name=True), "when": ago(first.emitted_at, now)}
            if first
            else "",
            "waiting": _waiting(waiting),
            "emit_url": page.url("emit"),
            "most": MAX_EVENT_NAME,
            "back": back,
            "me": shown(request.user.get_username(), 100),
            "is_detail": True,
        }

    return page.answer(request, "audit/admin/events/confirm.html", build, using=primary)


def _waiting(count: int) -> str:
    if not count:
        return _("No task waits for it now. One that is paused for it later goes on at once.")
    number = f"{grouped(MOST_ENTRIES)}+" if count > MOST_ENTRIES else grouped(count)
    return ngettext(
        "%(number)s task waits for it and becomes approved again.",
        "%(number)s tasks wait for it and become approved again.",
        count,
    ) % {"number": number}


def _checked(check: Any) -> Any:
    try:
        return check()
    except InvalidValue as error:
        raise forms.ValidationError(error.problem) from None
