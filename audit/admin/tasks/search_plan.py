"""Which way a search for words goes: by their index, or from the newest task backwards."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from audit.admin.shared.panels import panel, set_locally
from audit.models import Task
from audit.reading.filters import TaskFilter
from audit.reading.filters.search import among, found_few

if TYPE_CHECKING:
    from audit.models.querysets.task import TaskQuerySet

__all__ = ["searched"]


def searched(using: str, tasks: TaskQuerySet, wanted: TaskFilter) -> TaskQuerySet:
    """Let words be found by their index when few tasks have them, and on the way back in time when many do.

    Args:
        using: the alias of the `reading` transaction around it, in which the choice stays.
        tasks: what the filter means.
        wanted: the filter.
    """
    if not wanted.words:
        return tasks
    few = panel(using, partial(found_few, tasks))
    if few.value is not None:
        return among(Task.objects.using(using), few.value)
    # Many, or the index of words is slow about them, as it is about sides that are common each by itself.
    set_locally(using, enable_bitmapscan="off")
    return tasks
