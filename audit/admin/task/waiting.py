"""Why a task waits, in sentences: for a person, a time, an event, room, an agent, or those that come before it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.admin.shared.links import filter_url
from audit.admin.shared.panels import panel
from audit.admin.shared.read_only_admin import ReadOnlyAdmin
from audit.admin.shared.wording import ago, grouped, moment, shown, span
from audit.admin.task.evidence import Evidence, evidence, read_evidence
from audit.agents.survey import Surveyed, survey
from audit.exceptions import AuditError
from audit.models import Agent, Event, Task
from audit.pausing import check_capacity, gate
from audit.pausing.capacity import CapacityVerdict, judged
from audit.reading.filters import TaskFilter
from audit.reading.place_in_line import MOST, entries_ahead, tasks_ahead
from audit.status import AgentState, PauseReason, Status

__all__ = ["Reason", "Waits", "waits"]

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """A sentence, and where to go on."""

    text: str
    url: str = ""
    link: str = ""
    """What the link says."""
    stands_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Why a task waits."""

    reasons: Sequence[Reason]
    evidence: Evidence | None = None
    """What the judgement about capacity was made of."""
    judged: str = ""
    """When it was made."""


def waits(page: ReadOnlyAdmin, request: HttpRequest, task: Row, entry: Row | None, now: datetime) -> Waits | None:
    """Say why a task waits.

    Args:
        page: whose links to use.
        request: who asks; agents are named to who may see them.
        task: what `read_task` read.
        entry: what `read_entry` read, of paused work.
        now: when the page is read.

    Returns:
        The reasons; None for a task that does not wait.
    """
    if task["status"] == Status.PENDING:
        return Waits(reasons=list(_pending(task, now)))
    if task["status"] == Status.APPROVED:
        return _approved(page, request, task, now)
    if task["status"] == Status.PAUSED and entry is not None:
        return _paused(page, request, task, entry, now)
    return None


def _pending(task: Row, now: datetime) -> Iterator[Reason]:
    yield Reason(
        text=_("It waits for somebody to approve it, since %(span)s.") % {"span": span(now - task["created_at"])}
    )
    if deadline := task["approve_before"]:
        yield _deadline(deadline, now)


def _deadline(deadline: datetime, now: datetime) -> Reason:
    words = {"moment": moment(deadline, now), "when": ago(deadline, now)}
    if deadline <= now:
        return Reason(text=_("Its time passed %(when)s; the next recovery rejects it.") % words, stands_out=True)
    return Reason(text=_("Unless somebody approves it before %(moment)s (%(when)s), it is rejected.") % words)


def _approved(page: ReadOnlyAdmin, request: HttpRequest, task: Row, now: datetime) -> Waits:
    due = task["available_at"]
    if due > now:
        words = {"moment": moment(due, now), "when": ago(due, now), "count": grouped(task["failures"])}
        text = _("It is not due before %(moment)s (%(when)s).") % words
        reasons = [Reason(text=text)]
        if task["failures"]:
            reasons.append(
                Reason(
                    text=ngettext(
                        "It failed once; this is the wait before its next attempt.",
                        "It failed %(count)s times; this is the wait before its next attempt.",
                        task["failures"],
                    )
                    % words
                )
            )
        return Waits(reasons=reasons)
    using, names = page.using, page.sees(request, Agent)
    place = partial(tasks_ahead, using, task=task["id"], priority=task["priority"], available_at=due)
    found = panel(using, place)
    verdict = panel(using, partial(_verdict, using, task)) if _judges_by_registry() else None
    reasons, shown_evidence = [], None
    if verdict and verdict.value:
        said, able = verdict.value
        reasons += list(_capacity(page, said, able, task["action"], names))
        if names and said.kind in ("short", "unknown"):
            shown_evidence = evidence(said.evidence)
    if found.value is not None:
        url = page.url("changelist") + filter_url(TaskFilter(statuses=(Status.APPROVED,), all_time=True))
        reasons.append(_place(found.value, _("the approved tasks"), url))
    return Waits(reasons=reasons, evidence=shown_evidence, judged=_("as it is now") if shown_evidence else "")


def _judges_by_registry() -> bool:
    try:
        return gate() is check_capacity
    except AuditError:
        return False  # the system check says what is wrong with the setting


def _verdict(using: str, task: Row) -> tuple[CapacityVerdict, list[Surveyed]]:
    agents = survey(using, before=task["id"])
    try:
        estimate = json.loads(task["estimated_resources_text"] or "null")
    except ValueError:
        estimate = None  # longer than is read
    work = Task(id=task["id"], action=task["action"], estimated_resources=estimate)
    able = [each for each in agents if not each.draining and each.able(task["action"])]
    return judged(work, agents, using=using), able


def _capacity(
    page: ReadOnlyAdmin, verdict: CapacityVerdict, able: Sequence[Surveyed], action: str, names: bool
) -> Iterator[Reason]:
    url = page.url("changelist", model="agent") if names else ""
    words = {"action": shown(action, 80)}
    if verdict.kind == "no_agent":
        absent = verdict.evidence.get("absent", [])
        if absent and names:
            words["agents"] = ", ".join(
                f"{shown(each['agent'], 60, name=True)} ({AgentState(each['state']).label})" for each in absent[:5]
            )
            text = _("No agent that could do “%(action)s” takes work now: %(agents)s.")
        elif absent:
            text = _("No agent that could do “%(action)s” takes work now.")
        else:
            text = _("No agent is registered that could do “%(action)s”.")
        yield Reason(text=text % words, url=url, link=_("agents"), stands_out=True)
    elif verdict.kind == "short":
        yield Reason(
            text=_("Every agent that could do it is short of room."), url=url, link=_("agents"), stands_out=True
        )
    elif not any(each.free_slots for each in able):
        slots = sum(each.slots for each in able)
        text = ngettext(
            "The only slot of the agents that could do it is taken.",
            "All %(count)s slots of the agents that could do it are taken.",
            slots,
        )
        yield Reason(text=text % {"count": grouped(slots)}, url=url, link=_("agents"))
    elif verdict.kind == "unknown":
        yield Reason(
            text=_("No agent is known to have room, and not every one to be short."), url=url, link=_("agents")
        )


def _place(count: int, what: str, url: str) -> Reason:
    if not count:
        return Reason(text=_("None of %(what)s comes before it.") % {"what": what})
    number = f"{grouped(MOST)}+" if count > MOST else grouped(count)
    text = ngettext("%(number)s of %(what)s comes before it.", "%(number)s of %(what)s come before it.", count)
    return Reason(text=text % {"number": number, "what": what}, url=url, link=_("show them"))


def _paused(page: ReadOnlyAdmin, request: HttpRequest, task: Row, entry: Row, now: datetime) -> Waits:
    reasons = list(_why_paused(page, request, entry, now))
    lease, worker = entry["lease_expires_at"], shown(entry["worker"], 80, name=True)
    if lease and worker:
        words = {"worker": worker, "when": ago(lease, now)}
        if lease > now:
            reasons.append(Reason(text=_("%(worker)s has claimed the entry; the lease ends %(when)s.") % words))
        else:
            text = _("%(worker)s had claimed the entry; the lease ended %(when)s, and anybody may claim it now.")
            reasons.append(Reason(text=text % words, stands_out=True))
    elif not entry["held"] and entry["due_at"] <= now:
        place = partial(
            entries_ahead, page.using, entry=entry["id"], priority=entry["priority"], due_at=entry["due_at"]
        )
        found = panel(page.using, place)
        if found.value is not None:
            reasons.append(_place(found.value, _("the entries that are due"), ""))
    if entry["reason"] != PauseReason.INSUFFICIENT_CAPACITY or not page.sees(request, Agent):
        return Waits(reasons=reasons)
    last = panel(page.using, partial(read_evidence, page.using, task["id"]))
    at, given = last.value or (None, None)
    return Waits(reasons=reasons, evidence=evidence(given), judged=ago(at, now) if at else "")


def _why_paused(page: ReadOnlyAdmin, request: HttpRequest, entry: Row, now: datetime) -> Iterator[Reason]:
    reason, held, due = entry["reason"], entry["held"], entry["due_at"]
    words = {"moment": moment(due, now), "when": ago(due, now), "span": span(now - due)}
    if reason == PauseReason.AWAITING_APPROVAL:
        yield Reason(text=_("A person has to approve what remains of it."))
        if entry["resume_after"]:
            yield _deadline(due, now)
        return
    if entry["event"]:
        name = shown(entry["event"], 200)
        events = page.sees(request, Event)
        url = f"{page.url('changelist', model='event')}?{urlencode({'name': entry['event']})}" if events else ""
        yield Reason(text=_("It waits for the event “%(name)s”.") % {"name": name}, url=url, link=_("events"))
        if not held:
            text = (
                _("Without it, it goes on at %(moment)s (%(when)s).")
                if due > now
                else _("Its wait timed out %(when)s; the next recovery lets it go on.")
            )
            yield Reason(text=text % words)
        return
    if held:
        text = (
            _("It is held for want of room until a person resumes it.")
            if reason == PauseReason.INSUFFICIENT_CAPACITY
            else _("It is held until a person resumes it.")
        )
        yield Reason(text=text)
    elif due > now:
        text = (
            _("No agent had room for it; that is looked at again at %(moment)s (%(when)s).")
            if reason == PauseReason.INSUFFICIENT_CAPACITY
            else _("It goes on at %(moment)s (%(when)s).")
        )
        yield Reason(text=text % words)
    else:
        text = (
            _("No agent had room for it. It is due since %(span)s; a worker, or audit_resume, looks at it again.")
            if reason == PauseReason.INSUFFICIENT_CAPACITY
            else _("It is due since %(span)s; a worker, or audit_resume, lets it go on.")
        )
        yield Reason(text=text % words)
