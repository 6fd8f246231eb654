"""What a task is called on a page: its summary, else its action."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models.functions import Left

from audit.admin.shared.wording import shown
from audit.models import Task

__all__ = ["task_title", "task_titles"]


def task_title(summary: Any, action: Any, limit: int = 100) -> str:
    """Write what a task is called.

    Args:
        summary: its summary, or the beginning of it.
        action: its action, for a task without a summary.
        limit: characters of the summary at most.
    """
    return shown(summary, limit).strip() or shown(action)


def task_titles(using: str, keys: set[UUID]) -> dict[UUID, str]:
    """Read what a few tasks are called, in one query."""
    if not keys:
        return {}
    rows = Task.objects.using(using).filter(pk__in=keys).values_list("id", Left("summary", 120), "action")
    return {key: task_title(summary, action) for key, summary, action in rows}
