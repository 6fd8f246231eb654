"""Capacity in the demo: which work asks for it, and a worker that is short of it now and then."""

from __future__ import annotations

from audit.models import ResourceMetric, Task
from audit.pausing import CapacityVerdict, check_capacity

__all__ = ["PRETENDED", "gate", "pretend"]

PRETENDED = "demo"
"""What the source of a reading ends in that says more than was measured."""
_IN_USE = 0.95


def gate(task: Task) -> CapacityVerdict:
    """Ask the registry about work with an estimate alone, so that the demo goes on where a laptop is busy."""
    if task.estimated_resources is None:
        return CapacityVerdict(kind="free", evidence={}, summary="Small work runs at any time.")
    return check_capacity(task)


def pretend(agent: str) -> None:
    """Add to the newest reading of an agent, as if something else had taken the memory of its machine.

    Its next reading is real again, so this is called again and again.
    """
    newest = ResourceMetric.objects.filter(agent__name=agent).order_by("-at", "-id").first()
    if newest is None or newest.source.endswith(PRETENDED):
        return
    newest.pk = None
    newest._state.adding = True
    newest.source = f"{newest.source}+{PRETENDED}"
    newest.memory = max(newest.memory or 0.0, _IN_USE)
    newest.at = ResourceMetric._meta.get_field("at").get_default()
    newest.save()
