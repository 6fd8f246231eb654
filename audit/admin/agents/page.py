"""The page of the agents: who could take work, how loaded each is, and what runs there."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.admin.agents.drain import may_drain, receive
from audit.admin.agents.rows import STATES, TONES, agent_row
from audit.admin.shared.links import Link
from audit.admin.shared.media import DECIDING
from audit.admin.shared.panels import panel
from audit.admin.shared.query import unknown_keys
from audit.admin.shared.read_only_admin import NotThere, ReadOnlyAdmin
from audit.admin.shared.titles import task_title
from audit.admin.shared.wording import shown
from audit.agents.listing import Work, history, states, with_readings, work_of
from audit.models import Task
from audit.status import AgentState
from audit.values import moments

__all__ = ["AgentAdmin"]

PAGE_SIZE = 25
"""How many agents a page has."""
_WORKS = 5
_LONGEST = 500


class AgentAdmin(ReadOnlyAdmin):
    """Agents of the registry; the page of one is its line in the list."""

    list_template = "audit/admin/agents/list.html"

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        using, now = self.using, moments.now()
        state, name, problems = _asked(request)
        agents = with_readings(using)
        if state:
            agents = agents.filter(state=state)
        if name:
            agents = agents.filter(name=name)
        if after := request.GET.get("after", ""):
            agents = agents.filter(name__gt=after[:_LONGEST].replace("\0", ""))
        found = list(agents[: PAGE_SIZE + 1])
        more, found = len(found) > PAGE_SIZE, found[:PAGE_SIZE]
        tasks = self.sees(request, Task)
        counted = panel(using, partial(states, using))
        past = panel(using, partial(history, using, [each.pk for each in found]))
        work = panel(using, partial(work_of, using, [each.name for each in found], _WORKS))
        url = self.urls_of("change", model="task") if tasks else None

        def works(agent: Any) -> list[tuple[Work, str, str]]:
            if not url:
                return []
            of_agent = (work.value or {}).get(agent.name, [])
            return [(each, task_title(each.summary, each.action), url(each.task)) for each in of_agent]

        return {
            "title": _("Agents"),
            "problems": problems,
            "states": _states(state, counted.value or {}),
            "name": name,
            "chosen": bool(state or name or after),
            "rows": [
                agent_row(each, (past.value or {}).get(each.pk), works(each), now, self._drain_url(each))
                for each in found
            ],
            "degraded": past.degraded or work.degraded,
            "sees_tasks": tasks,
            "may_drain": may_drain(self, request),
            "back": request.get_full_path(),
            "older": f"?{urlencode({'state': state, 'after': found[-1].name})}" if more else "",
            "newest": f"?{urlencode({'state': state})}" if after else "",
            "zone": timezone.get_current_timezone_name(),
        }

    def frame(self, request: HttpRequest) -> dict[str, Any]:
        return {**super().frame(request), "media": self.media + DECIDING}

    def detail_context(self, request: HttpRequest, key: Any) -> HttpResponse:
        for name in with_readings(self.using).filter(pk=key).values_list("name", flat=True):
            return HttpResponseRedirect(f"{self.url('changelist')}?{urlencode({'agent': name})}")
        raise NotThere

    def _drain_url(self, agent: Any) -> str:
        return self.url("drain" if agent.drain_requested_at is None else "undrain", agent.pk)

    def more_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            *super().more_urls(),
            path("<str:object_id>/drain/", view(partial(receive, self, True)), name="audit_agent_drain"),
            path("<str:object_id>/undrain/", view(partial(receive, self, False)), name="audit_agent_undrain"),
        ]


def _asked(request: HttpRequest) -> tuple[str, str, list[str]]:
    state = request.GET.get("state", "")
    name = request.GET.get("agent", "")[:_LONGEST].replace("\0", "")
    problems = unknown_keys(request.GET, ("state", "agent"))
    if state and state not in AgentState.values:
        problems.append(_("There is no state %(state)s; these are all agents.") % {"state": shown(state, 80)})
        state = ""
    return state, name, problems


def _states(chosen: str, counted: dict[str, int]) -> list[Link]:
    return [
        Link(label=_("All"), url="?", chosen=not chosen, count=sum(counted.values()) if counted else None),
        *(
            Link(
                label=str(state.label),
                url=f"?state={state}",
                chosen=chosen == state,
                tone=TONES[state],
                value=str(STATES[state]),
                count=counted.get(state, 0) if counted else None,
            )
            for state in (
                AgentState.AVAILABLE,
                AgentState.BUSY,
                AgentState.DRAINING,
                AgentState.STALE,
                AgentState.OFFLINE,
            )
        ),
    ]
