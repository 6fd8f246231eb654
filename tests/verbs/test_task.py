"""Every verb of a task: one statement, the instance equal to its row, the story in the log."""

from datetime import timedelta

import pytest
from django.utils import timezone

from audit.exceptions import ConflictingTask, LeaseLost, TaskFrozen
from audit.ids import uuid7
from audit.models import Task
from audit.status import FINISHED, LIVE, Status
from tests.support.factories import assert_same, claimed, entry_of, log_of, requested, sql, task_in, unchanged

pytestmark = pytest.mark.django_db


@pytest.fixture
def one(django_assert_num_queries):
    """Exactly one query in the block."""
    return lambda: django_assert_num_queries(1)


def test_request_is_one_statement_and_gives_the_row(one):
    with one():
        task = Task.objects.request(
            "deploy",
            summary="Deploy Uptime Kuma",
            services=["kuma", 'we"ird\\', "a,b", "{}", "NULL", "ü", "kuma"],
            plan={"a": [1, 2.5, None, True, "é"]},
            priority=2,
            actor="alice",
            correlation_id="c",
            estimated_resources={"wall_s": 30},
            suggestions=[{"suggestion": "x"}],
            on_expiry="fail",
            parent=uuid7(),
        )
    assert_same(task)
    assert (task.status, task.revision, task.requested_by, task.actor) == ("pending", 1, "alice", "alice")
    assert task.services_touched == ["kuma", 'we"ird\\', "a,b", "{}", "NULL", "ü"]
    assert task.available_at == task.created_at
    assert task.pk.version == 7
    assert log_of(task) == [("transition", None, "pending", "alice")]


def test_a_request_of_nothing_but_an_action(one):
    with one():
        task = Task.objects.request("rotate-key")
    assert_same(task)
    assert (task.plan, task.services_touched, task.priority, task.requested_by) == (None, [], 3, "")
    assert task.actor == "db:" + sql("SELECT session_user::text")[0][0]


def test_approve(one):
    task = requested()
    with one():
        task.approve(actor="bob")
    assert_same(task)
    assert (task.status, task.decided_by, task.actor, task.revision) == ("approved", "bob", "bob", 2)
    assert log_of(task)[-1] == ("transition", "pending", "approved", "bob")


@pytest.mark.parametrize("status", [Status.PENDING, Status.APPROVED, Status.PAUSED])
def test_reject(one, status):
    task = task_in(status)
    with one():
        task.reject(actor="bob", reason="no budget")
    assert_same(task)
    assert task.outcome == {"success": False, "error_type": "Rejected", "output_summary": "no budget"}
    assert log_of(task)[-1] == ("transition", status, "rejected", "bob")
    assert not hasattr(Task.objects.get(pk=task.pk), "pause_entry")


def test_claim(one):
    task = task_in(Status.APPROVED)
    with one():
        [claim] = Task.objects.claim("orch-1", lease=timedelta(seconds=90))
    assert claim == task
    assert_same(claim)
    assert (claim.status, claim.claimed_by, claim.attempt, claim.actor) == ("executing", "orch-1", 1, "orch-1")
    assert claim.claim_token is not None
    assert abs(claim.lease_expires_at - claim.started_at - timedelta(seconds=90)) < timedelta(seconds=5)


def test_heartbeat_prolongs_and_says_of_a_wish_to_stop(one):
    task = task_in(Status.EXECUTING)
    before = task.lease_expires_at
    with one():
        assert task.heartbeat(lease=timedelta(hours=1)) is False
    assert_same(task)
    assert task.lease_expires_at > before
    longest = task.lease_expires_at
    task.heartbeat(lease=timedelta(seconds=1))
    assert task.lease_expires_at == longest
    person = Task.objects.get(pk=task.pk)
    with one():
        person.request_cancel(actor="bob", reason="wrong host")
    assert_same(person)
    first = person.cancel_requested_at
    person.request_cancel(actor="carol")
    assert person.cancel_requested_at == first
    assert task.heartbeat() is True
    row = task.execution_log.filter(action="request-cancel").first()
    assert (row.kind, row.actor, row.output_summary) == ("note", "bob", "wrong host")


@pytest.mark.parametrize("status", LIVE)
def test_touch_adds_each_service_once(one, status):
    task = task_in(status, services=["kuma"])
    with one():
        task.touch("dns", "kuma", "dns", "mail", actor="carol")
    assert_same(task)
    assert task.services_touched == ["kuma", "dns", "mail"]
    assert task.actor == "carol"


@pytest.mark.parametrize("status", LIVE)
def test_log_writes_numbered_steps(one, status):
    task = task_in(status)
    with one():
        first = task.log("dig", duration_ms=812, output_summary="ok", detail={"exit": 0})
    assert_same(first)
    assert (first.kind, first.step_number, first.duration_ms, first.detail) == ("step", 1, 812, {"exit": 0})
    assert (first.revision, first.attempt) == (task.revision, task.attempt)
    assert first.actor == (task.claimed_by or first.actor)
    assert task.log("fill").step_number == 2
    assert task.log("cover", step_number=9).step_number == 9
    assert task.log("plant").step_number == 10
    assert_same(task)


def test_release(one):
    task = task_in(Status.EXECUTING)
    with one():
        task.release()
    assert_same(task)
    assert (task.status, task.claim_token, task.claimed_by, task.lease_expires_at) == ("approved", None, "", None)
    assert log_of(task)[-1] == ("transition", "executing", "approved", "orch-1")
    task = claimed(task, "orch-2")
    assert task.attempt == 2
    with one():
        task.release(reason="the host is away")
    assert_same(task)
    assert [row[0] for row in log_of(task)[-2:]] == ["note", "transition"]
    note = task.execution_log.get(action="release")
    assert (note.output_summary, note.actor, note.attempt) == ("the host is away", "orch-2", 2)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (None, {"success": True}),
        ({"n": 1}, {"success": True, "n": 1}),
        ({"success": False}, {"success": False}),
        ([1, 2], [1, 2]),
        ("done", "done"),
        (0, 0),
        (False, False),
        ({}, {"success": True}),
    ],
)
def test_complete(one, given, stored):
    task = task_in(Status.EXECUTING)
    with one():
        task.complete(given, resources={"wall_s": 2.5}, suggestions=[{"suggestion": "s"}])
    assert_same(task)
    assert (task.status, task.outcome, task.resources_used) == ("completed", stored, {"wall_s": 2.5})
    assert task.suggestions == [{"suggestion": "s"}]
    assert log_of(task)[-1] == ("transition", "executing", "completed", "orch-1")
    assert task.claim_token is not None


def test_what_is_left_out_at_the_end_stays():
    task = task_in(Status.EXECUTING)
    task.complete()
    assert task.suggestions == [{"suggestion": "pin the version"}]
    assert task.resources_used is None


def test_fail_with_a_text(one):
    task = task_in(Status.EXECUTING)
    with one():
        task.fail("it broke", outcome={"exit": 3}, resources={"wall_s": 1})
    assert_same(task)
    assert task.outcome == {"success": False, "error_type": "Error", "output_summary": "it broke", "exit": 3}


def test_fail_with_an_exception_keeps_type_message_and_traceback():
    task = task_in(Status.EXECUTING)
    try:
        raise RuntimeError("lone \ud800 and NUL \0 here")
    except RuntimeError as error:
        task.fail(error)
    assert_same(task)
    assert task.outcome["error_type"] == "RuntimeError"
    assert task.outcome["output_summary"] == "lone \\ud800 and NUL \\0 here"
    assert "test_task.py" in task.outcome["traceback"]


def test_a_message_of_any_length_does_not_keep_a_failure_from_being_reported(settings):
    settings.AUDIT = {"TRACEBACK_CHARS": 1000, "MAX_JSON_BYTES": 10_000}
    task = task_in(Status.EXECUTING)
    task.fail(ValueError("x" * 50_000))
    assert task.status == "failed"
    assert task.outcome["output_summary"].endswith("… (50000 characters)")
    assert task.outcome["traceback"].startswith("…")


def test_paused_work_fails_without_a_claim(one):
    task = task_in(Status.PAUSED)
    with one():
        task.fail("given up", actor="bob")
    assert_same(task)
    assert log_of(task)[-1] == ("transition", "paused", "failed", "bob")


@pytest.mark.parametrize("status", Status.values)
def test_notes_reach_every_task(one, status):
    task = task_in(status)
    with one():
        row = task.note("looked at it", detail=[1], actor="carol")
    assert_same(row)
    assert (row.kind, row.output_summary, row.detail, row.actor) == ("note", "looked at it", [1], "carol")
    assert_same(task)


@pytest.mark.parametrize("status", Status.values)
def test_suggestions_reach_every_task_and_live_ones_carry_them(one, status):
    task = task_in(status)
    before = task.suggestions
    with one():
        row = task.suggest("cache it", reason="slow", actor="carol")
    assert_same(row)
    assert_same(task)
    assert (row.kind, row.detail) == ("suggestion", {"suggestion": "cache it", "reason": "slow"})
    if status in FINISHED:
        assert task.suggestions == before
        assert row.at > task.finished_at
    else:
        assert [each["suggestion"] for each in task.suggestions][-1] == "cache it"
        assert (task.actor, row.revision) == ("carol", task.revision)


def test_a_task_without_suggestions_gets_a_list():
    task = requested(suggestions=None)
    task.suggest("x")
    assert [sorted(each) for each in task.suggestions] == [["created_at", "reason", "suggestion"]]


def test_notes_on_a_missing_task_say_so():
    with pytest.raises(Task.DoesNotExist):
        Task(id=uuid7(), action="x").note("x")
    with pytest.raises(Task.DoesNotExist):
        Task(id=uuid7(), action="x").suggest("x")


# Repeating


@pytest.mark.parametrize("verb", ["complete", "fail"])
def test_repeating_the_end_with_its_token_is_success_and_changes_nothing(verb):
    task = task_in(Status.EXECUTING)
    twin = Task.objects.get(pk=task.pk)
    getattr(task, verb)()
    with unchanged(task):
        getattr(task, verb)()
        getattr(twin, verb)()
    assert_same(twin)
    assert twin.finished_at == task.finished_at
    other = "fail" if verb == "complete" else "complete"
    with pytest.raises(TaskFrozen) as caught:
        getattr(twin, other)()
    assert (caught.value.task_id, caught.value.status, caught.value.finished_at) == (
        task.pk, task.status, task.finished_at,
    )  # fmt: skip


@pytest.mark.parametrize("verb", ["complete", "fail"])
def test_repeating_the_end_with_another_outcome_is_refused(verb):
    task = task_in(Status.EXECUTING)
    end = {"complete": Task.complete, "fail": lambda task, outcome: Task.fail(task, "x", outcome=outcome)}[verb]
    twin = Task.objects.get(pk=task.pk)
    end(task, {"version": "2.0", "size": 1})
    with unchanged(task):
        end(twin, {"size": 1, "version": "2.0"})
        for other in ({"version": "3.0", "size": 1}, {"version": "2.0"}, {"version": "2.0", "size": True}):
            with pytest.raises(TaskFrozen):
                end(twin, other)
            with pytest.raises(TaskFrozen):
                end(Task.objects.get(pk=task.pk), other)


def test_repeating_the_end_with_another_token_is_not():
    task = task_in(Status.EXECUTING)
    zombie = Task.objects.get(pk=task.pk)
    task.release()
    second = claimed(task, "orch-2")
    for verb in (zombie.complete, zombie.fail, zombie.pause, zombie.heartbeat, zombie.release):
        with unchanged(second), pytest.raises(LeaseLost) as caught:
            verb()
        assert caught.value.claimed_by == "orch-2"
        assert caught.value.claim_token == zombie.claim_token
    with unchanged(second), pytest.raises(LeaseLost):
        zombie.log("x")
    with unchanged(second), pytest.raises(LeaseLost):
        zombie.touch("x")
    second.complete()
    with pytest.raises(TaskFrozen):
        zombie.complete()


def test_a_late_end_is_taken_while_the_token_fits():
    task = task_in(Status.APPROVED)
    [task] = Task.objects.claim("orch-1", lease=timedelta(microseconds=1))
    task.complete()
    assert_same(task)


def test_a_request_may_be_repeated_and_a_different_one_may_not(django_assert_num_queries):
    key = uuid7()
    task = requested(id=key)
    with django_assert_num_queries(3):
        assert requested(id=str(key)) == task
    for field, value in {
        "summary": "other",
        "action": "other",
        "plan": {"steps": ["pull", "run"], "ratio": 12.25},
        "priority": 3,
        "services": ["kuma"],
        "actor": "eve",
        "correlation_id": "other",
        "parent": uuid7(),
        "estimated_resources": {"wall_s": 31},
        "suggestions": None,
        "on_expiry": "fail",
        "available_at": timezone.now() + timedelta(days=1),
    }.items():
        with unchanged(task), pytest.raises(ConflictingTask) as caught:
            requested(id=key, **{field: value})
        expected = {"services": "services_touched", "actor": "requested_by"}.get(field, field)
        assert caught.value.fields == (expected,)
        assert caught.value.task_id == key


@pytest.mark.parametrize(
    "plan", [{"n": 1e23}, {"n": -0.0}, {"n": 10**40}, {"n": 12.5}, {"b": 1, "a": [None]}, "x", 0], ids=str
)
def test_a_repeated_document_is_the_same_whatever_the_database_makes_of_its_numbers(plan):
    task = requested(id=uuid7(), plan=plan, estimated_resources=plan)
    assert requested(id=task.pk, plan=plan, estimated_resources=plan) == task


@pytest.mark.parametrize(("plan", "other"), [(True, 1), ({"n": True}, {"n": 1}), ({"n": 1}, {"n": 1.0}), (0, False)])
def test_documents_that_are_equal_to_python_alone_are_different(plan, other):
    task = requested(id=uuid7(), plan=plan, estimated_resources=plan)
    with unchanged(task), pytest.raises(ConflictingTask) as caught:
        requested(id=task.pk, plan=other, estimated_resources=other)
    assert caught.value.fields == ("plan", "estimated_resources")


def test_a_request_may_be_repeated_when_the_task_has_moved_on():
    key = uuid7()
    task = requested(id=key)
    task.approve(actor="bob")
    task = claimed(task)
    task.touch("mail")
    task.suggest("x")
    task.pause(reason="insufficient_capacity", work_plan={"rest": 1})
    entry_of(task).resume(actor="bob")
    again = requested(id=key)
    assert_same(again)
    assert (again.status, again.work_plan) == ("approved", {"rest": 1})
    with pytest.raises(ConflictingTask) as caught:
        requested(id=key, summary="other", services=["kuma", "unknown"])
    assert caught.value.fields == ("summary", "services_touched")


@pytest.mark.parametrize("read", [("status", "revision"), ("status",)])
def test_an_instance_that_was_read_in_part_ends_equal_to_its_row(read):
    task = Task.objects.only("id", *read).get(pk=requested(summary="all of it").pk)
    task.approve(actor="bob")
    assert_same(task)
    task.reject(actor="carol", reason="no")
    assert (task.status, task.revision, task.decided_by) == ("rejected", 3, "bob")
