"""Why a task waits, as commands say it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from django.db import DatabaseError, transaction

from audit.management.output import age, count, duration, moment, safe
from audit.management.tables import shorten, shorten_name
from audit.models import PauseQueueEntry, Task
from audit.pausing import waiting

__all__ = ["why_it_waits"]

T = TypeVar("T")

_TASK = ("id", "status", "created_at", "approve_before", "available_at", "failures", "priority", "action")
_ENTRY = ("id", "reason", "held", "due_at", "resume_after", "event", "priority", "lease_expires_at")


def why_it_waits(task: Task, entry: PauseQueueEntry | None, using: str, now: datetime) -> list[str]:
    """Say why a task waits, a sentence each; none for a task that does not.

    Args:
        task: it, with all its columns.
        entry: its entry in the pause queue, if it is paused.
        using: the alias to read through; what its role may not read is left out.
        now: when this is said.
    """

    def ask(read: Callable[[], T], /) -> T | None:
        try:
            with transaction.atomic(using=using):
                return read()
        except DatabaseError:
            return None

    found = waiting.waits(
        using,
        {name: getattr(task, name) for name in _TASK} | {"estimate": task.estimated_resources},
        None if entry is None else {name: getattr(entry, name) for name in _ENTRY} | {"worker": entry.claimed_by},
        now,
        _STYLE,
        ask,
        names=True,
    )
    return [each.text for each in found.reasons] if found else []


def _ago(value: datetime, now: datetime) -> str:
    return age(value, now) if value > now else f"{age(value, now)} ago"


_STYLE = waiting.Style(
    moment=lambda value, now: moment(value),
    ago=_ago,
    span=duration,
    count=count,
    text=lambda text, limit: shorten(safe(text), limit),
    name=lambda text, limit: shorten_name(safe(text), limit),
)
