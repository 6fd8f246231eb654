"""A backend of Django's Tasks framework: `@task` functions become tasks of the trail, and `audit_worker` runs them.

It serves `django.tasks` of Django 6.0 and later, and the package `django-tasks` on Django 5.2.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit.contrib.django_tasks.backend import AuditBackend
    from audit.contrib.django_tasks.errors import TaskLost, TaskRejected
    from audit.contrib.django_tasks.policies import policy
    from audit.contrib.django_tasks.running import current_run

__all__ = ["AuditBackend", "TaskLost", "TaskRejected", "current_run", "policy"]

_HOMES = {
    "AuditBackend": "backend",
    "TaskLost": "errors",
    "TaskRejected": "errors",
    "current_run": "running",
    "policy": "policies",
}


def __getattr__(name: str) -> Any:
    # Not at import: a project without the framework imports this package, too, when its worker looks for handlers.
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(f"audit.contrib.django_tasks.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
