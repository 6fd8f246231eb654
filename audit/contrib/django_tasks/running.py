"""What a worker runs for the tasks of the framework; `audit/audit_handlers.py` declares it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.db import router
from django.utils import timezone

from audit.contrib.django_tasks import framework
from audit.contrib.django_tasks.policies import Policy
from audit.contrib.django_tasks.results import attempts_of, put, result_of
from audit.contrib.django_tasks.stored import PATTERNS, is_stored, policy_of
from audit.exceptions import AuditError, InvalidValue
from audit.recording.fitting import fitted
from audit.values import validation
from audit.values.failures import failure_outcome
from audit.worker.ending import End, Stopped
from audit.worker.handlers import Handler, register
from audit.worker.run import Leave, Run

if TYPE_CHECKING:
    from audit.models import Task

__all__ = ["current_run", "declare", "run_task", "run_task_async"]

_run: ContextVar[Run | None] = ContextVar("audit_run", default=None)

_LEAVING = (Leave, Stopped, asyncio.CancelledError)
"""What ends a handler by another way than an error of the task."""


def current_run() -> Run | None:
    """Return the `Run` of the task that runs here, for `log`, `step`, `touch` and `pause`; None outside of a worker."""
    return _run.get()


@dataclass(slots=True)
class _Call:
    """One attempt at a call."""

    run: Run
    result: Any = None
    policy: Policy = field(default_factory=Policy)

    @property
    def task(self) -> Any:
        return self.result.task

    @property
    def sender(self) -> type[framework.BaseTaskBackend]:
        return type(self.task.get_backend())

    @property
    def arguments(self) -> list[Any]:
        context: list[Any] = [framework.TaskContext(task_result=self.result)] if self.task.takes_context else []
        return [*context, *self.result.args]

    def begin(self) -> None:
        row = self.run.task
        if not is_stored(row):
            raise AuditError(f"The plan of {row.action} {row.pk} is no call of a task function.")
        self.policy = policy_of(row)
        log = attempts_of(row, router.db_for_write(type(row))) if row.attempt > 1 else []
        self.result = result_of(row, log=log)
        if not log:
            self.result.worker_ids.append(row.claimed_by)
            put(self.result, last_attempted_at=row.started_at)

    def succeeded(self, value: Any) -> dict[str, Any]:
        """Return the outcome of a call that returned; what JSON cannot hold is an error of the task."""
        made = framework.normalize_json(value)
        validation.document("return_value", {"success": True, "return_value": made})
        return {"return_value": made}

    def failed(self, error: BaseException) -> End:
        """Return the end of a call that raised."""
        kind = type(error)
        described = failure_outcome(error) | {"exception_class": f"{kind.__module__}.{kind.__qualname__}"}
        outcome, changes = fitted("outcome", described, redacted=False)
        if self.result is not None:
            path, trace = described["exception_class"], described["traceback"]
            self.result.errors.append(framework.TaskError(exception_class_path=path, traceback=trace))
        return End(verb="fail", outcome=outcome, changes=changes)

    def finish(self, status: str, **values: Any) -> None:
        put(self.result, status=framework.TaskResultStatus[status], finished_at=timezone.now(), **values)

    @property
    def is_last(self) -> bool:
        """Whether an error of this attempt is the end of the task."""
        return self.run.cancelled or self.run.task.failures + 1 >= self.policy.max_attempts


@contextmanager
def _running(run: Run) -> Iterator[None]:
    token = _run.set(run)
    try:
        yield
    finally:
        _run.reset(token)


def run_task(run: Run) -> Any:
    """Call a task function in a child process; the handler of plain functions."""
    call = _Call(run)
    try:
        with _running(run):
            call.begin()
            framework.task_started.send(call.sender, task_result=call.result)
            value = call.succeeded(call.task.call(*call.arguments, **call.result.kwargs))
    except _LEAVING:
        raise
    except BaseException as error:  # noqa: BLE001 - as the framework's own backends: whatever it is, the task failed
        end = call.failed(error)
        if call.result is not None and call.is_last:
            call.finish("FAILED")
            framework.task_finished.send_robust(call.sender, task_result=call.result)
        return end
    call.finish("SUCCESSFUL", _return_value=value["return_value"])
    framework.task_finished.send_robust(call.sender, task_result=call.result)
    return value


async def run_task_async(run: Run) -> Any:
    """Call a coroutine function in the worker's event loop."""
    call = _Call(run)
    try:
        with _running(run):
            await sync_to_async(call.begin)()
            await framework.task_started.asend(call.sender, task_result=call.result)
            value = call.succeeded(await call.task.acall(*call.arguments, **call.result.kwargs))
    except _LEAVING:
        raise
    except BaseException as error:  # noqa: BLE001 - as above
        end = call.failed(error)
        if call.result is not None and call.is_last:
            call.finish("FAILED")
            await framework.task_finished.asend_robust(call.sender, task_result=call.result)
        return end
    call.finish("SUCCESSFUL", _return_value=value["return_value"])
    await framework.task_finished.asend_robust(call.sender, task_result=call.result)
    return value


def declare() -> None:
    """Declare the handlers of these tasks; each task brings its own policy in its plan."""
    for each in PATTERNS:
        register(_handler(each, Policy(), refine=_refined))


def _refined(row: Task) -> Handler:
    try:
        policy = policy_of(row) if is_stored(row) else Policy()
    except InvalidValue:
        policy = Policy()  # the call says so as it begins
    in_loop = is_stored(row) and row.plan["is_async"]
    return _handler(row.action, policy, run_task_async if in_loop else run_task, "async" if in_loop else "process")


def _handler(
    action: str,
    policy: Policy,
    function: Callable[[Run], Any] = run_task,
    isolation: str = "process",
    refine: Callable[[Task], Handler] | None = None,
) -> Handler:
    return Handler(
        action=action,
        function=function,
        labels=frozenset(),
        max_attempts=policy.max_attempts,
        timeout=policy.timeout,
        backoff=policy.backoff,
        max_backoff=policy.max_backoff,
        isolation=isolation,
        refine=refine,
    )
