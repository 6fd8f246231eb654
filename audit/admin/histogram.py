"""The chart over a list: tasks over time, stacked by status, each bar a link into its stretch of time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate

from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _

from audit.admin.question import Link, Question
from audit.admin.wording import moment
from audit.filters import span_text
from audit.status import Status

__all__ = ["AIM", "BARS", "Bar", "Binning", "Chart", "Part", "Tick", "chart", "step_for"]

BARS = 72
"""How many bars a chart has at the most."""
AIM = 60
"""How many bars it should have: the narrowest width is taken that makes no more."""

HEIGHT = 100
WIDTH = 1000

_STEPS = [
    *(timedelta(seconds=count) for count in (1, 2, 5, 10, 30)),
    *(timedelta(minutes=count) for count in (1, 2, 5, 10, 30)),
    *(timedelta(hours=count) for count in (1, 3, 6, 12)),
    *(timedelta(days=count) for count in (1, 2, 7, 14, 28, 91, 364, 3640, 36400, 72800, 728_000)),
]
# From the ground up: what went well carries what did not.
_STACK = (
    Status.COMPLETED,
    Status.EXECUTING,
    Status.APPROVED,
    Status.PENDING,
    Status.PAUSED,
    Status.REJECTED,
    Status.FAILED,
)
_TICKS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One colour of a bar, in the chart's units."""

    status: str
    y: str
    path: str
    """Its rectangle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """The tasks of one stretch of time."""

    x: str
    width: str
    url: str
    label: str
    counts: Sequence[tuple[str, int]]
    total: int
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A round time under the chart, at a percentage of its width."""

    x: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What was counted, and how it is drawn."""

    bars: Sequence[Bar]
    total: int
    total_label: str
    step: str
    capped: bool
    covered: str
    """When capped: what part of the range the numbers cover, in words."""
    uncounted: str
    """When capped: the width of what was not counted, in the chart's units; else empty."""
    by_status: Mapping[str, int]
    heights: Sequence[str]
    ticks: Sequence[Tick]
    legend: Sequence[Link]


def step_for(length: timedelta) -> timedelta:
    """Choose the width of a bar: the shortest round one that makes no more bars than a chart should have."""
    return next((step for step in _STEPS if step * AIM >= length), _STEPS[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Binning:
    """How a question's range is cut into bars, all times in UTC.

    Python's arithmetic on local times goes by the wall clock, the database's does not.
    """

    start: datetime | None
    end: datetime
    origin: datetime
    """A local midnight, from which bars are counted."""
    steps: Sequence[timedelta]
    """The widths that a bar may have: all time takes the one that fits what is found, a range its own, unless rows of
    the future lie beyond it."""

    @classmethod
    def of(cls, question: Question) -> Binning:
        """Cut the range of a question."""
        start = question.start.astimezone(UTC) if question.start else None
        end = (question.end or question.now).astimezone(UTC)
        least = step_for(end - start) if start is not None else _STEPS[0]
        origin = timezone.localtime(start or question.now).replace(hour=0, minute=0, second=0, microsecond=0)
        return cls(
            start=start,
            end=end,
            origin=origin.astimezone(UTC),
            steps=[each for each in _STEPS if each >= least],
        )


def chart(
    question: Question, binning: Binning, found: Sequence[tuple[datetime, str, int, timedelta]], cap: int
) -> Chart:
    """Draw what was counted.

    Args:
        question: gives the links of bars and legend.
        binning: how its range was cut.
        found: of each bar and status the beginning, the status, the number of tasks, and the width of all bars.
        cap: how many tasks were counted at the most; one more was looked for.
    """
    start, end, origin = binning.start, binning.end, binning.origin
    bins: dict[datetime, dict[str, int]] = {}
    by_status: dict[str, int] = {}
    for at, status, count, _width in found:
        bins.setdefault(at, {})[status] = count
        by_status[status] = by_status.get(status, 0) + count
    step = found[0][3] if found else binning.steps[0] if start is not None else timedelta(days=1)
    first = min(bins, default=origin)
    begin = _floor(start, step, origin) if start is not None else first
    if bins and question.end is None:
        end = max(bins) + step if start is None else max(end, max(bins) + step)
    total = sum(by_status.values())
    return _drawn(question, bins, begin, end, step, total, total > cap, cap, first, by_status)


def _drawn(
    question: Question,
    bins: dict[datetime, dict[str, int]],
    begin: datetime,
    end: datetime,
    step: timedelta,
    total: int,
    capped: bool,
    cap: int,
    first: datetime,
    by_status: Mapping[str, int],
) -> Chart:
    count = min(max(-((begin - end) // step), 1), BARS)
    width = WIDTH / count
    top = _round_up(max((sum(each.values()) for each in bins.values()), default=0))
    labels = {str(status): str(status.label) for status in _STACK}
    bars = [
        _bar(question, number, width, at, min(at + step, end) if question.end else at + step, bins[at], top, labels)
        for number in range(count)
        if (at := begin + number * step) in bins
    ]
    length = count * step
    gap = min(max((first - begin) // step, 0), count) * width if capped else 0
    covered = _("chart and counts cover the newest %(cap)s, since %(moment)s") % {
        "cap": number_format(cap, use_l10n=True, force_grouping=True),
        "moment": moment(first, question.now),
    }
    shown = number_format(min(total, cap), use_l10n=True, force_grouping=True)
    return Chart(
        bars=bars,
        total=total,
        total_label=f"{shown}+" if capped else shown,
        step=span_text(step),
        capped=capped,
        covered=covered if capped else "",
        uncounted=f"{gap:.2f}" if gap else "",
        by_status=by_status,
        heights=[number_format(part, force_grouping=True) for part in (top, top // 2, 0)],
        ticks=list(_ticks(begin, length)),
        legend=_legend(question, by_status),
    )


def _bar(
    question: Question,
    number: int,
    width: float,
    at: datetime,
    until: datetime,
    counts: Mapping[str, int],
    top: int,
    labels: Mapping[str, str],
) -> Bar:
    x, broad = f"{number * width:.2f}", f"{width:.2f}"
    stacked = [(str(status), counts[status]) for status in _STACK if counts.get(status)]
    tops = accumulate(count for _status, count in stacked)
    parts = []
    for (status, count), reached in zip(stacked, tops, strict=True):
        y = f"{HEIGHT - reached / top * HEIGHT:.2f}"
        # A single failure among thousands would be thinner than a pixel, and it is what one looks for.
        height = f"{max(count / top * HEIGHT, 1.2):.2f}"
        parts.append(Part(status=status, y=y, path=f"M{x} {y}h{broad}v{height}h-{broad}z"))
    told = [(labels[status], count) for status, count in reversed(stacked)]
    total = sum(counts.values())
    words = ", ".join(f"{label} {number_format(count, force_grouping=True)}" for label, count in told)
    return Bar(
        x=x,
        width=broad,
        url=question.zoomed(at, until),
        label=f"{moment(at, question.now)}: {words}",
        counts=told,
        total=total,
        parts=parts,
    )


def _legend(question: Question, by_status: Mapping[str, int]) -> list[Link]:
    return [
        Link(
            label=Status(status).label,
            url=question.toggled("status", "statuses", str(status)),
            chosen=str(status) in question.asked.statuses,
            # What the filter leaves out was not counted, so it has no number, not even a zero.
            count=by_status.get(status, 0) if _counted(question, str(status)) else None,
            tone=str(status),
        )
        for status in reversed(_STACK)
    ]


def _counted(question: Question, status: str) -> bool:
    return not question.asked.statuses or status in question.asked.statuses


def _floor(at: datetime, step: timedelta, origin: datetime) -> datetime:
    return origin + (at - origin) // step * step


def _round_up(count: int) -> int:
    """Round up to what an axis would say: even, so that its half is a number too, and never much above."""
    if count <= 8:
        return max(count + count % 2, 2)
    unit = 1
    while True:
        for factor in (10, 12, 16, 20, 24, 30, 40, 50, 60, 80):
            if count <= factor * unit:
                return factor * unit
        unit *= 10


def _ticks(begin: datetime, length: timedelta) -> Iterator[Tick]:
    """Choose a few round times, counted from a local midnight, that do not stick out at the ends."""
    step = next((each for each in _STEPS if each * _TICKS >= length), _STEPS[-1])
    local = timezone.localtime(begin)
    at = _floor(local, step, local.replace(hour=0, minute=0, second=0, microsecond=0))
    while at <= begin + length:
        place = (at - begin) / length * 100
        if 2 <= place <= 97:
            yield Tick(x=f"{place:.2f}%", label=_time(timezone.localtime(at), step))
        at += step


def _time(local: datetime, step: timedelta) -> str:
    if step >= timedelta(days=200):
        return date_format(local, "M Y")
    if step >= timedelta(days=1) or (step >= timedelta(hours=1) and local.hour == local.minute == 0):
        return date_format(local, "j M")
    return date_format(local, "H:i" if step >= timedelta(minutes=1) else "H:i:s")
