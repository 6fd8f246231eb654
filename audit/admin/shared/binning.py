"""How a stretch of time is cut into the bars of a chart: at the round times of a zone's clocks and calendar."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import Enum

from django.utils import timezone
from django.utils.translation import ngettext

from audit.admin.shared.timerange import TimeRange
from audit.values import validation

__all__ = ["AIM", "STEPS", "Cut", "Step", "Unit", "edges", "local", "step_for"]

AIM = 60
"""How many bars a chart should have: the narrowest step is taken that makes no more."""

# No zone was ever set forward or back by more than a day.
_LARGEST_CHANGE = 25
_NONE = timedelta(0)
_FIRST = datetime.combine(date.min, time.min)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


class Unit(Enum):
    """What a step counts; the value is its usual length."""

    SECOND = timedelta(seconds=1)
    MINUTE = timedelta(minutes=1)
    HOUR = timedelta(hours=1)
    DAY = timedelta(days=1)
    WEEK = timedelta(days=7)
    MONTH = timedelta(days=30)
    YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The width of a bar.

    Parts of a day begin at local midnight. Days, months and years begin as the calendar says, weeks on Mondays; several
    weeks or days are counted from the first Monday of year 1, several months or years from the beginning of year 0.
    """

    unit: Unit
    count: int

    @property
    def length(self) -> timedelta:
        """How long it usually is; a change of clocks or a long month makes single ones longer or shorter."""
        return self.count * self.unit.value

    @property
    def label(self) -> str:
        """What one bar stands for, in words: `3 h`, `day`, `2 weeks`."""
        number = {"count": self.count}
        match self.unit:
            case Unit.SECOND:
                return ngettext("%(count)d s", "%(count)d s", self.count) % number
            case Unit.MINUTE:
                return ngettext("%(count)d min", "%(count)d min", self.count) % number
            case Unit.HOUR:
                return ngettext("%(count)d h", "%(count)d h", self.count) % number
            case Unit.DAY:
                return ngettext("day", "%(count)d days", self.count) % number
            case Unit.WEEK:
                return ngettext("week", "%(count)d weeks", self.count) % number
            case Unit.MONTH:
                return ngettext("month", "%(count)d months", self.count) % number
            case Unit.YEAR:
                return ngettext("year", "%(count)d years", self.count) % number

    @property
    def _months(self) -> int:
        """How many months it has; 0 for what the calendar does not vary."""
        return {Unit.MONTH: self.count, Unit.YEAR: 12 * self.count}.get(self.unit, 0)

    def floor(self, wall: datetime) -> datetime:
        """Go back to where its bar begins, by the wall clock: naive in, naive out."""
        midnight = datetime.combine(wall, time.min)
        if self.length < Unit.DAY.value:
            return midnight + (wall - midnight) // self.length * self.length
        if months := self._months:
            return _first_of((12 * wall.year + wall.month - 1) // months * months)
        return midnight - timedelta(days=(wall.toordinal() - 1) % self.length.days)

    def after(self, wall: datetime) -> datetime:
        """Where the bar ends that begins at `wall`, by the wall clock.

        Raises:
            OverflowError: it ends after the year 9999.
        """
        if months := self._months:
            return _first_of((12 * wall.year + wall.month - 1) // months * months + months)
        return wall + self.length


def _first_of(month: int) -> datetime:
    """Begin a month, counted from year 0; years before 1 become the first moment that Python knows."""
    year, rest = divmod(month, 12)
    if year > date.max.year:
        raise OverflowError(year)
    return datetime.combine(date(year, rest + 1, 1) if year else date.min, time.min)


STEPS = [
    *(Step(unit=Unit.SECOND, count=count) for count in (1, 2, 5, 10, 30)),
    *(Step(unit=Unit.MINUTE, count=count) for count in (1, 2, 5, 10, 30)),
    *(Step(unit=Unit.HOUR, count=count) for count in (1, 3, 6, 12)),
    *(Step(unit=Unit.DAY, count=count) for count in (1, 2)),
    *(Step(unit=Unit.WEEK, count=count) for count in (1, 2)),
    *(Step(unit=Unit.MONTH, count=count) for count in (1, 3)),
    *(Step(unit=Unit.YEAR, count=count) for count in (1, 2, 5, 10, 20, 50, 100, 200, 2000)),
]


def step_for(length: timedelta, bars: int = AIM) -> Step:
    """Choose the shortest step that cuts a length into no more than so many bars."""
    return next((step for step in STEPS if step.length * bars >= length), STEPS[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A stretch of time, cut into bars."""

    step: Step
    edges: Sequence[datetime]
    """Where each bar begins, and at last where the last one ends."""

    @classmethod
    def of(cls, start: datetime, end: datetime) -> Cut:
        """Cut a range, and two bars more, for tasks of a moment after it was read."""
        step = step_for(end - start)
        beyond = min(2 * step.length, validation.LATEST - max(start, end))
        zone = timezone.get_current_timezone()
        return cls(step=step, edges=edges(step, zone, start, max(start, end) + beyond))

    @classmethod
    def around(cls, span: TimeRange, moments: Sequence[datetime]) -> Cut:
        """Cut a range without a beginning so that it fits what was found, and goes on towards its end."""
        end = span.end or span.now
        low, high = min(moments, default=end), max(moments, default=end)
        step = step_for(high - low)
        until = low + min(AIM * step.length, max(end, high) - low)
        return cls(step=step, edges=edges(step, timezone.get_current_timezone(), low, max(until, high)))

    def number(self, at: datetime) -> int:
        """Which bar a moment lies in."""
        return bisect_right(self.edges, at) - 1

    def counted(self, seconds: Iterable[int]) -> Counter[int]:
        """Count how many moments lie in each bar.

        Args:
            seconds: whole seconds since 1970, of each moment the one in which it lies; bars begin at such.
        """
        begins = [(each - _EPOCH) // _SECOND for each in self.edges]
        return Counter(bisect_right(begins, each) - 1 for each in seconds)


def edges(step: Step, zone: tzinfo, start: datetime, end: datetime) -> list[datetime]:
    """Cut time at the round times of a zone's clocks.

    A round time that the clocks skipped is the moment at which they skipped it. One that they showed twice cuts twice
    where the repeated stretch is as long as a bar, and only the first time where it is shorter: the day on which an
    hour is repeated is one bar of 25 hours, and the hour is two bars.

    Args:
        step: how far apart the cuts are by the clocks.
        zone: whose clocks.
        start: aware; the first bar contains it.
        end: aware, not before `start`; the last bar contains it.

    Returns:
        At least two moments in UTC, ascending, none before or after what can be stored. Bar `n` is from `n` to `n + 1`.
    """
    # Where clocks are about to go back, they will show times again that lie before this one.
    here = local(start, zone)
    ahead = [timedelta(hours=hours) for hours in range(1, _LARGEST_CHANGE + 1)]
    behind = max(
        (here + each - local(start + each, zone) for each in ahead if each < validation.LATEST - start), default=_NONE
    )
    wall = step.floor(here - min(max(behind, _NONE), here - _FIRST))
    found: set[datetime] = set()
    while True:
        cuts = list(_moments(wall, zone, step))
        found.update(cuts)
        if cuts[0] > end or cuts[0] == validation.LATEST:
            break
        try:
            wall = step.after(wall)
        except OverflowError:
            found.add(validation.LATEST)
            break
    cut = sorted(found)
    first = max((number for number, at in enumerate(cut) if at <= start), default=0)
    last = next((number for number, at in enumerate(cut) if at > end), len(cut) - 1)
    return cut[first : last + 1]


def local(at: datetime, zone: tzinfo) -> datetime:
    """What the clocks of a zone show at a moment, naive."""
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


def _moments(wall: datetime, zone: tzinfo, step: Step) -> Iterator[datetime]:
    """When clocks show this time, or skip it, in UTC."""
    first, second = (_moment(wall.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    if second < first:
        yield _skipped(wall, zone, second, first)
        return
    yield first
    if first < second and step.length <= second - first:
        yield second


def _moment(at: datetime) -> datetime:
    """A moment in UTC, or the nearest one that can be stored."""
    try:
        return min(max(at.astimezone(UTC), validation.EARLIEST), validation.LATEST)
    except OverflowError:
        return validation.EARLIEST if at.year == _FIRST.year else validation.LATEST


def _skipped(wall: datetime, zone: tzinfo, before: datetime, after: datetime) -> datetime:
    """Find the second at which the clocks went past a time that they never showed."""
    low, high = 0, int((after - before).total_seconds())
    while low < high:
        middle = (low + high) // 2
        if local(before + timedelta(seconds=middle), zone) >= wall:
            high = middle
        else:
            low = middle + 1
    return before + timedelta(seconds=low)
