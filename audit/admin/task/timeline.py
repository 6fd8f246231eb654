"""What happened to a task, in order, with the time between; and how long it spent in each status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from django.utils.translation import gettext as _

from audit.admin.shared.jsontree import Tree, tree
from audit.admin.shared.wording import clock, milliseconds, moment, shown, span
from audit.status import FINISHED, LogKind, PauseReason, Status
from audit.values import moments

__all__ = ["Moment", "Segment", "Spent", "segments", "spent", "timeline"]

_GAP = timedelta(seconds=1)
_DECIDED = "decided"
# Who a task names for a moment that was reported.
_WHO = {
    str(Status.PENDING): "requested_by",
    str(Status.APPROVED): "decided_by",
    str(Status.REJECTED): "decided_by",
    _DECIDED: "decided_by",
    str(Status.EXECUTING): "claimed_by",
}
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One row of the log, as text."""

    anchor: str
    """Its place on the page, which links name; empty for what is in no row of the log."""
    kind: str
    tone: str
    title: str
    at: str
    """The time of day, with the date where it is another than that of the row before."""
    iso: str
    since_start: str
    gap: str
    """The time since the row before, where it is long enough to notice."""
    who: str
    role: str
    action: str
    output: str
    took: str
    detail: Tree | None
    source: str = ""
    """How it is known, where the log did not witness it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of the time bar, in thousandths of its width."""

    status: str
    label: str
    start: str
    width: str
    span: str
    length: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """How long a task was in a status, all its stretches together."""

    status: str
    label: str
    span: str


def timeline(log: Sequence[Row], task: Row, now: datetime, failure: str = "") -> list[Moment]:
    """Write the rows of a task's log, which come in order, as text.

    A task recorded after the fact has a log that begins when it was recorded; what its own stamps say goes before.

    Args:
        log: the rows.
        task: the task.
        now: when the page is read.
        failure: the error type of a task that failed.
    """
    afterwards = bool(log) and _recorded_afterwards(log[0])
    story: list[tuple[datetime, Row | str]] = [(row["at"], row) for row in log]
    if afterwards:
        end = (task["finished_at"] or log[0]["at"], task["status"])
        # What took no time stands once, as it ended.
        before_end = [each for each in _stamps(task) if each[0] < end[0]]
        story = sorted([*before_end, end, *_review(task)], key=lambda each: each[0]) + story
    steps = []
    before: datetime | None = None
    for at, row in story:
        gap = at - before if before is not None else timedelta(0)
        same_day = before is not None and moments.local(before).date() == moments.local(at).date()
        since = at - task["created_at"]
        when = {
            "at": clock(at) if same_day else moment(at, now),
            "iso": at.isoformat(),
            "gap": span(gap) if gap >= _GAP else "",
            # The first moment is the beginning.
            "since_start": "" if before is None and since < _GAP else _signed(since),
        }
        if isinstance(row, str):
            steps.append(_stamp(row, when, task))
        elif afterwards:
            # When something was recorded or noted afterwards is not a part of the story.
            when["since_start"] = ""
            step = _moment(row, when)
            if row is log[0]:
                step = replace(step, title=_recorded(row), action=step.action or _decision_without_moment(task, story))
            steps.append(step)
        else:
            steps.append(_moment(row, when, failure))
        before = at
    return steps


def _recorded_afterwards(row: Row) -> bool:
    return row["kind"] == LogKind.TRANSITION and row["from_status"] is None and row["to_status"] in FINISHED


def _recorded(row: Row) -> str:
    return _("Recorded as %(status)s") % {"status": str(Status(row["to_status"]).label).lower()}


def _signed(since: timedelta) -> str:
    return f"+{span(since)}" if since >= timedelta(0) else span(since)


def _stamps(task: Row) -> list[tuple[datetime, str]]:
    """When a task recorded after the fact came into each status before its last, as it was reported."""
    created, decided, started = task["created_at"], task["decided_at"], task["started_at"]
    # Who rejects decides too.
    if task["status"] == Status.REJECTED or _decided_late(task):
        decided = None
    stamps = [(created, Status.PENDING), (decided, Status.APPROVED), (started, Status.EXECUTING)]
    return [(at, str(status)) for at, status in stamps if at is not None]


def _decided_late(task: Row) -> bool:
    """Whether the decision came after the work began: a review, and no approval."""
    decided = task["decided_at"]
    return bool(decided and decided > (task["started_at"] or task["finished_at"] or decided))


def _review(task: Row) -> list[tuple[datetime, str]]:
    return [(task["decided_at"], _DECIDED)] if task["status"] != Status.REJECTED and _decided_late(task) else []


def _decision_without_moment(task: Row, story: Sequence[tuple[datetime, Row | str]]) -> str:
    """Name who decided where no moment of the story does."""
    named = {Status.APPROVED, Status.REJECTED, _DECIDED} & {row for _at, row in story if isinstance(row, str)}
    if not task["decided_by"] or named:
        return ""
    who = shown(task["decided_by"], 100, name=True)
    return (
        _("Decided by %(who)s") % {"who": who}
        if task["decided_at"]
        else (_("Decided by %(who)s; when was not reported") % {"who": who})
    )


def _stamp(status: str, when: Mapping[str, str], task: Row) -> Moment:
    return Moment(
        anchor="",
        kind=LogKind.TRANSITION,
        tone=LogKind.NOTE if status == _DECIDED else status,
        title=_("Decided") if status == _DECIDED else str(Status(status).label),
        who=shown(task[_WHO[status]], 100, name=True) if status in _WHO else "",
        role="",
        action="",
        output="",
        took="",
        detail=None,
        source=_("reported later, not witnessed"),
        **when,
    )


def _moment(row: Row, when: Mapping[str, str], failure: str = "") -> Moment:
    kind = row["kind"]
    action = row["action"]
    if kind == LogKind.TRANSITION:
        tone = row["to_status"]
        title = str(Status(tone).label)
        # The log has why work was put aside, its outcome why it failed.
        action = action or (_why(row) if tone == Status.PAUSED else failure if tone == Status.FAILED else "")
    else:
        tone = kind
        title = str(LogKind(kind).label)
        if kind == LogKind.STEP:
            title = _step(row, title)
            if row["success"] == "false":
                tone, title = str(Status.FAILED), _("%(step)s failed") % {"step": title}
    output = shown(row["output"], 2000)
    return Moment(
        anchor=f"log-{row['id']}",
        kind=kind,
        tone=tone,
        title=title,
        who=shown(row["who"], 100, name=True),
        role=shown(row["role"], 100),
        action=shown(action, 300),
        output=f"{output}…" if row["output_length"] > 2000 else output,
        took=milliseconds(row["duration_ms"]),
        detail=tree(row["detail_text"], row["detail_length"]) if row["detail_text"] is not None else None,
        **when,
    )


def _step(row: Row, label: str) -> str:
    """Name a step; those of later attempts by their attempt too, for their numbers go on."""
    words = {"number": row["step_number"], "attempt": row["attempt"]}
    if row["step_number"] is None:
        return label
    if (row["attempt"] or 0) > 1:
        return _("Step %(number)s, attempt %(attempt)s") % words
    return _("Step %(number)s") % words


def _why(row: Row) -> str:
    """Why a task was paused: the reason in words, and what was noted."""
    reason = row["why"] or ""
    label = str(PauseReason(reason).label) if reason in PauseReason.values else reason
    return ": ".join(each for each in (label, row["noted"]) if each)


def segments(log: Sequence[Row], task: Row, now: datetime) -> list[Segment]:
    """Divide the time from creation to the end (or now) among the statuses, as the log has it.

    A task recorded after the fact has one transition, at the time of recording; then its own stamps are used.
    """
    end = task["finished_at"] or now
    changes = [(row["at"], row["to_status"]) for row in log if row["kind"] == LogKind.TRANSITION]
    if len(changes) < 2 and task["status"] in FINISHED:
        changes = _stamps(task)
    elif changes:
        changes[0] = (task["created_at"], changes[0][1])
    stretches = [
        (status, start, stop) for (start, status), (stop, _next) in pairwise([*changes, (end, "")]) if stop > start
    ]
    if not stretches:
        return []
    origin = stretches[0][1]
    whole = stretches[-1][2] - origin
    return [
        Segment(
            status=status,
            label=str(Status(status).label),
            start=f"{(start - origin) / whole * 1000:.2f}",
            width=f"{(stop - start) / whole * 1000:.2f}",
            span=span(stop - start),
            length=stop - start,
        )
        for status, start, stop in stretches
        if status not in FINISHED
    ]


def spent(parts: Sequence[Segment]) -> list[Spent]:
    """Sum the stretches of a time bar, statuses in the order in which they came first."""
    lengths: dict[str, timedelta] = {}
    for part in parts:
        lengths[part.status] = lengths.get(part.status, timedelta(0)) + part.length
    return [
        Spent(status=status, label=str(Status(status).label), span=span(length)) for status, length in lengths.items()
    ]
