"""The filters of the list of tasks: read from URL and search box, reported when mistyped, changed by links."""

import json
import re
from datetime import UTC, datetime, timedelta
from io import StringIO
from urllib.parse import urlencode

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from audit.admin.tasks import chart_counts
from audit.models import Task
from audit.reading.filters import TaskFilter, search
from audit.reading.filters.values import KEYS
from tests.support.factories import requested, task_in
from tests.support.pages import LOG, QUEUE, TASKS, asking, ids_in, past, text_of

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (f"{TASKS}?stauts=failed", "“stauts” is not a filter; did you mean “status”?"),
        (f"{TASKS}?<b>=1", "“<b>” is not a filter."),
        (f"{TASKS}?task=0190", "“task” is not a filter"),
        (f"{LOG}?knid=note", "“knid” is not a filter"),
        (f"{QUEUE}?stat=held", "“stat” is not a filter; did you mean “state”?"),
    ],
)
def test_a_mistyped_filter_is_reported(viewer, url, problem) -> None:
    task_in("paused")
    text = text_of(viewer.get(url))
    assert problem in text
    assert "Deploy Uptime Kuma" in text


def test_every_key_that_pages_write_is_known_to_them(viewer) -> None:
    past(60, outcome={"a": {"b": 1}})
    task = task_in("paused")
    keys = "status=failed&service=a&any_service=b&action=c&actor=d&until=1h&finished_since=1d&finished_until=1h"
    keys += "&correlation_id=c&id=01&failure=resource&seal=failed&error_type=e&outcome.a.b=1&q=word&_popup=1"
    for url in (
        f"{TASKS}?{keys}",
        f"{TASKS}?parent={task.pk}&since=all",
        f"{LOG}?kind=note&task={task.pk}&since=all",
        f"{QUEUE}?state=held",
    ):
        assert "is not a filter" not in text_of(viewer.get(url))
    response = viewer.get(TASKS)
    written = re.findall(r'href="(\?[^"]*|[^"]*/export/\?[^"]*)"', response.content.decode())
    assert any("after=" in each for each in written)
    assert any("format=" in each for each in written)
    for url in dict.fromkeys(each.replace("&amp;", "&") for each in written):
        answer = viewer.get(TASKS + url if url.startswith("?") else url)
        assert answer.status_code == 200
        assert b"is not a filter" not in answer.getvalue()


def test_the_id_that_a_list_shows_is_found_by_its_search(viewer) -> None:
    past(3)
    task = requested(summary="the one")
    found = re.search(r">([0-9a-f]{8}-[0-9a-f-]{5,9})</code>", viewer.get(f"{TASKS}?status=pending").content.decode())
    assert str(task.pk).startswith(found[1])
    text = text_of(viewer.get(f"{TASKS}?q={found[1]}"))
    assert "the one" in text
    assert "task 1" not in text


def test_a_window_of_the_past_is_widened_around_itself(viewer) -> None:
    past(1)
    html = viewer.get(f"{TASKS}?since=2026-01-01&until=2026-01-02").content.decode()
    [url] = re.findall(r'href="([^"]*)">Widen to 7 days<', html)
    query = viewer.get(TASKS + url.replace("&amp;", "&")).context_data["query"]
    assert (query.range.start, query.range.end) == (
        datetime(2025, 12, 26, tzinfo=UTC),
        datetime(2026, 1, 2, tzinfo=UTC),
    )
    assert query.links.widened(timedelta(days=7)) == ""
    first = viewer.get(f"{TASKS}?since=0001-01-02&until=0001-01-03").context_data["query"]
    assert "since=0001-01-02" in first.links.widened(timedelta(days=7))


def test_filters_narrow_by_status_service_action_actor_time_and_words(viewer) -> None:
    past(1, summary="right one", services=["db", "web"], status="failed", action="backup", actor="orch-7")
    past(1, summary="wrong service", services=["web"], status="failed", action="backup", actor="orch-7")
    past(1, summary="wrong status", services=["db"], action="backup", actor="orch-7")
    past(1, summary="wrong action", services=["db"], status="failed", actor="orch-7")
    past(1, summary="wrong actor", services=["db"], status="failed", action="backup")
    past(
        1,
        summary="wrong time",
        services=["db"],
        status="failed",
        action="backup",
        actor="orch-7",
        every=timedelta(hours=2),
    )
    asked = "status=failed&service=db&action=backup&actor=orch-7&since=1h"
    page = text_of(viewer.get(f"{TASKS}?{asked}"))
    assert "right one" in page
    assert "wrong" not in page
    page = text_of(viewer.get(f"{TASKS}?{asked.replace('since=1h', 'since=24h')}&q=wrong"))
    assert "wrong time" in page
    assert "right one" not in page
    both = text_of(viewer.get(f"{TASKS}?status=failed&status=completed&service=db"))
    assert "right one" in both
    assert "wrong status" in both


def test_a_service_is_found_by_the_gin_index(viewer) -> None:
    with asking() as asked:
        viewer.get(f"{TASKS}?service=db&since=all")
    [sql] = [sql for sql in asked.data if "LIMIT 51" in sql]
    assert '"services_touched" @> ' in sql


def test_search_tokens_and_ids_work_in_the_box(viewer) -> None:
    [key] = past(1, summary="needle in a haystack", every=timedelta(days=90))
    past(2)
    for text in (str(key), key.hex[:20], f"id:{key.hex[:20]}"):
        page = viewer.get(f"{TASKS}?{urlencode({'q': text})}")
        assert ids_in(page) == [str(key)], text
    assert "needle" in text_of(viewer.get(f"{TASKS}?{urlencode({'q': 'since:all NEEDLE service:billing'})}"))


def test_bad_values_are_ignored_with_a_message_and_good_ones_kept(viewer) -> None:
    past(1, status="failed")
    past(1, summary="other", status="completed")
    page = text_of(viewer.get(f"{TASKS}?status=zork&status=failed&since=yesterday&q=servce:x&parent=1&service="))
    assert "task 0" in page
    assert "other" not in page
    for word in ("zork", "yesterday", "servce:x", "service"):
        assert word in page


@pytest.mark.parametrize(
    ("key", "longest"), [("service", 200), ("any_service", 200), ("action", 100), ("actor", 500), ("error_type", 1000)]
)
def test_a_name_may_be_as_long_as_one_that_can_be_stored(viewer, key, longest) -> None:
    past(1)
    page = viewer.get(f"{TASKS}?{key}={'x' * longest}")
    assert "at most" not in text_of(page)
    assert "No tasks match" in text_of(page)
    assert f'name="{key}" maxlength="{longest}"' in page.content.decode()
    for length in (longest + 1, 1001):
        page = viewer.get(f"{TASKS}?{key}={'x' * length}")
        assert f"has {length} characters; at most {longest} are allowed" in text_of(page)
        assert "task 0" in text_of(page)
        response = viewer.get(f"{TASKS}export/?format=csv&{key}={'x' * length}")
        assert response.status_code == 400


@pytest.mark.parametrize("until", ["36525d", "36524d", "0001-01-02", "0001-01-02T00:00:01Z", "0001-01-03"])
@pytest.mark.parametrize("url", [TASKS, LOG, f"{TASKS}newer/", f"{TASKS}export/", f"{LOG}export/"])
def test_a_range_that_ends_where_nothing_can_be_is_a_page(viewer, settings, url, until) -> None:
    settings.TIME_ZONE = "UTC"
    past(1)
    response = viewer.get(f"{url}?until={until}&format=csv&before=1_{0 if url.startswith(LOG) else '0' * 32}")
    assert response.status_code == 200


def test_chips_take_one_condition_away_and_clear_takes_all_but_the_range(viewer) -> None:
    past(1)
    response = viewer.get(f"{TASKS}?status=completed&service=billing&since=7d&q=task")
    html = response.content.decode()
    chips = html[html.index("audit-chips") : html.index("</ul>", html.index("audit-chips"))]
    links = [link.replace("&amp;", "&") for link in re.findall(r'href="([^"]*)"', chips)]
    assert links == [
        "?service=billing&since=7d&q=task",
        "?status=completed&since=7d&q=task",
        "?status=completed&service=billing&since=7d",
        "?since=7d",
    ]


def test_statuses_toggle_and_the_default_range_stays_unspoken(viewer) -> None:
    past(1)
    html = viewer.get(f"{TASKS}?status=failed").content.decode()
    side = html[html.index("By status") : html.index("By service")]
    assert '<a href="?" aria-current="true">' in side
    assert 'href="?status=failed&amp;status=paused"' in side
    assert '<a href="?since=1d" aria-current="true">24h</a>' in viewer.get(TASKS).content.decode().replace("\n", "")


def test_a_custom_range_shows_its_ends_in_the_time_zone_of_the_page(viewer) -> None:
    past(1)
    with timezone.override("Asia/Tokyo"), override_settings(TIME_ZONE="Asia/Tokyo"):
        page = viewer.get(f"{TASKS}?since=2026-01-02T03:04&until=2026-01-05")
    text = text_of(page)
    assert re.search(r"2 Jan (2026 )?03:04:00 . 5 Jan (2026 )?00:00:00, Asia/Tokyo", text)
    assert 'value="2026-01-02T03:04:00"' in page.content.decode()


def test_failures_are_chosen_by_their_class_and_rows_tell_it(viewer) -> None:
    past(3, status="failed", summary="lacking", outcome={"error_type": "MemoryLimitExceeded"})
    past(2, status="failed", summary="broken", outcome={"error_type": "ValueError"})
    past(1, status="rejected", summary="refused", outcome={"error_type": "Rejected"})
    response = viewer.get(TASKS)
    text = text_of(response)
    assert re.search("By failure reason ?Resource constraint ?3 ?Application error ?2 ?By error type", text)
    assert re.search("Failed ?Resource constraint ?MemoryLimitExceeded", text)
    assert re.search("Failed ?Application error ?ValueError", text)
    html = response.content.decode()
    assert 'href="?failure=resource"' in html
    page = text_of(viewer.get(f"{TASKS}?failure=resource"))
    assert "Application error 0" not in page
    assert "lacking" in page
    assert "broken" not in page
    assert "failure Resource constraint" in page
    views = html[html.index("audit-views") : html.index("</nav>", html.index("audit-views"))]
    assert re.findall(r">([^<>]+)</a>", views) == [
        "Needs attention",
        "Awaiting approval",
        "Running now",
        "Resource failures",
        "Integrity problems",
        "Long pauses",
    ]
    links = {name: url.replace("&amp;", "&") for url, name in re.findall(r'href="([^"]*)"[^>]*>([^<>]+)</a>', views)}
    # What waits or runs since long ago needs somebody most.
    assert "since=all" in links["Awaiting approval"].lstrip("?").split("&")
    assert "since=all" in links["Running now"].lstrip("?").split("&")
    shown = text_of(viewer.get(TASKS + links["Resource failures"]))
    assert "lacking" in shown
    assert "broken" not in shown


def test_statuses_that_are_not_chosen_are_counted_too_where_that_is_cheap(viewer, monkeypatch) -> None:
    past(3, status="failed")
    past(5)
    past(2, services=["dns"])

    def numbers():
        html = viewer.get(f"{TASKS}?status=failed&service=billing").content.decode()
        side = html[html.index("By status") : html.index("By failure")]
        return dict(re.findall(r'</span>(\w+)(?:<span class="audit-count">(\d+)</span>)?</a>', side))

    assert numbers() == {"Failed": "3", "Completed": "5"} | dict.fromkeys(
        ("Pending", "Approved", "Executing", "Paused", "Rejected"), "0"
    )
    # More than the sample holds: no number is better than a wrong one.
    monkeypatch.setattr(
        "audit.admin.tasks.page.by_status", lambda using, tasks, _: chart_counts.by_status(using, tasks, 7)
    )
    assert set(numbers().values()) == {"3", ""}


def test_services_are_meant_all_or_any_at_choice(viewer) -> None:
    past(1, summary="both", services=["db", "web"])
    past(1, summary="only db", services=["db"])
    past(1, summary="neither", services=["mail"])
    assert "audit-modes" not in viewer.get(TASKS).content.decode()
    every = viewer.get(f"{TASKS}?service=db&service=web&since=7d")
    assert "only db" not in text_of(every)
    now = '( aria-current="true")?'
    modes = rf'class="audit-modes".*?href="([^"]*)"{now}>all</a><a href="([^"]*)"{now}>any'
    same, chosen, other, not_chosen = re.search(modes, every.content.decode()).groups()
    assert (same, chosen, not_chosen) == ("?service=db&amp;service=web&amp;since=7d", ' aria-current="true"', None)
    some = viewer.get(TASKS + other.replace("&amp;", "&"))
    assert "only db" in text_of(some)
    assert "neither" not in text_of(some)
    html = some.content.decode()
    back, _chosen, _same, now_chosen = re.search(modes, html).groups()
    assert back == same
    assert now_chosen
    # A service that is chosen next is one more of any.
    assert 'href="?any_service=web&amp;since=7d" title="db" aria-current="true"' in html
    assert 'name="any_service"' in html


@pytest.mark.django_db
@pytest.mark.parametrize("few", [5000, 70, 5])
def test_words_are_found_alike_whether_few_or_many_tasks_have_them(viewer, monkeypatch, few) -> None:
    monkeypatch.setattr(search, "FEW", few)
    wanted = past(71, summary="one needle")
    past(10)
    with asking() as asked:
        first = viewer.get(f"{TASKS}?q=needle&since=all")
    assert [row["id"] for row in first.context_data["rows"]] == wanted[:50]
    assert first.context_data["chart"].value.total == 71
    assert len(asked.data) <= 6
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('enable_bitmapscan'), current_setting('enable_indexscan')")
        assert cursor.fetchone() == ("on", "on")
    second = viewer.get(TASKS + first.context_data["older"])
    assert [row["id"] for row in second.context_data["rows"]] == wanted[50:]
    assert viewer.get(f"{TASKS}?q=nowhere&since=all").context_data["rows"] == []
    out = StringIO()
    call_command("audit_list", "--search", "needle", "--format", "jsonl", stdout=out, stderr=out)
    assert [json.loads(line)["id"] for line in out.getvalue().splitlines()[:50]] == [str(key) for key in wanted[:50]]


@pytest.mark.django_db
@pytest.mark.parametrize(("given", "used"), [("64kB", "32MB"), ("4MB", "32MB"), ("48MB", "48MB")])
def test_a_search_has_room_for_its_bitmap_and_leaves_the_setting(given, used) -> None:
    past(1, summary="one needle")
    seen = []

    def watch(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if "@@" in sql:
            seen.extend(context["connection"].connection.execute("SELECT current_setting('work_mem')").fetchone())
        return result

    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL work_mem = %s", [given])
        tasks = TaskFilter(words=("needle",)).apply(Task.objects.all())
        with connection.execute_wrapper(watch):
            assert search.found_few(tasks) == [Task.objects.get().pk]
        cursor.execute("SELECT current_setting('work_mem')")
        assert (seen, cursor.fetchone()) == ([used], (given,))


def test_a_range_with_an_end_left_open_is_no_mistake(viewer) -> None:
    past(1, summary="one needle")
    for address in (TASKS, LOG):
        response = viewer.get(f"{address}?since=2020-01-01T10:00&until=")
        assert not response.context_data["query"].problems
        assert viewer.get(f"{address}export/?format=jsonl&since=2020-01-01T10:00&until=").status_code == 200
    assert len(viewer.get(f"{TASKS}?since=2020-01-01T10:00&until=").context_data["rows"]) == 1
    assert viewer.get(f"{TASKS}?service=").context_data["query"].problems


@pytest.mark.parametrize("asked", ["since=2026-03-02&until=2026-03-01", "since=1h&until=2h"])
def test_a_range_that_ends_before_it_begins_is_reported(viewer, asked) -> None:
    for address in (TASKS, LOG):
        response = viewer.get(f"{address}?{asked}")
        [problem] = response.context_data["query"].problems
        assert "before it begins" in problem
        assert problem in text_of(response)
        assert viewer.get(f"{address}export/?format=jsonl&{asked}").status_code == 400


def test_a_search_that_means_nothing_stays_in_its_box(viewer) -> None:
    response = viewer.get(TASKS, {"q": 'status:nope "unclosed <b>'})
    assert response.context_data["query"].words == 'status:nope "unclosed <b>'
    assert 'value="status:nope &quot;unclosed &lt;b&gt;"' in response.content.decode()
    assert viewer.get(TASKS, {"q": "status:failed needle"}).context_data["query"].words == "needle"


ARN = "arn:aws:sts::1:assumed-role/deployers/bert-jan"


def test_a_part_of_an_actors_name_is_asked_for_once(viewer) -> None:
    past(1, summary="by the role", actor=ARN)
    past(1, summary="by another", actor="orch-1")
    with asking() as asked:
        response = viewer.get(f"{TASKS}?q=actor:*Bert-JAN*")
    assert [row["title"] for row in response.context_data["rows"]] == ["by the role"]
    assert len([each for each in asked.data if "RECURSIVE" in each]) == 1
    # The pattern stays in the box and in the links; a file holds what the list shows.
    assert response.context_data["query"].words == "actor:*Bert-JAN*" or "actor=%2ABert-JAN%2A" in str(response.content)
    files = b"".join(viewer.get(f"{TASKS}export/?format=jsonl&actor=*bert-jan*").streaming_content)
    assert files.count(b"\n") == 1
    assert ARN.encode() in files


def test_a_pattern_that_says_too_little_is_left_out_and_reported(viewer) -> None:
    past(1, summary="the one")
    text = text_of(viewer.get(f"{TASKS}?actor=*b*"))
    assert "needs at least 3 letters or digits" in text
    assert "the one" in text
    response = viewer.get(f"{TASKS}export/?format=csv&actor=*b*")
    assert response.status_code == 400


def test_an_empty_list_suggests_names_like_the_one_that_was_asked_for(viewer) -> None:
    past(1, summary="by the role", actor=ARN)
    response = viewer.get(f"{TASKS}?actor=bert-jan")
    assert "No task names this actor. Did you mean:" in text_of(response)
    [link] = response.context_data["meant"]
    assert [row["title"] for row in viewer.get(TASKS + link.url).context_data["rows"]] == ["by the role"]
    assert viewer.get(f"{TASKS}?actor={ARN}&since=1m&until=30s").context_data["meant"] == []
    assert viewer.get(f"{TASKS}?actor=*zzz*").context_data["meant"] == []


def test_the_conditions_stand_under_the_box(viewer) -> None:
    text = text_of(viewer.get(TASKS))
    for name in [key.name for key in KEYS]:
        assert f"{name}: " in text, name
    assert "failed because a resource was short (resource), or" in text
