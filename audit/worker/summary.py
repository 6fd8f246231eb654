"""What a worker did, and how its lines name things."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sized
from dataclasses import dataclass, field

from django.db.models.functions import Now

from audit.models import Task
from audit.status import Status
from audit.values.patterns import matching

__all__ = ["Summary", "left", "listed", "named"]

_COUNTED = 1000


@dataclass(slots=True)
class Summary:
    """What a worker did: how many attempts ended in each way, by word."""

    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    interrupted: int = 0
    """The signal that stopped it at once; 0 when it stopped in good order."""

    @property
    def ended(self) -> int:
        """How many attempts ended."""
        return sum(self.counts.values())

    def __str__(self) -> str:
        # By word where two are equal: what ended first says nothing.
        most = sorted(self.counts.items(), key=lambda each: (-each[1], each[0]))
        counted = ", ".join(f"{number} {word}" for word, number in most)
        return f"{counted or 'nothing ran'} in {self.seconds:.0f} s"


def named(task: Task) -> str:
    """Return how a line for the person names a task."""
    return f"{task.action} {task.pk}"


def listed(names: Iterable[str]) -> str:
    """Return names in order, with commas."""
    return ", ".join(sorted(names))


def left(using: str, actions: Iterable[str]) -> str:
    """Say what is approved and was not claimed; nothing when there is nothing.

    Args:
        using: the alias to read through.
        actions: the kinds of work, patterns among them.
    """
    tasks = Task.objects.using(using).filter(matching(actions), status=Status.APPROVED)
    later = list(tasks.filter(available_at__gt=Now()).values_list("available_at", flat=True)[: _COUNTED + 1])
    due = len(tasks.filter(available_at__lte=Now()).values_list("pk")[: _COUNTED + 1])
    parts = []
    if later:
        first = "" if len(later) > _COUNTED else f", the first at {min(later).isoformat(sep=' ', timespec='seconds')}"
        parts.append(f"{_counted(later)} approved and not due yet{first}")
    if due:
        parts.append(f"{_counted(range(due))} due and not claimed")
    return f"Left: {'; '.join(parts)}." if parts else ""


def _counted(found: Sized) -> str:
    return f"more than {_COUNTED:,}" if len(found) > _COUNTED else str(len(found))
