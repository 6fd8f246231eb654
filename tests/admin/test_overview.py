"""The overview, where the app's pages begin: what it counts, for whom, and that each line leads to what it counts."""

import re
import time
from datetime import timedelta
from html import unescape

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import override_settings
from django.urls import path
from django.utils import timezone

from audit.admin import register
from audit.admin.overview import page as overview_page
from audit.agents.draining import drain
from audit.ledger.verify import keep
from audit.models import LedgerVerification, PauseQueueEntry, Task
from audit.reading import now as trail
from tests.support.agents import agent, approved, silent
from tests.support.factories import claimed, requested, sql, task_in
from tests.support.ledger import session, verified
from tests.support.pages import OVERVIEW, STATISTICS, asking, client_of, inline_code, past, text_of

pytestmark = pytest.mark.django_db

ops = admin.AdminSite(name="ops")
register(ops)
urlpatterns = [path("admin/", admin.site.urls), path("ops/", ops.urls)]


def _lines(response) -> dict[str, tuple[str, str]]:
    """Of each line what it counts, the number, and where it leads."""
    html = response.content.decode()
    found = re.findall(r"<li[^>]*>(?:<a href=\"([^\"]*)\">|<span>)(.*?)</li>", html, re.S)
    lines = {}
    for url, inner in found:
        if "<strong>" in inner:
            label = unescape(re.sub(r"<[^>]*>", "", inner.partition("<strong>")[0])).strip()
            lines[label] = (re.search(r"<strong>(.*?)</strong>", inner)[1], unescape(url))
    return lines


def _rows(client, url: str) -> int:
    return len(re.findall(r'<a class="audit-title"', client.get(url).content.decode()))


def test_every_line_counts_what_its_link_shows(viewer) -> None:
    for _ in range(3):
        requested()
    claimed(task_in("approved"))
    approved()
    approved(available_at=timezone.now() + timedelta(hours=1))
    task_in("paused")
    claimed(task_in("approved")).pause(reason="awaiting_approval")
    claimed(task_in("approved")).pause(resume_after=timedelta(hours=1))
    for _ in range(4):
        due = claimed(task_in("approved")).pause(resume_after=timedelta(hours=1))
        PauseQueueEntry.objects.filter(pk=due.pk).update(resume_after=due.paused_at, due_at=due.paused_at)
    past(2, status="failed", every=timedelta(seconds=20))
    past(4, every=timedelta(seconds=20))
    agent("w1")
    agent("w2")
    silent("w2", 45)
    response = viewer.get(OVERVIEW)
    lines = _lines(response)
    now = timezone.localtime()
    midnight = now.hour == 0 and now.minute < 5
    expected = {
        "Awaiting approval": "3",
        "Executing": "1",
        "Approved, not claimed yet": "2",
        "Paused until somebody approves": "1",
        "Due": "4",
        "Not due yet": "1",
        "Held": "2",
        "Available": "1",
        "Stale": "1",
        **({} if midnight else {"Failed today": "2", "Completed today": "4"}),
    }
    assert {label: lines[label][0] for label in expected} == expected
    for label in ("Awaiting approval", "Executing", "Approved, not claimed yet"):
        assert "since=all" in lines[label][1], label
    for label in expected.keys() - {"Paused until somebody approves", "Failed today", "Completed today"}:
        assert _rows(viewer, lines[label][1]) == int(expected[label]), label
    if not midnight:
        assert _rows(viewer, lines["Failed today"][1]) == 2
        assert _rows(viewer, lines["Completed today"][1]) == 4
        assert _rows(viewer, lines["deploy"][1]) == 2
    assert inline_code(response) == []


def test_an_empty_trail_says_that_nothing_waits(viewer) -> None:
    text = text_of(viewer.get(OVERVIEW))
    assert "Nothing waits for a person." in text
    assert "No agent is registered." in text
    assert "Nothing was ever verified" in text


def test_what_somebody_should_do_stands_out(viewer) -> None:
    task = claimed(task_in("approved"))
    requested(approve_before=timezone.now() + timedelta(minutes=20))
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; ALTER TABLE audit_task DISABLE TRIGGER USER")
        cursor.execute("UPDATE audit_task SET lease_expires_at = now() - interval '1 h' WHERE id = %s", [task.pk])
    response = viewer.get(OVERVIEW)
    stand_out = re.findall(r'<li class="audit-stands-out">.*?<bdi>(.*?)</bdi>', response.content.decode())
    assert stand_out == ["Next deadline of an approval", "Leases that ran out", "Lease ran out"]
    assert "run audit_recover or a worker" in text_of(response)


def test_today_is_counted_beside_yesterday_up_to_the_same_time() -> None:
    day = timezone.now().replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=3)
    today, yesterday = day - timedelta(hours=12), day - timedelta(hours=36)
    ends = {"now": (today + timedelta(hours=1), 3), "by now": (yesterday + timedelta(hours=2), 2)}
    ends["later"] = (yesterday + timedelta(hours=20), 4)
    ends["before"] = (yesterday - timedelta(hours=1), 5)
    ends["after"] = (day + timedelta(minutes=1), 6)
    for at, count in ends.values():
        times = {"created_at": at - timedelta(hours=1), "started_at": at - timedelta(minutes=5), "finished_at": at}
        past(count, status="failed", action="scale", **times)
        past(1, **times)
    total, actions, complete = trail.ended(
        "default", yesterday=yesterday, by_now=day - timedelta(hours=24), today=today, now=day
    )
    assert complete
    assert (total.today.failed, total.by_now.failed, total.yesterday.failed) == (3, 2, 6)
    assert (total.today.completed, total.by_now.completed, total.yesterday.completed) == (1, 1, 2)
    assert [(each.action, each.today.failed, each.by_now.failed) for each in actions] == [("scale", 3, 2)]


def test_the_card_compares_with_yesterday_up_to_the_same_time() -> None:
    noon = timezone.localtime().replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=3)
    for hours, count in ((-1, 1), (-25, 2), (-23, 4)):
        at = noon + timedelta(hours=hours)
        past(count, status="failed", finished_at=at, created_at=at, started_at=at)
    total, _actions, _complete, today = overview_page._ended("default", noon)
    assert today == noon - timedelta(hours=12)
    assert (total.today.failed, total.by_now.failed, total.yesterday.failed) == (1, 2, 6)


def test_more_than_is_counted_is_said_to_be_more(viewer, monkeypatch) -> None:
    monkeypatch.setattr(trail, "MOST", 2)
    monkeypatch.setattr("audit.admin.overview.cards.MOST", 2)
    for _ in range(4):
        requested()
    assert _lines(viewer.get(OVERVIEW))["Awaiting approval"][0] == "2+"


@pytest.mark.django_db(transaction=True)
def test_the_newest_verification_is_named_with_its_age(viewer) -> None:
    keep(verified(), "default", "cli:ops")
    assert "Newest verification" in _lines(viewer.get(OVERVIEW))
    LedgerVerification.objects.create(
        started_at=timezone.now(), verdict="tampering", size=3, unsealed=0, report={"findings": []}
    )
    lines = _lines(viewer.get(OVERVIEW))
    assert lines["Newest verification"][0] == "tampering"
    assert lines["Tasks it names"][1] == "/admin/audit/task/?seal=failed"


@pytest.mark.parametrize(
    ("model", "cards"),
    [
        ("task", ["Needs a person", "Runs now", "Today against yesterday", "Queue"]),
        ("pausequeueentry", ["Needs a person", "Queue"]),
        ("agent", ["Agents"]),
        ("ledgerverification", ["Integrity"]),
        ("executionlog", []),
        ("event", []),
    ],
)
def test_readers_of_one_kind_see_its_card_alone(model: str, cards: list[str]) -> None:
    requested(summary="secret")
    task_in("paused")
    past(1, action="secret-action", status="failed")
    agent("w1")
    client = client_of("staff")
    assert client.get(OVERVIEW).status_code == 404
    permissions = Permission.objects.filter(content_type__app_label="audit", codename=f"view_{model}")
    User.objects.get(username="staff").user_permissions.set(permissions)
    response = client.get(OVERVIEW)
    html = response.content.decode()
    titles = re.findall(r'<h2 id="audit-card-\w+">(?:<a [^>]*>)?(.*?)<', html)
    assert titles == cards
    content = html.partition('id="audit"')[2]
    assert set(re.findall(r'href="/admin/audit/(\w+)/', content)) <= {model}
    assert ("secret-action" in html) == (model == "task" and "Failed today" in html and "secret" in html)


def test_other_apps_keep_their_index(viewer) -> None:
    client = client_of("superuser")
    response = client.get("/admin/auth/")
    assert "audit-page" not in response.content.decode()
    assert "Groups" in text_of(response)
    assert "audit-page" not in client.get("/admin/").content.decode()


@override_settings(ROOT_URLCONF=__name__)
def test_on_a_site_of_ones_own_every_link_stays_there(viewer) -> None:
    requested()
    past(1, status="failed")
    html = viewer.get("/ops/audit/").content.decode()
    assert "Awaiting approval" in html
    assert "/ops/audit/task/?" in html
    assert '"/admin/' not in html


def test_it_asks_the_same_few_questions_whatever_there_is_and_writes_nothing(viewer) -> None:
    counts = set()
    for _ in range(2):
        with asking() as asked:
            assert viewer.get(OVERVIEW).status_code == 200
        counts.add(len(asked.data))
        first = next(i for i, text in enumerate(asked.statements) if "transaction_read_only" in text)
        assert all(asked.statements.index(text) > first for text in asked.data)
        past(30)
        for _ in range(5):
            requested()
            task_in("paused")
    assert counts.pop() <= 6
    assert not counts


def test_a_part_that_takes_too_long_is_left_out_and_the_others_stay(viewer, monkeypatch) -> None:
    requested()

    def slow(*args):
        sql("SET LOCAL statement_timeout = 20")
        sql("SELECT pg_sleep(5)")

    monkeypatch.setattr(trail, "waiting", slow)
    response = viewer.get(OVERVIEW)
    assert "A part took too long to count and was left out" in text_of(response)
    assert _lines(response)["Awaiting approval"][0] == "1"
    assert Task.objects.count() == 1


def test_failures_of_actions_without_a_line_of_their_own_are_counted_together(viewer, monkeypatch) -> None:
    now = timezone.localtime()
    # Shortly after midnight nothing has failed today yet.
    at = now - timedelta(seconds=30) if now.hour or now.minute else now
    for number in range(7):
        past(7 - number, action=f"action-{number}", status="failed", finished_at=at, created_at=at, started_at=at)
    lines = _lines(viewer.get(OVERVIEW))
    assert lines["Failed today"][0] == "28"
    assert [lines[f"action-{number}"][0] for number in range(5)] == ["7", "6", "5", "4", "3"]
    assert lines["Other actions"][0] == "3"
    assert "action-5" not in lines


def test_approved_work_stands_out_while_no_agent_takes_work(viewer) -> None:
    waits = "Approved work waits, and no agent takes work"
    approved()
    assert waits not in _lines(viewer.get(OVERVIEW)), "without a registry nobody knows"
    agent("w1")
    assert waits not in _lines(viewer.get(OVERVIEW))
    drain("w1", reason="kernel", actor="maria")
    agent("w2")
    silent("w2", 500)
    response = viewer.get(OVERVIEW)
    assert _lines(response)[waits][1] == "/admin/audit/agent/"
    assert waits in re.findall(r'<li class="audit-stands-out">.*?<bdi>(.*?)</bdi>', response.content.decode())
    agent("w3", slots=1)
    claimed(task_in("approved"), worker="w3")
    assert waits not in _lines(viewer.get(OVERVIEW)), "a busy agent takes work again"
    Task.objects.filter(status="approved").claim("w9", limit=9)
    sql("DELETE FROM audit_resource_metric")
    sql("DELETE FROM audit_agent WHERE name = 'w3'")
    assert waits not in _lines(viewer.get(OVERVIEW)), "nothing waits"


def test_agents_that_stopped_in_good_order_are_no_alarm(viewer) -> None:
    agent("w1").withdraw()
    html = viewer.get(OVERVIEW).content.decode()
    [line] = re.findall(r"<li[^>]*><a[^>]*>(?:(?!</li>).)*<bdi>Offline</bdi>.*?</li>", html, re.S)
    assert "t-pending" in line
    assert "1 stopped in good order" in line
    agent("w2")
    silent("w2", 500)
    html = viewer.get(OVERVIEW).content.decode()
    [line] = re.findall(r"<li[^>]*><a[^>]*>(?:(?!</li>).)*<bdi>Offline</bdi>.*?</li>", html, re.S)
    assert "t-failed" in line
    assert "<strong>2</strong>" in line


@pytest.mark.django_db(transaction=True)
def test_under_a_lock_each_part_falls_back_to_its_note_within_its_time(viewer) -> None:
    requested()
    agent("w1")
    with session() as beside:
        beside.execute("LOCK TABLE audit_task IN ACCESS EXCLUSIVE MODE")
        begun = time.monotonic()
        page = viewer.get(OVERVIEW)
        figures = viewer.get(STATISTICS)
        took = time.monotonic() - begun
    assert page.status_code == figures.status_code == 200
    text = text_of(page)
    assert "A part took too long to count and was left out" in text
    assert "Awaiting approval" not in text
    assert "Nothing was ever verified" in text, "what no lock holds back is there"
    assert "To measure this took too long" in text_of(figures)
    # Six panels of 0.4 s, and a wide margin for a machine that is busy.
    assert took < 60
    assert _lines(viewer.get(OVERVIEW))["Awaiting approval"][0] == "1"


def test_no_more_of_a_kind_is_read_than_is_shown(monkeypatch) -> None:
    monkeypatch.setattr(trail, "MOST", 2)
    for _ in range(4):
        requested()
        approved()
        task_in("paused")
        claimed(task_in("approved")).pause(resume_after=timedelta(hours=1))
        claimed(task_in("approved"))
    sql("SET CONSTRAINTS ALL IMMEDIATE; ALTER TABLE audit_task DISABLE TRIGGER USER")
    sql("UPDATE audit_task SET lease_expires_at = now() - interval '1 h' WHERE status = 'executing'")
    standing, waiting = trail.standing("default"), trail.waiting("default")
    assert (standing.pending, standing.approved, standing.executing, standing.expired) == (3, 3, 3, 3)
    assert (waiting.scheduled, sum(waiting.held.values())) == (3, 3)
    sql("ALTER TABLE audit_pause_queue DISABLE TRIGGER USER")
    sql(
        "UPDATE audit_pause_queue SET held = false, resume_after = moment, due_at = moment, paused_at = moment"
        " FROM (SELECT now() - interval '2 d' AS moment) AS earlier"
    )
    waiting = trail.waiting("default")
    assert (waiting.due, waiting.long) == (3, 3)


def test_of_more_ends_than_are_looked_at_the_newest_count_and_the_card_says_so(viewer, monkeypatch) -> None:
    at = timezone.now() - timedelta(seconds=5)
    past(4, status="failed", finished_at=at, created_at=at, started_at=at)
    monkeypatch.setattr(trail, "MOST_ENDED", 4)
    assert "Counted among the newest ends of work alone." not in text_of(viewer.get(OVERVIEW))
    monkeypatch.setattr(trail, "MOST_ENDED", 3)
    assert "Counted among the newest ends of work alone." in text_of(viewer.get(OVERVIEW))
    now = timezone.now()
    spans = {"yesterday": now - timedelta(days=2), "by_now": now - timedelta(days=1), "today": now - timedelta(days=1)}
    total, actions, complete = trail.ended("default", now=now, **spans)
    # One more is read, to know that there are more.
    assert (total.today.failed, actions[0].today.failed, complete) == (4, 4, False)
    past(3, status="failed", finished_at=at, created_at=at, started_at=at)
    assert trail.ended("default", now=now, **spans)[0].today.failed == 4


def test_looking_at_it_is_a_read_only_transaction(viewer, monkeypatch) -> None:
    monkeypatch.setattr(trail, "waiting", lambda using: sql("CREATE TEMP TABLE written (id int)"))
    assert "A part took too long to count and was left out" in text_of(viewer.get(OVERVIEW))
