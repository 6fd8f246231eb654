"""An agent as text and drawings: its state, its load, its last hour, and what runs there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit import conf
from audit.admin.shared.drawing import meter, sparkline
from audit.admin.shared.wording import moment, shown, span
from audit.agents.listing import Work
from audit.agents.needs import RESOURCES
from audit.status import AgentState

__all__ = ["STATES", "TONES", "AgentRow", "Load", "Running", "agent_row"]

TONES = {
    AgentState.AVAILABLE: "completed",
    AgentState.BUSY: "executing",
    AgentState.STALE: "paused",
    AgentState.OFFLINE: "failed",
    AgentState.DRAINING: "rejected",
}
"""The colour of each state."""
STATES = {
    AgentState.AVAILABLE: gettext_lazy("takes work"),
    AgentState.BUSY: gettext_lazy("all slots are taken"),
    AgentState.STALE: gettext_lazy("no heartbeat for a while; it is not counted on"),
    AgentState.OFFLINE: gettext_lazy("stopped, or no heartbeat for long"),
    AgentState.DRAINING: gettext_lazy("was asked to take no new work"),
}
"""What each means."""

_LABELS = {
    "cpu": gettext_lazy("CPU"),
    "memory": gettext_lazy("Memory"),
    "gpu": gettext_lazy("GPU"),
    "gpu_memory": gettext_lazy("GPU memory"),
}
_LINES = {"cpu": "executing", "memory": "paused", "gpu": "rejected", "gpu_memory": "completed"}
_ALWAYS = ("cpu", "memory")
_NAMES_SHOWN = 8
_LONGEST_TITLE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much of a resource is in use."""

    label: Any
    tone: str
    """The colour of its line in the sparkline."""
    drawn: SafeString | str
    """Empty where nobody knows."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """An action or a label."""

    text: str
    title: str = ""
    """What stands for several: their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """An executing task of an agent."""

    title: str
    url: str
    for_: str
    expired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRow:
    """An agent, as text."""

    id: int
    name: str
    url: str
    """Of this line alone."""
    drain_url: str
    """Where it is drained, or undrained."""
    where: str
    """Host, process and version."""
    state: str
    state_label: str
    state_text: str
    tone: str
    why: str
    """Why it drains."""
    by: str
    seen: str
    seen_iso: str
    seen_exact: str
    does: Sequence[Name]
    labels: Sequence[Name]
    loads: Sequence[Load]
    load_note: str
    spark: SafeString | str
    slots: str
    slots_drawn: SafeString
    works: Sequence[Running]
    more: int
    draining: bool


def agent_row(
    agent: Any,
    history: Mapping[str, Sequence[float | None]] | None,
    works: Sequence[tuple[Work, str, str]],
    now: datetime,
    drain_url: str = "",
) -> AgentRow:
    """Write an agent as text.

    Args:
        agent: of `audit.agents.listing.with_readings`.
        history: its last hour; None where nobody read it.
        works: what runs there, each with its title and the address of its page (empty for who may not see it).
        now: when the page is read.
        drain_url: where it is drained, or undrained.
    """
    state = AgentState(agent.state)
    stopped = state == AgentState.OFFLINE and agent.stopped_at is not None
    return AgentRow(
        id=agent.pk,
        name=shown(agent.name, 120, name=True),
        url=f"?{urlencode({'agent': agent.name})}",
        drain_url=drain_url,
        where=_where(agent),
        state=state,
        state_label=_("Stopped") if stopped else str(state.label),
        state_text=_("offline: it stopped in good order") if stopped else str(STATES[state]),
        tone="pending" if stopped else TONES[state],
        why=shown(agent.drain_reason, 300),
        by=shown(agent.drain_requested_by, 80, name=True),
        seen=_ago(agent.silent),
        seen_iso=agent.heartbeat_at.isoformat(),
        seen_exact=moment(agent.heartbeat_at, now),
        does=_names(agent.actions) or [Name(text=_("any action"))],
        labels=_names(agent.labels),
        loads=list(_loads(agent)),
        load_note=_load_note(agent),
        spark=_spark(history),
        slots=_("%(running)d of %(slots)d") % {"running": agent.running, "slots": agent.slots},
        slots_drawn=meter(agent.running / agent.slots, "executing"),
        works=[
            Running(title=title, url=url, for_=span(max(now - work.since, timedelta(0))), expired=work.expired)
            for work, title, url in works
        ],
        more=max(agent.running - len(works), 0),
        draining=agent.drain_requested_at is not None,
    )


def _where(agent: Any) -> str:
    parts = [shown(agent.host, 80, name=True)]
    if agent.pid is not None:
        parts.append(_("process %(pid)d") % {"pid": agent.pid})
    parts.append(shown(agent.version, 40))
    return " · ".join(filter(None, parts))


def _names(names: Sequence[str]) -> list[Name]:
    found = [Name(text=shown(each, 60, name=True)) for each in names[:_NAMES_SHOWN]]
    if len(names) > _NAMES_SHOWN:
        others = shown(", ".join(names[_NAMES_SHOWN:]), _LONGEST_TITLE)
        found.append(Name(text=f"+{len(names) - _NAMES_SHOWN}", title=others))
    return found


def _ago(silent: timedelta) -> str:
    # By the database's clock, which no page has.
    return _("just now") if silent < timedelta(seconds=10) else _("%(span)s ago") % {"span": span(silent)}


def _is_known(agent: Any) -> bool:
    return agent.reading is not None and agent.reading_age < timedelta(seconds=conf.settings().AGENT_STALE_SECONDS)


def _loads(agent: Any) -> list[Load]:
    reading = agent.reading if _is_known(agent) else {}
    found = []
    for resource in RESOURCES:
        used = reading.get(resource)
        if used is None and resource not in _ALWAYS:
            continue
        found.append(
            Load(
                label=_LABELS[resource],
                tone=_LINES[resource],
                drawn="" if used is None else meter(used, _load_tone(used)),
                text=_("unknown") if used is None else f"{used:.0%}",
            )
        )
    return found


def _load_tone(used: float) -> str:
    """As capacity is judged: short, between the thresholds, or free."""
    free = round(1 - used, 6)
    if free < conf.settings().CAPACITY_PAUSE_FREE:
        return "failed"
    return "paused" if free < conf.settings().CAPACITY_RESUME_FREE else "executing"


def _load_note(agent: Any) -> str:
    if agent.reading is None:
        return _("no reading yet")
    source = shown(agent.reading["source"], 40)
    return _("%(source)s, %(age)s") % {"source": source, "age": _ago(agent.reading_age)}


def _spark(history: Mapping[str, Sequence[float | None]] | None) -> SafeString | str:
    if history is None:
        return ""
    known = {each: values for each, values in history.items() if any(value is not None for value in values)}
    if not known:
        return ""
    words = ", ".join(_in_words(each, values) for each, values in known.items())
    label = _("Last hour: %(words)s") % {"words": words}
    return sparkline([(_LINES[each], values) for each, values in known.items()], label)


def _in_words(resource: str, values: Sequence[float | None]) -> str:
    known = [each for each in values if each is not None]
    words = {"what": _LABELS[resource], "least": f"{min(known):.0%}", "most": f"{max(known):.0%}"}
    return _("%(what)s between %(least)s and %(most)s") % words
