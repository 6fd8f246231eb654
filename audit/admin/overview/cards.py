"""What the overview says: cards of lines, each with a number and a link into the list that it counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.utils.translation import gettext as _

from audit.admin.shared.health import health_facts
from audit.admin.shared.links import filter_url
from audit.admin.shared.wording import ago, grouped, moment, span
from audit.agents.listing import States
from audit.models import Verdict
from audit.reading.filters import TaskFilter
from audit.reading.health import QueueHealth
from audit.reading.now import MOST, Ended, Standing, Waiting
from audit.status import AgentState, PauseReason, Status

__all__ = ["Card", "Line", "agents_card", "ended_card", "integrity_card", "needs_card", "queue_card", "runs_card"]

_OLD = timedelta(hours=24)
_VERDICTS = {Verdict.INTACT: "completed", Verdict.TAMPERING: "failed", Verdict.UNCHECKED: "paused"}
_AGENTS = {
    AgentState.AVAILABLE: "completed",
    AgentState.BUSY: "executing",
    AgentState.DRAINING: "rejected",
    AgentState.STALE: "paused",
    AgentState.OFFLINE: "failed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Something that was counted."""

    label: Any
    number: str
    url: str = ""
    """Of the list that was counted; empty where there is none for this person."""
    tone: str = ""
    detail: str = ""
    title: str = ""
    """What the detail says when it is pointed at."""
    stands_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Lines about one thing."""

    name: str
    title: Any
    url: str
    """Of the page about it."""
    lines: Sequence[Line]
    nothing: str = ""
    """What it says without lines."""
    note: str = ""


def needs_card(
    standing: Standing | None,
    waiting: Waiting | None,
    tasks: str,
    queue: str,
    now: datetime,
    *,
    agents: str = "",
    idle: timedelta | None = None,
) -> Card:
    """What nobody but a person moves on.

    Args:
        standing: the tasks that are not finished.
        waiting: the pause queue.
        tasks: the address of the list of tasks.
        queue: of the pause queue.
        now: when the page is read.
        agents: of the agents.
        idle: how long approved work has waited while no agent of the registry takes work; None where one does.
    """
    lines = [*_idle(idle, agents), *_requests(standing, tasks, now), *_held(waiting, queue)]
    if standing and standing.expired:
        lines.append(
            Line(
                label=_("Leases that ran out"),
                number=_number(standing.expired),
                url=_tasks(tasks, statuses=(Status.EXECUTING,)),
                tone="failed",
                detail=_("the next recovery ends them: a worker, or audit_recover"),
                stands_out=True,
            )
        )
    return Card(
        name="needs",
        title=_("Needs a person"),
        url=_tasks(tasks, statuses=(Status.PENDING,)) if tasks else queue,
        lines=lines,
        nothing=_("Nothing waits for a person."),
    )


def _idle(idle: timedelta | None, agents: str) -> Iterator[Line]:
    if idle is not None:
        yield Line(
            label=_("Approved work waits, and no agent takes work"),
            number=span(idle),
            url=agents,
            tone="failed",
            detail=_("start a worker, or undrain an agent"),
            stands_out=True,
        )


def _requests(standing: Standing | None, tasks: str, now: datetime) -> Iterator[Line]:
    if standing is None or not standing.pending:
        return
    oldest = standing.oldest_pending
    yield Line(
        label=_("Awaiting approval"),
        number=_number(standing.pending),
        url=_tasks(tasks, statuses=(Status.PENDING,)),
        tone="pending",
        detail=_("the oldest for %(span)s") % {"span": span(now - oldest)} if oldest else "",
        title=moment(oldest, now) if oldest else "",
        stands_out=oldest is not None and now - oldest > _OLD,
    )
    if deadline := standing.next_deadline:
        yield Line(
            label=_("Next deadline of an approval"),
            number=ago(deadline, now),
            url=_tasks(tasks, statuses=(Status.PENDING,)),
            tone="paused",
            detail=_("then the request is rejected"),
            title=moment(deadline, now),
            stands_out=deadline - now < timedelta(hours=1),
        )


def _held(waiting: Waiting | None, queue: str) -> Iterator[Line]:
    if waiting is None:
        return
    labels = {
        PauseReason.AWAITING_APPROVAL: _("Paused until somebody approves"),
        PauseReason.AWAITING_EVENT: _("Paused until an event"),
        PauseReason.MANUAL_PAUSE: _("Paused by hand, held"),
        PauseReason.INSUFFICIENT_CAPACITY: _("Short of capacity, held"),
    }
    for reason, label in labels.items():
        if count := waiting.held[reason]:
            yield Line(label=label, number=_number(count), url=_query(queue, state="held"), tone="paused")
    if waiting.long:
        yield Line(
            label=_("Paused for over 24 h"),
            number=_number(waiting.long),
            url=_query(queue, state="overdue"),
            tone="failed",
            stands_out=True,
        )


def runs_card(standing: Standing, tasks: str, now: datetime) -> Card:
    """What runs, and what would."""
    longest = standing.longest
    lines = [
        Line(
            label=_("Executing"),
            number=_number(standing.executing),
            url=_tasks(tasks, statuses=(Status.EXECUTING,)),
            tone="executing",
            detail=_("the longest for %(span)s") % {"span": span(now - longest)} if longest else "",
            title=moment(longest, now) if longest else "",
        ),
        Line(
            label=_("Approved, not claimed yet"),
            number=_number(standing.approved),
            url=_tasks(tasks, statuses=(Status.APPROVED,)),
            tone="approved",
        ),
    ]
    return Card(name="runs", title=_("Runs now"), url=_tasks(tasks, statuses=(Status.EXECUTING,)), lines=lines)


def ended_card(total: Ended, actions: Sequence[Ended], complete: bool, today: datetime, tasks: str) -> Card:
    """How work ended today, beside yesterday up to the same time."""

    def line(each: Ended, label: str, **more: Any) -> Line:
        return Line(
            label=label,
            number=grouped(each.today.failed),
            url=_tasks(tasks, statuses=(Status.FAILED,), finished_since=today, **more),
            tone="failed",
            detail=_yesterday(each.by_now.failed, each.yesterday.failed),
            stands_out=each.today.failed > each.by_now.failed,
        )

    lines = [
        line(total, _("Failed today")),
        *(line(each, each.action, actions=(each.action,)) for each in actions),
        *_others(total, actions, today, tasks),
        Line(
            label=_("Completed today"),
            number=grouped(total.today.completed),
            url=_tasks(tasks, statuses=(Status.COMPLETED,), finished_since=today),
            tone="completed",
            detail=_yesterday(total.by_now.completed, total.yesterday.completed),
        ),
    ]
    return Card(
        name="today",
        title=_("Today against yesterday"),
        url=_tasks(tasks, statuses=(Status.FAILED,), finished_since=today),
        lines=lines,
        note="" if complete else _("Counted among the newest ends of work alone."),
    )


def _yesterday(by_now: int, whole: int) -> str:
    return _("yesterday: %(by_now)s by now, %(all)s all day") % {"by_now": grouped(by_now), "all": grouped(whole)}


def _others(total: Ended, actions: Sequence[Ended], today: datetime, tasks: str) -> Iterator[Line]:
    """The failures of actions that have no line of their own."""
    if rest := total.today.failed - sum(each.today.failed for each in actions):
        yield Line(
            label=_("Other actions"),
            number=grouped(rest),
            url=_tasks(tasks, statuses=(Status.FAILED,), finished_since=today),
            tone="failed",
            detail=_("the link shows the failures of all actions"),
        )


def queue_card(state: QueueHealth, waiting: Waiting | None, standing: Standing | None, tasks: str, queue: str) -> Card:
    """The pause queue, and how the queue of work is doing."""
    lines = []
    if waiting:
        lines = [
            Line(label=_("Due"), number=_number(waiting.due), url=_query(queue, state="due"), tone="approved"),
            Line(
                label=_("Not due yet"),
                number=_number(waiting.scheduled),
                url=_query(queue, state="waiting"),
                tone="paused",
            ),
            Line(
                label=_("Held"),
                number=_number(sum(waiting.held.values())),
                url=_query(queue, state="held"),
                tone="pending",
            ),
        ]
    facts = health_facts(state)
    lines += [
        Line(
            label=fact.label,
            number=fact.value,
            detail=fact.advice,
            url=_tasks(tasks, statuses=(fact.status,)) if tasks and fact.status else queue if not fact.status else "",
            stands_out=fact.stands_out,
            tone="failed" if fact.stands_out else "",
        )
        for fact in facts
    ]
    return Card(name="queue", title=_("Queue"), url=queue, lines=lines)


def agents_card(found: States, agents: str) -> Card:
    """Who could take work."""
    lost = found.counts.get(AgentState.OFFLINE, 0) - found.stopped
    lines = [
        Line(
            label=str(state.label),
            number=grouped(found.counts[state]),
            url=_query(agents, state=state),
            tone=tone if state != AgentState.OFFLINE or lost else "pending",
            detail=_("%(count)s stopped in good order") % {"count": grouped(found.stopped)}
            if state == AgentState.OFFLINE and found.stopped
            else "",
            stands_out=state == AgentState.STALE,
        )
        for state, tone in _AGENTS.items()
        if found.counts.get(state)
    ]
    return Card(name="agents", title=_("Agents"), url=agents, lines=lines, nothing=_("No agent is registered."))


def integrity_card(newest: Sequence[Mapping[str, Any]], integrity: str, tasks: str, now: datetime) -> Card:
    """What the newest stored verification found."""
    lines = []
    for row in newest:
        verdict, at = Verdict(row["verdict"]), row["finished_at"]
        lines = [
            Line(
                label=_("Newest verification"),
                number=str(verdict.label),
                url=integrity,
                tone=_VERDICTS[verdict],
                detail=ago(at, now),
                title=moment(at, now),
                stands_out=verdict == Verdict.TAMPERING or now - at > _OLD,
            ),
            Line(label=_("Leaves it covered"), number=grouped(row["size"]), url=integrity, tone="completed"),
            Line(label=_("Rows not sealed then"), number=grouped(row["unsealed"]), url=integrity, tone="pending"),
        ]
        if verdict == Verdict.TAMPERING and tasks:
            lines.insert(
                1,
                Line(
                    label=_("Tasks it names"),
                    number="→",
                    url=tasks + filter_url(TaskFilter(seals=("failed",))),
                    tone="failed",
                    stands_out=True,
                ),
            )
    return Card(
        name="integrity",
        title=_("Integrity"),
        url=integrity,
        lines=lines,
        nothing=_("Nothing was ever verified; audit_verify does it."),
    )


def _number(count: int) -> str:
    return f"{grouped(MOST)}+" if count > MOST else grouped(count)


def _tasks(url: str, **conditions: Any) -> str:
    return url + filter_url(TaskFilter(all_time=True, **conditions)) if url else ""


def _query(url: str, **query: str) -> str:
    return f"{url}?{urlencode(query)}" if url else ""
