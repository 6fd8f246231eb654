"""Pausing, and every verb of a pause entry."""

import time
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.utils import timezone

from audit.context import actor
from audit.exceptions import IllegalTransition, InvalidValue, LeaseLost, StaleTask, TaskFrozen
from audit.models import PauseQueueEntry, Task
from audit.status import PauseReason, Status
from tests.support.factories import assert_same, claimed, entry_of, log_of, requested, sql, task_in, unchanged

pytestmark = pytest.mark.django_db


def _paused(**options):
    task = task_in(Status.EXECUTING)
    return task, task.pause(**options)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("verb", ["resume", "cancel"])
def test_the_end_of_a_pause_locks_the_task_before_the_entry(verb):
    """Every other step takes the two in this order. In another one, two of them would meet in a deadlock."""
    task, entry = _paused(reason="insufficient_capacity")
    other, beside = connection.copy(), connection.copy()
    try:
        with other.cursor() as holding, beside.cursor() as looking:
            [[waiting]] = sql("SELECT pg_backend_pid()")
            holding.execute("BEGIN")
            holding.execute("SELECT FROM audit_task WHERE id = %s FOR NO KEY UPDATE", [task.pk])

            def look() -> None:
                try:
                    for _ in range(6000):
                        looking.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [waiting])
                        if looking.fetchone() == (True,):
                            break
                        time.sleep(0.01)
                    # The one that waits for the task holds no lock of the entry yet.
                    looking.execute("SELECT FROM audit_pause_queue WHERE id = %s FOR UPDATE SKIP LOCKED", [entry.pk])
                    free.extend(looking.fetchall())
                finally:
                    holding.execute("ROLLBACK")

            free = []
            beside_it = Thread(target=look)
            beside_it.start()
            getattr(entry, verb)(actor="bob")
            beside_it.join()
    finally:
        other.close()
        beside.close()
    assert free == [()]


def _due(**options):
    task, _ = _paused(reason="insufficient_capacity", **options)
    [entry] = PauseQueueEntry.objects.filter(task=task).claim("orch-2")
    return task, entry


@pytest.mark.parametrize("status", [Status.EXECUTING, Status.APPROVED])
def test_pause_is_one_statement_and_gives_the_entry(status, django_assert_num_queries):
    task = task_in(status)
    with django_assert_num_queries(1):
        entry = task.pause(
            reason="awaiting_event", work_plan={"rest": [1, 2.5]}, priority=1, note="GPU busy", actor="eve"
        )
    assert_same(task)
    assert_same(entry)
    assert (task.status, task.claim_token, task.claimed_by, task.lease_expires_at) == ("paused", None, "", None)
    assert entry.task is task
    assert (entry.reason, entry.work_plan, entry.priority, entry.note) == (
        "awaiting_event", {"rest": [1, 2.5]}, 1, "GPU busy",
    )  # fmt: skip
    assert (entry.paused_by, entry.actor, entry.revision, entry.due_at) == ("eve", "eve", 1, entry.paused_at)
    row = task.execution_log.latest("id")
    assert (row.from_status, row.to_status, row.actor) == (status, "paused", "eve")
    assert {key: row.detail[key] for key in ("reason", "note", "priority", "work_plan")} == {
        "reason": "awaiting_event", "note": "GPU busy", "priority": 1, "work_plan": {"rest": [1, 2.5]},
    }  # fmt: skip


def test_the_worker_pauses_when_nobody_else_is_named():
    _, entry = _paused()
    assert (entry.reason, entry.paused_by, entry.priority, entry.work_plan) == ("manual_pause", "orch-1", 2, None)


@pytest.mark.parametrize("reason", PauseReason.values)
@pytest.mark.parametrize("timed", [None, timedelta(hours=1), datetime(2090, 1, 1, tzinfo=UTC)])
@pytest.mark.parametrize("held", [None, True, False])
def test_only_capacity_and_a_time_let_an_entry_go_by_itself(reason, timed, held):
    if reason == "awaiting_approval" and held is False:
        with pytest.raises(InvalidValue, match=r"^held"):
            _paused(reason=reason, resume_after=timed, held=held)
        return
    _, entry = _paused(reason=reason, resume_after=timed, held=held)
    assert_same(entry)
    expected = held if held is not None else timed is None and reason != "insufficient_capacity"
    expected = expected or reason == "awaiting_approval"
    assert entry.held is expected
    assert entry.due_at == (entry.resume_after if timed else entry.paused_at)
    if isinstance(timed, timedelta):
        assert abs(entry.due_at - entry.paused_at - timed) < timedelta(seconds=5)
    elif timed:
        assert entry.resume_after == timed


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"reason": "tired"}, "reason"),
        ({"reason": None}, "reason"),
        ({"priority": 0}, "priority"),
        ({"priority": True}, "priority"),
        ({"held": "yes"}, "held"),
        ({"held": 1}, "held"),
        ({"event": None}, "event"),
        ({"event": "x" * 201}, "event"),
        ({"event": "\0"}, "event"),
        ({"event": "build-42", "reason": "insufficient_capacity"}, "reason"),
        ({"event": "build-42", "reason": "awaiting_approval"}, "reason"),
        ({"resume_after": datetime(2090, 1, 1)}, "resume_after"),  # noqa: DTZ001 - naive on purpose
        ({"resume_after": "tomorrow"}, "resume_after"),
        ({"resume_after": timedelta.max}, "resume_after"),
        ({"resume_after": -timedelta(1)}, "resume_after"),
        ({"note": "\0"}, "note"),
        ({"note": None}, "note"),
        ({"work_plan": {1: 2}}, "work_plan"),
        ({"work_plan": float("nan")}, "work_plan"),
        ({"actor": ""}, "actor"),
        ({"actor": "x" * 501}, "actor"),
    ],
)
def test_a_pause_that_could_not_be_stored_is_refused_first(options, field, django_assert_num_queries):
    task = task_in(Status.EXECUTING)
    with django_assert_num_queries(0), pytest.raises(InvalidValue, match=f"^{field}") as caught:
        task.pause(**options)
    assert caught.value.field == field
    assert_same(task)


def test_due_is_what_is_neither_held_nor_later():
    _, due = _paused(reason="insufficient_capacity")
    _paused(reason="insufficient_capacity", resume_after=timedelta(hours=1))
    _paused(reason="manual_pause")
    assert list(PauseQueueEntry.objects.due()) == [due]


def test_claims_of_entries_go_by_priority_and_lease(django_assert_num_queries):
    _, later = _paused(reason="insufficient_capacity", priority=5)
    _, sooner = _paused(reason="insufficient_capacity", priority=1)
    _paused(reason="manual_pause")
    with django_assert_num_queries(1):
        entries = PauseQueueEntry.objects.claim("orch-2", limit=10, lease=timedelta(seconds=30))
    assert entries == [sooner, later]
    for entry in entries:
        assert_same(entry)
        assert (entry.claimed_by, entry.attempt, entry.actor, entry.revision) == ("orch-2", 1, "orch-2", 2)
    assert PauseQueueEntry.objects.claim("orch-3", limit=10) == []
    sql("UPDATE audit_pause_queue SET lease_expires_at = now() - interval '1 second' WHERE id = %s", [later.pk])
    [again] = PauseQueueEntry.objects.claim("orch-3", limit=10)
    assert (again.pk, again.attempt) == (later.pk, 2)
    with pytest.raises(LeaseLost) as caught:
        entries[1].resume()
    assert (caught.value.claimed_by, caught.value.task_id) == ("orch-3", later.task_id)


def test_claims_of_entries_honour_filters():
    task, entry = _paused(reason="insufficient_capacity")
    _paused(reason="insufficient_capacity")
    queryset = PauseQueueEntry.objects.filter(task__action="deploy", task__services_touched__contains=["kuma"])
    assert queryset.filter(task=task).claim("w", limit=5) == [entry]
    assert PauseQueueEntry.objects.none().claim("w") == []
    assert len(queryset.exclude(reason="manual_pause").claim("w", limit=5)) == 1


@pytest.mark.parametrize("remains", [{"rest": 1}, None])
def test_resume_gives_the_work_back_with_what_remains(remains, django_assert_num_queries):
    task, entry = _due(work_plan=remains)
    with django_assert_num_queries(1):
        resumed = entry.resume()
    assert resumed == task
    assert_same(resumed)
    assert (resumed.status, resumed.work_plan, resumed.actor) == ("approved", remains, "orch-2")
    assert resumed.plan == {"steps": ["pull", "run"], "ratio": 12.5}
    assert not PauseQueueEntry.objects.filter(task=task).exists()
    assert log_of(task)[-1] == ("transition", "paused", "approved", "orch-2")
    assert claimed(resumed, "orch-3").attempt == 2


def test_cancel_rejects_the_task_with_the_reason(django_assert_num_queries):
    task, entry = _due()
    with django_assert_num_queries(1):
        cancelled = entry.cancel(reason="too late", actor="bob")
    assert_same(cancelled)
    assert (cancelled.status, cancelled.actor) == ("rejected", "bob")
    assert cancelled.outcome == {"success": False, "error_type": "Cancelled", "output_summary": "too late"}
    assert not PauseQueueEntry.objects.filter(task=task).exists()


@pytest.mark.parametrize(
    "until", [timedelta(minutes=5), datetime(2090, 1, 1, tzinfo=UTC), datetime(2001, 1, 1, tzinfo=UTC)]
)
def test_defer_sets_the_time_and_gives_the_claim_back(until, django_assert_num_queries):
    task, entry = _due()
    with django_assert_num_queries(1):
        entry.defer(until, actor="bob")
    assert_same(entry)
    assert (entry.held, entry.claim_token, entry.claimed_by, entry.lease_expires_at) == (False, None, "", None)
    assert entry.due_at == entry.resume_after
    expected = timezone.now() + until if isinstance(until, timedelta) else until
    assert abs(entry.due_at - expected) < timedelta(seconds=5)
    row = task.execution_log.latest("id")
    assert (row.kind, row.action, row.actor, row.detail["held"]) == ("note", "defer", "bob", False)


def test_hold_and_release(django_assert_num_queries):
    task, entry = _due()
    with django_assert_num_queries(1):
        entry.release()
    assert_same(entry)
    assert (entry.claim_token, entry.held, entry.actor) == (None, False, "orch-2")
    with django_assert_num_queries(1):
        entry.hold(actor="bob")
    assert_same(entry)
    assert entry.held
    assert [row.action for row in task.execution_log.filter(kind="note")] == ["hold"]
    entry.defer(timedelta(seconds=1))
    assert not entry.held


def test_a_person_overrules_a_worker_and_the_worker_hears_of_it():
    task, entry = _due()
    entry_of(task).hold(actor="bob")
    for call in (entry.resume, entry.cancel, entry.hold, entry.release, lambda: entry.defer(timedelta(1))):
        with unchanged(task), pytest.raises(LeaseLost) as caught:
            call()
        assert (caught.value.claimed_by, caught.value.claim_token) == ("", entry.claim_token)


@pytest.mark.parametrize("verb", ["resume", "cancel", "hold", "release", "defer"])
def test_a_verb_of_an_entry_that_is_gone_says_why(verb):
    arguments = [timedelta(1)] if verb == "defer" else []
    task, entry = _paused()
    entry_of(task).resume(actor="bob")
    with unchanged(task), pytest.raises(IllegalTransition, match="not paused any more") as caught:
        getattr(entry, verb)(*arguments)
    assert (caught.value.task_id, caught.value.from_status) == (task.pk, "approved")
    task.refresh_from_db()
    task.pause(actor="bob")
    # Another entry, at the same revision as the one that is gone.
    with (
        unchanged(task),
        pytest.raises(StaleTask, match=r"The pause entry of task .* is gone, .* at revision 1\.") as stale,
    ):
        getattr(entry, verb)(*arguments)
    assert (stale.value.task_id, stale.value.revision, stale.value.current_revision) == (task.pk, 1, None)
    entry_of(task).cancel(actor="bob")
    with unchanged(task), pytest.raises(TaskFrozen):
        getattr(entry, verb)(*arguments)
    assert not connection.needs_rollback


@pytest.mark.parametrize(
    ("until", "words"),
    [
        (timedelta(0), "zero"),
        (-timedelta(1), "zero"),
        (timedelta.max, "thousand years"),
        (datetime(2030, 1, 1), "has no time zone"),  # noqa: DTZ001 - naive on purpose
        ("tomorrow", "datetime"),
        (None, "datetime"),
        (datetime(1, 1, 1, tzinfo=UTC), "between"),
        (datetime.max.replace(tzinfo=UTC), "between"),
    ],
)
def test_defer_refuses_what_is_no_moment(until, words, django_assert_num_queries):
    _, entry = _paused()
    with django_assert_num_queries(0), pytest.raises(InvalidValue, match=words) as caught:
        entry.defer(until)
    assert (caught.value.field, caught.value.value) == ("until", until)


def test_the_actor_of_an_entrys_verb():
    role = "db:" + sql("SELECT session_user::text")[0][0]
    task, entry = _paused()
    entry.hold()
    assert entry.actor == role
    with actor("block"):
        entry.hold()
        assert entry.actor == "block"
        entry.hold(actor="argument")
        assert entry.actor == "argument"
    with pytest.raises(InvalidValue, match="actor"):
        entry.hold(actor=" ")
    assert {row.actor for row in task.execution_log.filter(action="hold")} <= {role, "block", "argument"}


def test_pause_and_resume_many_times_leave_a_whole_story():
    task = requested()
    task.approve(actor="bob")
    for number in range(3):
        task = claimed(task)
        task.pause(reason="insufficient_capacity", work_plan={"left": 3 - number})
        [entry] = PauseQueueEntry.objects.claim("orch-2")
        task = entry.resume()
    assert (task.plan, task.work_plan) == ({"steps": ["pull", "run"], "ratio": 12.5}, {"left": 1})
    assert task.attempt == 3
    work_plans = [row.detail["work_plan"] for row in task.execution_log.filter(to_status="paused").order_by("id")]
    assert work_plans == [{"left": 3}, {"left": 2}, {"left": 1}]


def test_a_pause_that_says_no_plan_keeps_what_remained():
    task = task_in(Status.APPROVED)
    task.pause(work_plan={"left": 1})
    task = entry_of(task).resume(actor="bob")
    task.pause(note="again")
    assert entry_of(task).work_plan == {"left": 1}
    task = entry_of(task).resume(actor="bob")
    assert task.work_plan == {"left": 1}
    task = claimed(task)
    sql("UPDATE audit_task SET status = 'paused' WHERE id = %s", [task.pk])
    assert entry_of(task).work_plan == {"left": 1}


def test_async_twins_of_entries():
    async def story():
        [entry] = await PauseQueueEntry.objects.aclaim("w")
        await entry.arelease()
        await entry.ahold(actor="a")
        await entry.adefer(timedelta(seconds=1))
        return await entry.aresume(actor="b")

    _paused(reason="insufficient_capacity")
    assert async_to_sync(story)().status == "approved"
    task, entry = _paused()
    assert async_to_sync(entry.acancel)(reason="x").status == "rejected"
    assert Task.objects.get(pk=task.pk).status == "rejected"


def test_no_entry_is_remembered_that_the_database_removed():
    task = task_in(Status.PAUSED)
    assert task.pause_entry.held
    task.fail("given up")
    assert not hasattr(task, "pause_entry")
