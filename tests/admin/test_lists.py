"""The lists: what they show, what they ask the database, and that paging loses and repeats nothing."""

import re
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.urls import reverse
from django.utils import timezone

from audit.models import Task
from tests.support.factories import claimed, requested, task_in
from tests.support.pages import HOSTILE, LOG, QUEUE, TASKS, asking, ids_in, link_in, past, text_of

pytestmark = pytest.mark.django_db


# What they ask


@pytest.mark.parametrize(
    ("url", "most"),
    [
        (TASKS, 6),
        (f"{TASKS}?since=all", 6),
        (f"{TASKS}?status=failed&status=paused&service=billing&action=deploy&actor=alice&q=task&since=30d", 6),
        (LOG, 3),
        (f"{LOG}?kind=transition&since=all", 3),
        (QUEUE, 6),
        (f"{QUEUE}?state=held", 3),
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
        pages.append(ids_in(response))
        last = response
        url = link_in(response, "next") and TASKS + link_in(response, "next")
    assert [len(page) for page in pages] == [50, 50, 50, 23]
    assert [key for page in pages for key in page] == expected
    back = [pages[-1]]
    while url := link_in(last, "prev"):
        last = viewer.get(TASKS + url)
        back.append(ids_in(last))
    assert back[::-1] == pages
    assert "First page" not in text_of(viewer.get(TASKS))
    assert "First page" in text_of(last)


def test_a_page_compares_rows_so_that_the_index_serves_ties_too(viewer) -> None:
    past(60, created_at=timezone.now() - timedelta(hours=1))
    second = TASKS + link_in(viewer.get(TASKS), "next")
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
    second = TASKS + link_in(viewer.get(TASKS), "next")
    before = ids_in(viewer.get(second))
    requested()
    assert ids_in(viewer.get(second)) == before


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


# Rows


def test_a_row_says_status_time_work_services_actor_and_duration(viewer) -> None:
    now = timezone.now()
    past(
        1,
        status="failed",
        summary="",
        action="rotate-key",
        services=["a", "b", "c", "d"],
        created_at=now - timedelta(minutes=40),
        started_at=now - timedelta(minutes=30),
        finished_at=now - timedelta(minutes=29, seconds=30),
        outcome={"error_type": "TimeoutError"},
    )
    page = text_of(viewer.get(TASKS))
    for words in ("Failed", "TimeoutError", "40m ago", "rotate-key", "a b +2", "orch-1", "30.0 s", "waited 10m 00s"):
        assert words in page, words
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
    requested(summary="s" * 16_384, services=[f"{n}-{'x' * 190}" for n in range(500)], plan={"x": "y" * 1_000_000})
    task = claimed(task_in("approved"))
    task.log("run", output_summary="o" * 16_384, detail={"x": "y" * 1_000_000})
    for url in (TASKS, LOG):
        response = viewer.get(url)
        assert len(response.content) < 60_000
        assert response.status_code == 200
    assert "+498" in text_of(viewer.get(TASKS))


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


def test_the_class_of_a_failure_is_explained_wherever_it_stands(viewer) -> None:
    [lacking] = past(1, status="failed", outcome={"error_type": "NoSpaceLeft"})
    [broken] = past(1, status="failed", outcome={"error_type": "TimeoutError"})
    html = viewer.get(TASKS).content.decode()
    for words in ("Something was missing that may be there later", "Every other failure"):
        # In a row, and beside the choice.
        assert html.count(f'title="{words}') == 2
    for key, label, words in (
        (lacking, "Resource constraint", "Something was missing"),
        (broken, "Application error", "Every other failure"),
    ):
        html = viewer.get(f"{TASKS}{key}/change/").content.decode()
        assert re.search(rf'title="{words}[^"]*">{label}<', html)
