"""How a call of a task function stands in the trail: the action, the plan, and the priority.

The action begins with `task:`, or with `task@QUEUE:` in a queue of its own, or `task@BACKEND/QUEUE:` of a backend that
is not the default one; the function's dotted path follows. The plan is what the framework was given, exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import SuspiciousOperation
from django.utils.dateparse import parse_datetime
from django.utils.module_loading import import_string

from audit.contrib.django_tasks import framework
from audit.contrib.django_tasks.policies import Policy, checked
from audit.values import moments

if TYPE_CHECKING:
    from audit.models import Task

__all__ = ["PATTERNS", "action_of", "available_at", "is_stored", "level", "plan_of", "policy_of", "task_of"]

PATTERNS = ("task:*", "task@*")
"""What the actions of these tasks are covered by."""
_ACTION_CHARS = 100
_TYPES: dict[str, Any] = {
    "task": str,
    "args": list,
    "kwargs": dict,
    "queue": str,
    "backend": str,
    "priority": int,
    "run_after": str | None,
    "is_async": bool,
    "policy": dict,
}
_LONGEST_HEAD = 60


def action_of(task: framework.Task[Any, Any]) -> str:
    """Return the action of a task; a path that is too long keeps its end.

    Raises:
        InvalidTask: the names of queue and backend leave no room, or would not be told apart.
    """
    backend, queue = task.backend, task.queue_name
    if backend != framework.DEFAULT_TASK_BACKEND_ALIAS:
        head = f"task@{backend}/{queue}:"
    else:
        head = "task:" if queue == framework.DEFAULT_TASK_QUEUE_NAME else f"task@{queue}:"
    if any(sign in name for name in (backend, queue) for sign in ":/*") or len(head) > _LONGEST_HEAD:
        raise framework.InvalidTask(
            f"Backend {backend!r} and queue {queue!r} cannot name an action of the trail: use at most "
            f"{_LONGEST_HEAD - 7} characters for both, and none of : / *"
        )
    path, room = task.module_path, _ACTION_CHARS - len(head)
    return f"{head}{path}" if len(path) <= room else f"{head}…{path[1 - room :]}"


def level(priority: int) -> int:
    """Map a priority of the framework (-100 to 100, the highest first) to one of the trail (1, the highest, to 5)."""
    return 3 - (abs(priority) + 19) // 40 * (1 if priority > 0 else -1)


def plan_of(task: framework.Task[Any, Any], policy: Policy, given: dict[str, Any], *, is_async: bool) -> dict[str, Any]:
    """Return the plan of a call.

    Args:
        task: what is called.
        policy: what its worker must heed.
        given: its `args` and `kwargs`, as JSON.
        is_async: whether it is a coroutine function.
    """
    return {
        "task": task.module_path,
        **given,
        "queue": task.queue_name,
        "backend": task.backend,
        "priority": int(task.priority),
        "run_after": None if task.run_after is None else task.run_after.isoformat(),
        "is_async": is_async,
        "policy": policy.retrying(),
    }


def is_stored(row: Task) -> bool:
    """Whether a row of the trail is a call of a task function."""
    plan = row.plan
    return (
        row.action.startswith(("task:", "task@"))
        and isinstance(plan, dict)
        and all(name in plan and isinstance(plan[name], kind) for name, kind in _TYPES.items())
    )


def policy_of(row: Task) -> Policy:
    """Return what a worker must heed of a row that is a call.

    Raises:
        InvalidValue: the plan was not made here, and says what cannot be.
    """
    return Policy(**checked(row.plan["policy"]))


def task_of(row: Task) -> framework.Task[Any, Any]:
    """Return the task that a row calls, as it was enqueued.

    Raises:
        ImportError: its function is there no more.
        SuspiciousOperation: its path leads to something else.
    """
    plan = row.plan
    found = import_string(plan["task"])
    if not isinstance(found, framework.Task):
        raise SuspiciousOperation(f"{plan['task']} is no task; is @task missing?")
    run_after = plan["run_after"] and parse_datetime(plan["run_after"])
    return found.using(
        priority=plan["priority"], queue_name=plan["queue"], run_after=run_after or None, backend=plan["backend"]
    )


def available_at(task: framework.Task[Any, Any]) -> Any:
    """Return the moment from which a task may be claimed, or None."""
    return None if task.run_after is None else moments.with_zone(task.run_after)
