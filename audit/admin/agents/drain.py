"""Asking an agent to take no new work, with a reason, and letting it take work again."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, router
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _

from audit.admin.agents.rows import AgentRow, agent_row
from audit.admin.decide.forms import ReasonForm
from audit.admin.decide.offers import way_back
from audit.admin.shared.ids import BadId, read_id
from audit.admin.shared.read_only_admin import NotThere, ReadOnlyAdmin
from audit.admin.shared.wording import shown
from audit.agents.draining import drain, undrain
from audit.agents.listing import with_readings
from audit.decisions import MAX_REASON
from audit.exceptions import AuditError
from audit.models import Agent
from audit.values import moments

__all__ = ["may_drain", "receive"]


def may_drain(page: ReadOnlyAdmin, request: HttpRequest) -> bool:
    """Whether the person may drain agents: with `view_agent` and `drain_agent`."""
    return page.has_view_permission(request) and request.user.has_perm("audit.drain_agent")


def receive(page: ReadOnlyAdmin, draining: bool, request: HttpRequest, object_id: str) -> HttpResponse:
    """Show what draining an agent means, or do it when that comes back confirmed; by POST alone.

    Args:
        page: the page of the agents.
        draining: whether it is to drain, or to take work again.
        request: who asks.
        object_id: the agent's id.

    Raises:
        PermissionDenied: the person may not see agents, or not drain them.
    """
    if not may_drain(page, request):
        raise PermissionDenied
    if request.method != "POST":
        return page.problem(request, 405, "post", headers={"Allow": "POST"})
    back = way_back(page, request, request.POST.get("next", ""), home="agent")
    confirmed = "confirmed" in request.POST
    form = ReasonForm(request.POST if confirmed and draining else None)
    if not confirmed or (draining and not form.is_valid()):
        return _confirmation(page, request, draining, object_id, form, back)
    primary, me = router.db_for_write(Agent), request.user.get_username()
    try:
        name = _read(primary, object_id).name
        if draining:
            drain(name, reason=form.cleaned_data["reason"], actor=me, using=primary)
        else:
            undrain(name, using=primary)
    except NotThere:
        return page.problem(request, 404, "missing", primary)
    except DatabaseError as error:
        return page.unread(request, error, primary)
    except AuditError as error:
        messages.error(request, shown(error, 300))
        return HttpResponseRedirect(back)
    words = {"name": shown(name, 120, name=True)}
    done = (
        _("“%(name)s” takes no new work; what runs there goes on.") if draining else _("“%(name)s” takes work again.")
    )
    messages.success(request, done % words)
    return HttpResponseRedirect(back)


def _confirmation(
    page: ReadOnlyAdmin, request: HttpRequest, draining: bool, object_id: str, form: ReasonForm, back: str
) -> HttpResponse:
    primary = router.db_for_write(Agent)

    def build() -> dict[str, Any]:
        row: AgentRow = agent_row(_read(primary, object_id), None, [], moments.now())
        title = _("Let “%(name)s” take no new work?") if draining else _("Let “%(name)s” take work again?")
        return {
            "title": title % {"name": row.name},
            "row": row,
            "drain": draining,
            "action": page.url("drain" if draining else "undrain", object_id),
            "already": row.draining == draining,
            "back": back,
            "form": form,
            "most": MAX_REASON,
            "me": shown(request.user.get_username(), 100),
            "is_detail": True,
        }

    return page.answer(request, "audit/admin/agents/confirm.html", build, using=primary)


def _read(using: str, object_id: str) -> Any:
    try:
        key = read_id(object_id, int)
    except BadId:
        raise NotThere from None
    for agent in with_readings(using).filter(pk=key):
        return agent
    raise NotThere
