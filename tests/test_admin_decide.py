"""Deciding in the browser: what is shown before, that it is asked twice, what is told after, and who was first."""

import contextlib
import re
import threading
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections
from django.http import HttpResponse
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext, override_script_prefix
from django.utils import timezone

from audit.admin import decide as deciding
from audit.decisions import MAX_REASON, Decision
from audit.ids import short
from audit.models import ExecutionLog, PauseQueueEntry, Task
from tests.factories import claimed, entry_of, log_of, requested, task_in, unchanged
from tests.pages import HOSTILE, asking, client_of, inline_code, past, text_of

pytestmark = pytest.mark.django_db

URL = "/admin/audit/task/decide/"
TASKS = "/admin/audit/task/"
QUEUE = "/admin/audit/pausequeueentry/"


@pytest.fixture
def decider() -> Client:
    return client_of("decider")


def token(task: Task) -> str:
    """What the check box of a task, or of its entry, holds now."""
    task = Task.objects.get(pk=task.pk)
    if task.status != "paused":
        return f"{task.pk.hex}.{task.revision}"
    entry = entry_of(task)
    return f"{task.pk.hex}.{task.revision}.{entry.pk}.{entry.revision}"


def sent(decision: str, *items: Any, **given: Any) -> dict[str, Any]:
    """What a confirmed form sends."""
    return {
        "decision": decision,
        "item": [each if isinstance(each, str) else token(each) for each in items],
        "confirmed": "1",
        "reason": "looked at it",
        "next": TASKS,
        **given,
    }


def form_of(response: HttpResponse, name: str) -> dict[str, Any]:
    """The hidden fields and checked values of a form on a page, as a browser would send them."""
    html = response.content.decode()
    inner = re.search(rf'<form method="post"[^>]*class="[^"]*{name}[^"]*"[^>]*>(.*?)</form>', html, re.S)[1]
    fields: dict[str, Any] = {}
    for tag in re.findall(r"<input[^>]*>", inner):
        given = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        if given.get("type") == "hidden":
            fields.setdefault(given["name"], []).append(unescape(given["value"]))
    return fields


def told(client: Client, response: HttpResponse) -> list[str]:
    """The messages on the page a decision leads back to, each after its level."""
    assert response.status_code == 302
    html = client.get(response.url).content.decode()
    found = re.findall(r'<li[^>]*class="(success|warning|error)">\s*(.*?)</li>', html, re.S)
    return [f"{level}: {unescape(text)}" for level, text in found]


# The whole way, as a person goes it


def test_from_the_list_to_the_confirmation_and_back(decider: Client) -> None:
    first, second = requested(summary="first"), requested(summary="second")
    past(1, summary="finished long ago")
    listed = f"{TASKS}?status=pending&status=completed&since=7d"
    page = decider.get(listed)
    html = page.content.decode()
    boxes = re.findall(r'type="checkbox" name="item" value="([^"]+)" form="audit-decide"', html)
    assert set(boxes) == {token(first), token(second)}
    assert re.findall(r'name="decision" value="(\w+)"', html) == ["approve", "reject"]
    with unchanged(first, second):
        asked = decider.post(URL, form_of(page, "audit-decide") | {"item": boxes, "decision": "approve"})
        text = text_of(asked)
        assert "Approve 2 tasks?" in text
        for expected in ("first", "second", "Pending", "kuma", "requested by alice", "Plan", '"pull"', "12.5"):
            assert expected in text, expected
    form = form_of(asked, "audit-reason")
    assert sorted(form["item"]) == sorted(boxes)
    response = decider.post(URL, form | {"reason": "both looked at"})
    assert response.url == listed
    assert told(decider, response) == ["success: 2 tasks approved."]
    for task in (first, second):
        assert log_of(task)[1:] == [
            ("transition", "pending", "approved", "decider"),
            ("note", None, None, "decider"),
        ]
        assert ExecutionLog.objects.of(task).latest("id").output_summary == "both looked at"


@pytest.mark.parametrize(
    ("status", "decisions"),
    [
        ("pending", ["approve", "reject"]),
        ("approved", ["reject"]),
        ("executing", []),
        ("paused", ["resume", "defer", "cancel"]),
        ("completed", []),
        ("failed", []),
        ("rejected", []),
    ],
)
def test_a_tasks_page_offers_what_its_status_allows_and_each_of_it_works(
    decider: Client, status: str, decisions: list[str]
) -> None:
    page = decider.get(f"{TASKS}{task_in(status).pk}/change/")
    assert re.findall(r'name="decision" value="(\w+)"', page.content.decode()) == decisions
    for decision in decisions:
        task = task_in(status)
        here = f"{TASKS}{task.pk}/change/"
        form = form_of(decider.get(here), "audit-decide") | {"decision": decision}
        assert form["next"] == [here]
        asked = form_of(decider.post(URL, form), "audit-reason")
        until = timezone.localtime() + timedelta(days=1)
        response = decider.post(URL, asked | {"reason": "so", "until": until.strftime("%Y-%m-%dT%H:%M")})
        assert response.url == here
        [message] = told(decider, response)
        assert message.startswith("success: “Deploy Uptime Kuma”: "), message
        assert "so" in text_of(decider.get(here))
        task.refresh_from_db()
        assert (task.status, task.actor if task.status != "paused" else entry_of(task).actor) == (
            {"approve": "approved", "resume": "approved", "defer": "paused"}.get(decision, "rejected"),
            "decider",
        )


def test_many_are_confirmed_and_told_in_the_order_they_were_chosen_in(decider: Client) -> None:
    tasks = [requested(summary=f"number {n}") for n in range(4)]
    chosen = [tasks[2], tasks[0], tasks[3], tasks[1]]
    asked = decider.post(URL, {"decision": "approve", "item": [token(each) for each in chosen]})
    form = form_of(asked, "audit-reason")
    assert re.findall(r"<bdi>(number \d)</bdi>", asked.content.decode()) == [each.summary for each in chosen]
    tasks[3].reject(actor="eve")
    done = decider.post(URL, form | {"reason": "so"}).content.decode()
    assert re.findall(r"<bdi>(number \d)</bdi>", done) == ["number 3", "number 2", "number 0", "number 1"]


def test_held_work_is_released_and_free_work_held_from_the_queue(decider: Client) -> None:
    held, free = task_in("paused", summary="is held"), task_in("approved", summary="is free")
    free.pause(reason="insufficient_capacity", actor="w")
    html = decider.get(QUEUE).content.decode()
    boxes = re.findall(r'type="checkbox" name="item" value="([^"]+)"', html)
    assert set(boxes) == {token(held), token(free)}
    assert re.findall(r'name="decision" value="(\w+)"', html) == ["resume", "hold", "defer", "cancel"]
    asked = decider.post(URL, {"decision": "hold", "item": boxes, "next": QUEUE})
    assert "Left out" in text_of(asked)
    assert "It is held already." in text_of(asked)
    assert form_of(asked, "audit-reason")["item"] == [token(free)]
    response = decider.post(URL, form_of(asked, "audit-reason") | {"reason": "wait"})
    assert told(decider, response) == ["success: “is free”: held."]
    assert entry_of(free).held


def test_the_confirmation_of_paused_work_shows_what_remains_and_who_is_at_it(decider: Client) -> None:
    task = task_in("approved")
    task.pause(reason="insufficient_capacity", work_plan={"remaining": ["step nine"]}, note="no room", actor="orch-3")
    PauseQueueEntry.objects.claim("orch-9")
    text = text_of(decider.post(URL, {"decision": "resume", "item": token(task)}))
    for expected in ("Resume this task?", "Work plan", "step nine", "no room", "Insufficient capacity", "by orch-3"):
        assert expected in text, expected
    assert "The worker orch-9 has claimed it" in text
    for decision in ("hold", "defer", "cancel"):
        response = decider.post(URL, {"decision": decision, "item": token(task)})
        assert "step nine" in text_of(response)
        # Open to be read where it would run.
        assert ('<details class="audit-more" open>' in response.content.decode()) == (decision == "defer")
    [plain] = [task_in("paused")]
    text = text_of(decider.post(URL, {"decision": "resume", "item": token(plain)}))
    assert '"pull"' in text
    assert "Work plan" not in text
    bare = requested(plan=None)
    assert "It has no plan." in text_of(decider.post(URL, {"decision": "approve", "item": token(bare)}))


def test_the_confirmation_costs_two_questions_however_many_are_chosen(decider: Client) -> None:
    tasks = [task_in("paused") for _ in range(12)]
    decider.get(TASKS)
    for some in (tasks[:1], tasks):
        with asking() as asked:
            assert decider.post(URL, {"decision": "resume", "item": [token(each) for each in some]}).status_code == 200
        pages = [statement for statement in asked.data if "LEFT" in statement]
        assert len(pages) == 2
        assert not [statement for statement in asked.statements if "FOR NO KEY UPDATE" in statement]


def test_two_hundred_large_plans_make_a_bounded_page(decider: Client) -> None:
    keys = [requested(plan={"x": "y" * 100_000}, summary="s" * 10_000) for _ in range(20)]
    one = decider.post(URL, {"decision": "approve", "item": token(keys[0])})
    assert "y" * 50_000 in one.content.decode()
    page = decider.post(URL, {"decision": "approve", "item": [token(each) for each in keys]})
    assert len(page.content) < 900_000
    assert "Only the beginning is shown" in text_of(page)


# Stale pages, double submits, races


@pytest.mark.parametrize("decision", Decision.values)
def test_a_stale_page_is_told_so_and_changes_nothing(decider: Client, decision: str) -> None:
    task = task_in("paused" if Decision(decision).on_entry else "pending")
    form = sent(decision, task, until=(timezone.localtime() + timedelta(days=2)).strftime("%Y-%m-%dT%H:%M"))
    if Decision(decision).on_entry:
        entry_of(task).resume(actor="bob")
    else:
        task.approve(actor="bob")
    with unchanged(task):
        # On the way to the confirmation …
        asked = decider.post(URL, {**form, "confirmed": []})
        assert "It changed since you opened it: now approved, by bob. Nothing was done." in text_of(asked)
        assert "audit-reason" not in asked.content.decode()
        # … and after it.
        response = decider.post(URL, form)
        assert told(decider, response) == [
            "warning: “Deploy Uptime Kuma”: It changed since you opened it: now approved, by bob. Nothing was done."
        ]


def test_sent_twice_it_is_done_once(decider: Client) -> None:
    task = requested()
    form = sent("approve", task)
    assert told(decider, decider.post(URL, form)) == ["success: “Deploy Uptime Kuma”: approved."]
    with unchanged(task):
        [message] = told(decider, decider.post(URL, form))
    assert message == (
        "warning: “Deploy Uptime Kuma”: It changed since you opened it: now approved, by you. Nothing was done."
    )
    # The same item twice in one form is one item.
    other = requested()
    assert told(decider, decider.post(URL, sent("approve", other, other))) == [
        "success: “Deploy Uptime Kuma”: approved."
    ]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("decision", ["approve", "resume", "hold", "cancel"])
def test_two_who_decide_at_once_make_one_decision(decision: str) -> None:
    task = task_in("paused" if Decision(decision).on_entry else "pending")
    if decision == "hold":
        entry_of(task).defer(timedelta(hours=1), actor="w")
    clients = [client_of("decider"), client_of("superuser")]
    form, before = sent(decision, task), len(log_of(task))
    barrier, messages = threading.Barrier(2), []

    def go(client: Client) -> None:
        try:
            barrier.wait(10)
            messages.append(told(client, client.post(URL, form)))
        finally:
            connection.close()

    threads = [threading.Thread(target=go, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    levels = sorted(message.split(":")[0] for [message] in messages)
    assert levels == ["success", "warning"]
    [late] = [message for [message] in messages if message.startswith("warning")]
    assert re.search(r"now \w+, by (decider|superuser)\. Nothing was done\.", late)
    added = log_of(task)[before:]
    assert len(added) == (1 if decision == "cancel" else 2)
    assert len({actor for *_rest, actor in added}) == 1
    assert sum(kind == "transition" for kind, *_rest in added) == (0 if decision == "hold" else 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("atomic", [False, True], ids=["each", "ATOMIC_REQUESTS"])
def test_two_who_decide_about_many_in_another_order_do_not_block_each_other(
    atomic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ATOMIC_REQUESTS the locks of a request are held to its end: order alone saves it from a deadlock."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic)
    tasks = [requested(summary=f"number {number}") for number in range(6)]
    clients = [client_of("decider"), client_of("superuser")]
    items = [token(each) for each in tasks]
    forms = [sent("approve", *items), sent("reject", *reversed(items))]
    results: list[HttpResponse] = []
    both = threading.Barrier(2)
    original = deciding.decide

    def slowly(*args: Any, **options: Any) -> Task:
        task = original(*args, **options)
        # Whoever has a first lock lets the other have one too, if there is one to have.
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.3)
        return task

    def go(client: Client, form: dict[str, Any]) -> None:
        try:
            results.append(client.post(URL, form))
        finally:
            connection.close()

    monkeypatch.setattr(deciding, "decide", slowly)
    threads = [threading.Thread(target=go, args=pair) for pair in zip(clients, forms, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 2
    assert not [page for page in results if page.status_code == 200 and "Try again" in text_of(page)]
    for task in tasks:
        task.refresh_from_db()
        assert task.status in ("approved", "rejected")
        assert sum(kind == "transition" for kind, *_rest in log_of(task)) == 2


@pytest.mark.django_db(transaction=True)
def test_a_task_that_somebody_else_holds_is_not_waited_for_for_ever(
    decider: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "_PATIENCE", timedelta(milliseconds=200))
    task = requested()
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT 1 FROM audit_task WHERE id = %s FOR UPDATE", [task.pk])
        with unchanged(task):
            [message] = told(decider, decider.post(URL, sent("approve", task)))
        assert message.startswith("warning: “Deploy Uptime Kuma”: Somebody else is changing it at this moment")
    finally:
        other.rollback()
        other.close()


# Many at once


def test_of_many_each_is_decided_on_its_own_and_the_result_lists_all(decider: Client) -> None:
    good, late = requested(summary="good one"), requested(summary="late one")
    gone, running = requested(summary="gone one"), task_in("executing", summary="running one")
    items = [token(each) for each in (good, late, gone, running)]
    late.approve(actor="bob")
    gone.reject(actor="carol", reason="no")
    absent = f"{'0' * 31}7.1"
    asked = decider.post(URL, {"decision": "approve", "item": [*items, absent]})
    assert "Approve this task?" in text_of(asked)
    assert form_of(asked, "audit-reason")["item"] == [token(good)]
    with unchanged(late, gone, running):
        response = decider.post(URL, sent("approve", *items, absent, next=f"{TASKS}?status=pending"))
    assert response.status_code == 200
    text = text_of(response)
    assert "1 done, 4 not" in text
    for expected in (
        "“good one”: approved.",
        "late one It changed since you opened it: now approved, by bob. Nothing was done.",
        "gone one It changed since you opened it: now rejected, by carol. Nothing was done.",
        "running one Only pending tasks can be approved; this one is executing.",
        "There is no such task.",
    ):
        assert expected in text, expected
    assert f'href="{TASKS}?status=pending"' in response.content.decode()
    good.refresh_from_db()
    assert (good.status, good.decided_by) == ("approved", "decider")
    assert [len(log_of(each)) for each in (good, late, gone, running)] == [3, 2, 2, 3]


def test_one_that_the_database_refuses_leaves_the_others_done(
    decider: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = [requested(summary=f"number {number}") for number in range(3)]
    original = Task.note

    def note(self: Task, *args: Any, **options: Any) -> Any:
        if self.pk == tasks[1].pk:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1/0")
        return original(self, *args, **options)

    monkeypatch.setattr(Task, "note", note)
    with unchanged(tasks[1]):
        response = decider.post(URL, sent("approve", *tasks))
    text = text_of(response)
    assert "2 done, 1 not" in text
    assert "nothing was changed: division by zero" in text
    assert "division by zero" in caplog.text
    assert {Task.objects.get(pk=task.pk).status for task in (tasks[0], tasks[2])} == {"approved"}


def test_more_than_can_be_decided_at_once_is_refused_whole(decider: Client) -> None:
    task = requested()
    items = [f"{number:032x}.1" for number in range(deciding.MOST_ITEMS)]
    with unchanged(task):
        [message] = told(decider, decider.post(URL, sent("approve", *items, task)))
    assert message == "error: 201 were chosen; at most 200 can be decided at once. Choose fewer."
    assert decider.post(URL, {"decision": "approve", "item": items}).status_code == 200


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"item": []}, "Nothing was chosen. Choose at least one row, then decide."),
        ({"decision": "zork"}, "There is no decision “zork”."),
        ({"decision": ""}, "There is no decision “”."),
        ({"decision": "resume"}, "Resume is about paused work."),
        ({"item": ["zork"]}, "“zork” is nothing to decide about."),
        (
            {"item": ["<script>alert(1)</script>\u202e"]},
            "“<script>alert(1)</script>⟨U+202E⟩” is nothing to decide about.",
        ),
    ],
)
@pytest.mark.parametrize("confirmed", ["1", None])
def test_what_no_page_sends_is_told_and_changes_nothing(
    decider: Client, wrong: dict[str, Any], message: str, confirmed: str | None
) -> None:
    task = requested()
    form = sent("approve", task) | wrong
    if confirmed is None:
        del form["confirmed"]
    with unchanged(task):
        [shown] = told(decider, decider.post(URL, form))
    assert shown.startswith(f"error: {message}")
    paused = task_in("paused")
    with unchanged(paused):
        [shown] = told(decider, decider.post(URL, sent("approve", paused)))
    assert shown == "error: Approve is about tasks."


# Reasons and times


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("", "Give a reason"),
        (" \r\n\t ", "Give a reason"),
        ("x" * (MAX_REASON + 1), "at most 2000 characters"),
        ("x" * 1_000_000, "at most 2000 characters"),
        ("a\0b", "Null characters"),
    ],
)
def test_a_reason_that_is_none_is_asked_for_again_and_nothing_is_lost(
    decider: Client, reason: str, message: str
) -> None:
    task = requested()
    with unchanged(task):
        response = decider.post(URL, sent("approve", task, reason=reason))
    assert response.status_code == 200
    assert message in text_of(response)
    assert len(response.content) < 60_000
    assert form_of(response, "audit-reason")["item"] == [token(task)]
    kept = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", response.content.decode(), re.S)[1]
    assert kept.startswith(reason.strip("\r\n\t ")[:1])
    assert 'aria-invalid="true"' in response.content.decode()


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_a_hostile_reason_is_kept_as_it_is_and_shown_as_text(decider: Client, value: str, decision: str) -> None:
    task = requested(summary=value, actor=value, services=[value], plan={value: [value]})
    pages = [decider.post(URL, {"decision": decision, "item": token(task)})]
    pages.append(decider.post(URL, sent(decision, task, reason=value * 500)))
    response = decider.post(URL, sent(decision, task, reason=value))
    pages += [decider.get(response.url), decider.get(f"{TASKS}{task.pk}/change/")]
    for page in pages:
        html = page.content.decode()
        assert page.status_code == 200
        assert "<script>alert" not in html
        assert "<b onmouseover" not in html
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x07\x1b\x7f]", html)
        assert inline_code(page) == []
    task.refresh_from_db()
    stored = task.outcome["output_summary"] if decision == "reject" else log_text(task)
    assert stored == value.strip()


def log_text(task: Task) -> str:
    """The words of the last row of its log."""
    return ExecutionLog.objects.of(task).latest("id").output_summary


def test_two_thousand_characters_are_counted_as_a_browser_counts_them(decider: Client) -> None:
    task = requested()
    reason = "line\n" * 399 + "five5"
    assert len(reason) == MAX_REASON
    decider.post(URL, sent("approve", task, reason=reason.replace("\n", "\r\n")))
    assert log_text(task) == reason


def test_a_time_is_told_and_read_in_the_time_zone_of_the_page(decider: Client) -> None:
    task = task_in("paused")
    with timezone.override("Asia/Tokyo"), override_settings(TIME_ZONE="Asia/Tokyo"):
        asked = decider.post(URL, {"decision": "defer", "item": token(task)})
        assert "Time zone: Asia/Tokyo." in text_of(asked)
        value = re.search(
            r'type="datetime-local"[^>]*?value="([^"]+)"|value="([^"]+)"[^>]*?type="datetime-local"',
            asked.content.decode(),
        )
        proposed = next(each for each in value.groups() if each)
        assert abs(timezone.make_aware(timezone.datetime.fromisoformat(proposed)) - timezone.now()) < timedelta(hours=2)
        decider.post(URL, sent("defer", task, until="2100-01-02T03:04"))
    assert entry_of(task).due_at.isoformat() == "2100-01-01T18:04:00+00:00"


@pytest.mark.parametrize(
    ("until", "message"),
    [
        ("", "Give the time it becomes due."),
        ("zork", "That is no date and time."),
        ("2020-01-01T00:00", "That time is past"),
        ("0001-01-01T00:00", "must lie between"),
        ("9999-12-31T23:59", "must lie between"),
        ("99999-12-31T23:59", "That is no date and time."),
        ("2100-02-30T00:00", "That is no date and time."),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/Anchorage"])
def test_a_time_that_is_none_is_asked_for_again(decider: Client, until: str, message: str, zone: str) -> None:
    task = task_in("paused")
    with timezone.override(zone), override_settings(TIME_ZONE=zone), unchanged(task):
        response = decider.post(URL, sent("defer", task, until=until, reason="keep me"))
        assert message in text_of(response)
        assert "keep me" in response.content.decode()


# Whose request it is


def test_people_are_told_what_they_requested_themselves(decider: Client) -> None:
    mine, other = requested(actor="decider", summary="mine"), requested(actor="Decider", summary="other")
    for task, own in ((mine, True), (other, False)):
        for decision in ("approve", "reject"):
            text = text_of(decider.post(URL, {"decision": decision, "item": token(task)}))
            assert ("You requested this task." in text) == own
    with override_settings(AUDIT={"DECIDE_OWN": False}), unchanged(mine):
        text = text_of(decider.post(URL, {"decision": "approve", "item": [token(mine), token(other)]}))
        assert "You requested it; somebody else has to decide that it runs." in text
        [message] = told(decider, decider.post(URL, sent("approve", mine)))
        assert message.endswith("You requested it; somebody else has to decide that it runs.")
    with override_settings(AUDIT={"DECIDE_OWN": False}):
        assert told(decider, decider.post(URL, sent("reject", mine))) == ["success: “mine”: rejected."]


def test_a_user_whose_name_cannot_be_an_actor_decides_nothing(decider: Client) -> None:
    User.objects.filter(username="decider").update(username=" ")
    task = requested()
    with unchanged(task):
        [message] = told(decider, decider.post(URL, sent("approve", task)))
    assert message.startswith("error: “Deploy Uptime Kuma”: actor: must not be empty")


# The way back


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (f"{TASKS}?status=pending&since=7d", True),
        (QUEUE, True),
        (f"{QUEUE}?state=held", True),
        ("/admin/audit/executionlog/", True),
        (f"{TASKS}0199c0de-0000-7000-8000-000000000000/change/#pause", True),
        ("", False),
        ("https://evil.example/admin/audit/task/", False),
        ("//evil.example/admin/audit/task/", False),
        ("///evil.example", False),
        ("/\\evil.example", False),
        ("\\\\evil.example", False),
        ("http:/admin/audit/task/", False),
        ("javascript:alert(1)", False),
        ("/admin/", False),
        ("/admin/logout/", False),
        ("/admin/auth/user/", False),
        ("/admin/audit/task/decide/", False),
        ("/admin/audit/task/../../auth/user/", False),
        ("/admin/audit/task/zork/raw/", False),
        ("/static/audit/admin.js", False),
        ("/nowhere/", False),
        ("/admin/audit/task/\r\nSet-Cookie: x=1", False),
        ("/admin/audit/task/?" + "x" * 5000, False),
        ("/admin/audit/task/?[", True),
        ("/[", False),
    ],
)
def test_the_way_back_leads_to_a_page_of_this_browser_and_nowhere_else(
    decider: Client, wanted: str, taken: bool
) -> None:
    expected = wanted if taken else TASKS
    task = requested()
    asked = decider.post(URL, {"decision": "approve", "item": token(task), "next": wanted})
    assert form_of(asked, "audit-reason")["next"] == [expected]
    assert decider.post(URL, sent("approve", task, next=wanted)).url == expected
    assert decider.post(URL, sent("approve", next=wanted)).url == expected


@override_script_prefix("/tools/")
def test_the_way_back_below_a_prefix(decider: Client) -> None:
    task = requested()
    form = form_of(decider.get(TASKS, {"status": "pending"}, SCRIPT_NAME="/tools"), "audit-decide")
    assert form["next"] == ["/tools/admin/audit/task/?status=pending"]
    response = decider.post(URL, sent("approve", task, next=form["next"]), SCRIPT_NAME="/tools")
    assert response.url == "/tools/admin/audit/task/?status=pending"


# Another database for reading


class _Replica:
    """Pages read `other` and decisions are written to `default`."""

    def db_for_read(self, model: type, **hints: Any) -> str:
        return "other" if model._meta.app_label == "audit" else "default"

    def db_for_write(self, model: type, **hints: Any) -> str:
        return "default"

    def allow_relation(self, *args: Any, **hints: Any) -> bool:
        return True


WRITES = re.compile(r"\b(INSERT|UPDATE|DELETE|FOR (NO KEY )?UPDATE|FOR (KEY )?SHARE|LOCK|nextval)\b")


@pytest.mark.django_db(databases=["default", "other"])
@pytest.mark.parametrize("how", ["setting", "router"])
def test_pages_send_no_write_and_no_lock_to_a_replica_and_decisions_go_to_the_primary(
    decider: Client, how: str
) -> None:
    key = requested(summary="Deploy Uptime Kuma").pk
    paused = task_in("paused")
    # The replica, which lags behind for ever.
    copy = Task.objects.using("other").request("deploy", id=key, summary="older words", actor="alice")
    lagging = Task.objects.using("other").request("deploy", actor="alice")
    lagging.approve(actor="x")
    lagging.pause(actor="x")
    statements: list[str] = []

    def only_reads(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        statements.append(sql)
        assert not WRITES.search(sql), sql
        return execute(sql, params, many, context)

    given = {"AUDIT": {"BROWSER_USING": "other"}} if how == "setting" else {"DATABASE_ROUTERS": [_Replica()]}
    with override_settings(**given), connections["other"].execute_wrapper(only_reads):
        for url in (TASKS, QUEUE, "/admin/audit/executionlog/", f"{TASKS}{key}/change/", f"{TASKS}{key}/raw/"):
            assert decider.get(url).status_code == 200, url
        assert any("set_config" in sql for sql in statements)
        listed = len(statements)
        with CaptureQueriesContext(connections["default"]) as primary:
            asked = decider.post(URL, {"decision": "approve", "item": f"{key.hex}.1", "next": TASKS})
        assert "Approve this task?" in text_of(asked)
        assert [each for each in primary.captured_queries if 'FROM "audit_task"' in each["sql"]]
        assert len(statements) == listed
        [message] = told(decider, decider.post(URL, sent("approve", f"{key.hex}.1")))
        assert message == (
            "success: “Deploy Uptime Kuma”: approved. Pages read from “other”, which may show it a little later."
        )
        # The replica still shows it pending; whoever decides again is told the truth.
        [message] = told(decider, decider.post(URL, sent("reject", f"{key.hex}.1")))
        assert "now approved, by you" in message
        entry = PauseQueueEntry.objects.using("default").get(task=paused.pk)
        revision = Task.objects.using("default").get(pk=paused.pk).revision
        item = f"{paused.pk.hex}.{revision}.{entry.pk}.{entry.revision}"
        assert "Resume this task?" in text_of(decider.post(URL, {"decision": "resume", "item": item}))
        assert "resumed" in told(decider, decider.post(URL, sent("resume", item)))[0]
    assert Task.objects.using("default").get(pk=key).status == "approved"
    assert Task.objects.using("default").get(pk=paused.pk).status == "approved"
    copy.refresh_from_db()
    assert copy.status == "pending"


# When it cannot be read


def test_tables_that_are_missing_make_a_page_that_says_what_to_run(decider: Client) -> None:
    item = token(requested())
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_task RENAME TO gone")
    response = decider.post(URL, {"decision": "approve", "item": item})
    assert response.status_code == 503
    assert "python manage.py migrate audit" in text_of(response)


def test_tables_that_go_missing_before_it_is_confirmed_make_such_a_page_too(decider: Client) -> None:
    item = token(requested())
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_task RENAME TO gone")
    response = decider.post(URL, sent("approve", item))
    assert response.status_code == 503
    assert "python manage.py migrate audit" in text_of(response)


def test_what_is_slow_to_name_is_decided_all_the_same(decider: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_args: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 10; SELECT pg_sleep(5)")

    monkeypatch.setattr("audit.admin.decide.titles", slow)
    task = requested(summary="nameless")
    response = decider.post(URL, sent("approve", token(task)), follow=True)
    task.refresh_from_db()
    assert task.status == "approved"
    assert f"“{short(task.pk)}”: approved." in text_of(response)


def test_an_address_for_decisions_that_is_looked_at_says_so(decider: Client) -> None:
    response = decider.get(URL)
    assert (response.status_code, response["Allow"]) == (405, "POST")
    assert "Decisions are sent to this address" in text_of(response)


def test_every_page_of_a_decision_fits_a_strict_content_security_policy(decider: Client) -> None:
    task, late = requested(), requested()
    items = [token(task), token(late)]
    late.approve(actor="bob")
    pages = [
        decider.get(TASKS),
        decider.get(QUEUE),
        decider.get(f"{TASKS}{task.pk}/change/"),
        decider.get(URL),
        decider.post(URL, {"decision": "approve", "item": items}),
        decider.post(URL, sent("approve", *items, reason="")),
        decider.post(URL, sent("approve", *items)),
    ]
    for page in pages:
        assert inline_code(page) == []
        assert "audit/decide.css" in page.content.decode()
    assert "1 done, 1 not" in text_of(pages[-1])
    assert claimed(task).status == "executing"
