"""What a worker did, and how its lines name things."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from audit.models import Task

__all__ = ["Summary", "listed", "named"]


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
        counted = ", ".join(f"{number} {word}" for word, number in self.counts.most_common())
        return f"{counted or 'nothing ran'} in {self.seconds:.0f} s"


def named(task: Task) -> str:
    """Return how a line for the person names a task."""
    return f"{task.action} {task.pk}"


def listed(names: Iterable[str]) -> str:
    """Return names in order, with commas."""
    return ", ".join(sorted(names))
