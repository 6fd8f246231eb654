"""One attempt at a call, in this process: what it sends, returns and leaves behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from audit.contrib.django_tasks import current_run, framework, stored
from audit.contrib.django_tasks.checks import check_workers
from audit.contrib.django_tasks.running import _refined, run_task, run_task_async
from audit.models import Task
from audit.worker.ending import End
from audit.worker.in_process import InProcessChannel
from audit.worker.run import Leave, Run
from tests.support.factories import sql

pytestmark = pytest.mark.django_db(transaction=True)


def _begun(result: Any) -> Run:
    """Claim the row of a call, as a worker does."""
    [row] = Task.objects.filter(pk=result.id).claim("w1")
    return Run(row, InProcessChannel(lambda verb, arguments, then: then(None, None)))


def _again(run: Run) -> Run:
    """The attempt after one that ended in an error."""
    error = {"error_type": "E", "output_summary": "first", "exception_class": "builtins.OSError", "traceback": "t"}
    Task.objects.get(pk=run.task.pk).retry("", outcome=error, delay=timedelta(microseconds=1))
    return _begun(SimpleNamespace(id=run.task.pk))


@contextlib.contextmanager
def _hearing(signal: Any, *, problem: type[Exception] | None = None) -> Iterator[list[Any]]:
    heard: list[Any] = []

    def receiver(sender: Any, task_result: Any, **kwargs: Any) -> None:
        heard.append((str(task_result.status), len(task_result.errors), task_result.finished_at is not None))
        if problem is not None:
            raise problem

    signal.connect(receiver)
    try:
        yield heard
    finally:
        signal.disconnect(receiver)


def _call(run: Run, in_loop: bool) -> Any:
    return async_to_sync(run_task_async)(run) if in_loop else run_task(run)


@pytest.mark.parametrize("in_loop", [False, True])
def test_only_the_last_error_finishes_a_task(tasks, in_loop: bool) -> None:
    task = tasks.at_last_async if in_loop else tasks.at_last
    first = _begun(task.enqueue(9))
    with _hearing(framework.task_finished) as finished, _hearing(framework.task_started) as started:
        assert _call(first, in_loop).verb == "fail"
        assert (finished, started) == ([], [("RUNNING", 0, False)])
        run = _again(first)
        assert _call(run, in_loop).verb == "fail"
        if not in_loop:  # of three attempts
            assert finished == []
            run = _again(run)
            assert _call(run, in_loop).verb == "fail"
        errors = 2 if in_loop else 3
        assert finished == [("FAILED", errors, True)]
        assert started[-1] == ("RUNNING", errors - 1, False)


@pytest.mark.parametrize("in_loop", [False, True])
def test_an_error_of_what_a_person_cancelled_finishes_it(tasks, in_loop: bool) -> None:
    run = _begun((tasks.at_last_async if in_loop else tasks.at_last).enqueue(9))
    run._channel.flags.cancelled = True
    with _hearing(framework.task_finished) as finished:
        assert _call(run, in_loop).verb == "fail"
    assert finished == [("FAILED", 1, True)]


@pytest.mark.parametrize("in_loop", [False, True])
def test_what_leaves_a_call_is_no_error_of_it(tasks, in_loop: bool) -> None:
    run = _begun((tasks.steps_aside_async if in_loop else tasks.steps_aside).enqueue())
    with _hearing(framework.task_finished) as finished, pytest.raises(Leave) as caught:
        _call(run, in_loop)
    assert (caught.value.verb, finished) == ("release", [])
    assert current_run() is None


@pytest.mark.parametrize("in_loop", [False, True])
def test_a_receiver_that_fails_undoes_nothing(tasks, in_loop: bool) -> None:
    run = _begun(tasks.add_async.enqueue(1, 2) if in_loop else tasks.add.enqueue(1, 2))
    with _hearing(framework.task_finished, problem=ZeroDivisionError) as finished:
        value = _call(run, in_loop)
    assert value["return_value"] == ({"sum": 3, "process": value["return_value"]["process"]} if in_loop else 3)
    assert finished == [("SUCCESSFUL", 0, True)]
    with _hearing(framework.task_finished, problem=ZeroDivisionError) as finished:
        end = _call(_begun(tasks.decline_async.enqueue() if in_loop else tasks.decline.enqueue("no")), in_loop)
    assert (end.verb, finished) == ("fail", [("FAILED", 1, True)])


def test_a_call_sees_its_run_and_nothing_sees_it_afterwards(tasks) -> None:
    run = _begun(tasks.nest.enqueue())
    run.task.correlation_id = "c-17"
    inner = Task.objects.get(pk=run_task(run)["return_value"])
    assert (inner.parent, inner.correlation_id) == (run.task.pk, "c-17")
    assert current_run() is None
    assert Task.objects.get(pk=tasks.add.enqueue(1).id).parent is None


def test_a_plan_that_is_no_call_fails_without_a_result(tasks) -> None:
    row = Task.objects.request("task:x", plan={"any": "thing"})
    row.approve()
    with _hearing(framework.task_finished) as finished:
        end = run_task(_begun(SimpleNamespace(id=row.pk)))
    assert isinstance(end, End)
    assert (end.outcome["error_type"], finished) == ("AuditError", [])


def test_earlier_attempts_are_known_to_the_next(tasks) -> None:
    result = tasks.at_last.enqueue(2)
    first = _begun(result)
    Task.objects.get(pk=result.id).note("looks odd", actor="carol")  # no error of the task
    second = _again(first)
    assert run_task(second)["return_value"] == ["w1", "w1"]
    result.refresh()
    assert [each.exception_class for each in result.errors] == [OSError]
    assert result.last_attempted_at > result.started_at


def test_what_a_worker_heeds_is_the_policy_of_the_call(tasks) -> None:
    declared = tasks.policy(max_attempts=4, backoff=2, max_backoff=30, timeout=7)(tasks.task(tasks.other_plain))
    handler = _refined(Task.objects.get(pk=declared.enqueue().id))
    found = (handler.max_attempts, handler.backoff, handler.max_backoff, handler.timeout, handler.isolation)
    assert found == (4, 2.0, 30.0, 7.0, "process")
    row = Task.objects.get(pk=tasks.add_async.enqueue(1, 2).id)
    assert _refined(row).isolation == "async"
    row.plan = row.plan | {"policy": {"retries": 1}}
    assert _refined(row).max_attempts == 1  # the call itself says what is wrong
    del tasks.other_plain.audit_policy


def test_options_of_the_function_win_over_those_of_the_backend(tasks, settings) -> None:
    options = {"max_attempts": 9, "timeout": 3, "approve_within": 60}
    settings.TASKS = settings.TASKS | {"default": settings.TASKS["default"] | {"OPTIONS": options}}
    row = Task.objects.get(pk=tasks.at_last.enqueue(1).id)
    assert row.plan["policy"] == {"max_attempts": 3, "backoff": 0.01, "max_backoff": 0.02, "timeout": 3.0}
    # It needs no approval, so it has no deadline for one.
    assert row.approve_before is None


def test_a_call_whose_lease_was_lost_too_often(tasks) -> None:
    result = tasks.add.enqueue(1)
    _begun(result)
    sql("UPDATE audit_task SET lease_expires_at = now() - interval '1 second'")
    assert len(Task.objects.recover_expired(max_expiries=1)) == 1
    result.refresh()
    [error] = result.errors
    assert (str(result.status), error.exception_class.__name__) == ("FAILED", "LeaseLost")
    assert "ran out at attempt 1" in error.traceback


def test_what_waits_costs_one_statement_to_read(tasks, django_assert_num_queries) -> None:
    result = tasks.add.enqueue(1)
    with django_assert_num_queries(1):
        result.refresh()
    _begun(result)
    with django_assert_num_queries(2):
        result.refresh()


def test_names_at_their_limits() -> None:
    def action(queue: str, path: str) -> str:
        return stored.action_of(SimpleNamespace(backend="default", queue_name=queue, module_path=path))

    queue, path = "q" * 54, "p" * 90
    assert action(queue, "a.b") == f"task@{queue}:a.b"
    with pytest.raises(framework.InvalidTask):
        action(queue + "q", "a.b")
    assert action("mail", path) == f"task@mail:{path}"


def test_work_that_has_just_become_due_is_no_finding(tasks) -> None:
    tasks.add.enqueue(1)
    for seconds, found in ((50, []), (70, ["audit.W019"])):
        sql("UPDATE audit_task SET available_at = now() - %s * interval '1 second'", [seconds])
        assert [each.id for each in check_workers(None, databases=["default"])] == found
