"""Django's Tasks framework, from Django itself where it has it, else from the package `django-tasks`."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import (
        DEFAULT_TASK_BACKEND_ALIAS,
        DEFAULT_TASK_QUEUE_NAME,
        Task,
        TaskContext,
        TaskError,
        TaskResult,
        TaskResultStatus,
    )
    from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
    from django.tasks.signals import task_enqueued, task_finished, task_started
    from django.utils.json import normalize_json

__all__ = [
    "DEFAULT_TASK_BACKEND_ALIAS",
    "DEFAULT_TASK_QUEUE_NAME",
    "BaseTaskBackend",
    "InvalidTask",
    "Task",
    "TaskContext",
    "TaskError",
    "TaskResult",
    "TaskResultDoesNotExist",
    "TaskResultStatus",
    "home",
    "normalize_json",
    "task_enqueued",
    "task_finished",
    "task_started",
]


def home() -> str | None:
    """Return the package that has the framework, or None where there is none."""
    return next((each for each in ("django.tasks", "django_tasks") if find_spec(each)), None)


def _found() -> str:
    found = home()
    if found is None:
        raise ImproperlyConfigured(
            "audit.contrib.django_tasks needs Django's Tasks framework: use Django 6.0 or later, "
            "or run `pip install django-tasks`."
        )
    return found


if not TYPE_CHECKING:
    _home = _found()
    _base = import_module(f"{_home}.base")
    _errors = import_module(f"{_home}.exceptions")
    _signals = import_module(f"{_home}.signals")

    BaseTaskBackend = import_module(f"{_home}.backends.base").BaseTaskBackend
    DEFAULT_TASK_BACKEND_ALIAS = _base.DEFAULT_TASK_BACKEND_ALIAS
    DEFAULT_TASK_QUEUE_NAME = _base.DEFAULT_TASK_QUEUE_NAME
    Task, TaskContext, TaskError = _base.Task, _base.TaskContext, _base.TaskError
    TaskResult, TaskResultStatus = _base.TaskResult, _base.TaskResultStatus
    TaskResultDoesNotExist = _errors.TaskResultDoesNotExist
    # The package names it differently.
    InvalidTask = getattr(_errors, "InvalidTask", None) or _errors.InvalidTaskError
    task_enqueued, task_started, task_finished = (
        getattr(_signals, f"task_{each}") for each in ("enqueued", "started", "finished")
    )
    normalize_json = import_module(
        "django.utils.json" if _home == "django.tasks" else "django_tasks.utils"
    ).normalize_json
