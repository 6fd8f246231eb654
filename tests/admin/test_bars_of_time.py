"""Where the bars of a chart begin: at the round times of a zone's clocks and calendar, in every zone there is."""

import re
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo, available_timezones

import pytest
from django.utils import timezone

from audit.admin.shared.binning import AIM, STEPS, Step, Unit, edges, local, step_for
from audit.admin.shared.ticks import ticks
from audit.admin.tasks.histogram import BARS
from tests.support.pages import TASKS, past, text_of

HOUR, DAY = Step(unit=Unit.HOUR, count=1), Step(unit=Unit.DAY, count=1)


def _rules(name: str) -> bytes:
    """What the tz database says of a zone; many have several names."""
    found = next(filter(Path.is_file, (Path(folder, name) for folder in TZPATH)), None)
    return (found or files("tzdata").joinpath("zoneinfo", *name.split("/"))).read_bytes()


ZONES = sorted({_rules(name): name for name in sorted(available_timezones() - {"localtime"})}.values())
# Among them the changes by a whole day, by half an hour, by twenty minutes and by seconds, and those at midnight.
SPANS = [(1844, 1846), (1867, 1869), (1911, 1920), (1940, 1946), (1971, 1974), (2005, 2012), (2016, 2028)]


@cache
def _changes(zone: ZoneInfo) -> list[datetime]:
    """The moments at which the clocks of a zone were set, to the second, found by looking."""
    found = []
    for first, last in SPANS:
        before = datetime(first, 1, 1, tzinfo=UTC)
        end = datetime(last, 1, 1, tzinfo=UTC)
        while before < end:
            after = before + timedelta(days=16)
            if _offset(before, zone) != _offset(after, zone):
                low, high = before, after
                while high - low > timedelta(seconds=1):
                    middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
                    low, high = (middle, high) if _offset(middle, zone) == _offset(before, zone) else (low, middle)
                found.append(high)
            before = after
    return found


def _offset(at: datetime, zone: ZoneInfo) -> timedelta:
    return local(at, zone) - at.replace(tzinfo=None)


def _sampled(changes: list[datetime], zone: ZoneInfo) -> list[datetime]:
    """One change of each kind: by how much, and at which time of the day."""
    kinds = {}
    for at in changes:
        was, becomes = _offset(at - timedelta(seconds=1), zone), _offset(at, zone)
        kinds[becomes - was, (at.replace(tzinfo=None) + was).time()] = at
    return list(kinds.values())


def _may_begin(at: datetime, zone: ZoneInfo, step: Step) -> bool:
    """Whether a bar may begin: the clocks show a round time, or have just skipped one."""
    shown = local(at, zone)
    if step.floor(shown) == shown:
        return True
    before = at - timedelta(microseconds=1)
    expected = before.replace(tzinfo=None) + _offset(before, zone) + timedelta(microseconds=1)
    return expected <= step.floor(shown) < shown


@pytest.mark.parametrize("part", range(6))
def test_bars_begin_at_round_times_wherever_and_whenever_clocks_change(part) -> None:
    seen = Counter()
    for name in ZONES[part::6]:
        zone = ZoneInfo(name)
        for at in _sampled(_changes(zone), zone):
            change = _offset(at, zone) - _offset(at - timedelta(seconds=1), zone)
            for step in (each for each in STEPS if timedelta(minutes=10) <= each.length <= timedelta(days=30)):
                start, end = at - 3 * step.length - timedelta(minutes=7), at + 3 * step.length
                cut = edges(step, zone, start, end)
                assert cut[0] <= start < cut[1], (name, at, step)
                assert cut[-2] <= end < cut[-1], (name, at, step)
                assert all(one < other for one, other in pairwise(cut)), (name, at, step)
                assert all(_may_begin(each, zone, step) for each in cut), (name, at, step)
                # No bar is longer than the clocks make it, so no round time is missing.
                longest = max(
                    step.length, timedelta(days={Unit.MONTH: 31, Unit.YEAR: 366}.get(step.unit, 0) * step.count)
                )
                assert max(b - a for a, b in pairwise(cut)) <= longest + abs(change) + timedelta(hours=2), (
                    name,
                    at,
                    step,
                )
                # The same cuts from wherever one begins.
                for offset in (timedelta(minutes=5), timedelta(hours=1, minutes=1), timedelta(hours=26)):
                    if (later := start + offset) <= end:
                        other = edges(step, zone, later, end)
                        assert other == [each for each in cut if each >= other[0]], (name, at, step, offset)
                        assert other[0] in cut
                seen[step.unit] += 1
    assert set(seen) == set(Unit) - {Unit.SECOND, Unit.YEAR}
    assert min(seen.values()) > 30


@pytest.mark.parametrize("part", range(6))
def test_a_bar_of_a_day_is_a_day_of_the_calendar(part) -> None:
    for name in ZONES[part::6]:
        zone = ZoneInfo(name)
        for at in _sampled(_changes(zone), zone):
            cut = edges(DAY, zone, at - timedelta(days=2), at + timedelta(days=2))
            days = [local(each, zone).date() for each in cut]
            twice = _offset(at - timedelta(seconds=1), zone) - _offset(at, zone)
            if twice < DAY.length:
                assert len(set(days)) == len(days), (name, at)
            for begin, end in pairwise(cut):
                middle = begin + (end - begin) / 2
                assert local(middle, zone).date() == local(begin, zone).date(), (name, at)


def test_known_changes_of_clocks() -> None:
    def days(name, start, end, step=DAY):
        zone = ZoneInfo(name)
        first, last = (datetime.combine(date.fromisoformat(each), time(12), zone) for each in (start, end))
        return [f"{each.astimezone(zone):%m-%d %H:%M %z}" for each in edges(step, zone, first, last)]

    assert days("America/Sao_Paulo", "2018-11-03", "2018-11-04") == [
        "11-03 00:00 -0300",
        "11-04 01:00 -0200",
        "11-05 00:00 -0200",
    ]
    assert days("America/Havana", "2026-10-31", "2026-11-01") == [
        "10-31 00:00 -0400",
        "11-01 00:00 -0400",
        "11-02 00:00 -0500",
    ]
    assert days("Pacific/Apia", "2011-12-29", "2011-12-31") == [
        "12-29 00:00 -1000",
        "12-31 00:00 +1400",
        "01-01 00:00 +1400",
    ]
    zone = ZoneInfo("Australia/Lord_Howe")
    hours = edges(HOUR, zone, datetime(2026, 4, 4, 13, 30, tzinfo=UTC), datetime(2026, 4, 4, 16, tzinfo=UTC))
    assert [f"{each.astimezone(zone):%H:%M}" for each in hours] == ["00:00", "01:00", "02:00", "03:00"]
    assert hours[2] - hours[1] == timedelta(hours=1.5)
    zone = ZoneInfo("Europe/Berlin")
    hours = edges(HOUR, zone, datetime(2026, 10, 24, 23, tzinfo=UTC), datetime(2026, 10, 25, 2, tzinfo=UTC))
    assert [f"{each.astimezone(zone):%H:%M %z}" for each in hours] == [
        "01:00 +0200",
        "02:00 +0200",
        "02:00 +0100",
        "03:00 +0100",
        "04:00 +0100",
    ]
    three = Step(unit=Unit.HOUR, count=3)
    hours = edges(three, zone, datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 9, tzinfo=UTC))
    assert [f"{each.astimezone(zone):%H:%M}" for each in hours] == ["00:00", "03:00", "06:00", "09:00", "12:00"]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Dublin", "Pacific/Chatham", "Africa/Casablanca"])
def test_weeks_begin_on_mondays_and_months_and_years_with_themselves(zone) -> None:
    zone = ZoneInfo(zone)
    for count in (1, 2):
        cut = edges(
            Step(unit=Unit.WEEK, count=count), zone, datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
        )
        assert {local(each, zone).isoweekday() for each in cut} == {1}
        assert {local(b, zone) - local(a, zone) for a, b in pairwise(cut)} == {timedelta(weeks=count)}
    cut = edges(
        Step(unit=Unit.MONTH, count=3), zone, datetime(2025, 2, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    )
    assert [f"{local(each, zone):%y-%m-%d %H:%M}" for each in cut] == [
        f"{day} 00:00" for day in ("25-01-01", "25-04-01", "25-07-01", "25-10-01", "26-01-01", "26-04-01")
    ]
    cut = edges(
        Step(unit=Unit.YEAR, count=10), zone, datetime(1999, 2, 1, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC)
    )
    assert [local(each, zone).date() for each in cut] == [date(year, 1, 1) for year in (1990, 2000, 2010, 2020, 2030)]


@pytest.mark.parametrize("name", ["UTC", "Etc/GMT-14", "Etc/GMT+12", "Asia/Kathmandu"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.label)
def test_the_ends_of_time_are_edges(name, step) -> None:
    zone = ZoneInfo(name)
    first, last = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
    begin = edges(step, zone, first, first + step.length / 2)
    assert begin[0] == first < begin[1]
    end = edges(step, zone, last - timedelta(microseconds=1), last - timedelta(microseconds=1))
    assert end[-2] < last <= end[-1] == last


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.label)
def test_steps_are_round(step) -> None:
    whole = {Unit.SECOND: 60, Unit.MINUTE: 60, Unit.HOUR: 24, Unit.DAY: 2, Unit.WEEK: 2, Unit.MONTH: 12}
    if step.unit is Unit.YEAR:
        assert re.fullmatch("[125]0*", str(step.count))
    else:
        assert whole[step.unit] % step.count == 0


@pytest.mark.parametrize(
    ("start", "bar", "count", "labels"),
    [
        ("2026-07-07 10:00:50", timedelta(seconds=1), 20, ["10:00:55", "10:01:00", "10:01:05"]),
        ("2026-07-07 23:50", timedelta(minutes=1), 20, ["23:55", "00:00", "00:05"]),
        ("2026-07-07 18:00", timedelta(hours=1), 12, ["21:00", "8 Jul", "03:00"]),
        ("2026-07-06 12:00", timedelta(hours=6), 16, ["7 Jul", "8 Jul", "9 Jul", "10 Jul"]),
        ("2026-01-20 12:00", timedelta(days=10), 18, ["1 Feb", "1 Mar", "1 Apr", "1 May", "1 Jun", "1 Jul"]),
        ("2019-07-01 00:00", timedelta(days=100), 20, [f"Jan {year}" for year in range(2020, 2025)]),
    ],
)
def test_the_times_below_a_chart_are_as_exact_as_they_are_near(start, bar, count, labels) -> None:
    first = datetime.fromisoformat(start).replace(tzinfo=UTC)
    with timezone.override(UTC):
        assert [tick.label for tick in ticks([first + bar * number for number in range(count + 1)])] == labels


@pytest.mark.parametrize(
    ("length", "unit", "count"),
    [
        (timedelta(0), Unit.SECOND, 1),
        (timedelta(minutes=15), Unit.SECOND, 30),
        (timedelta(hours=1), Unit.MINUTE, 1),
        (timedelta(hours=24), Unit.MINUTE, 30),
        (timedelta(days=7), Unit.HOUR, 3),
        (timedelta(days=30), Unit.HOUR, 12),
        (timedelta(days=60), Unit.DAY, 1),
        (timedelta(days=60, microseconds=1), Unit.DAY, 2),
        (timedelta(days=366), Unit.WEEK, 1),
        (timedelta(days=1000), Unit.MONTH, 1),
        (timedelta(days=3_652_000), Unit.YEAR, 200),
    ],
)
def test_the_step_is_the_shortest_that_makes_few_bars(length, unit, count) -> None:
    chosen = step_for(length)
    assert chosen == Step(unit=unit, count=count)
    start = datetime(2026, 2, 13, 5, 17, tzinfo=UTC) if length.days < 5000 else datetime(1, 1, 3, tzinfo=UTC)
    for zone in ("UTC", "Europe/Berlin", "Australia/Lord_Howe"):
        assert len(edges(chosen, ZoneInfo(zone), start, start + length)) <= min(AIM + 5, BARS)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("zone", "since", "until"),
    [
        ("Europe/Berlin", "2026-10-20T10:07+00:00", "2026-10-31T10:07+00:00"),
        ("Europe/Berlin", "2026-10-24T20:07+00:00", "2026-10-25T12:07+00:00"),
        ("America/Havana", "2026-02-20T10:07+00:00", "2026-04-10T10:07+00:00"),
        ("America/Havana", "2026-10-31T22:07+00:00", "2026-11-01T12:07+00:00"),
        ("Asia/Beirut", "2026-03-01T10:07+00:00", "2026-04-25T10:07+00:00"),
        ("Australia/Lord_Howe", "2026-04-03T10:07+00:00", "2026-04-05T10:07+00:00"),
        ("Pacific/Apia", "2011-12-01T10:07+00:00", "2012-01-25T10:07+00:00"),
        ("America/St_Johns", "2006-10-28T10:07+00:00", "2006-10-30T10:07+00:00"),
    ],
)
def test_each_bar_leads_to_its_own_tasks_around_a_change_of_clocks(viewer, settings, zone, since, until) -> None:
    settings.TIME_ZONE = zone
    start, end = datetime.fromisoformat(since), datetime.fromisoformat(until)
    step = step_for(end - start)
    cut = edges(step, ZoneInfo(zone), start, end)
    # Beside each edge, so that a bar that is off by a little counts another number.
    moments = [each + timedelta(microseconds=by) for each in cut for by in (-1, 0, 1, 1)]
    for at in moments:
        past(1, created_at=at, started_at=at, finished_at=at)
    expected = [sum(1 for at in moments if max(a, start) <= at < min(b, end)) for a, b in pairwise(cut) if a < end]
    bars = viewer.get(TASKS, {"since": since, "until": until}).context_data["chart"].value.bars
    assert [bar.total for bar in bars] == [count for count in expected if count]
    for bar in bars[:: max(len(bars) // 8, 1)]:
        narrowed = viewer.get(TASKS + bar.url).context_data
        assert narrowed["chart"].value.total == bar.total == len(narrowed["rows"])


@pytest.mark.django_db
@pytest.mark.parametrize("year", [2, 1883, 1969, 2026, 9998])
def test_each_bar_of_all_time_leads_to_the_tasks_beside_its_edges(viewer, settings, year) -> None:
    settings.TIME_ZONE = "Europe/Amsterdam"  # 19 minutes and 32 seconds ahead of UTC, long ago
    start = datetime(year, 6, 30, 21, 40, 28, tzinfo=UTC)
    moments = [
        start + timedelta(hours=hours, microseconds=by)
        for hours in range(0, 48, 3)
        for by in (-1, 0, 999_999, 1_000_000)
    ]
    for at in moments:
        past(1, created_at=at, started_at=at, finished_at=at)
    bars = viewer.get(f"{TASKS}?since=all").context_data["chart"].value.bars
    assert sum(bar.total for bar in bars) == len(moments)
    for bar in bars:
        narrowed = viewer.get(TASKS + bar.url).context_data
        assert narrowed["chart"].value.total == bar.total


@pytest.mark.django_db
@pytest.mark.parametrize("query", ["since=all", "since=2026-10-24T20:00Z&until=2026-10-25T08:00Z"])
def test_an_hour_that_comes_twice_says_which_one_it_is(viewer, settings, query) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    for hour in (0, 1, 2):
        at = datetime(2026, 10, 25, hour, 30, tzinfo=UTC)
        past(1, created_at=at, started_at=at, finished_at=at)
    response = viewer.get(f"{TASKS}?{query}")
    first, second, third = (bar.label for bar in response.context_data["chart"].value.bars)
    assert "02:30:00 +02:00" in first
    assert "02:30:00 +01:00" in second
    assert "03:30:00:" in third
    text = text_of(response)
    # The year stands there, too, once it is over.
    assert all(re.search(rf"25 Oct( 2026)? 02:30:00 \+0{hours}:00", text) for hours in (2, 1))
    assert "03:30:00 +" not in text


@pytest.mark.django_db
def test_tasks_of_the_future_are_counted_in_a_range_up_to_now(viewer) -> None:
    past(3)
    at = datetime(2199, 5, 5, tzinfo=UTC)
    past(2, created_at=at, started_at=at, finished_at=at)
    for query in ("since=24h", "since=all", "since=7d&status=completed"):
        drawn = viewer.get(f"{TASKS}?{query}").context_data["chart"].value
        assert sum(bar.total for bar in drawn.bars) == drawn.total == 5
        assert drawn.bars[-1].total == 2
        assert viewer.get(TASKS + drawn.bars[-1].url).context_data["chart"].value.total == 2
