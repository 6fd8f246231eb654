"""The page of the figures: the same as `audit_stats`, for the same question as the list, each a link into it."""

import json
import re
from datetime import timedelta
from html import unescape
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from audit.admin.shared.binning import Cut
from audit.admin.shared.drawing import line
from audit.admin.statistics import page as statistics_page
from audit.admin.statistics.charts import _height, _round_span, _scale, percent
from audit.models import Task
from audit.reading.statistics import statistics
from tests.support.factories import requested
from tests.support.pages import HOSTILE, STATISTICS, TASKS, asking, client_of, inline_code, past, text_of

pytestmark = pytest.mark.django_db


def _plain(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", "", html).split())


def _tables(response) -> dict[str, list[list[str]]]:
    found = {}
    html = response.content.decode()
    for name, body in re.findall(r'id="audit-by-(\w+)">.*?<tbody>(.*?)</tbody>', html, re.S):
        rows = re.findall(r"<tr>(.*?)</tr>", body, re.S)
        found[name] = [
            [
                " ".join(re.sub(r"<[^>]*>", "", cell).split())
                for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)
            ]
            for row in rows
        ]
    return found


def _some() -> None:
    past(6, action="deploy", services=["billing"], requested_by="alice")
    past(
        2,
        action="deploy",
        services=["billing", "dns"],
        requested_by="bob",
        status="failed",
        outcome={"error_type": "E1"},
    )
    past(3, action="backup", services=["dns"], requested_by="alice")
    requested(action="deploy")


def test_the_figures_are_those_of_audit_stats(viewer) -> None:
    _some()
    response = viewer.get(f"{STATISTICS}?since=24h")
    out = StringIO()
    call_command("audit_stats", "--format", "json", stdout=out)
    printed = json.loads(out.getvalue())
    facts = {str(fact.label): fact.value for fact in response.context_data["facts"]}
    assert facts["Tasks"] == str(printed["tasks"]) == "12"
    assert facts["Failure rate"] == f"{printed['failure_rate']:.1%}" == "18.2%"
    tables = _tables(response)
    assert [row[:4] for row in tables["action"]] == [["deploy", "9", "2", "25.0%"], ["backup", "3", "0", "0.0%"]]
    assert [row[:4] for row in tables["service"]][:2] == [["billing", "8", "2", "25.0%"], ["dns", "6", "2", "40.0%"]]
    assert [row[:3] for row in tables["actor"]] == [["alice", "10", "0"], ["bob", "2", "2"]]
    [deploy] = [each for each in printed["actions"] if each["action"] == "deploy"]
    assert deploy["tasks"] == 9
    assert "3.0 s" in tables["action"][0]
    assert "2.0 s" in tables["action"][0]
    assert inline_code(response) == []


@pytest.mark.parametrize(
    "asked", ["", "status=failed", "action=deploy&since=7d", "service=dns&actor=alice", "since=all"]
)
def test_every_figure_leads_into_the_list_with_its_filter_and_the_range(viewer, asked) -> None:
    _some()
    response = viewer.get(f"{STATISTICS}?{asked}")
    html = response.content.decode()
    for name in ("action", "service", "actor"):
        [body] = re.findall(rf'id="audit-by-{name}">.*?<tbody>(.*?)</tbody>', html, re.S) or [""]
        for link, text, tasks in re.findall(
            r'<a href="([^"]*)" title="[^"]*"><bdi>(.*?)</bdi></a>\s*</th>\s*<td>(\d+)', body
        ):
            found = viewer.get(unescape(link))
            assert len(found.context_data["rows"]) == int(tasks), (name, text)
    bars = re.findall(r'<a href="([^"]*)" class="audit-bar" aria-label="[^"]*?(\d+) of (\d+)"', html)
    assert bars or "Nothing has ended" in html
    for link, _failed, ended in bars:
        rows = viewer.get(unescape(link)).context_data["rows"]
        assert sum(row["status"] in ("completed", "failed") for row in rows) == int(ended)


def test_the_list_leads_to_the_statistics_of_the_same_question(viewer) -> None:
    _some()
    html = viewer.get(f"{TASKS}?status=failed&since=7d").content.decode()
    [link] = re.findall(r'href="([^"]*statistics/[^"]*)"', html)
    assert unescape(link) == f"{STATISTICS}?status=failed&since=7d"
    page = viewer.get(unescape(link))
    assert {str(fact.label): fact.value for fact in page.context_data["facts"]}["Tasks"] == "2"
    assert f'href="{TASKS}?status=failed&amp;since=7d"' in page.content.decode()


def test_spans_are_those_between_the_edges_and_empty_where_nothing_is() -> None:
    now = timezone.now()
    for hours in (1, 1, 5):
        past(1, every=timedelta(hours=hours))
    cut = Cut.of(now - timedelta(hours=6), now)
    found = statistics(Task.objects.all(), by=(), edges=cut.edges)
    assert sum(group.tasks for group in found.spans.values()) == found.total.tasks == 3
    for task in Task.objects.all():
        assert found.spans[cut.number(task.created_at)].tasks >= 1
    assert statistics(Task.objects.none(), by=(), edges=cut.edges).spans == {}


def test_of_more_tasks_than_are_measured_the_newest_are_and_the_page_says_so(viewer, monkeypatch) -> None:
    monkeypatch.setattr(statistics_page, "MOST_TASKS", 5)
    past(9)
    response = viewer.get(STATISTICS)
    assert "These figures are of the newest 5 tasks, since" in text_of(response)
    assert {str(fact.label): fact.value for fact in response.context_data["facts"]}["Tasks"] == "5+"


def test_nothing_found_says_so_and_widens(viewer) -> None:
    past(1, every=timedelta(days=3))
    page = text_of(viewer.get(STATISTICS))
    assert "No tasks match" in page
    assert "Widen to 7 days" in page
    assert "1" in _tables(viewer.get(f"{STATISTICS}?since=7d"))["action"][0]


@pytest.mark.parametrize("asked", ["since=24h", "since=all", "status=failed&service=billing&q=task"])
def test_it_asks_one_question_and_two_over_all_time(viewer, asked) -> None:
    _some()
    with asking() as asking_:
        assert viewer.get(f"{STATISTICS}?{asked}").status_code == 200
    assert len(asking_.data) == (2 if "all" in asked else 1)


def test_what_takes_too_long_is_left_out_with_what_to_do(viewer, monkeypatch) -> None:
    past(1)

    def slow(*args, **kwargs):
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 20; SELECT pg_sleep(5)")

    monkeypatch.setattr(statistics_page, "statistics", slow)
    response = viewer.get(STATISTICS)
    assert response.status_code == 200
    assert "Choose a shorter range or add a filter" in text_of(response)


def test_only_who_may_see_tasks_sees_figures() -> None:
    assert client_of("staff").get(STATISTICS).status_code == 403
    assert client_of("superuser").post(STATISTICS).status_code == 405


def test_a_filter_that_means_nothing_is_named(viewer) -> None:
    assert "“stauts” is not a filter" in text_of(viewer.get(f"{STATISTICS}?stauts=failed"))


def test_hostile_names_are_shown_as_they_are(viewer) -> None:
    for name in HOSTILE.values():
        past(1, action=name[:90], services=[name], requested_by=name, status="failed", outcome={"error_type": name})
    html = viewer.get(STATISTICS).content.decode()
    assert "<script>alert" not in html
    assert "<b onmouseover" not in html
    assert "\u202e" not in html


def test_a_line_has_gaps_and_a_lone_point_is_seen() -> None:
    assert line([(0, 1), (1, 2), None, (3, 4), None]) == "M0.00 1.00 L1.00 2.00 M2.50 4.00H3.50"
    assert line([]) == ""


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [
        (2, 30, "1 s, 10 s, 1 m"),
        (0, 0, "1 ms, 10 ms, 100 ms"),
        (1, 1, "1 s, 10 s, 1 m"),
        (0.5, 5000, "100 ms, 1 m, 10 h"),
        (61, 9e4, "1 m, 10 h, 100 d"),
        (1e12, 1e12, "10000 d, 100000 d, 1000000 d"),
    ],
)
def test_the_ticks_of_a_scale_are_round_and_never_nothing(least, most, expected) -> None:
    scale = _scale(least, most)
    ticks = [_round_span(scale[at]) for at in (0, len(scale) // 2, -1)]
    assert [re.sub("[\u2066-\u2069]", "", each) for each in ticks] == expected.split(", ")
    assert scale[0] <= max(least, 0.001) or least > 8.64e10
    assert most <= scale[-1] or most > 8.64e10


def test_a_span_stands_where_its_scale_says() -> None:
    scale = (1, 10, 60)
    assert [round(_height(each, scale), 3) for each in (0, 1, 10, 60, 600)] == [0, 0, 0.5, 1, 1]
    assert 0.24 < _height(10**0.5, scale) < 0.26


def test_a_table_that_names_not_all_groups_says_so_and_leads_to_the_rest(viewer) -> None:
    for number in range(12):
        past(1 + (number == 3), action=f"action-{number:02}", services=["dns"])
    response = viewer.get(f"{STATISTICS}?since=7d")
    assert "10 of 12 actions, those with the most tasks." in text_of(response)
    assert "services, those with the most" not in text_of(response)
    tables = _tables(response)
    assert len(tables["action"]) == 10
    assert tables["action"][0][:2] == ["action-03", "2"]
    [link] = re.findall(r'<a href="([^"]*)">Show all</a>', response.content.decode())
    assert unescape(link) == "?since=7d&groups=all#audit-by-action"
    whole = viewer.get(STATISTICS + unescape(link).partition("#")[0])
    assert len(_tables(whole)["action"]) == 12
    assert "Show all" not in text_of(whole)
    assert "is not a filter" not in text_of(whole)


def test_even_all_groups_are_bounded(viewer, monkeypatch) -> None:
    monkeypatch.setattr(statistics_page, "_ALL_GROUPS", 11)
    for number in range(12):
        past(1, action=f"action-{number:02}")
    response = viewer.get(f"{STATISTICS}?groups=all")
    assert len(_tables(response)["action"]) == 11
    assert "11 of 12 actions" in text_of(response)
    assert "Show all" not in text_of(response)


def test_the_counts_of_a_group_lead_into_the_list(viewer) -> None:
    past(3, status="failed", outcome={"error_type": "OSError"})
    past(2, action="backup")
    html = viewer.get(STATISTICS).content.decode()
    [body] = re.findall(r'id="audit-by-action">.*?<tbody>(.*?)</tbody>', html, re.S)
    links = [(unescape(url), int(text)) for url, text in re.findall(r'<a href="([^"]*)">(\d+)</a>', body)]
    assert [count for _url, count in links] == [3, 3, 2]
    for url, count in links:
        assert len(viewer.get(url).context_data["rows"]) == count


def test_a_rate_that_is_not_nothing_is_not_written_as_nothing() -> None:
    assert [percent(each) for each in (None, 0.0, 0.0001, 0.5)] == ["—", "0.0%", "< 0.1%", "50.0%"]
