"""The lists: what they show, what they ask the database, and that paging loses and repeats nothing."""

import json
import re
from datetime import UTC, datetime, timedelta
from io import StringIO
from urllib.parse import urlencode

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.test import override_settings
from django.urls import reverse
from django.utils import timezone

from audit.admin import facets, panels, queue
from audit.filters import TaskFilter, search
from audit.models import ExecutionLog, PauseQueueEntry, Task
from tests.factories import claimed, requested, task_in
from tests.pages import HOSTILE, asking, client_of, past, text_of

pytestmark = pytest.mark.django_db

TASKS = "/admin/audit/task/"
LOG = "/admin/audit/executionlog/"
QUEUE = "/admin/audit/pausequeueentry/"


@pytest.fixture
def viewer():
    return client_of("viewer")


def _ids(response, pattern=r"/admin/audit/task/([0-9a-f-]{36})/change/"):
    return list(dict.fromkeys(re.findall(pattern, response.content.decode())))


def _link(response, rel):
    found = re.search(rf'rel="{rel}" href="([^"]*)"', response.content.decode())
    return found and found[1].replace("&amp;", "&")


# What they ask


@pytest.mark.parametrize(
    ("url", "most"),
    [
        (TASKS, 6),
        (f"{TASKS}?since=all", 6),
        (f"{TASKS}?status=failed&status=paused&service=billing&action=deploy&actor=alice&q=task&since=30d", 6),
        (LOG, 3),
        (f"{LOG}?kind=transition&since=all", 3),
        (QUEUE, 5),
        (f"{QUEUE}?state=held", 2),
    ],
)
def test_a_list_asks_few_bounded_questions_whatever_it_shows(viewer, url, most) -> None:
    past(55)
    for _ in range(3):
        task_in("paused")
    viewer.get(url)
    counts = set()
    for more in (0, 30):
        past(more)
        with asking() as asked:
            assert viewer.get(url).status_code == 200
        counts.add(len(asked.data))
        for sql in asked.data:
            assert not re.search(r"\bDISTINCT\b|\bOFFSET\b", sql), sql
            assert "COUNT(*)" not in sql.upper() or "LIMIT" in sql, sql
            for column in ("plan", "outcome", "origin", "suggestions", "work_plan", "detail"):
                assert f'"{column}",' not in sql, sql
    assert len(counts) == 1
    assert counts.pop() <= most


def test_the_empty_table_costs_one_question_more_and_an_empty_page_of_a_full_table_none(viewer) -> None:
    assert "No task has been recorded yet" in text_of(viewer.get(TASKS))
    past(1, every=timedelta(days=3))
    page = text_of(viewer.get(TASKS))
    assert "No tasks match" in page
    assert "Widen to 7 days" in page
    assert "task 0" in text_of(viewer.get(f"{TASKS}?since=7d"))
    for since, offered in (("30d", ["Search all time"]), ("all", [])):
        page = text_of(viewer.get(f"{TASKS}?since={since}&service=nowhere"))
        assert [each for each in ("Widen to 7 days", "Search all time") if each in page] == offered
        assert "Clear filters" in page
    assert "task 0" in text_of(viewer.get(f"{TASKS}?since=all"))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"{TASKS}?stauts=failed", "“stauts” is no filter; did you mean “status”?"),
        (f"{TASKS}?<b>=1", "“<b>” is no filter."),
        (f"{TASKS}?task=0190", "“task” is no filter"),
        (f"{LOG}?knid=note", "“knid” is no filter"),
        (f"{QUEUE}?stat=held", "“stat” is no filter; did you mean “state”?"),
    ],
)
def test_a_mistyped_filter_is_told_of(viewer, url, told) -> None:
    task_in("paused")
    text = text_of(viewer.get(url))
    assert told in text
    assert "Deploy Uptime Kuma" in text


def test_every_key_that_pages_write_is_known_to_them(viewer) -> None:
    past(60, outcome={"a": {"b": 1}})
    task = task_in("paused")
    keys = "status=failed&service=a&any_service=b&action=c&actor=d&until=1h&finished_since=1d&finished_until=1h"
    keys += "&correlation=c&id=01&failure=resource&seal=failed&error_type=e&outcome.a.b=1&q=word&_popup=1"
    for url in (
        f"{TASKS}?{keys}",
        f"{TASKS}?parent={task.pk}&since=all",
        f"{LOG}?kind=note&task={task.pk}&since=all",
        f"{QUEUE}?state=held",
    ):
        assert "is no filter" not in text_of(viewer.get(url))
    response = viewer.get(TASKS)
    written = re.findall(r'href="(\?[^"]*|[^"]*/export/\?[^"]*)"', response.content.decode())
    assert any("after=" in each for each in written)
    assert any("format=" in each for each in written)
    for url in dict.fromkeys(each.replace("&amp;", "&") for each in written):
        answer = viewer.get(TASKS + url if url.startswith("?") else url)
        assert answer.status_code == 200
        assert b"is no filter" not in answer.getvalue()


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
    asked = viewer.get(TASKS + url.replace("&amp;", "&")).context_data["question"]
    assert (asked.start, asked.end) == (datetime(2025, 12, 26, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
    assert asked.widened(timedelta(days=7)) == ""
    first = viewer.get(f"{TASKS}?since=0001-01-02&until=0001-01-03").context_data["question"]
    assert "since=0001-01-02" in first.widened(timedelta(days=7))


# Pages


@pytest.mark.parametrize("ties", [False, True])
def test_paging_forth_and_back_shows_every_row_once_and_in_order(viewer, ties) -> None:
    now = timezone.now()
    keys = past(173, **({"created_at": now - timedelta(hours=1)} if ties else {}))
    expected = list(map(str, Task.objects.order_by("-created_at", "-id").values_list("id", flat=True)))
    assert len(keys) == len(expected) == 173
    url, pages = TASKS, []
    while url:
        response = viewer.get(url)
        pages.append(_ids(response))
        last = response
        url = _link(response, "next") and TASKS + _link(response, "next")
    assert [len(page) for page in pages] == [50, 50, 50, 23]
    assert [key for page in pages for key in page] == expected
    back = [pages[-1]]
    while url := _link(last, "prev"):
        last = viewer.get(TASKS + url)
        back.append(_ids(last))
    assert back[::-1] == pages
    assert "First page" not in text_of(viewer.get(TASKS))
    assert "First page" in text_of(last)


def test_a_page_compares_rows_so_that_the_index_serves_ties_too(viewer) -> None:
    past(60, created_at=timezone.now() - timedelta(hours=1))
    second = TASKS + _link(viewer.get(TASKS), "next")
    with asking() as asked:
        viewer.get(second)
    sql = next(sql for sql in asked.data if "LIMIT 51" in sql)
    assert "ROW(" in sql
    with connection.cursor() as cursor, transaction.atomic():
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off")
        cursor.execute(f"EXPLAIN {sql}")
        plan = "\n".join(row for (row,) in cursor.fetchall())
    assert re.search(r"Index Scan using audit_task_created.*\n\s+Index Cond: .*ROW\(", plan), plan


def test_new_rows_do_not_move_the_page_somebody_is_on(viewer) -> None:
    past(120)
    second = TASKS + _link(viewer.get(TASKS), "next")
    before = _ids(viewer.get(second))
    requested()
    assert _ids(viewer.get(second)) == before


@pytest.mark.parametrize(
    "place",
    [
        "zork",
        "1",
        "1_",
        "_1",
        f"{9 * 10**17}_{'0' * 32}",
        f"{10**18 - 1}_{'0' * 32}",
        f"1_{'0' * 31}",
        "1_1",
        "\x00",
        "-1_½",
    ],
)
@pytest.mark.parametrize("name", ["after", "before"])
@pytest.mark.parametrize("url", [TASKS, LOG, f"{QUEUE}?state=held"])
def test_a_place_nobody_wrote_is_ignored_and_said(viewer, url, name, place) -> None:
    task_in("paused")
    response = viewer.get(f"{url}{'&' if '?' in url else '?'}{urlencode({name: place})}")
    assert response.status_code == 200
    if not (place == "1_1" and url != TASKS):
        assert "means nothing; this is the first page" in text_of(response)
        assert "Deploy Uptime Kuma" in text_of(response)


# Filters


def test_filters_narrow_by_status_service_action_actor_time_and_words(viewer) -> None:
    past(1, summary="right one", services_touched=["db", "web"], status="failed", action="backup", actor="orch-7")
    past(1, summary="wrong service", services_touched=["web"], status="failed", action="backup", actor="orch-7")
    past(1, summary="wrong status", services_touched=["db"], action="backup", actor="orch-7")
    past(1, summary="wrong action", services_touched=["db"], status="failed", actor="orch-7")
    past(1, summary="wrong actor", services_touched=["db"], status="failed", action="backup")
    past(
        1,
        summary="wrong time",
        services_touched=["db"],
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
        assert _ids(page) == [str(key)], text
    assert "needle" in text_of(viewer.get(f"{TASKS}?{urlencode({'q': 'since:all NEEDLE service:billing'})}"))


def test_bad_values_are_ignored_with_a_message_and_good_ones_kept(viewer) -> None:
    past(1, status="failed")
    past(1, summary="other", status="completed")
    page = text_of(viewer.get(f"{TASKS}?status=zork&status=failed&since=yesterday&q=servce:x&parent=1&service="))
    assert "task 0" in page
    assert "other" not in page
    for told in ("zork", "yesterday", "servce:x", "service"):
        assert told in page


@pytest.mark.parametrize(
    ("key", "longest"), [("service", 500), ("any_service", 500), ("action", 100), ("actor", 500), ("error_type", 1000)]
)
def test_a_name_may_be_as_long_as_one_that_can_be_stored(viewer, key, longest) -> None:
    past(1)
    page = viewer.get(f"{TASKS}?{key}={'x' * longest}")
    assert "at most" not in text_of(page)
    assert "No tasks match" in text_of(page)
    assert f'name="{key}" maxlength="{longest}"' in page.content.decode()
    for length in (longest + 1, 1001):
        page = viewer.get(f"{TASKS}?{key}={'x' * length}")
        assert f"has {length} characters; at most {longest} fit" in text_of(page)
        assert "task 0" in text_of(page)
        response = viewer.get(f"{TASKS}export/?format=csv&{key}={'x' * length}")
        assert response.status_code == 400


@pytest.mark.parametrize("until", ["36525d", "36524d", "0001-01-02", "0001-01-02T00:00:01Z", "0001-01-03"])
@pytest.mark.parametrize("url", [TASKS, LOG, f"{TASKS}newer/", f"{TASKS}export/", f"{LOG}export/"])
def test_a_range_that_ends_where_nothing_can_be_is_a_page(viewer, settings, url, until) -> None:
    settings.TIME_ZONE = "UTC"
    past(1)
    response = viewer.get(f"{url}?until={until}&format=csv&before=1_{0 if url == LOG else '0' * 32}")
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
    shown = text_of(viewer.get(TASKS + re.search(r'href="([^"]*)">Resource failures', views)[1].replace("&amp;", "&")))
    assert "lacking" in shown
    assert "broken" not in shown


def test_statuses_that_are_not_chosen_are_counted_too_where_that_is_cheap(viewer, monkeypatch) -> None:
    past(3, status="failed")
    past(5)
    past(2, services_touched=["dns"])

    def numbers():
        html = viewer.get(f"{TASKS}?status=failed&service=billing").content.decode()
        side = html[html.index("By status") : html.index("By failure")]
        return dict(re.findall(r'</span>(\w+)(?:<span class="audit-count">(\d+)</span>)?</a>', side))

    assert numbers() == {"Failed": "3", "Completed": "5"} | dict.fromkeys(
        ("Pending", "Approved", "Executing", "Paused", "Rejected"), "0"
    )
    # More than the sample holds: no number is better than a wrong one.
    monkeypatch.setattr("audit.admin.tasks.by_status", lambda using, tasks, _: facets.by_status(using, tasks, 7))
    assert set(numbers().values()) == {"3", ""}


def test_services_are_meant_all_or_any_at_choice(viewer) -> None:
    past(1, summary="both", services_touched=["db", "web"])
    past(1, summary="only db", services_touched=["db"])
    past(1, summary="neither", services_touched=["mail"])
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


# Rows


def test_a_row_tells_status_time_work_services_actor_and_duration(viewer) -> None:
    now = timezone.now()
    past(
        1,
        status="failed",
        summary="",
        action="rotate-key",
        services_touched=["a", "b", "c", "d"],
        created_at=now - timedelta(minutes=40),
        started_at=now - timedelta(minutes=30),
        finished_at=now - timedelta(minutes=29, seconds=30),
        outcome={"error_type": "TimeoutError"},
    )
    page = text_of(viewer.get(TASKS))
    for told in ("Failed", "TimeoutError", "40m ago", "rotate-key", "a b +2", "orch-1", "30.0 s", "waited 10m 00s"):
        assert told in page, told
    claimed(task_in("approved"), "worker-3")
    page = text_of(viewer.get(TASKS))
    assert "worker-3" in page
    assert re.search(r"running \d", page)


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_text_in_every_list(viewer, value) -> None:
    task = requested(action=value[:90], summary=value, services=[value, "x" + value], actor=value, correlation_id=value)
    task.approve(actor=value)
    task = claimed(task, value)
    task.log(value, output_summary=value, detail={value: value})
    task.pause(note=value, actor=value)
    for url in (TASKS, LOG, QUEUE, f"{TASKS}?{urlencode({'service': value, 'q': value, 'actor': value})}"):
        response = viewer.get(url)
        html = response.content.decode()
        assert response.status_code == 200
        assert "<script>alert" not in html
        assert "<b onmouseover" not in html
        # Forms carry the value along as it is; everywhere else its invisible characters are named.
        seen = re.sub(r"<input [^>]*>", "", html)
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x07\x1b\x7f]", seen)
        assert re.sub("[\u202e\u2066\u200f\x1b\x07\x7f].*", "", value)[:20] in text_of(response)


def test_huge_values_do_not_make_huge_pages(viewer) -> None:
    requested(summary="s" * 1_000_000, services=[f"service-{n}" for n in range(10_000)], plan={"x": "y" * 1_000_000})
    task = claimed(task_in("approved"))
    task.log("run", output_summary="o" * 1_000_000, detail={"x": "y" * 1_000_000})
    for url in (TASKS, LOG):
        response = viewer.get(url)
        assert len(response.content) < 60_000
        assert response.status_code == 200
    assert "+9998" in text_of(viewer.get(TASKS))


# The log


def test_the_log_shows_transitions_and_steps_newest_first(viewer) -> None:
    task = claimed(task_in("approved"))
    task.log("run playbook", duration_ms=812, output_summary="ok")
    task.complete()
    response = viewer.get(LOG)
    text = text_of(response)
    assert re.search("Executing → ?became ?Completed", text).start() < text.index("Step 1 run playbook")
    assert "812 ms" in text
    with connection.cursor() as cursor:
        cursor.execute("SELECT session_user")
        assert text.count(f"role {cursor.fetchone()[0]}") == ExecutionLog.objects.count()
    assert re.findall(r"#log-(\d+)", response.content.decode()) == [
        str(key) for key in ExecutionLog.objects.order_by("-at", "-id").values_list("id", flat=True)
    ]
    steps = text_of(viewer.get(f"{LOG}?kind=step"))
    assert "run playbook" in steps
    assert "Pending" not in steps.split("Took")[1]


def test_the_log_of_one_task_is_not_bounded_in_time_unless_asked(viewer) -> None:
    first = requested(summary="first")
    requested(summary="second")
    text = text_of(viewer.get(f"{LOG}?task={first.pk}"))
    assert "first" in text
    assert "second" not in text
    assert "All time" in text
    assert "is no UUID" in text_of(viewer.get(f"{LOG}?task=zork"))


def test_the_log_pages_forth_and_back(viewer) -> None:
    past(130)
    url, seen = LOG, []
    while url:
        response = viewer.get(url)
        seen += re.findall(r"#log-(\d+)", response.content.decode())
        url = _link(response, "next") and LOG + _link(response, "next")
    assert seen == [str(key) for key in ExecutionLog.objects.order_by("-at", "-id").values_list("id", flat=True)]
    back = viewer.get(LOG + _link(response, "prev"))
    assert re.findall(r"#log-(\d+)", back.content.decode()) == seen[50:100]


def test_an_empty_log_says_so_and_offers_more(viewer) -> None:
    text = text_of(viewer.get(f"{LOG}?kind=note&kind=zork"))
    assert "Nothing was logged" in text
    for since, offered in (
        ("24h", ["Widen to 7 days", "Search all time"]),
        ("7d", ["Search all time"]),
        ("30d", ["Search all time"]),
        ("2026-01-01&until=2026-01-02", ["Widen to 7 days", "Search all time"]),
        ("all", []),
    ):
        response = viewer.get(f"{LOG}?kind=note&since={since}")
        assert "Nothing was logged" in text_of(response)
        links = dict(re.findall(r'audit-button" href="([^"]*)">([^<]*)<', response.content.decode()))
        assert [each for each in ("Widen to 7 days", "Search all time") if each in links.values()] == offered
        assert all("kind=note" in url for url, words in links.items() if words in offered)


@pytest.mark.parametrize(
    "asked",
    ["status=failed", "q=needle", "correlation=c", "id=0190", "outcome.a=1", "finished_since=1h", "seal=failed"],
)
def test_the_log_tells_of_filters_that_it_does_not_have(viewer, asked) -> None:
    past(1, summary="new one")
    past(1, summary="old one", every=timedelta(days=3))
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; ALTER TABLE audit_executionlog DISABLE TRIGGER USER")
        cursor.execute(
            "UPDATE audit_executionlog SET at = at - interval '3 days' WHERE task_id = (SELECT id FROM audit_task "
            "WHERE summary = 'old one')"
        )
    key, _equals, value = asked.partition("=")
    page = viewer.get(f"{LOG}?{asked}")
    text = text_of(page)
    assert f"The log has no filter {key}; {value} is left out." in text
    assert "new one" in text
    assert "old one" not in text
    assert asked not in page.content.decode().replace("&amp;", "&")
    assert "old one" in text_of(viewer.get(f"{LOG}?{asked}&since=7d&kind=transition"))
    for form in ("csv", "jsonl"):
        response = viewer.get(f"{LOG}export/?{asked}&format={form}")
        assert response.status_code == 400
        assert f"The log has no filter {key}" in response.content.decode()
    assert "left out" not in text_of(
        viewer.get(f"{LOG}?since=7d&until=1h&kind=transition&task={Task.objects.first().pk}")
    )


# The queue


def test_the_queue_tells_due_waiting_held_and_leased_apart(viewer) -> None:
    def paused(summary, **how):
        claimed(task_in("approved", summary=summary)).pause(**how)

    paused("is held", reason="awaiting_approval", note="ask Maria")
    paused("is waiting", resume_after=timedelta(hours=3))
    paused("is leased", reason="insufficient_capacity")
    PauseQueueEntry.objects.claim("orch-9")
    paused("is due", reason="insufficient_capacity")
    text = text_of(viewer.get(QUEUE))
    order = [text.index(each) for each in ("is due", "is waiting", "is held", "is leased")]
    assert order == sorted(order)
    for told in ("Awaiting approval", "ask Maria", "in 2h", "orch-9", "lease ends in"):
        assert told in text
    for state in ("due", "waiting", "held", "leased"):
        page = text_of(viewer.get(f"{QUEUE}?state={state}"))
        assert [each for each in ("due", "waiting", "held", "leased") if f"is {each}" in page] == [state]
    assert "There is no state zork" in text_of(viewer.get(f"{QUEUE}?state=zork"))


def test_work_paused_for_more_than_a_day_stands_out(viewer, monkeypatch) -> None:
    task_in("paused")
    assert "over 24 h" not in text_of(viewer.get(QUEUE))
    assert timedelta(hours=24) == queue.OVERDUE
    monkeypatch.setattr(queue, "OVERDUE", timedelta(microseconds=1))
    assert "over 24 h" in text_of(viewer.get(QUEUE))


def test_the_queue_pages_one_state_and_counts_nothing(viewer) -> None:
    for _ in range(53):
        task_in("paused")
    page = viewer.get(QUEUE)
    assert "Show all" in text_of(page)
    first = viewer.get(f"{QUEUE}?state=held")
    second = viewer.get(QUEUE + _link(first, "next"))
    assert (len(_ids(first)), len(_ids(second))) == (50, 3)
    assert _ids(viewer.get(QUEUE + _link(second, "prev"))) == _ids(first)


def test_what_is_paused_for_long_is_paged_by_its_pause_the_longest_first(viewer) -> None:
    now = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_pause_queue DISABLE TRIGGER USER")
        for number in range(53):
            pause = now - timedelta(hours=25 + number * 7 % 53)
            resume = now + timedelta(hours=number)
            cursor.execute(
                "UPDATE audit_pause_queue SET paused_at = %s, resume_after = %s, due_at = %s WHERE task_id = %s",
                [pause, resume, resume, task_in("paused").pk],
            )
    task_in("paused")
    wanted = [str(key) for key in PauseQueueEntry.objects.order_by("paused_at").values_list("task_id", flat=True)][:53]
    first = viewer.get(f"{QUEUE}?state=overdue")
    second = viewer.get(QUEUE + _link(first, "next"))
    assert _ids(first) + _ids(second) == wanted
    assert _ids(viewer.get(QUEUE + _link(second, "prev"))) == _ids(first)


def test_an_empty_queue_says_so(viewer) -> None:
    assert "Nothing is paused" in text_of(viewer.get(QUEUE))
    assert "None." in text_of(viewer.get(f"{QUEUE}?state=held"))


# When reading fails


def _buttons(response) -> dict[str, str]:
    found = re.findall(r'audit-button" href="([^"]*)">([^<]*)<', response.content.decode())
    return {words: url.replace("&amp;", "&") for url, words in found}


def _slow(monkeypatch, part: str, statement: str = "SELECT pg_sleep(5)") -> None:
    """Make the function `part` of the queue or list run a statement of its own first."""
    import importlib

    module = importlib.import_module(part.rpartition(".")[0])
    original = getattr(module, part.rpartition(".")[2])

    def slow(*args, **kwargs):
        with connection.cursor() as cursor:
            cursor.execute(statement)
        return original(*args, **kwargs)

    monkeypatch.setattr(module, part.rpartition(".")[2], slow)


def test_a_slow_list_is_a_503_that_says_what_to_narrow(viewer, monkeypatch) -> None:
    monkeypatch.setattr(panels, "LIST_MS", 50)
    monkeypatch.setattr("audit.admin.base.reading", lambda using: panels.reading(using, 50))
    _slow(monkeypatch, "audit.admin.tasks.turn")
    response = viewer.get(f"{TASKS}?status=failed&since=all&until=1d&q=needle&after=zork")
    assert response.status_code == 503
    assert "choose a shorter range of time" in text_of(response)
    assert _buttons(response) == {
        "Last hour": "?status=failed&since=1h&q=needle",
        "Last 24 hours": "?status=failed&since=1d&q=needle",
    }
    _slow(monkeypatch, "audit.admin.log.turn")
    response = viewer.get(f"{LOG}?kind=step&since=30d&status=failed")
    assert response.status_code == 503
    assert "an action or an actor" not in text_of(response)
    assert _buttons(response) == {"Last hour": "?since=1h&kind=step", "Last 24 hours": "?since=1d&kind=step"}


_REPLAYED = "DO $$ BEGIN RAISE 'conflict with recovery' USING ERRCODE = '{}'; END $$"


@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_a_standby_that_would_not_wait_is_slow_and_no_failure(viewer, monkeypatch, caplog, state) -> None:
    task_in("paused")
    with monkeypatch.context() as patched:
        _slow(patched, "audit.admin.tasks.turn", _REPLAYED.format(state))
        assert viewer.get(TASKS).status_code == 503
    _slow(monkeypatch, "audit.admin.queue.turn", _REPLAYED.format(state))
    response = viewer.get(QUEUE)
    assert "This part took too long" in text_of(response)
    assert caplog.text.count("A panel of the audit browser failed") == 0


def test_a_slow_page_without_a_range_leads_to_its_list(viewer, monkeypatch) -> None:
    task = requested()
    monkeypatch.setattr("audit.admin.base.reading", lambda using: panels.reading(using, 50))
    _slow(monkeypatch, "audit.admin.queue.turn")
    _slow(monkeypatch, "audit.admin.tasks.detail_context")
    _slow(monkeypatch, "audit.admin.tasks.range_name")
    for url, home in (
        (f"{QUEUE}?state=held", QUEUE),
        (f"{TASKS}{task.pk}/change/", TASKS),
        (f"{TASKS}export/?format=csv&since=all", TASKS),
    ):
        response = viewer.get(url)
        assert response.status_code == 503
        assert _buttons(response) == {"To the list": home}
        assert "range of time" not in text_of(response)


@pytest.mark.parametrize("statement", ["SELECT pg_sleep(5)", "SELECT 1/0"])
def test_a_panel_that_fails_or_is_slow_says_so_and_the_page_stays(viewer, monkeypatch, caplog, statement) -> None:
    task_in("paused")
    monkeypatch.setattr("audit.admin.queue.panel", lambda using, work: panels.panel(using, work, 50))
    _slow(monkeypatch, "audit.admin.queue.turn", statement)
    response = viewer.get(QUEUE)
    assert response.status_code == 200
    assert text_of(response).count("took too long and was left out") == 4
    assert ("failed" in caplog.text) == ("1/0" in statement)


@pytest.mark.parametrize("url", [TASKS, LOG, QUEUE])
def test_tables_that_are_missing_make_a_page_that_says_what_to_run(viewer, url) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE audit_task RENAME TO gone; ALTER TABLE audit_pause_queue RENAME TO gone2;"
            "ALTER TABLE audit_executionlog RENAME TO gone3"
        )
    response = viewer.get(url)
    assert response.status_code == 503
    assert "python manage.py migrate audit" in text_of(response)


def test_other_errors_of_the_database_are_not_hidden(viewer, monkeypatch) -> None:
    _slow(monkeypatch, "audit.admin.tasks.turn", "SELECT 1/0")
    with pytest.raises(DatabaseError):
        viewer.get(TASKS)


@pytest.mark.django_db(databases=["default", "other"])
def test_pages_read_the_alias_that_the_settings_name(viewer) -> None:
    Task.objects.using("other").request("elsewhere", summary="on the other side", actor="x")
    assert "on the other side" not in text_of(viewer.get(TASKS))
    with override_settings(AUDIT={"BROWSER_USING": "other"}):
        with asking() as asked:
            assert "on the other side" in text_of(viewer.get(TASKS))
        assert asked.data == []
        assert (
            viewer.get(reverse("admin:audit_task_change", args=[Task.objects.using("other").get().pk])).status_code
            == 200
        )


@pytest.mark.django_db
@pytest.mark.parametrize("few", [5000, 70, 5])
def test_words_are_found_alike_whether_few_or_many_tasks_have_them(viewer, monkeypatch, few) -> None:
    monkeypatch.setattr(search, "FEW", few)
    wanted = past(71, summary="one needle")
    past(10)
    with asking() as asked:
        first = viewer.get(f"{TASKS}?q=needle&since=all")
    assert [row.id for row in first.context_data["rows"]] == wanted[:50]
    assert first.context_data["chart"].value.total == 71
    assert len(asked.data) <= 6
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('enable_bitmapscan'), current_setting('enable_indexscan')")
        assert cursor.fetchone() == ("on", "on")
    second = viewer.get(TASKS + first.context_data["older"])
    assert [row.id for row in second.context_data["rows"]] == wanted[50:]
    assert viewer.get(f"{TASKS}?q=nowhere&since=all").context_data["rows"] == []
    out = StringIO()
    call_command("audit_list", "--search", "needle", "--format", "json", stdout=out, stderr=out)
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
        assert not response.context_data["question"].problems
        assert viewer.get(f"{address}export/?format=jsonl&since=2020-01-01T10:00&until=").status_code == 200
    assert len(viewer.get(f"{TASKS}?since=2020-01-01T10:00&until=").context_data["rows"]) == 1
    assert viewer.get(f"{TASKS}?service=").context_data["question"].problems


@pytest.mark.parametrize("asked", ["since=2026-03-02&until=2026-03-01", "since=1h&until=2h"])
def test_a_range_that_ends_before_it_begins_is_told(viewer, asked) -> None:
    for address in (TASKS, LOG):
        response = viewer.get(f"{address}?{asked}")
        [problem] = response.context_data["question"].problems
        assert "before it begins" in problem
        assert problem in text_of(response)
        assert viewer.get(f"{address}export/?format=jsonl&{asked}").status_code == 400


def test_a_search_that_means_nothing_stays_in_its_box(viewer) -> None:
    response = viewer.get(TASKS, {"q": 'status:nope "unclosed <b>'})
    assert response.context_data["question"].words == 'status:nope "unclosed <b>'
    assert 'value="status:nope &quot;unclosed &lt;b&gt;"' in response.content.decode()
    assert viewer.get(TASKS, {"q": "status:failed needle"}).context_data["question"].words == "needle"
