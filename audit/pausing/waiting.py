"""Why a task waits, in sentences: for a person, a time, an event, room, an agent, or those that come before it.

The task page and `audit_show` say the same; each writes moments, spans and foreign text in its own way (`Style`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol, TypeVar

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.agents.survey import Surveyed, survey
from audit.exceptions import AuditError
from audit.models import Task
from audit.pausing.capacity import CapacityVerdict, check_capacity, judged
from audit.pausing.gate import gate
from audit.reading.place_in_line import MOST, entries_ahead, tasks_ahead
from audit.status import AgentState, PauseReason, Status

__all__ = ["Reason", "Style", "Waits", "waits"]

Row = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """A sentence."""

    text: str
    about: str = ""
    """What to look at next: `agents`, `event`, or `approved` for the tasks that come first; empty for nothing."""
    stands_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Why a task waits."""

    reasons: Sequence[Reason]
    verdict: CapacityVerdict | None = None
    """The judgement about capacity, of approved work for which no agent is known to have room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How values are written."""

    moment: Callable[[datetime, datetime], str]
    """A moment, as it is now."""
    ago: Callable[[datetime, datetime], str]
    """How far a moment is from now: `5m ago`, `in 5m`."""
    span: Callable[[timedelta], str]
    count: Callable[[int], str]
    text: Callable[[str, int], str]
    """Foreign text, in at most so many characters."""
    name: Callable[[str, int], str]
    """The name of an actor or agent, in at most so many characters."""


class Ask(Protocol):
    """Carries out a reading; returns None where it took too long or may not be made."""

    def __call__(self, read: Callable[[], T], /) -> T | None: ...


def waits(using: str, task: Row, entry: Row | None, now: datetime, style: Style, ask: Ask, names: bool) -> Waits | None:
    """Say why a task waits.

    Args:
        using: the alias to read through.
        task: `id`, `status`, `created_at`, `approve_before`, `available_at`, `failures`, `priority`, `action` and
            `estimate`, which is `estimated_resources`.
        entry: of paused work `id`, `reason`, `held`, `due_at`, `resume_after`, `event`, `priority`, `worker` (who
            claimed it) and `lease_expires_at`.
        now: when this is said.
        style: how values are written.
        ask: carries out each reading of the database.
        names: whether agents may be named.

    Returns:
        The reasons; None for a task that does not wait.
    """
    if task["status"] == Status.PENDING:
        return Waits(reasons=list(_pending(task, now, style)))
    if task["status"] == Status.APPROVED:
        return _approved(using, task, now, style, ask, names)
    if task["status"] == Status.PAUSED and entry is not None:
        return Waits(reasons=list(_paused(using, entry, now, style, ask)))
    return None


def _pending(task: Row, now: datetime, style: Style) -> Iterator[Reason]:
    waited = style.span(now - task["created_at"])
    yield Reason(text=_("It waits for somebody to approve it, since %(span)s.") % {"span": waited})
    if deadline := task["approve_before"]:
        yield _deadline(deadline, now, style)


def _deadline(deadline: datetime, now: datetime, style: Style) -> Reason:
    words = {"moment": style.moment(deadline, now), "when": style.ago(deadline, now)}
    if deadline <= now:
        return Reason(text=_("Its time passed %(when)s; the next recovery rejects it.") % words, stands_out=True)
    return Reason(text=_("Unless somebody approves it before %(moment)s (%(when)s), it is rejected.") % words)


def _approved(using: str, task: Row, now: datetime, style: Style, ask: Ask, names: bool) -> Waits:
    due = task["available_at"]
    if due > now:
        return Waits(reasons=list(_not_due(task, now, style)))
    place = ask(partial(tasks_ahead, using, task=task["id"], priority=task["priority"], available_at=due))
    found = ask(partial(_verdict, using, task))
    reasons, verdict, judges = [], None, _judges_by_registry()
    if found:
        verdict, able = found
        reasons += list(_capacity(verdict, able, task["action"], style, names, judges=judges))
    if place is not None:
        reasons.append(replace(_place(place, _("the approved tasks"), style), about="approved" if place else ""))
    return Waits(
        reasons=reasons, verdict=verdict if verdict and judges and verdict.kind in ("short", "unknown") else None
    )


def _not_due(task: Row, now: datetime, style: Style) -> Iterator[Reason]:
    due, failures = task["available_at"], task["failures"]
    words = {"moment": style.moment(due, now), "when": style.ago(due, now), "count": style.count(failures)}
    yield Reason(text=_("It is not due before %(moment)s (%(when)s).") % words)
    if failures:
        text = ngettext(
            "It failed once; this is the wait before its next attempt.",
            "It failed %(count)s times; this is the wait before its next attempt.",
            failures,
        )
        yield Reason(text=text % words)


def _judges_by_registry() -> bool:
    try:
        return gate() is check_capacity
    except AuditError:
        return False  # the system check says what is wrong with the setting


def _verdict(using: str, task: Row) -> tuple[CapacityVerdict, list[Surveyed]] | None:
    """Judge by the registry; None where it is empty and the gate does not go by it: work is claimed without agents."""
    agents = survey(using, before=task["id"])
    if not agents and not _judges_by_registry():
        return None
    work = Task(id=task["id"], action=task["action"], estimated_resources=task["estimate"])
    able = [each for each in agents if not each.draining and each.able(task["action"])]
    return judged(work, agents, using=using), able


def _capacity(
    verdict: CapacityVerdict, able: Sequence[Surveyed], action: str, style: Style, names: bool, *, judges: bool
) -> Iterator[Reason]:
    """Say what the registry has to do with it; `judges` is whether the gate goes by its readings."""
    words = {"action": style.text(action, 80)}
    if verdict.kind == "no_agent":
        absent = verdict.evidence.get("absent", [])
        if absent and names:
            words["agents"] = ", ".join(
                f"{style.name(each['agent'], 60)} ({AgentState(each['state']).label})" for each in absent[:5]
            )
            text = _("No agent that could do “%(action)s” takes work now: %(agents)s.")
        elif absent:
            text = _("No agent that could do “%(action)s” takes work now.")
        else:
            text = _("No agent is registered that could do “%(action)s”. Start a worker that has a handler for it.")
        yield Reason(text=text % words, about="agents", stands_out=True)
    elif judges and verdict.kind == "short":
        yield Reason(text=_("Every agent that could do it is short of room."), about="agents", stands_out=True)
    elif not any(each.free_slots for each in able):
        slots = sum(each.slots for each in able)
        text = ngettext(
            "The only slot of the agents that could do it is taken.",
            "All %(count)s slots of the agents that could do it are taken.",
            slots,
        )
        yield Reason(text=text % {"count": style.count(slots)}, about="agents")
    elif judges and verdict.kind == "unknown":
        yield Reason(text=_("No agent is known to have room, and not every one to be short."), about="agents")


def _place(count: int, what: str, style: Style) -> Reason:
    if not count:
        return Reason(text=_("It is the first of %(what)s.") % {"what": what})
    number = f"{style.count(MOST)}+" if count > MOST else style.count(count)
    text = ngettext("%(number)s of %(what)s comes before it.", "%(number)s of %(what)s come before it.", count)
    return Reason(text=text % {"number": number, "what": what})


def _paused(using: str, entry: Row, now: datetime, style: Style, ask: Ask) -> Iterator[Reason]:
    yield from _why_paused(entry, now, style)
    lease, worker = entry["lease_expires_at"], style.name(entry["worker"], 80)
    if lease and worker:
        words = {"worker": worker, "when": style.ago(lease, now)}
        if lease > now:
            yield Reason(text=_("%(worker)s has claimed the entry; the lease ends %(when)s.") % words)
        else:
            text = _("%(worker)s had claimed the entry; the lease ended %(when)s, and anybody may claim it now.")
            yield Reason(text=text % words, stands_out=True)
    elif not entry["held"] and entry["due_at"] <= now:
        found = ask(
            partial(entries_ahead, using, entry=entry["id"], priority=entry["priority"], due_at=entry["due_at"])
        )
        if found is not None:
            yield _place(found, _("the entries that are due"), style)


def _why_paused(entry: Row, now: datetime, style: Style) -> Iterator[Reason]:
    reason, held, due = entry["reason"], entry["held"], entry["due_at"]
    words = {"moment": style.moment(due, now), "when": style.ago(due, now), "span": style.span(now - due)}
    if reason == PauseReason.AWAITING_APPROVAL:
        yield Reason(text=_("A person has to approve what remains of it."))
        if entry["resume_after"]:
            yield _deadline(due, now, style)
    elif entry["event"]:
        event = {"name": style.text(entry["event"], 200)}
        yield Reason(text=_("It waits for the event “%(name)s”.") % event, about="event")
        if not held:
            text = (
                _("Without it, it goes on at %(moment)s (%(when)s).")
                if due > now
                else _("Its wait timed out %(when)s; the next recovery lets it go on.")
            )
            yield Reason(text=text % words)
    else:
        short = reason == PauseReason.INSUFFICIENT_CAPACITY
        yield Reason(text=_going_on(held, due > now, short) % words)


def _going_on(held: bool, later: bool, short: bool) -> str:
    if held:
        return (
            _("It is held for want of room until a person resumes it.")
            if short
            else _("It is held until a person resumes it.")
        )
    if later:
        return (
            _("No agent had room for it; that is looked at again at %(moment)s (%(when)s).")
            if short
            else _("It goes on at %(moment)s (%(when)s).")
        )
    return (
        _("No agent had room for it. It is due since %(span)s; a worker, or audit_resume, looks at it again.")
        if short
        else _("It is due since %(span)s; a worker, or audit_resume, lets it go on.")
    )
