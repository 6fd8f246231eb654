"""The chart and the counted choices: right numbers, bounded, drawn to scale, and links that narrow."""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.admin.shared import panels
from audit.admin.shared.wording import moment
from audit.admin.tasks import chart_counts
from audit.admin.tasks.histogram import BARS
from audit.ids import uuid7
from audit.models import Task
from tests.support.factories import requested
from tests.support.pages import TASKS, asking, past, text_of


def _chart(response):
    return response.context_data["chart"].value


def _choices(response, key):
    [facet] = [each for each in response.context_data["facets"] if each.key == key]
    return {choice.value: choice.count for choice in facet.choices}


@pytest.mark.django_db
@pytest.mark.parametrize("span", ["15m", "1h", "24h", "7d", "30d", "all"])
def test_bars_statuses_and_total_add_up_in_every_range(viewer, span) -> None:
    every = {"15m": 5, "1h": 20, "24h": 400, "7d": 3000, "30d": 12000, "all": 90_000}[span]
    past(120, every=timedelta(seconds=every))
    past(30, every=timedelta(seconds=every), status="failed")
    requested()
    response = viewer.get(f"{TASKS}?since={span}")
    chart = _chart(response)
    assert chart.total == 151
    assert sum(bar.total for bar in chart.bars) == 151
    assert {name: count for name, count in chart.by_status.items() if count} == {
        "completed": 120,
        "failed": 30,
        "pending": 1,
    }
    assert len(chart.bars) <= BARS
    assert chart.total_label == "151"
    ends = [float(bar.x) + float(bar.width) for bar in chart.bars]
    assert ends == sorted(ends)
    assert ends[-1] <= 1000.1
    for bar in chart.bars:
        tops = [float(part.y) for part in bar.parts]
        assert tops == sorted(tops, reverse=True)
        assert all(-0.01 <= float(part.y) <= 100 for part in bar.parts)
    assert [part.status for part in max(chart.bars, key=lambda bar: len(bar.parts)).parts][-1] in ("failed", "pending")


@pytest.mark.django_db
def test_the_first_and_the_last_bar_lead_to_as_many_tasks_as_they_count(viewer) -> None:
    start, end = datetime(2026, 3, 1, 10, 7, tzinfo=UTC), datetime(2026, 3, 2, 10, 7, tzinfo=UTC)
    # Each time one inside the range and one beyond it, in the stretch of the same bar.
    for at in (start, end):
        for minutes in (-2, 2):
            created = at + timedelta(minutes=minutes)
            past(1, created_at=created, started_at=created, finished_at=created)
    bars = _chart(viewer.get(TASKS, {"since": start.isoformat(), "until": end.isoformat()})).bars
    assert [bar.total for bar in bars] == [1, 1]
    assert [_chart(viewer.get(TASKS + bar.url)).total for bar in bars] == [1, 1]


@pytest.mark.django_db
def test_a_bar_leads_to_exactly_its_own_tasks(viewer) -> None:
    past(300, every=timedelta(minutes=4), status="failed")
    past(50)
    response = viewer.get(f"{TASKS}?status=failed&service=billing")
    bar = _chart(response).bars[10]
    zoomed = viewer.get(TASKS + bar.url)
    assert _chart(zoomed).total == bar.total
    assert zoomed.context_data["query"].filter.statuses == ("failed",)
    assert zoomed.context_data["query"].filter.services == ("billing",)
    assert zoomed.context_data["query"].range.name == "custom"
    html = response.content.decode()
    assert f'href="{bar.url.replace("&", "&amp;")}"' in html
    assert html.count('class="audit-bar"') == len(_chart(response).bars)
    assert len(re.findall(r'class="audit-bar"[^>]*tabindex="0"', html)) == 1


@pytest.mark.django_db
def test_what_a_filter_leaves_out_has_no_number_in_the_chart(viewer) -> None:
    past(3)
    past(2, status="failed")
    response = viewer.get(f"{TASKS}?status=failed&status=paused")
    counts = {link.tone: link.number for link in _chart(response).legend}
    assert counts == {
        "failed": "2",
        "paused": "0",
        "completed": "",
        "rejected": "",
        "pending": "",
        "approved": "",
        "executing": "",
    }
    others = {"completed": "3", **dict.fromkeys(("rejected", "pending", "approved", "executing"), "0")}
    assert {link.tone: link.number for link in response.context_data["statuses"]} == counts | others


@pytest.mark.django_db
def test_a_capped_chart_says_what_it_covers_and_shades_the_rest(viewer, monkeypatch) -> None:
    monkeypatch.setattr(chart_counts, "BOUNDED", 100)
    monkeypatch.setattr(chart_counts, "UNBOUNDED", 100)
    past(150, every=timedelta(minutes=8))
    response = viewer.get(TASKS)
    chart = _chart(response)
    assert chart.total_label == "100+"
    assert chart.capped
    assert float(chart.uncounted) > 100
    oldest = Task.objects.order_by("-created_at")[99].created_at
    assert f"cover the newest 100, since {moment(oldest, timezone.now())}" in text_of(response)
    # The one that was found beyond the cap counts nowhere.
    assert sum(bar.total for bar in chart.bars) == sum(chart.by_status.values()) == 100
    assert [(link.tone, link.count) for link in chart.legend if link.count] == [("completed", 100)]
    assert "audit-uncounted" in response.content.decode()
    assert _chart(viewer.get(f"{TASKS}?since=all")).total_label == "100+"
    past(0)
    monkeypatch.setattr(chart_counts, "BOUNDED", 150)
    exact = _chart(viewer.get(TASKS))
    assert (exact.total_label, exact.capped, exact.uncounted) == ("150", False, "")


@pytest.mark.django_db
def test_words_and_documents_are_counted_in_smaller_samples_and_say_so(viewer, monkeypatch) -> None:
    monkeypatch.setattr(chart_counts, "UNBOUNDED", 100)
    monkeypatch.setattr(chart_counts, "CHOICES", 5)
    past(30, plan={"key": "value"})
    for asked in ("q=task", "plan.key=value"):
        response = viewer.get(f"{TASKS}?since=all&{asked}")
        assert _chart(response).total_label == "10+"
        assert sum(_choices(response, "action").values()) == 5
        assert "Counted among the newest 5." in text_of(response)
    assert _chart(viewer.get(f"{TASKS}?since=all&service=billing")).total_label == "25+"
    assert _chart(viewer.get(f"{TASKS}?since=all")).total_label == "30"


def _always_cut(monkeypatch, cap: int) -> None:
    monkeypatch.setattr(chart_counts, "UNBOUNDED", 4 * cap)
    monkeypatch.setattr(chart_counts, "_RARE", 0)
    monkeypatch.setattr(chart_counts, "_SHORT", 0.1)


@pytest.mark.django_db
@pytest.mark.parametrize("query", ["since=all", "since=all&until=2500-01-01", "since=0500-01-01&until=2500-01-01"])
def test_the_chart_of_a_service_stands_tasks_of_all_times(viewer, monkeypatch, query) -> None:
    _always_cut(monkeypatch, 12_500)
    for year in (1000, 9998):
        at = datetime(year, 5, 5, tzinfo=UTC)
        past(30, created_at=at, started_at=at, finished_at=at)
    past(30)
    found = 60 if "until" in query else 90
    assert _chart(viewer.get(f"{TASKS}?{query}&service=billing")).total == found


@pytest.mark.django_db
@pytest.mark.parametrize("cap", [4, 21, 55, 60, 79, 80, 90])
@pytest.mark.parametrize("newest_every_s", [1, 600, 86_400])
def test_the_chart_of_a_service_counts_its_newest_tasks_wherever_it_guesses_them(
    viewer, monkeypatch, cap, newest_every_s
) -> None:
    """The page's rows say how dense tasks are, and further back they are denser or sparser than that."""
    _always_cut(monkeypatch, cap)
    start = timezone.now() - timedelta(seconds=newest_every_s * 51)
    past(51, every=timedelta(seconds=newest_every_s))
    earlier = [start - timedelta(hours=1) * (number + 1) for number in range(29)]
    for number, at in enumerate(earlier):
        ended = {"started_at": at, "finished_at": at}
        past(1, status="failed" if number % 2 else "completed", created_at=at, **ended)
    past(40, services=["other"])
    with CaptureQueriesContext(connection) as asked:
        chart = _chart(viewer.get(f"{TASKS}?since=all&service=billing"))
    assert sum("WITH nearest" in each["sql"] for each in asked) == 1
    failed = max(0, min(cap, 80) - 51) // 2
    assert {name: count for name, count in chart.by_status.items() if count} == {
        name: count for name, count in (("completed", min(cap, 80) - failed), ("failed", failed)) if count
    }
    assert chart.total == sum(bar.total for bar in chart.bars) == min(cap, 80)
    assert chart.total_label == (f"{cap}+" if cap < 80 else "80")


@pytest.mark.django_db
def test_choices_are_counted_and_the_chosen_stay_even_when_nothing_is_left(viewer) -> None:
    past(3, services=["db", "web"], action="backup", actor="orch-1")
    past(2, services=["db"], action="deploy", actor="orch-2")
    past(2, status="failed", services=[], actor="", outcome={"error_type": "TimeoutError"})
    page = viewer.get(TASKS)
    assert _choices(page, "service") == {"db": 5, "web": 3}
    assert _choices(page, "action") == {"backup": 3, "deploy": 4}
    assert _choices(page, "error_type") == {"TimeoutError": 2}
    assert {"orch-1": 3, "orch-2": 2}.items() <= _choices(page, "actor").items()
    narrowed = viewer.get(f"{TASKS}?service=web&service=gone")
    assert _choices(narrowed, "service") == {"web": None, "gone": None}
    assert "No tasks match" in text_of(narrowed)
    assert "Counted among" not in text_of(page)


def _various() -> None:
    past(3, action="backup", actor="orch-1", services=["db"])
    past(2, action="deploy", actor="orch-2", services=["web", "db"])
    past(1, action="move", actor="orch-3", services=["dns"])
    past(2, action="fail", actor="orch-4", status="failed", services=[], outcome={"error_type": "OSError"})
    past(1, action="fail", actor="orch-4", status="failed", services=[], outcome={"error_type": "MemoryError"})
    past(1, action="fail", actor="orch-4", status="failed", services=[])


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("asked", "key", "expected"),
    [
        ("action=backup", "action", {"backup": 3, "fail": 4, "deploy": 2, "move": 1}),
        ("action=backup", "service", {"db": 3}),
        ("action=backup&service=db", "action", {"backup": 3, "deploy": 2}),
        ("actor=orch-2&action=deploy", "actor", {"orch-2": 2}),
        ("actor=orch-2&status=completed", "actor", {"orch-2": 2, "orch-1": 3, "orch-3": 1}),
        ("any_service=web", "any_service", {"web": 2, "db": 5, "dns": 1}),
        ("service=web", "service", {"web": 2, "db": 2}),
        ("error_type=OSError", "error_type", {"OSError": 2, "MemoryError": 1}),
        ("error_type=OSError", "failure", {"application": 2, "resource": 0}),
        ("failure=resource", "failure", {"resource": 1, "application": 3}),
        ("failure=resource&actor=orch-4&action=fail", "failure", {"resource": 1, "application": 3}),
        ("failure=resource&status=completed", "failure", {"resource": None, "application": 0}),
    ],
)
def test_what_else_could_be_chosen_stays_to_be_chosen(viewer, asked, key, expected) -> None:
    _various()
    response = viewer.get(f"{TASKS}?{asked}")
    assert _choices(response, key) == expected
    [facet] = [each for each in response.context_data["facets"] if each.key == key]
    assert all(choice.chosen == (f"{key}={choice.value}" in asked) for choice in facet.choices)
    for choice in facet.choices:
        assert viewer.get(TASKS + choice.url).status_code == 200
    if key not in ("service", "any_service", "failure") and len(facet.choices) > 1:
        both = viewer.get(TASKS + facet.choices[1].url)
        assert _chart(both).total == sum(each.count for each in facet.choices[:2])


@pytest.mark.django_db
def test_more_that_could_be_chosen_than_a_few_has_names_and_no_numbers(viewer, monkeypatch) -> None:
    _various()
    monkeypatch.setattr("audit.admin.tasks.facet_counts.OTHERS", 9)
    assert _choices(viewer.get(f"{TASKS}?action=deploy"), "action")["deploy"] == 2
    assert set(_choices(viewer.get(f"{TASKS}?action=deploy"), "action").values()) == {2, None}
    monkeypatch.setattr("audit.admin.tasks.facet_counts.OTHERS", 10)
    assert set(_choices(viewer.get(f"{TASKS}?action=deploy"), "action").values()) == {1, 2, 3, 4}


@pytest.mark.django_db
def test_what_else_could_be_chosen_costs_one_bounded_question_and_only_then(viewer, monkeypatch) -> None:
    _various()
    for asked, count in (
        ("", 4),
        ("service=db", 4),
        ("action=backup", 5),
        ("failure=application&error_type=OSError&action=fail&actor=orch-4", 5),
        ("status=failed&failure=application&error_type=OSError&action=fail&actor=orch-4", 6),
        ("action=backup&q=task", 5),
        ("action=backup&plan.key=value", 3),
    ):
        with asking() as queries:
            response = viewer.get(f"{TASKS}?{asked}")
        assert response.status_code == 200
        assert len(queries.data) == count, asked
        assert all("LIMIT" in sql for sql in queries.data)

    def slow(*args):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(5)")

    monkeypatch.setattr("audit.admin.tasks.page.others", slow)
    monkeypatch.setattr("audit.admin.tasks.page.panel", lambda using, work: panels.panel(using, work, 100))
    response = viewer.get(f"{TASKS}?action=backup")
    assert response.status_code == 200
    assert _choices(response, "action") == {"backup": 3}
    assert "task 0" in text_of(response)


@pytest.mark.django_db
def test_choices_counted_in_a_sample_say_so(viewer, monkeypatch) -> None:
    monkeypatch.setattr(chart_counts, "CHOICES", 10)
    past(15)
    page = viewer.get(TASKS)
    assert _choices(page, "service") == {"billing": 10}
    assert "Counted among the newest 10." in text_of(page)
    monkeypatch.setattr(chart_counts, "CHOICES", 15)
    assert "Counted among" not in text_of(viewer.get(TASKS))


@pytest.mark.django_db
def test_failures_counted_in_a_sample_say_so(viewer, monkeypatch) -> None:
    monkeypatch.setattr("audit.admin.tasks.page.FAILURES", 5)
    past(4, status="failed", outcome={"error_type": "OSError"})
    past(4, status="rejected")
    page = viewer.get(TASKS)
    assert _choices(page, "error_type") == {"OSError": 4}
    assert "Failures and rejections" not in text_of(page)
    past(2, status="failed", outcome={"error_type": "ValueError"})
    page = viewer.get(TASKS)
    assert sum(_choices(page, "error_type").values()) == 5
    assert "Failures and rejections: among the newest 5 of each." in text_of(page)


@pytest.mark.django_db
def test_a_name_too_long_to_count_is_no_choice(viewer) -> None:
    requested(services=["s" * 200, "short"], actor="a" * 400)
    page = viewer.get(TASKS)
    assert _choices(page, "service") == {"short": 1}
    assert _choices(page, "actor") == {}


@pytest.mark.django_db
@pytest.mark.parametrize("what", ["overview", "failures"])
def test_a_slow_panel_is_replaced_by_a_note_and_the_list_stays(viewer, monkeypatch, what) -> None:
    past(3, summary="still here")

    def slow(*args):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(5)")

    monkeypatch.setattr(f"audit.admin.tasks.page.{what}", slow)
    monkeypatch.setattr("audit.admin.tasks.page.panel", lambda using, work: panels.panel(using, work, 100))
    response = viewer.get(TASKS)
    text = text_of(response)
    assert response.status_code == 200
    assert "still here" in text
    assert ("The chart took too long" in text) == (what == "overview")
    assert "Counting took too long" in text


@pytest.mark.django_db
def test_the_ready_made_views_find_what_they_promise(viewer) -> None:
    past(1, status="failed", summary="out of memory", outcome={"error_type": "MemoryError"})
    past(1, status="failed", summary="a fault", outcome={"error_type": "ValueError"})
    requested(summary="please decide")
    links = {str(link.label): link.url for link in viewer.get(TASKS).context_data["views"]}
    page = text_of(viewer.get(TASKS + links["Resource failures"]))
    assert "out of memory" in page
    assert "a fault" not in page
    assert "please decide" in text_of(viewer.get(TASKS + links["Awaiting approval"]))
    past(1, status="failed", summary="failed lately", every=timedelta(days=5))
    past(1, status="failed", summary="failed long ago", every=timedelta(days=8))
    for days in (2, 8):
        at = timezone.now() - timedelta(days=days)
        Task(id=uuid7(at), action="a", summary=f"halted {days}", status="paused", created_at=at).save()
    attention = text_of(viewer.get(TASKS + links["Needs attention"]))
    assert "please decide" not in attention
    for words, expected in (
        ("failed lately", True),
        ("halted 2", True),
        ("failed long ago", False),
        ("halted 8", False),
    ):
        assert (words in attention) == expected, words
    assert viewer.get(links["Long pauses"]).status_code == 200
    assert 'aria-current="true">Resource failures' in viewer.get(TASKS + links["Resource failures"]).content.decode()


@pytest.mark.django_db
def test_the_whole_list_page_asks_four_bounded_questions(viewer) -> None:
    past(60)
    with asking() as asked:
        viewer.get(TASKS)
    assert len(asked.data) == 4
    assert all("LIMIT" in sql for sql in asked.data)


@pytest.mark.django_db
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/New_York", "Europe/Berlin"])
@pytest.mark.parametrize(
    "query",
    [
        {"since": "2026-03-28T00:00", "until": "2026-03-30T00:00"},
        {"since": "2026-10-24", "until": "2026-11-02"},
        {"since": "0001-01-03"},
        {"since": "9000-01-01"},
        {"since": "2026-01-02", "until": "2026-01-01"},
        {"since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:00:01Z"},
        {"until": "2026-01-01"},
        {"since": "all", "until": "9999-01-01"},
    ],
)
def test_ranges_of_every_kind_make_a_page(viewer, settings, zone, query) -> None:
    settings.TIME_ZONE = zone
    past(2, created_at=datetime(2026, 3, 29, 1, 30, tzinfo=UTC))
    past(1)
    response = viewer.get(f"{TASKS}?{urlencode(query)}")
    assert response.status_code == 200
    chart = _chart(response)
    assert chart is not None
    assert sum(bar.total for bar in chart.bars) == chart.total
    assert len(chart.ticks) <= 9


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("zone", "near"),
    [
        *((each, True) for each in ("UTC", "Etc/GMT+12", "Etc/GMT-14", "Asia/Kathmandu", "America/New_York")),
        *((each, False) for each in ("Etc/GMT+12", "Etc/GMT-14")),
    ],
)
@pytest.mark.parametrize(
    "query",
    [
        {},
        {"since": "7d"},
        {"since": "all"},
        {"since": "all", "until": "0001-01-04"},
        {"since": "all", "until": "9999-12-30T12:00Z"},
        {"since": "9999-12-30"},
        {"since": "9999-12-29", "until": "9999-12-30T12:00Z"},
        {"since": "0001-01-02T00:00Z"},
        {"since": "0001-01-03", "until": "0001-01-04"},
        {"since": "0001-01-02T00:00Z", "until": "9999-12-30T23:59:59Z"},
        {"since": "2026-01-01"},
    ],
)
def test_tasks_at_the_ends_of_time_are_drawn_and_found(viewer, settings, zone, near, query) -> None:
    settings.TIME_ZONE = zone
    for at in (
        datetime(1, 1, 2, tzinfo=UTC),
        datetime(1, 1, 3, tzinfo=UTC),
        datetime(9999, 12, 30, tzinfo=UTC),
        datetime(9999, 12, 30, 23, 59, 59, 999999, tzinfo=UTC),
    ):
        past(1, created_at=at, started_at=at, finished_at=at)
    past(3 if near else 0)
    response = viewer.get(f"{TASKS}?{urlencode(query)}")
    assert response.status_code == 200
    chart = _chart(response)
    assert chart is not None
    assert sum(bar.total for bar in chart.bars) == chart.total == len(response.context_data["rows"])
    assert len(chart.bars) <= BARS
    assert all(0 <= float(bar.x) <= 1000 - float(bar.width) + 0.1 for bar in chart.bars)
    assert len(chart.ticks) <= 9
    for bar in chart.bars:
        assert _chart(viewer.get(TASKS + bar.url)).total == bar.total, bar.url


@pytest.mark.django_db
def test_only_the_oldest_rows_there_can_be_make_a_chart_of_all_time(viewer) -> None:
    past(3, every=timedelta(hours=1), created_at=datetime(1, 1, 3, tzinfo=UTC))
    response = viewer.get(f"{TASKS}?since=all")
    assert [bar.total for bar in _chart(response).bars] == [3]
    page = viewer.get(f"{TASKS}?since=0001-01-03&until=0001-01-04")
    assert 'value="0001-01-03T00:00:00"' in page.content.decode()


@pytest.mark.django_db
def test_a_range_without_a_beginning_says_its_end(viewer) -> None:
    assert "All time, shown in" in text_of(viewer.get(f"{TASKS}?since=all"))
    assert "All time until 5 Jan 2025 00:00:00" in text_of(viewer.get(f"{TASKS}?since=all&until=2025-01-05"))


@pytest.mark.django_db
def test_all_time_over_centuries_is_drawn(viewer) -> None:
    past(1, created_at=datetime(1971, 1, 1, tzinfo=UTC))
    past(1, created_at=datetime(1990, 1, 1, tzinfo=UTC))
    past(1)
    chart = _chart(viewer.get(f"{TASKS}?since=all"))
    assert (chart.total, sum(bar.total for bar in chart.bars)) == (3, 3)
    assert "since=1971-01-01" in chart.bars[0].url
    assert "until=1972-01-01" in chart.bars[0].url
    assert [bar.total for bar in chart.bars if bar.total] == [1, 1, 1]
