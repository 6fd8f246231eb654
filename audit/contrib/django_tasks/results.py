"""The framework's results, from the rows of the trail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from audit.contrib.django_tasks import framework
from audit.contrib.django_tasks.stored import task_of
from audit.status import LogKind, Status
from audit.values.failures import APPROVAL_EXPIRED, LEASE_EXPIRED, REJECTION

if TYPE_CHECKING:
    from audit.models import Task

__all__ = ["attempts_of", "put", "result_of"]

_STATUSES = {
    Status.PENDING: "READY",
    Status.APPROVED: "READY",
    Status.PAUSED: "READY",
    Status.EXECUTING: "RUNNING",
    Status.COMPLETED: "SUCCESSFUL",
    Status.FAILED: "FAILED",
    Status.REJECTED: "FAILED",
}
# The classes of errors that the app itself writes, without an exception.
_CLASSES = {
    REJECTION: "audit.contrib.django_tasks.TaskRejected",
    APPROVAL_EXPIRED: "audit.exceptions.ApprovalExpired",
    LEASE_EXPIRED: "audit.exceptions.LeaseLost",
    "Timeout": "builtins.TimeoutError",
}
_OTHER_CLASS = "audit.contrib.django_tasks.TaskLost"


def result_of(
    row: Task, task: framework.Task[Any, Any] | None = None, log: Sequence[Any] = ()
) -> framework.TaskResult[Any, Any]:
    """Return the result of a call.

    Args:
        row: of the trail.
        task: what it calls; found by its path when left out.
        log: what `attempts_of` has found.

    Raises:
        ImportError, SuspiciousOperation: the function is there no more, or is no task.
    """
    begun = [each for each in log if each.kind == LogKind.TRANSITION]
    result: framework.TaskResult[Any, Any] = framework.TaskResult(
        task=task_of(row) if task is None else task,
        id=str(row.pk),
        status=framework.TaskResultStatus[_STATUSES[Status(row.status)]],
        enqueued_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        last_attempted_at=begun[-1].at if begun else None,
        args=row.plan["args"],
        kwargs=row.plan["kwargs"],
        backend=row.plan["backend"],
        errors=[_error(each.detail or {}, each.actor) for each in log if each.kind != LogKind.TRANSITION],
        worker_ids=[each.actor for each in begun],
    )
    outcome = row.outcome if isinstance(row.outcome, dict) else {}
    if row.status in (Status.FAILED, Status.REJECTED):
        result.errors.append(_error(outcome, row.actor))
    put(result, _return_value=outcome.get("return_value"))
    return result


def attempts_of(row: Task, using: str) -> list[Any]:
    """Return what the log knows of the attempts: a row for the beginning of each, and for each that was to be repeated.

    Args:
        row: of the trail.
        using: the alias to read through.
    """
    from django.db.models import Q

    from audit.models import ExecutionLog

    begun = Q(kind=LogKind.TRANSITION, to_status=Status.EXECUTING)
    repeated = Q(kind=LogKind.NOTE, action="retry")
    rows = ExecutionLog.objects.using(using).filter(begun | repeated, task=row.pk).order_by("id")
    return list(rows) if row.attempt else []


def put(result: framework.TaskResult[Any, Any], **values: Any) -> None:
    """Change a result, which is frozen for everybody else."""
    for name, value in values.items():
        object.__setattr__(result, name, value)


def _error(outcome: dict[str, Any], actor: str) -> framework.TaskError:
    kind = str(outcome.get("error_type", ""))
    said = outcome.get("output_summary") or outcome.get("message") or ""
    if kind == REJECTION:
        said = f"Rejected by {actor}: {said}" if said else f"Rejected by {actor}"
    return framework.TaskError(
        exception_class_path=outcome.get("exception_class") or _CLASSES.get(kind, _OTHER_CLASS),
        traceback=outcome.get("traceback") or f"{kind}: {said}\n",
    )
