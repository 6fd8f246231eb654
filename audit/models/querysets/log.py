"""Questions to the execution log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from django.db import models

if TYPE_CHECKING:
    from audit.models import ExecutionLog  # noqa: F401

__all__ = ["ExecutionLogManager", "ExecutionLogQuerySet"]


class ExecutionLogQuerySet(models.QuerySet["ExecutionLog"]):
    """What `ExecutionLog.objects` and its querysets offer."""

    def of(self, task: Any) -> Self:
        """Narrow to one task (an instance or its id), oldest row first."""
        return self.filter(task_id=getattr(task, "pk", task)).order_by("id")


ExecutionLogManager = models.Manager.from_queryset(ExecutionLogQuerySet, "ExecutionLogManager")
