"""The chart over a list: tasks over time, stacked by status, each bar a link into its stretch of time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from audit.admin.shared.binning import Cut
from audit.admin.shared.links import Link
from audit.admin.shared.query import ListQuery
from audit.admin.shared.ticks import Tick, ticks
from audit.admin.shared.wording import grouped, isolated, moment
from audit.status import Status
from audit.values import validation

__all__ = ["BARS", "Bar", "Chart", "Part", "chart"]

BARS = 72
"""How many bars a chart has at the most."""
HEIGHT = 100
WIDTH = 1000

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

_BAR = (
    '<a href="{url}" class="audit-bar" aria-label="{label}" tabindex="{tabindex}"><title>{label}</title>'
    '<rect class="audit-hit" x="{x}" y="0" width="{width}" height="100"/>{parts}</a>'
)
_PART = '<path class="audit-part f-{status}" d="{path}"/>'


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
    first: bool
    """Whether it is the one that the tab key stops at."""

    @property
    def svg(self) -> SafeString:
        """The bar, drawn; a template would take a tenth of the page's time for all of them."""
        parts = format_html_join("", _PART, ({"status": part.status, "path": part.path} for part in self.parts))
        return format_html(
            _BAR,
            url=self.url,
            label=self.label,
            tabindex=0 if self.first else -1,
            x=self.x,
            width=self.width,
            parts=parts,
        )


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


def chart(query: ListQuery, cut: Cut, bins: dict[int, dict[str, int]], oldest: Sequence[tuple[datetime, str]]) -> Chart:
    """Draw what was counted.

    Args:
        query: gives the links of bars and legend.
        cut: how its range was cut.
        bins: the numbers of each bar, by status.
        oldest: where there are more tasks than are counted, the one too many that was found, and the oldest that
            counts: the moments and statuses.
    """
    since = None
    if oldest:
        (at, status), (since, _status) = oldest
        number = cut.number(at)
        bins[number][status] -= 1
        if not any(bins[number].values()):
            del bins[number]
    begin = 0 if query.range.start is not None else min(bins, default=0)
    end = query.range.end or query.range.now
    # A bar that begins where the range ends is not a part of it.
    beyond = sum(1 for at in cut.edges[:-1] if at < end)
    if bins and query.range.end is None:
        beyond = max(beyond, max(bins) + 1)
    return _drawn(query, cut, bins, range(begin, begin + min(max(beyond - begin, 1), BARS)), since)


def _drawn(
    query: ListQuery, cut: Cut, bins: dict[int, dict[str, int]], numbers: range, since: datetime | None
) -> Chart:
    by_status = Counter[str]()
    for each in bins.values():
        by_status.update(each)
    total = sum(by_status.values())
    first = min(bins, default=0)
    width = WIDTH / len(numbers)
    top = _round_up(max((sum(each.values()) for each in bins.values()), default=0))
    labels = {str(status): str(status.label) for status in _STACK}

    shown_first = next((number for number in numbers if number in bins), None)

    def bar(number: int) -> Bar:
        at, until = cut.edges[number], cut.edges[number + 1]
        # A link shows the tasks that its bar counts, and the first bar counts from the beginning of the range.
        if query.range.start is not None:
            at = max(at, query.range.start)
        if query.range.end is not None:
            until = min(until, query.range.end)
        return _bar(query, number - numbers[0], width, at, until, bins[number], top, labels, number == shown_first)

    gap = min(max(first - numbers[0], 0), len(numbers)) * width if since else 0
    covered = ""
    if since:
        covered = _("chart and counts cover the newest %(count)s, since %(moment)s") % {
            "count": grouped(total),
            "moment": moment(since, query.now),
        }
    return Chart(
        bars=[bar(number) for number in numbers if number in bins],
        total=total,
        total_label=f"{grouped(total)}+" if since else grouped(total),
        step=isolated(cut.step.label),
        capped=since is not None,
        covered=covered,
        uncounted=f"{gap:.2f}" if gap else "",
        by_status=by_status,
        heights=[grouped(part) for part in (top, top // 2, 0)],
        ticks=list(ticks(cut.edges[numbers[0] : numbers[-1] + 2])),
        legend=_legend(query, by_status),
    )


def _bar(
    query: ListQuery,
    place: int,
    width: float,
    at: datetime,
    until: datetime,
    counts: Mapping[str, int],
    top: int,
    labels: Mapping[str, str],
    first: bool,
) -> Bar:
    x, broad = f"{place * width:.2f}", f"{width:.2f}"
    stacked = [(str(status), counts[status]) for status in _STACK if counts.get(status)]
    tops = accumulate(count for _status, count in stacked)
    parts = []
    for (status, count), reached in zip(stacked, tops, strict=True):
        y = f"{HEIGHT - reached / top * HEIGHT:.2f}"
        # A single failure among thousands would be thinner than a pixel, and it is what one looks for.
        height = f"{max(count / top * HEIGHT, 1.2):.2f}"
        parts.append(Part(status=status, y=y, path=f"M{x} {y}h{broad}v{height}h-{broad}z"))
    found = [(labels[status], count) for status, count in reversed(stacked)]
    total = sum(counts.values())
    words = ", ".join(f"{label} {grouped(count)}" for label, count in found)
    return Bar(
        x=x,
        width=broad,
        # Nothing lies beyond the last moment, and no filter takes it.
        url=query.links.between(at, until if until < validation.LATEST else None),
        label=f"{moment(at, query.now)}: {words}",
        counts=found,
        total=total,
        parts=parts,
        first=first,
    )


def _legend(query: ListQuery, by_status: Mapping[str, int]) -> list[Link]:
    return [
        Link(
            label=Status(status).label,
            url=query.links.toggling("status", "statuses", str(status)),
            chosen=str(status) in query.filter.statuses,
            # What the filter leaves out was not counted, so it has no number, not even a zero.
            count=by_status.get(status, 0) if _counted(query, str(status)) else None,
            tone=str(status),
        )
        for status in reversed(_STACK)
    ]


def _counted(query: ListQuery, status: str) -> bool:
    return not query.filter.statuses or status in query.filter.statuses


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
