"""The round times that are written below a chart over time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone
from django.utils.formats import date_format

from audit.admin.shared.binning import Step, Unit, edges, step_for
from audit.admin.shared.wording import offset

__all__ = ["Tick", "ticks"]

_TICKS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A round time under the chart, at a percentage of its width."""

    x: str
    label: str


def ticks(cuts: Sequence[datetime]) -> Iterator[Tick]:
    """Choose a few round times that do not stick out at the ends; bars are equally wide, however long they last."""
    zone = timezone.get_current_timezone()
    step = step_for(cuts[-1] - cuts[0], _TICKS)
    for at in edges(step, zone, cuts[0], cuts[-1]):
        if cuts[0] <= at < cuts[-1]:
            bar = bisect_right(cuts, at) - 1
            place = (bar + (at - cuts[bar]) / (cuts[bar + 1] - cuts[bar])) / (len(cuts) - 1) * 100
            if 2 <= place <= 97:
                yield Tick(x=f"{place:.2f}%", label=_time(at, step))


def _time(at: datetime, step: Step) -> str:
    local = timezone.localtime(at)
    if step.unit is Unit.YEAR:
        return date_format(local, "M Y")
    if step.length >= Unit.DAY.value or (step.length >= Unit.HOUR.value and local.hour == local.minute == 0):
        return date_format(local, "j M")
    return date_format(local, "H:i" if step.length >= Unit.MINUTE.value else "H:i:s") + offset(local)
