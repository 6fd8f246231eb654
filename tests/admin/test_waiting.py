"""Why a task waits, as its page says it; who works on it, and leases that ran out."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.pausing import PauseManager
from audit.reading import place_in_line
from tests.support.agents import agent, approved, due_now, silent
from tests.support.factories import claimed, requested, sql, task_in
from tests.support.pages import QUEUE, TASKS, asking, client_of, text_of

pytestmark = pytest.mark.django_db


def _why(client, task: Task) -> str:
    html = client.get(f"{TASKS}{task.pk}/change/").content.decode()
    found = re.findall(r'<section class="audit-card audit-waits".*?</section>', html, re.S)
    return " ".join(re.sub(r"<[^>]*>", " ", found[0]).split()) if found else ""


def _guards_off() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; ALTER TABLE audit_task DISABLE TRIGGER USER")
        cursor.execute("ALTER TABLE audit_pause_queue DISABLE TRIGGER USER")


@pytest.mark.parametrize("status", ["completed", "failed", "rejected", "executing"])
def test_what_does_not_wait_says_nothing(viewer, status) -> None:
    assert _why(viewer, task_in(status)) == ""


def test_a_request_waits_for_a_person_until_its_deadline(viewer) -> None:
    assert "waits for somebody to approve it" in _why(viewer, requested())
    task = requested(approve_before=timezone.now() + timedelta(hours=2))
    assert "Unless somebody approves it before" in _why(viewer, task)
    _guards_off()
    sql("UPDATE audit_task SET approve_before = now() - interval '1 minute' WHERE id = %s", [task.pk])
    assert "Its time passed 1m ago; the next recovery rejects it." in _why(viewer, task)


def test_approved_work_may_not_be_due(viewer) -> None:
    task = approved(available_at=timezone.now() + timedelta(hours=20))
    assert "It is not due before" in _why(viewer, task)
    work = claimed(task_in("approved"))
    work.retry(ValueError("no"), delay=timedelta(hours=1))
    assert "It failed once; this is the wait before its next attempt." in _why(viewer, work)


def test_approved_work_without_an_agent_says_which_ones_are_missing(viewer) -> None:
    task = approved("paint")
    assert "No agent is registered that could do “paint”. Start a worker that has a handler for it." in _why(
        viewer, task
    )
    agent("brush", actions=["paint"])
    silent("brush", 500)
    agent("other", actions=["deploy"])
    assert "No agent that could do “paint” takes work now: brush (Offline)." in _why(viewer, task)


def test_approved_work_waits_for_slots_and_for_room_with_the_numbers(viewer) -> None:
    task = approved("paint")
    agent("w1", slots=1)
    assert "It is the first of the approved tasks." in _why(viewer, task)
    assert "slot" not in _why(viewer, task)
    claimed(task_in("approved"), worker="w1")
    assert "The only slot of the agents that could do it is taken." in _why(viewer, task)
    agent("w1", slots=3, cpu=0.93, memory=None)
    text = _why(viewer, task)
    assert "Every agent that could do it is short of room." in text
    assert re.search(r"w1 7% unknown", text)
    assert "less than 20% is short" in text


def test_approved_work_is_behind_those_that_are_claimed_before_it(viewer) -> None:
    agent("w1")
    later = timezone.now() + timedelta(hours=1)
    mine = approved(priority=3)
    for given in ({"priority": 1}, {"priority": 2}, {"priority": 1, "available_at": later}, {"priority": 4}):
        approved(**given)
    approved(priority=3)
    assert "2 of the approved tasks come before it." in _why(viewer, mine)
    # Of all time: what was approved long ago comes first.
    [link] = re.findall(r'href="([^"]*)"[^>]*>show them<', viewer.get(f"{TASKS}{mine.pk}/change/").content.decode())
    assert {"status=approved", "since=all"} == set(link.partition("?")[2].replace("&amp;", "&").split("&"))
    claims = Task.objects.claim("w9", 9)
    assert [each.pk for each in claims].index(mine.pk) == 2


def test_more_than_are_counted_are_more(viewer, monkeypatch) -> None:
    monkeypatch.setattr(place_in_line, "MOST", 2)
    monkeypatch.setattr("audit.pausing.waiting.MOST", 2)
    for _ in range(4):
        approved(priority=1)
    assert "2+ of the approved tasks come before it." in _why(viewer, approved(priority=2))


def test_capacity_pauses_show_the_evidence_of_the_log(viewer) -> None:
    agent("w1", cpu=0.93)
    agent("w2", cpu=0.5, memory=0.95)
    task = approved("paint")
    assert PauseManager().pause_for_capacity(task)
    agent("w1", cpu=0.1)
    text = _why(viewer, task)
    assert "No agent had room for it; that is looked at again at" in text
    assert re.search(r"w1 7% 90% .* w2 50% 5%", text)
    due_now()
    assert "It is due since" in _why(viewer, task)
    assert "It is the first of the entries that are due." in _why(viewer, task)


@pytest.mark.parametrize(
    "detail",
    [
        None,
        [],
        {"agents": "zork"},
        {"agents": [1, {"free": 7}]},
        {"agents": [{"free": {"cpu": "x"}}]},
        {"agents": [{"agent": {"a": 1}, "free": {"cpu": True, "memory": 7}, "reading_age_s": -1, "short": 1}]},
    ],
)
def test_evidence_that_is_none_breaks_no_page(viewer, detail) -> None:
    agent("w1", cpu=0.93)
    task = approved()
    PauseManager().pause_for_capacity(task)
    ExecutionLog.objects.create(task=task, kind="note", action="capacity", detail=detail)
    assert ExecutionLog.objects.filter(task=task, action="capacity").count() == 2
    assert "No agent had room for it" in _why(viewer, task)


def test_paused_work_says_who_or_what_lets_it_go_on(viewer) -> None:
    def paused(**how) -> str:
        task = claimed(task_in("approved"))
        task.pause(**how)
        return _why(viewer, task)

    assert "It is held until a person resumes it." in paused(reason="manual_pause")
    assert "It goes on at" in paused(resume_after=timedelta(hours=1))
    assert "A person has to approve what remains of it." in paused(reason="awaiting_approval")
    deadline = paused(reason="awaiting_approval", resume_after=timedelta(hours=1))
    assert "Unless somebody approves it before" in deadline
    assert "It waits for the event “build-42”." in paused(event="build-42")
    assert "Without it, it goes on at" in paused(event="build-43", resume_after=timedelta(hours=1))


def test_an_entry_that_a_worker_claimed_says_so_and_stands_out_when_the_lease_is_over(viewer) -> None:
    entry = claimed(task_in("approved")).pause(reason="insufficient_capacity")
    PauseQueueEntry.objects.claim("resumer-1")
    task = Task.objects.get(pk=entry.task_id)
    assert "resumer-1 has claimed the entry; the lease ends" in _why(viewer, task)
    assert "audit-over" not in viewer.get(QUEUE).content.decode()
    _guards_off()
    sql("UPDATE audit_pause_queue SET lease_expires_at = now() - interval '5 minutes'")
    assert "the lease ended 5m ago, and anybody may claim it now." in _why(viewer, task)
    assert re.search(r'audit-over">lease ended 5m ago', viewer.get(QUEUE).content.decode())


def test_executing_work_names_its_worker_and_lease_and_an_expired_one_stands_out(viewer) -> None:
    task = claimed(task_in("approved"), worker="w 1")
    page = viewer.get(f"{TASKS}{task.pk}/change/")
    assert 'href="/admin/audit/agent/?agent=w+1"' in page.content.decode()
    assert re.search(r"Lease ?ends in \d+s", text_of(page))
    assert "audit_recover" not in text_of(page)
    assert "lease ended" not in text_of(viewer.get(f"{TASKS}?status=executing"))
    _guards_off()
    sql("UPDATE audit_task SET lease_expires_at = now() - interval '7 minutes'")
    page = text_of(viewer.get(f"{TASKS}{task.pk}/change/"))
    assert "The lease of its worker ended 7m ago, and nobody has recovered the work yet" in page
    assert "lease ended 7m ago" in text_of(viewer.get(f"{TASKS}?status=executing"))


def test_the_queue_page_says_how_the_queue_is_doing(viewer) -> None:
    assert "Nothing that is due or approved waits, and no lease has run out." in text_of(viewer.get(QUEUE))
    approved()
    claimed(task_in("approved")).pause(reason="insufficient_capacity")
    page = text_of(viewer.get(QUEUE))
    assert re.search(r"Approved work waits \d+ ms", page)
    assert "A due entry waits" in page
    with override_settings(AUDIT={"QUEUE_MAX_WAIT_SECONDS": 1, "LEASE_SECONDS": 10}):
        _guards_off()
        sql("UPDATE audit_task SET available_at = now() - interval '1 h' WHERE status = 'approved'")
        assert "start workers, or undrain agents" in text_of(viewer.get(QUEUE))


def test_who_may_not_see_agents_is_named_none() -> None:
    agent("brush", cpu=0.95)
    short = approved()
    paused = approved()
    PauseManager().pause_for_capacity(paused)
    silent("brush", 1)
    client = client_of("staff")
    permissions = Permission.objects.filter(codename="view_task", content_type__app_label="audit")
    User.objects.get(username="staff").user_permissions.set(permissions)
    assert "Every agent that could do it is short of room." in _why(client, short)
    silent("brush", 500)
    assert "No agent that could do “deploy” takes work now." in _why(client, short)
    for task in (short, paused):
        assert "brush" not in _why(client, task)
        assert "/agent/" not in client.get(f"{TASKS}{task.pk}/change/").content.decode()


@pytest.mark.parametrize("gate", [None, "nowhere.at.all", "tests.support.agents.approved"])
def test_where_the_registry_is_not_asked_about_capacity_nothing_is_said_about_it(viewer, settings, gate) -> None:
    settings.AUDIT = {"CAPACITY_GATE": gate}
    assert _why(viewer, approved()) == "Why it waits It is the first of the approved tasks."


def test_it_costs_a_bounded_number_of_questions(viewer) -> None:
    counts = []
    for _ in range(2):
        for number in range(4):
            agent(f"w{number}", cpu=0.95)
            task = approved()
        with asking() as asked:
            viewer.get(f"{TASKS}{task.pk}/change/")
        counts.append(len(asked.data))
    assert counts[0] == counts[1] <= 5


@pytest.mark.parametrize("gate", [None, "nowhere.at.all", "tests.support.agents.approved"])
def test_whatever_the_gate_the_registered_agents_that_cannot_do_it_are_a_reason(viewer, settings, gate) -> None:
    settings.AUDIT = {"CAPACITY_GATE": gate}
    agent("full", cpu=0.99, memory=0.99, actions=["deploy"], slots=1)
    waits = approved("deploy")
    assert _why(viewer, waits) == "Why it waits It is the first of the approved tasks."
    assert "No agent is registered that could do “paint”." in _why(viewer, approved("paint"))
    claimed(task_in("approved"), worker="full")
    assert "The only slot of the agents that could do it is taken." in _why(viewer, waits)
