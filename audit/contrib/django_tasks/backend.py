"""The backend: enqueues calls as tasks of the trail, and reads their results there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router, transaction

from audit.contrib.django_tasks import framework, stored
from audit.contrib.django_tasks.policies import Policy, checked, policy_of
from audit.contrib.django_tasks.results import attempts_of, result_of
from audit.contrib.django_tasks.running import current_run
from audit.exceptions import InvalidValue

if TYPE_CHECKING:
    from audit.models import Task as Row

__all__ = ["APPROVER", "AuditBackend", "AuditTask"]

APPROVER = "audit:django-tasks"
"""Who approves what needs no person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditTask(framework.Task):  # type: ignore[type-arg]  # Django's own takes no parameters
    """A task of this backend: it may ask for approval."""

    requires_approval: bool | None = None
    """Whether a person must approve each call; None: as `policy` and the backend's OPTIONS say."""

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | None = None,
        backend: str | None = None,
        requires_approval: bool | None = None,
    ) -> AuditTask:
        """Return the task with other options; what is left out stays."""
        given = {
            "priority": priority,
            "queue_name": queue_name,
            "run_after": run_after,
            "backend": backend,
            "requires_approval": requires_approval,
        }
        return replace(self, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


class AuditBackend(framework.BaseTaskBackend):
    """Keeps `@task` calls in the trail; `manage.py audit_worker` runs them.

    OPTIONS are the defaults of `policy`: `requires_approval`, `approve_within`, `max_attempts`, `backoff`,
    `max_backoff`, `timeout`, `services`.

    Raises:
        ImproperlyConfigured: an option is unknown, or cannot be.
    """

    task_class = AuditTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True
    keeps_trail = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        try:
            self._options = checked(self.options)
        except InvalidValue as error:
            raise ImproperlyConfigured(f"TASKS[{alias!r}]['OPTIONS']: {error}") from error

    def validate_task(self, task: framework.Task[..., Any]) -> None:
        """Refuse what cannot run here.

        Raises:
            InvalidTask: the framework's rules, or names that no action can hold.
        """
        super().validate_task(task)
        asked = getattr(task, "requires_approval", None)
        if asked is not None and not isinstance(asked, bool):
            raise framework.InvalidTask(f"requires_approval must be True or False, not {asked!r}.")
        stored.action_of(task)

    def enqueue(  # type: ignore[override]
        self, task: framework.Task[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> framework.TaskResult[..., Any]:
        """Request a call, and approve it unless a person must; both in one transaction.

        Raises:
            InvalidTask: the task cannot run here.
            TypeError, ValueError: arguments that JSON cannot hold, or that are too large.
        """
        self.validate_task(task)
        given: Any = framework.normalize_json({"args": args, "kwargs": kwargs})
        result = result_of(self._request(task, given), task)
        framework.task_enqueued.send(type(self), task_result=result)
        return result

    def _request(self, task: framework.Task[..., Any], given: dict[str, Any]) -> Row:
        from audit.models import Task as Row

        asked = getattr(task, "requires_approval", None)
        policy = Policy.merged(
            self._options, policy_of(task.func), {} if asked is None else {"requires_approval": asked}
        )
        run = current_run()
        using = router.db_for_write(Row)
        with transaction.atomic(using=using):
            row: Row = Row.objects.using(using).request(
                stored.action_of(task),
                plan=stored.plan_of(task, policy, given, is_async=iscoroutinefunction(task.func)),
                priority=stored.level(task.priority),
                services=policy.services,
                available_at=stored.available_at(task),
                approve_before=policy.approve_within if policy.requires_approval else None,
                parent=None if run is None else run.task.pk,
                correlation_id="" if run is None else run.task.correlation_id,
            )
            if not policy.requires_approval:
                row.approve(actor=APPROVER, using=using)
        return row

    def get_result(self, result_id: str) -> framework.TaskResult[..., Any]:
        """Read a result.

        Raises:
            TaskResultDoesNotExist: no call has this id.
        """
        from audit.models import Task as Row

        using = router.db_for_read(Row)
        try:
            row = Row.objects.using(using).filter(pk=UUID(str(result_id))).first()
        except ValueError:
            row = None
        if row is None or not stored.is_stored(row):
            raise framework.TaskResultDoesNotExist(result_id)
        return result_of(row, log=attempts_of(row, using))

    def check(self, **kwargs: Any) -> list[CheckMessage]:
        """Report a database that cannot keep the trail (E040), and an app that is not installed (E041)."""
        named = f"TASKS[{self.alias!r}]"
        if not apps.is_installed("audit"):
            hint = "Add 'audit' to INSTALLED_APPS, and run manage.py migrate."
            return [
                Error(f"{named} keeps its tasks in the app audit, which is not installed.", hint=hint, id="audit.E041")
            ]
        from audit.models import Task as Row

        alias = router.db_for_write(Row)
        if (vendor := connections[alias].vendor) == "postgresql":
            return []
        return [
            Error(
                f"{named} keeps its tasks in the database {alias!r}, which is not PostgreSQL ({vendor}).",
                hint="Give DATABASES a PostgreSQL database, and a router that sends the app 'audit' there.",
                id="audit.E040",
            )
        ]
