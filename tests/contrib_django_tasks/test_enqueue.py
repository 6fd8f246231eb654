"""What the framework's documentation says of enqueueing, and what stands in the trail then."""

import copy
import inspect
import pickle
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation
from django.db import transaction
from django.utils import timezone

from audit.context import actor
from audit.contrib.django_tasks import AuditBackend, framework, stored
from audit.contrib.django_tasks.results import result_of
from audit.exceptions import ApprovalExpired, InvalidValue
from audit.models import Task
from audit.recovery import recover
from audit.values.patterns import covering
from tests.support.worker import eventually

pytestmark = pytest.mark.django_db(transaction=True)

READY = framework.TaskResultStatus.READY


def _row(result) -> Task:
    return Task.objects.get(pk=result.id)


def test_a_call_becomes_a_task_of_the_trail(tasks) -> None:
    with actor("alice"):
        result = tasks.add.enqueue(2, b={"deep": [1, None]})
    assert (result.status, result.args, result.kwargs) == (READY, [2], {"b": {"deep": [1, None]}})
    assert (result.backend, result.task, result.attempts, result.errors) == ("default", tasks.add, 0, [])
    assert result.enqueued_at is not None
    assert (result.started_at, result.finished_at, result.last_attempted_at, result.is_finished) == (
        None,
        None,
        None,
        False,
    )
    with pytest.raises(ValueError, match="not finished"):
        _ = result.return_value
    row = _row(result)
    assert (row.action, row.status, row.priority) == ("task:tests.support.tasking.tasks.add", "approved", 3)
    assert (row.requested_by, row.decided_by) == ("alice", "audit:django-tasks")
    assert row.plan == {
        "task": "tests.support.tasking.tasks.add",
        "args": [2],
        "kwargs": {"b": {"deep": [1, None]}},
        "queue": "default",
        "backend": "default",
        "priority": 0,
        "run_after": None,
        "is_async": False,
        "policy": {},
    }
    assert tasks.add.get_result(result.id) == result


def test_flags(tasks) -> None:
    backend = tasks.add.get_backend()
    assert isinstance(backend, AuditBackend)
    flags = ("supports_defer", "supports_priority", "supports_get_result", "supports_async_task")
    assert [getattr(backend, each) for each in flags] == [True] * 4


@pytest.mark.parametrize(
    ("given", "kept"),
    [(-100, 5), (-61, 5), (-60, 4), (-21, 4), (-20, 3), (0, 3), (20, 3), (21, 2), (60, 2), (61, 1), (100, 1)],
)
def test_priorities(tasks, given: int, kept: int) -> None:
    row = _row(tasks.add.using(priority=given).enqueue(1))
    assert (row.priority, row.plan["priority"]) == (kept, given)


@pytest.mark.parametrize("given", [-101, 101, 1.5])
def test_priorities_beyond_the_range_are_refused(tasks, given: float) -> None:
    with pytest.raises(framework.InvalidTask, match="whole number between"):
        tasks.add.using(priority=given)


def test_run_after(tasks) -> None:
    later = timezone.now() + timedelta(hours=3)
    result = tasks.add.using(run_after=later, priority=7, queue_name="mail").enqueue(1)
    assert _row(result).available_at == later
    assert Task.objects.claim("w1", actions=["task@mail:*"]) == []
    read = tasks.add.get_result(result.id)
    assert (read.task.run_after, read.task.priority, read.task.queue_name) == (later, 7, "mail")
    with pytest.raises(framework.InvalidTask, match="aware"):
        tasks.add.using(run_after=datetime(2030, 1, 1))  # noqa: DTZ001 - on purpose


def test_run_after_without_time_zones(tasks, settings) -> None:
    settings.USE_TZ, settings.TIME_ZONE = False, "Europe/Berlin"
    naive = datetime(2030, 7, 1, 12)  # noqa: DTZ001 - as such projects have them
    result = tasks.add.using(run_after=naive).enqueue(1)
    assert tasks.add.get_result(result.id).task.run_after == naive
    settings.USE_TZ = True
    assert _row(result).available_at == datetime(2030, 7, 1, 10, tzinfo=UTC)


def test_queues_and_backends_are_told_apart_by_the_action(tasks) -> None:
    mail, bulk = tasks.add.using(queue_name="mail"), tasks.add.using(backend="bulk", queue_name="night")
    actions = [_row(each.enqueue(1)).action for each in (mail, bulk)]
    assert actions == ["task@mail:tests.support.tasking.tasks.add", "task@bulk/night:tests.support.tasking.tasks.add"]
    with pytest.raises(framework.InvalidTask, match="not valid for backend"):
        tasks.add.using(queue_name="unknown")
    for name in ("a:b", "a/b", "a*", "long" * 20):
        with pytest.raises(framework.InvalidTask, match="cannot name an action"):
            tasks.add.using(backend="bulk", queue_name=name)


def test_a_long_path_keeps_its_end() -> None:
    path = "package." * 20 + "tasks.send"
    task = SimpleNamespace(backend="default", queue_name="mail", module_path=path)
    action = stored.action_of(task)
    assert len(action) == 100
    assert action.startswith("task@mail:…")
    assert path.endswith(action.partition("…")[2])
    assert "task@*" in covering(action)


@pytest.mark.parametrize("given", [{1}, object(), b"\xff", datetime(2030, 1, 1, tzinfo=UTC)])
def test_arguments_that_json_cannot_hold_are_refused(tasks, given: object) -> None:
    with pytest.raises((TypeError, ValueError), match="Unsupported"):
        tasks.add.enqueue(given)
    assert not Task.objects.exists()


@pytest.mark.parametrize("given", [float("nan"), "a\0b", "x" * 2000])
def test_arguments_that_the_database_cannot_hold_are_refused(tasks, settings, given: object) -> None:
    settings.AUDIT = {"MAX_JSON_BYTES": 1024}
    with pytest.raises(InvalidValue, match="plan"):
        tasks.add.enqueue(given)
    assert not Task.objects.exists()


def test_a_rolled_back_transaction_leaves_no_task(tasks) -> None:
    with transaction.atomic():
        result = tasks.add.enqueue(1)
        assert tasks.add.get_result(result.id).status == READY
        transaction.set_rollback(True)
    assert not Task.objects.exists()
    with pytest.raises(framework.TaskResultDoesNotExist):
        tasks.add.get_result(result.id)


def test_a_call_that_is_not_approved_leaves_nothing(tasks, monkeypatch) -> None:
    def approve(self, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(Task, "approve", approve)
    with pytest.raises(ZeroDivisionError):
        tasks.add.enqueue(1)
    assert not Task.objects.exists()


def test_workers_are_notified_after_the_commit(tasks, monkeypatch) -> None:
    told = []
    monkeypatch.setattr("audit.leases.wakeup.notify", lambda using, actions: told.append(actions))
    with transaction.atomic():
        tasks.add.enqueue(1)
        tasks.refund.enqueue(1)
        assert told == []
    assert told == [["task:tests.support.tasking.tasks.add"]]


def test_approval(tasks) -> None:
    asks = tasks.refund.enqueue(17)
    row = _row(asks)
    assert (row.status, row.decided_by, row.services_touched) == ("pending", "", ["billing"])
    assert _row(tasks.refund.using(requires_approval=False).enqueue(17)).status == "approved"
    once = tasks.add.using(requires_approval=True).using(priority=50)
    assert _row(once.enqueue(17)).status == "pending"
    with pytest.raises(framework.InvalidTask, match="requires_approval"):
        tasks.add.using(requires_approval="yes")

    row.reject(reason="too much", actor="bob")
    asks.refresh()
    assert (asks.status, asks.is_finished, asks.attempts) == (framework.TaskResultStatus.FAILED, True, 0)
    [error] = asks.errors
    assert error.exception_class.__name__ == "TaskRejected"
    assert "Rejected by bob: too much" in error.traceback


def test_approval_in_time(tasks, settings) -> None:
    options = {"requires_approval": True, "approve_within": 3600}
    settings.TASKS = settings.TASKS | {"default": settings.TASKS["default"] | {"OPTIONS": options}}
    row = _row(tasks.add.enqueue(1))
    assert row.status == "pending"
    assert row.approve_before - row.created_at == timedelta(hours=1)
    assert _row(tasks.add.using(requires_approval=False).enqueue(1)).approve_before is None


def test_a_call_that_nobody_approved_in_time(tasks) -> None:
    task = tasks.task(tasks.policy(requires_approval=True, approve_within=0.01)(tasks.plain))
    result = task.enqueue()
    eventually(lambda: recover().approvals)
    row = _row(result)
    assert row.status == "rejected"
    [error] = result_of(row, task).errors
    assert error.exception_class is ApprovalExpired


def test_options_of_the_decorator(tasks) -> None:
    if any(each.kind == each.VAR_KEYWORD for each in inspect.signature(tasks.task).parameters.values()):
        assert tasks.task(requires_approval=True)(tasks.plain).requires_approval is True
    else:  # Django 6.0
        with pytest.raises(TypeError):
            tasks.task(requires_approval=True)
    both = tasks.policy(max_attempts=2)(tasks.task(tasks.other_plain))
    assert both.enqueue().task is both
    assert Task.objects.get().plan["policy"] == {"max_attempts": 2}


def test_asynchronous_twins(tasks) -> None:
    async def calls():
        result = await tasks.add_async.aenqueue(1, b=2)
        await result.arefresh()
        return result, await tasks.add_async.aget_result(result.id)

    result, read = async_to_sync(calls)()
    assert result == read
    assert _row(result).plan["is_async"] is True


def test_results_of_others(tasks) -> None:
    result = tasks.add.enqueue(1)
    mismatch = "TaskResultMismatch"
    with pytest.raises(Exception, match="does not match") as caught:
        tasks.decline.get_result(result.id)
    assert type(caught.value).__name__ == mismatch
    other = Task.objects.request("deploy", plan={"task": "tests.support.tasking.tasks.add"})
    for unknown in ("", "no id", "01890000-0000-7000-8000-000000000000", str(other.pk), 5):
        with pytest.raises(framework.TaskResultDoesNotExist):
            tasks.add.get_backend().get_result(unknown)


def test_a_path_that_leads_to_no_task_is_refused(tasks) -> None:
    plan = tasks.add.enqueue(1)
    row = _row(plan)
    row.plan = row.plan | {"task": "tests.support.tasking.tasks.plain"}
    with pytest.raises(SuspiciousOperation, match="no task"):
        stored.task_of(row)


def test_only_module_level_functions(tasks) -> None:
    with pytest.raises(framework.InvalidTask, match="module level"):
        tasks.task(lambda: None)


def test_signals_as_a_task_is_enqueued(tasks) -> None:
    heard = []

    def receiver(sender, task_result, **kwargs):
        heard.append((sender, task_result.id, task_result.status))

    framework.task_enqueued.connect(receiver)
    try:
        result = tasks.add.enqueue(1)
    finally:
        framework.task_enqueued.disconnect(receiver)
    assert heard == [(AuditBackend, result.id, READY)]


def test_tasks_are_copied_and_sent(tasks) -> None:
    asked = tasks.add.using(requires_approval=True)
    assert copy.deepcopy(asked) == asked
    if hasattr(framework.Task, "_reconstruct"):  # Django 6.1
        assert pickle.loads(pickle.dumps(asked)) == asked


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"retries": 3}, "'retries'"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"timeout": -1}, "timeout"),
        ({"requires_approval": 1}, "requires_approval"),
        ({"services": "dns"}, "services"),
    ],
)
def test_options_that_cannot_be(tasks, options: dict, problem: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=problem) as caught:
        AuditBackend("default", {"OPTIONS": options})
    assert "TASKS['default']['OPTIONS']" in str(caught.value)
    with pytest.raises((InvalidValue, TypeError), match=problem):
        tasks.policy(**options)
