"""Work that went wrong and is given back to be tried again."""

from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync

from audit.exceptions import IllegalTransition, InvalidValue, LeaseLost, TaskFrozen
from audit.models import ExecutionLog, Task
from audit.recording import record
from audit.status import Status
from tests.support.factories import assert_same, claimed, finished, log_of, sql, task_in, unchanged

pytestmark = pytest.mark.django_db


def _raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_a_retry_is_one_statement_and_counts_a_failure(django_assert_num_queries):
    task = task_in(Status.EXECUTING)
    with django_assert_num_queries(1):
        row = task.retry(_raised(RuntimeError("no route to host")), delay=timedelta(minutes=5))
    assert_same(task)
    assert (task.status, task.failures, task.attempt, task.expiries) == ("approved", 1, 1, 0)
    assert (task.claimed_by, task.claim_token, task.lease_expires_at, task.outcome) == ("", None, None, None)
    [[waits]] = sql("SELECT available_at - now() > interval '4 minutes' FROM audit_task")
    assert waits
    assert Task.objects.claim("orch-2") == []
    assert log_of(task)[-2:] == [("transition", "executing", "approved", "orch-1"), ("note", None, None, "orch-1")] or (
        log_of(task)[-2:] == [("note", None, None, "orch-1"), ("transition", "executing", "approved", "orch-1")]
    )
    assert row == ExecutionLog.objects.get(task=task, action="retry")
    assert (row.kind, row.attempt, row.output_summary) == ("note", 1, "no route to host")
    assert {key: row.detail[key] for key in ("error_type", "message", "attempt", "failures", "delay_s")} == {
        "error_type": "RuntimeError", "message": "no route to host", "attempt": 1, "failures": 1, "delay_s": 300.0,
    }  # fmt: skip
    assert "raise error" in row.detail["traceback"]


@pytest.mark.parametrize("delay", [None, timedelta(0)])
def test_without_a_delay_it_is_claimable_at_once_and_failures_add_up(delay):
    task = task_in(Status.EXECUTING)
    for expected in (1, 2, 3):
        row = task.retry("again", delay=delay, outcome={"error_type": "Flaky", "http": 503})
        assert (task.failures, row.detail["failures"], row.attempt) == (expected, expected, expected)
        assert (row.detail["error_type"], row.detail["http"], row.detail["delay_s"]) == ("Flaky", 503, 0.0)
        task = claimed(task)
    assert (task.attempt, task.failures) == (4, 3)
    task.release()
    assert (claimed(task).failures, task.expiries) == (3, 0)


def test_a_retry_is_fenced():
    task = task_in(Status.EXECUTING)
    late = Task.objects.get(pk=task.pk)
    task.release()
    other = claimed(task, "orch-2")
    with unchanged(task), pytest.raises(LeaseLost):
        late.retry("late")
    other.complete()
    with unchanged(task), pytest.raises(TaskFrozen):
        late.retry("late")


@pytest.mark.parametrize("status", [Status.PENDING, Status.APPROVED, Status.PAUSED])
def test_only_executing_work_is_retried(status):
    task = task_in(status)
    with unchanged(task), pytest.raises((IllegalTransition, LeaseLost)):
        task.retry("why")
    done = finished()
    with unchanged(done), pytest.raises(TaskFrozen):
        done.retry("why")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"delay": -timedelta(seconds=1)}, "delay"),
        ({"delay": 5}, "delay"),
        ({"delay": 0}, "delay"),
        ({"outcome": []}, "outcome"),
        ({"outcome": {"output_summary": 1}}, "outcome"),
        ({"outcome": {"output_summary": "\0"}}, "outcome"),
        ({"outcome": {1: 1}}, "outcome"),
        ({"error": "\0"}, "error"),
        ({"actor": ""}, "actor"),
    ],
)
def test_what_could_not_be_stored_is_refused_first(options, field, django_assert_num_queries):
    task = task_in(Status.EXECUTING)
    with django_assert_num_queries(0), pytest.raises(InvalidValue, match=f"^{field}"):
        task.retry(**options)
    assert_same(task)


def test_a_count_at_its_end_stops_nothing():
    task = task_in(Status.EXECUTING)
    sql("UPDATE audit_task SET failures = 2147483647 WHERE id = %s", [task.pk])
    task.refresh_from_db()
    task.retry("again")
    assert task.failures == 2147483647


def test_a_secret_in_the_message_is_masked():
    task = task_in(Status.EXECUTING)
    row = task.retry(_raised(ValueError("password=hunter2hunter2")))
    assert "hunter2hunter2" not in f"{row.output_summary} {row.detail}"


@pytest.mark.django_db(transaction=True)
def test_recorded_work_is_never_handed_on():
    with record("backup") as task:
        with pytest.raises(IllegalTransition, match="whoever records it"):
            task.retry("why")
        with pytest.raises(IllegalTransition, match="whoever records it"):
            task.checkpoint([])


def test_async():
    task = task_in(Status.EXECUTING)
    row = async_to_sync(task.aretry)("again")
    assert (row.action, task.status) == ("retry", "approved")
