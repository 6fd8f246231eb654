"""How the range of a list is cut into the bars of its chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.utils import timezone

from audit.admin.shared.timerange import TimeRange
from audit.values import validation

__all__ = ["AIM", "STEPS", "Binning", "step_for"]

AIM = 60
"""How many bars it should have: the narrowest width is taken that makes no more."""

STEPS = [
    *(timedelta(seconds=count) for count in (1, 2, 5, 10, 30)),
    *(timedelta(minutes=count) for count in (1, 2, 5, 10, 30)),
    *(timedelta(hours=count) for count in (1, 3, 6, 12)),
    *(timedelta(days=count) for count in (1, 2, 7, 14, 28, 91, 364, 3640, 36400, 72800, 728_000)),
]


def step_for(length: timedelta) -> timedelta:
    """Choose the width of a bar: the shortest round one that makes no more bars than a chart should have."""
    return next((step for step in STEPS if step * AIM >= length), STEPS[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Binning:
    """How a range is cut into bars, all times in UTC.

    Bars are numbered from `origin`, and their moments made of these numbers: Python's arithmetic on local times goes by
    the wall clock, the database's does not, and the first and the last bar of a long time may reach beyond what
    either of them can store.
    """

    start: datetime | None
    end: datetime
    origin: datetime
    """A local midnight, from which bars are counted."""
    steps: Sequence[timedelta]
    """The widths that a bar may have: all time takes the one that fits what is found, a range its own, unless rows of
    the future lie beyond it."""

    @classmethod
    def of(cls, span: TimeRange) -> Binning:
        """Cut a range of time."""
        start = span.start.astimezone(UTC) if span.start else None
        end = (span.end or span.now).astimezone(UTC)
        least = step_for(end - start) if start is not None else STEPS[0]
        origin = timezone.localtime(start or span.now).replace(hour=0, minute=0, second=0, microsecond=0)
        return cls(
            start=start,
            end=end,
            origin=origin.astimezone(UTC),
            steps=[each for each in STEPS if each >= least],
        )

    def number(self, at: datetime, step: timedelta) -> int:
        """Which bar a moment lies in."""
        return (at - self.origin) // step

    def moment(self, number: int, step: timedelta) -> datetime:
        """When a bar begins, or the nearest moment that can be stored."""
        offset = number * step
        if offset <= validation.EARLIEST - self.origin:
            return validation.EARLIEST
        return self.origin + offset if offset < validation.LATEST - self.origin else validation.LATEST
