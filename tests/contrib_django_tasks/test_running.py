"""Tasks of the framework, run by a real worker process."""

import json
import signal
from typing import Any

import pytest
from django.db.models import F

from audit.contrib.django_tasks import framework
from audit.models import ExecutionLog, Task
from tests.support.worker import WorkerProcess, eventually, run_all, worker

pytestmark = pytest.mark.django_db(transaction=True)

_VARIABLES = {"DJANGO_SETTINGS_MODULE": "tests.support.tasking.settings"}
_ONLY = ("--actions", "task:*,task@*")
SUCCESSFUL, FAILED, READY, RUNNING = (
    framework.TaskResultStatus[each] for each in ("SUCCESSFUL", "FAILED", "READY", "RUNNING")
)


def _run_all(*arguments: str, options: dict[str, Any] | None = None, code: int | None = 0) -> WorkerProcess:
    variables = _VARIABLES | {"AUDIT_TASKS_OPTIONS": json.dumps(options or {})}
    return run_all("--name", "w1", *(arguments or _ONLY), variables=variables, code=code)


def _heard(done: WorkerProcess, what: str, result: Any) -> list[str]:
    begin = f"heard {what} {result.id} "
    return [line.partition(begin)[2] for line in done.lines if begin in line]


def test_what_functions_return_and_raise(tasks) -> None:
    added = tasks.add.enqueue(2, b=5)
    about = tasks.about.enqueue(["x"])
    in_loop = tasks.add_async.enqueue(3, 4)
    declined = tasks.decline.enqueue("password=hunter2")
    declined_in_loop = tasks.decline_async.enqueue()
    left = tasks.leave.enqueue(0)
    unfit = {each: tasks.unfit.enqueue(each) for each in ("set", "object", "nan", "nul")}
    died, hung = tasks.die.enqueue(), tasks.hang.enqueue()
    wrong = tasks.add.enqueue()
    nests = tasks.nest.enqueue()
    unapproved = tasks.refund.enqueue(1)
    done = _run_all("--concurrency", "2", *_ONLY, code=1)
    for each in (about, in_loop, declined, declined_in_loop, left, *unfit.values(), died, hung, wrong, nests):
        each.refresh()

    assert (added.status, added.attempts) == (READY, 0)  # as it was read
    added.refresh()
    assert (added.status, added.return_value, added.errors) == (SUCCESSFUL, 7, [])
    assert (added.worker_ids, added.attempts, added.is_finished) == (["w1"], 1, True)
    assert added.enqueued_at <= added.started_at <= added.finished_at
    assert added.last_attempted_at == added.started_at
    assert _heard(done, "started", added) == ["AuditBackend RUNNING 0"]
    assert _heard(done, "finished", added) == ["AuditBackend SUCCESSFUL 0"]
    row = Task.objects.get(pk=added.id)
    assert (row.status, row.claimed_by) == ("completed", "w1")
    assert row.outcome["success"] is True

    process = about.return_value.pop("process")
    assert process != done.process.pid
    assert about.return_value == {
        "attempt": 1,
        "id": about.id,
        "status": "RUNNING",
        "workers": ["w1"],
        "wanted": ["x"],
    }
    assert in_loop.return_value == {"sum": 7, "process": done.process.pid}

    assert declined.status == FAILED
    [error] = declined.errors
    assert error.exception_class is tasks.Declined
    assert "raise Declined(reason)" in error.traceback
    assert "hunter2" not in error.traceback
    with pytest.raises(ValueError, match="failed"):
        _ = declined.return_value
    assert _heard(done, "finished", declined) == ["AuditBackend FAILED 1"]
    [error] = declined_in_loop.errors
    assert error.exception_class is tasks.Declined
    assert _heard(done, "finished", declined_in_loop) == ["AuditBackend FAILED 1"]
    assert left.errors[0].exception_class is SystemExit

    kinds = {name: (each.status, each.errors[0].exception_class_path) for name, each in unfit.items()}
    unfit_json = "audit.exceptions.InvalidValue"
    assert kinds == {
        "set": (FAILED, "builtins.TypeError"),
        "object": (FAILED, "builtins.TypeError"),
        "nan": (FAILED, unfit_json),
        "nul": (FAILED, unfit_json),
    }
    assert "set" in unfit["set"].errors[0].traceback
    assert wrong.errors[0].exception_class is TypeError

    # Ended from outside, a task sends no signal.
    assert died.errors[0].exception_class.__name__ == "TaskLost"
    assert "exit status 3" in died.errors[0].traceback
    assert hung.errors[0].exception_class is TimeoutError
    assert [_heard(done, "finished", each) for each in (died, hung)] == [[], []]

    nested = Task.objects.get(pk=nests.return_value)
    assert (str(nested.parent), nested.status, nested.requested_by) == (nests.id, "completed", "w1")
    assert ExecutionLog.objects.get(task=nests.id, action="nests").detail == {"key": f"{nests.id}:1"}
    assert Task.objects.get(pk=unapproved.id).status == "pending"

    Task.objects.get(pk=unapproved.id).approve(actor="bob")
    _run_all()
    unapproved.refresh()
    assert unapproved.return_value == "refunded 1"


def test_retries(tasks) -> None:
    plain, in_loop, given_up = (
        tasks.at_last.enqueue(3),
        tasks.at_last_async.enqueue(2),
        tasks.at_last.using(queue_name="mail").enqueue(9),
    )
    with worker("--name", "w1", *_ONLY, variables=_VARIABLES) as running:

        def ended() -> bool:
            for each in (plain, in_loop, given_up):
                each.refresh()
            return all(each.is_finished for each in (plain, in_loop, given_up))

        eventually(ended)
        eventually(lambda: _heard(running, "finished", given_up))
        assert (plain.return_value, plain.attempts) == (["w1", "w1", "w1"], 3)
        assert [each.traceback.splitlines()[-1].rpartition(" ")[2] for each in plain.errors] == ["1", "2"]
        assert plain.last_attempted_at > plain.started_at
        assert (in_loop.return_value, in_loop.attempts, len(in_loop.errors)) == (2, 2, 1)
        assert (given_up.status, given_up.attempts, len(given_up.errors)) == (FAILED, 3, 3)
        assert {each.exception_class for each in given_up.errors} == {tasks.Declined}
        # Only the last attempt ends the task.
        assert _heard(running, "started", given_up) == [f"AuditBackend RUNNING {number}" for number in (0, 1, 2)]
        assert _heard(running, "finished", given_up) == ["AuditBackend FAILED 3"]
        assert _heard(running, "finished", plain) == ["AuditBackend SUCCESSFUL 2"]


def test_options_are_the_defaults_of_every_task(tasks, settings) -> None:
    options = {"max_attempts": 2, "backoff": 0.01}
    settings.TASKS = settings.TASKS | {"default": settings.TASKS["default"] | {"OPTIONS": options}}
    result = tasks.decline.enqueue("twice")
    with worker("--name", "w1", *_ONLY, variables=_VARIABLES):
        eventually(lambda: result.refresh() or result.is_finished)
    assert (result.attempts, len(result.errors)) == (2, 2)


def test_a_worker_of_one_queue(tasks) -> None:
    mail, other = tasks.add.using(queue_name="mail").enqueue(1), tasks.add.enqueue(1)
    bulk = tasks.add.using(backend="bulk", queue_name="mail").enqueue(1)
    _run_all("--actions", "task@mail:*")
    for each in (mail, other, bulk):
        each.refresh()
    assert [each.status for each in (mail, other, bulk)] == [SUCCESSFUL, READY, READY]
    _run_all("--actions", "task@bulk/*")
    bulk.refresh()
    assert (bulk.status, bulk.task.backend, bulk.task.queue_name) == (SUCCESSFUL, "bulk", "mail")


def test_a_running_task(tasks) -> None:
    result = tasks.hang.enqueue()
    with worker("--name", "w1", *_ONLY, variables=_VARIABLES):

        def runs() -> bool:
            result.refresh()
            return result.status == RUNNING

        eventually(runs)
        assert (result.worker_ids, result.is_finished, result.finished_at) == (["w1"], False, None)
        with pytest.raises(ValueError, match="not finished"):
            _ = result.return_value


def test_a_worker_that_is_killed(tasks) -> None:
    result = tasks.survive.enqueue()

    def status() -> Any:
        result.refresh()
        return result.status

    with worker("--name", "w1", *_ONLY, variables=_VARIABLES) as first:
        eventually(lambda: _heard(first, "started", result))
        first.send(signal.SIGKILL)
        first.process.wait()
    assert status() == RUNNING
    Task.objects.filter(pk=result.id).update(lease_expires_at=F("created_at"))
    with worker("--name", "w2", *_ONLY, variables=_VARIABLES):
        eventually(lambda: status() == SUCCESSFUL)
    assert (result.return_value, result.attempts, result.errors) == (["w1", "w2"], 2, [])


def test_plans_that_are_no_calls_fail(tasks) -> None:
    plain = tasks.add.enqueue(1)
    forged = [
        Task.objects.request("task:x", plan={"any": "thing"}),
        Task.objects.request("task:x"),
        Task.objects.request("task:x", plan=plain_plan(plain) | {"task": "os.system"}),
        Task.objects.request("task:x", plan=plain_plan(plain) | {"task": "tests.support.tasking.tasks.plain"}),
        Task.objects.request("task:x", plan=plain_plan(plain) | {"task": "tests.support.tasking.no_module.x"}),
        Task.objects.request("task:x", plan=plain_plan(plain) | {"backend": "unknown"}),
        Task.objects.request("task:x", plan=plain_plan(plain) | {"policy": {"retries": 1}}),
        Task.objects.request("task:x", plan=plain_plan(plain) | {"policy": {"max_attempts": "many"}}),
    ]
    for each in forged:
        each.approve()
    _run_all(code=1)
    for each in forged:
        each.refresh_from_db()
    assert [each.status for each in forged] == ["failed"] * len(forged)
    plain.refresh()
    assert plain.return_value == 2


def plain_plan(result: Any) -> dict[str, Any]:
    plan: dict[str, Any] = Task.objects.get(pk=result.id).plan
    return plan
