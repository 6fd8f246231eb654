"""Events: the first emit is kept, whoever waits goes on, and learns what came of it."""

from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, connection, transaction

import audit
from audit.context import actor
from audit.events import MAX_PAYLOAD_BYTES, AwaitedEvent, emit_event
from audit.exceptions import AppendOnly, InvalidValue, LeaseLost, TaskFrozen
from audit.models import Event, PauseQueueEntry, Task
from audit.recovery import recover
from audit.status import Status
from tests.support.factories import assert_same, claimed, entry_of, log_of, refused, sql, task_in, unchanged
from tests.support.sessions import session

pytestmark = pytest.mark.django_db


def _waiting(event="build-42", **options):
    task = task_in(Status.EXECUTING)
    return task, task.pause(event=event, **options)


def test_a_pause_on_an_event_is_held_until_it_comes(django_assert_num_queries):
    task = task_in(Status.EXECUTING)
    with django_assert_num_queries(2):  # the second looks for the event
        entry = task.pause(event="build-42", work_plan=["deploy"])
    assert_same(entry)
    assert (entry.reason, entry.event, entry.held) == ("awaiting_event", "build-42", True)
    assert task.execution_log.latest("id").detail["event"] == "build-42"
    assert task.awaited_event() is None
    with django_assert_num_queries(2):
        event = emit_event("build-42", {"sha": "abc"}, actor="ci")
    assert (event.name, event.payload, event.emitted_by) == ("build-42", {"sha": "abc"}, "ci")
    assert_same(event)
    task.refresh_from_db()
    assert (task.status, task.work_plan, task.actor) == ("approved", ["deploy"], "ci")
    assert not PauseQueueEntry.objects.exists()
    assert task.awaited_event() == AwaitedEvent(name="build-42", payload={"sha": "abc"}, timed_out=False, emitted=True)
    assert task.awaited_event().reason == "emitted"
    assert [row[0] for row in log_of(task)[-2:]] == ["note", "transition"]
    note = task.execution_log.get(action="event")
    assert (note.actor, note.output_summary, note.detail["emitted_by"]) == ("ci", "build-42", "ci")


def test_the_first_emit_is_kept_and_a_later_one_changes_nothing():
    first = emit_event("build-42", 1, actor="ci")
    again = emit_event("build-42", 2, actor="mallory")
    assert (again.pk, again.payload, again.emitted_by, again.emitted_at) == (first.pk, 1, "ci", first.emitted_at)
    assert Event.objects.count() == 1


def test_the_work_goes_on_at_once_if_its_event_came_first():
    emit_event("build-42", 1, actor="ci")
    task = task_in(Status.EXECUTING)
    entry = task.pause(event="build-42", work_plan=["deploy"], actor="orch-1")
    assert (entry.event, entry.held) == ("build-42", True)
    assert (task.status, task.work_plan, task.actor, task.claim_token) == ("approved", ["deploy"], "orch-1", None)
    assert_same(task)
    assert not PauseQueueEntry.objects.exists()
    assert task.awaited_event() == AwaitedEvent(name="build-42", payload=1, timed_out=False, emitted=True)
    assert [row[1:3] for row in log_of(task)[-3:]] == [("executing", "paused"), (None, None), ("paused", "approved")]
    # Another event is another's.
    other, _ = _waiting("build-4")
    assert other.status == "paused"


def _stored_beside_its_event():
    """As a process leaves it that is killed between its pause and its look."""
    task, entry = _waiting()
    sql("INSERT INTO audit_event (name, payload) VALUES ('build-42', '1')")
    return task, entry


def test_what_was_left_waiting_is_found_by_a_later_emit_and_by_recovery():
    task, _ = _stored_beside_its_event()
    assert emit_event("build-42", 2, actor="mallory").payload == 1
    task.refresh_from_db()
    assert (task.status, task.actor) == ("approved", "mallory")
    assert task.awaited_event().payload == 1


def test_what_was_left_waiting_is_found_by_the_next_recovery():
    task, _ = _stored_beside_its_event()
    assert recover().events == (task.pk,)
    task.refresh_from_db()
    assert (task.status, task.actor) == ("approved", "audit:recovery")
    assert task.awaited_event() == AwaitedEvent(name="build-42", payload=1, timed_out=False, emitted=True)
    assert recover().total == 0


def test_everybody_who_waits_for_this_event_goes_on_and_nobody_else():
    waiting = [_waiting()[0] for _ in range(3)]
    other, _ = _waiting("build-43")
    unnamed = task_in(Status.EXECUTING)
    unnamed.pause(reason="awaiting_event")
    by_hand = task_in(Status.PAUSED)
    with unchanged(other, unnamed, by_hand):
        emit_event("build-42")
    assert set(Task.objects.filter(status="approved").values_list("pk", flat=True)) == {task.pk for task in waiting}


def test_a_wait_that_timed_out_says_so():
    task, entry = _waiting(resume_after=timedelta(microseconds=1))
    assert not entry.held
    assert recover().timeouts == (task.pk,)
    task.refresh_from_db()
    assert task.status == "approved"
    assert task.awaited_event() == AwaitedEvent(name="build-42", payload=None, timed_out=True, emitted=False)
    assert task.awaited_event().reason == "timed_out"


def test_a_resumer_that_takes_the_due_entry_times_it_out_as_well():
    task, _ = _waiting(resume_after=timedelta(microseconds=1))
    [entry] = PauseQueueEntry.objects.claim("orch-2")
    assert recover().total == 0  # whoever has claimed it decides
    entry.resume()
    assert task.awaited_event().timed_out
    # Not when the event came meanwhile.
    task, _ = _waiting("other", resume_after=timedelta(microseconds=1))
    [entry] = PauseQueueEntry.objects.claim("orch-2")
    emit_event("other", "in time")
    with pytest.raises(LeaseLost):
        entry.resume()
    assert task.awaited_event() == AwaitedEvent(name="other", payload="in time", timed_out=False, emitted=True)


def test_a_person_may_let_it_go_on_before():
    task, _ = _waiting(resume_after=timedelta(hours=1))
    entry_of(task).resume(actor="bob")
    assert task.awaited_event() == AwaitedEvent(name="build-42", payload=None, timed_out=False, emitted=False)
    assert task.awaited_event().reason == "resumed"


@pytest.mark.parametrize("way", ["raw", "queryset", "save"])
def test_whatever_moves_the_task_the_waiter_learns(way):
    task, _ = _waiting()
    sql("INSERT INTO audit_event (name, payload) VALUES ('build-42', '[1]')")
    if way == "raw":
        sql("UPDATE audit_task SET status = 'approved' WHERE id = %s", [task.pk])
    elif way == "queryset":
        Task.objects.filter(pk=task.pk).update(status="approved")
    else:
        task.status = "approved"
        task.save()
    assert task.awaited_event().payload == [1]


def test_a_later_pause_for_something_else_has_no_event():
    task, _ = _waiting()
    emit_event("build-42")
    task = claimed(task)
    task.retry("the answer stays for the next attempt")
    assert task.awaited_event() is not None
    claimed(task).pause()
    assert task.awaited_event() is None
    entry_of(task).resume()
    assert task.awaited_event() is None


def test_work_that_is_given_up_is_told_nothing():
    task, entry = _waiting()
    entry.cancel(reason="no")
    emit_event("build-42")
    assert task.awaited_event() is None
    assert task.execution_log.filter(action="event").count() == 0
    with pytest.raises(TaskFrozen):
        entry.resume()


@pytest.mark.parametrize(
    ("name", "payload", "field"),
    [
        ("", None, "name"),
        (" ", None, "name"),
        ("x" * 201, None, "name"),
        ("\0", None, "name"),
        (None, None, "name"),
        ("a", float("nan"), "payload"),
        ("a", object(), "payload"),
        ("a", "x" * MAX_PAYLOAD_BYTES, "payload"),
        ("a", "é" * (MAX_PAYLOAD_BYTES // 2), "payload"),
    ],
)
def test_what_could_not_be_stored_is_refused_first(name, payload, field, django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(InvalidValue, match=f"^{field}"):
        emit_event(name, payload)


def test_who_emitted():
    with actor("ci"):
        assert emit_event("a").emitted_by == "ci"
    [[role]] = sql("SELECT session_user")
    event = emit_event("b")
    assert (event.emitted_by, event.db_role) == (f"db:{role}", role)


def test_an_emit_that_is_rolled_back_leaves_everybody_waiting():
    task, _ = _waiting()
    with unchanged(task), transaction.atomic():
        emit_event("build-42")
        transaction.set_rollback(True)
    assert not Event.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_emit_waits_for_nobody_who_decides_about_an_entry():
    task = claimed(task_in(Status.APPROVED))
    task.pause(event="build-42")
    with session(connection.settings_dict["USER"], "READ COMMITTED") as other:
        other.execute("SELECT FROM audit_pause_queue FOR UPDATE")
        sql("SET statement_timeout = '20s'")
        try:
            emit_event("build-42")
        finally:
            sql("RESET statement_timeout")
    task.refresh_from_db()
    assert task.status == Status.PAUSED
    assert recover().events == (task.pk,)


def test_models_of_events_are_append_only():
    event = emit_event("a")
    event.payload = {"forged": True}
    with refused(match=r"audit_event \d+: an event takes no UPDATE \(name a\)"):
        event.save()
    with refused():
        Event.objects.filter(pk=event.pk).update(name="b")
    with pytest.raises(AppendOnly), transaction.atomic():
        event.delete()
    event.refresh_from_db()
    assert event.payload is None
    with pytest.raises(IntegrityError), transaction.atomic():
        Event.objects.create(name="a")
    Event(name="c").full_clean()


def test_async():
    task, _ = _waiting()
    assert async_to_sync(audit.aemit_event)("build-42", 1).payload == 1
    assert async_to_sync(task.aawaited_event)().payload == 1
    assert audit.emit_event is emit_event
