"""Deciding in the browser: what is shown before, that it is asked twice, and what is said after."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, override_settings
from django.utils import timezone

from audit.admin.decide.selection import MOST_ITEMS
from audit.decisions import MAX_REASON
from audit.models import ExecutionLog, PauseQueueEntry, Task
from tests.support.deciding import QUEUE, TASKS, URL, form_of, messages_of, sent, token
from tests.support.factories import entry_of, log_of, requested, task_in, unchanged
from tests.support.pages import HOSTILE, asking, inline_code, past, text_of

pytestmark = pytest.mark.django_db


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
    assert messages_of(decider, response) == ["success: 2 tasks approved."]
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
        ("approved", ["reject", "pause"]),
        ("executing", ["request_cancel"]),
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
        [message] = messages_of(decider, response)
        assert message.startswith("success: “Deploy Uptime Kuma”: "), message
        assert "so" in text_of(decider.get(here))
        task.refresh_from_db()
        assert (task.status, task.actor if task.status != "paused" else entry_of(task).actor) == (
            {
                "approve": "approved",
                "resume": "approved",
                "defer": "paused",
                "pause": "paused",
                "request_cancel": "executing",
            }.get(decision, "rejected"),
            "decider",
        )


def test_many_are_confirmed_and_reported_in_the_order_they_were_chosen_in(decider: Client) -> None:
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
    assert messages_of(decider, response) == ["success: “is free”: held."]
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


def test_a_list_without_anything_to_decide_offers_nothing(decider: Client) -> None:
    past(1)
    assert "audit-decide" not in decider.get(TASKS).content.decode()
    requested()
    assert 'id="audit-decide"' in decider.get(TASKS).content.decode()


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
    items = [f"{number:032x}.1" for number in range(MOST_ITEMS)]
    with unchanged(task):
        [message] = messages_of(decider, decider.post(URL, sent("approve", *items, task)))
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
def test_what_no_page_sends_is_reported_and_changes_nothing(
    decider: Client, wrong: dict[str, Any], message: str, confirmed: str | None
) -> None:
    task = requested()
    form = sent("approve", task) | wrong
    if confirmed is None:
        del form["confirmed"]
    with unchanged(task):
        [shown] = messages_of(decider, decider.post(URL, form))
    assert shown.startswith(f"error: {message}")
    paused = task_in("paused")
    with unchanged(paused):
        [shown] = messages_of(decider, decider.post(URL, sent("approve", paused)))
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


def test_a_time_is_reported_and_read_in_the_time_zone_of_the_page(decider: Client) -> None:
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
        ("zork", "That is not a date and time."),
        ("2020-01-01T00:00", "That time is past"),
        ("0001-01-01T00:00", "must be between"),
        ("9999-12-31T23:59", "must be between"),
        ("99999-12-31T23:59", "That is not a date and time."),
        ("2100-02-30T00:00", "That is not a date and time."),
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


def test_people_are_reported_what_they_requested_themselves(decider: Client) -> None:
    mine, other = requested(actor="decider", summary="mine"), requested(actor="Decider", summary="other")
    for task, own in ((mine, True), (other, False)):
        for decision in ("approve", "reject"):
            text = text_of(decider.post(URL, {"decision": decision, "item": token(task)}))
            assert ("You requested this task." in text) == own
    with override_settings(AUDIT={"DECIDE_OWN": False}), unchanged(mine):
        text = text_of(decider.post(URL, {"decision": "approve", "item": [token(mine), token(other)]}))
        assert "You requested it; somebody else has to decide that it runs." in text
        [message] = messages_of(decider, decider.post(URL, sent("approve", mine)))
        assert message.endswith("You requested it; somebody else has to decide that it runs.")
    with override_settings(AUDIT={"DECIDE_OWN": False}):
        assert messages_of(decider, decider.post(URL, sent("reject", mine))) == ["success: “mine”: rejected."]


def test_a_user_whose_name_cannot_be_an_actor_decides_nothing(decider: Client) -> None:
    User.objects.filter(username="decider").update(username=" ")
    task = requested()
    with unchanged(task):
        [message] = messages_of(decider, decider.post(URL, sent("approve", task)))
    assert message.startswith("error: “Deploy Uptime Kuma”: actor: must not be empty")
