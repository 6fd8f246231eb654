"""Charts over time: how much failed, and how long tasks waited and ran; each stretch of time a link into the list."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from audit.admin.shared.binning import Cut
from audit.admin.shared.drawing import line
from audit.admin.shared.query import ListQuery
from audit.admin.shared.ticks import Tick, ticks
from audit.admin.shared.wording import grouped, isolated, moment, span
from audit.reading.statistics import Group, Spread
from audit.status import Status
from audit.values import validation

__all__ = ["Charts", "Row", "Series", "Stretch", "charts"]

PERCENTILES = ("p50", "p90", "p99")
_TONES = {"p50": "completed", "p90": "paused", "p99": "failed"}
_WIDTH = 1000
_HEIGHT = 100
_HIT = (
    '<a href="{url}" class="audit-bar" aria-label="{label}" tabindex="{tabindex}"><title>{label}</title>'
    '<rect class="audit-hit" x="{x}" y="0" width="{width}" height="100"/>{part}</a>'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A bar of a chart, or the place of one above its lines."""

    svg: SafeString


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One chart."""

    name: str
    title: str
    label: str
    """What it is, for who cannot see it."""
    heights: Sequence[str]
    stretches: Sequence[Stretch]
    lines: Sequence[tuple[str, str, str]] = ()
    """Of each the class of its colour, its path and its name."""
    nothing: str = ""
    """What it says instead, where nothing was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A stretch of time in the table beside the charts."""

    url: str
    label: str
    cells: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Charts:
    """All charts, which have their stretches of time in common."""

    series: Sequence[Series]
    ticks: Sequence[Tick]
    step: str
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    x: float
    width: float
    url: str
    label: str
    group: Group


def charts(query: ListQuery, list_url: str, cut: Cut, numbers: Sequence[int], groups: Mapping[int, Group]) -> Charts:
    """Draw the figures of stretches of time.

    Args:
        query: gives the range and the links.
        list_url: of the list of tasks.
        cut: how the range was cut.
        numbers: the stretches to draw.
        groups: the figures of those that have tasks.
    """
    width = _WIDTH / max(len(numbers), 1)
    places = []
    for at, number in enumerate(numbers):
        if number not in groups:
            continue
        since, until = cut.edges[number], cut.edges[number + 1]
        since = max(since, query.range.start) if query.range.start else since
        until = min(until, query.range.end) if query.range.end else until
        places.append(
            _Place(
                x=at * width,
                width=width,
                url=list_url + query.links.between(since, until if until < validation.LATEST else None),
                label=moment(since, query.now),
                group=groups[number],
            )
        )
    slots = [numbers.index(number) for number in numbers if number in groups]
    return Charts(
        series=[
            _rates(places),
            _durations(places, slots, len(numbers), "waited", _("Waiting"), lambda each: each.waited),
            _durations(places, slots, len(numbers), "ran", _("Running"), lambda each: each.ran),
        ],
        ticks=list(ticks(cut.edges[numbers[0] : numbers[-1] + 2])) if numbers else [],
        step=isolated(cut.step.label),
        rows=[Row(url=each.url, label=each.label, cells=_cells(each.group)) for each in places],
    )


def percent(rate: float | None) -> str:
    """Write a ratio; a dash for none, and never a rounded nothing for something."""
    if rate is None:
        return "—"
    return "< 0.1%" if 0 < rate < 0.001 else f"{rate:.1%}"


def _cells(group: Group) -> list[str]:
    return [
        grouped(group.tasks),
        grouped(group.statuses.get(Status.FAILED, 0)),
        percent(group.failure_rate),
        *(span(getattr(group.waited, each)) for each in PERCENTILES),
        *(span(getattr(group.ran, each)) for each in PERCENTILES),
    ]


def _hit(place: _Place, words: str, part: SafeString | str, first: bool) -> Stretch:
    return Stretch(
        svg=format_html(
            _HIT,
            url=place.url,
            label=f"{place.label}: {words}",
            tabindex=0 if first else -1,
            x=f"{place.x:.2f}",
            width=f"{place.width:.2f}",
            part=part,
        )
    )


def _rates(places: Sequence[_Place]) -> Series:
    rated = [(place, rate) for place in places if (rate := place.group.failure_rate) is not None]
    most = max((rate for _place, rate in rated), default=0.0)
    top = next(each for each in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if most <= each)
    stretches: list[Stretch] = []
    for place, rate in rated:
        failed = place.group.statuses.get(Status.FAILED, 0)
        ended = failed + place.group.statuses.get(Status.COMPLETED, 0)
        height = max(rate / top * _HEIGHT, 1.2) if failed else 0
        part = (
            format_html(
                '<path class="audit-part f-failed" d="M{x} {y}h{width}V100h-{width}z"/>',
                x=f"{place.x:.2f}",
                y=f"{_HEIGHT - height:.2f}",
                width=f"{place.width:.2f}",
            )
            if failed
            else ""
        )
        words = _("%(rate)s failed, %(failed)s of %(ended)s") % {
            "rate": percent(rate),
            "failed": grouped(failed),
            "ended": grouped(ended),
        }
        stretches.append(_hit(place, words, part, not stretches))
    return Series(
        name="rate",
        title=_("Failure rate"),
        label=_("Failure rate over time; each bar opens its stretch of time"),
        heights=[f"{top:.0%}", f"{top / 2:.1%}".replace(".0%", "%"), "0%"],
        stretches=stretches,
        nothing="" if rated else _("Nothing has ended."),
    )


def _durations(
    places: Sequence[_Place],
    slots: Sequence[int],
    count: int,
    name: str,
    title: str,
    spread: Callable[[Group], Spread],
) -> Series:
    """Draw three lines; on a logarithmic scale, for the slowest of a hundred is often a hundred times slower."""
    seconds = [
        value.total_seconds()
        for place in places
        for each in PERCENTILES
        if (value := getattr(spread(place.group), each)) is not None
    ]
    if not seconds:
        return Series(name=name, title=title, label="", heights=(), stretches=(), nothing=_("Nothing was measured."))
    scale = _scale(min(seconds), max(seconds))
    width = _WIDTH / count

    def point(place: _Place, each: str, at: int) -> tuple[float, float] | None:
        value = getattr(spread(place.group), each)
        if value is None:
            return None
        return (at + 0.5) * width, _HEIGHT - _height(value.total_seconds(), scale) * _HEIGHT

    lines = []
    for each in PERCENTILES:
        points: list[tuple[float, float] | None] = [None] * count
        for place, at in zip(places, slots, strict=True):
            points[at] = point(place, each, at)
        lines.append((_TONES[each], line(points, width), each))
    stretches: list[Stretch] = []
    for place in places:
        found = spread(place.group)
        if found.p50 is None:
            continue
        words = ", ".join(f"{each} {span(getattr(found, each))}" for each in PERCENTILES)
        stretches.append(_hit(place, words, "", not stretches))
    return Series(
        name=name,
        title=title,
        label=_("%(title)s, p50, p90 and p99 over time on a logarithmic scale; each place opens its stretch of time")
        % {"title": title},
        heights=[_round_span(scale[-1]), _round_span(scale[len(scale) // 2]), _round_span(scale[0])],
        stretches=stretches,
        lines=lines,
    )


# What a clock has as round numbers, in seconds: each about ten times the one before.
_ROUND = (
    *(0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 36_000, 86_400, 864_000),
    *(8_640_000, 86_400_000, 864_000_000, 8_640_000_000, 86_400_000_000),
)
_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def _scale(least: float, most: float) -> Sequence[float]:
    """The round spans around what was measured, from below to above.

    They are an odd number, for the one in the middle is written beside the chart; and never nothing, which has no
    logarithm.
    """
    low = max((at for at, each in enumerate(_ROUND) if each <= least), default=0)
    high = next((at for at, each in enumerate(_ROUND) if each >= most), len(_ROUND) - 1)
    steps = max(high - low, 2)
    steps += steps % 2
    low = min(low, len(_ROUND) - 1 - steps)
    return _ROUND[low : low + steps + 1]


def _height(seconds: float, scale: Sequence[float]) -> float:
    """Place a span between the ends of a scale, 0 to 1: steps are equally high, and logarithmic within."""
    kept = min(max(seconds, scale[0]), scale[-1])
    at = min(bisect_right(scale, kept), len(scale) - 1) - 1
    within = math.log(kept / scale[at]) / math.log(scale[at + 1] / scale[at])
    return (at + within) / (len(scale) - 1)


def _round_span(seconds: float) -> str:
    """Write a round span: `10 ms`, `1 s`, `10 m`, `100 d`."""
    for unit, name in _UNITS:
        if seconds >= unit:
            return isolated(f"{seconds / unit:.0f} {name}")
    return isolated(f"{seconds * 1000:.0f} ms")
