"""Finds the one row that somebody names, by its id or the beginning of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audit.exceptions import InvalidFilter
from audit.models import PauseQueueEntry, Task
from audit.reading.filters.task_filter import TaskFilter

if TYPE_CHECKING:
    from audit.models.querysets.task import TaskQuerySet

__all__ = ["find_entry", "find_task", "is_entry_number"]

_NAMED = 5


def find_task(text: str, queryset: TaskQuerySet, field: str = "id") -> Task:
    """Return the one task whose id is `text` or begins with it (hexadecimal digits, dashes as you like).

    Args:
        text: what somebody typed.
        queryset: where to look; its database, its deferred columns.
        field: what to call the text in errors.

    Raises:
        InvalidFilter: no id at all, the beginning of none, or of several; a few of those are named.
    """
    try:
        wanted = TaskFilter(ids=(text,))
    except InvalidFilter as error:
        raise InvalidFilter(field, text, error.problem) from None
    found = list(wanted.apply(queryset).order_by("id")[: _NAMED + 1])
    if len(found) == 1:
        return found[0]
    if not found:
        raise InvalidFilter(field, text, f"begins no task of database {queryset.db!r}; audit_list shows their ids")
    named = ", ".join(str(each.pk) for each in found[:_NAMED])
    more = ", …" if len(found) > _NAMED else ""
    raise InvalidFilter(field, text, f"begins several tasks, write more of it: {named}{more}")


def find_entry(text: str, using: str) -> PauseQueueEntry:
    """Return the pause entry of this number, or of the task that `find_task` finds.

    Decimal digits without a leading zero are an entry's number: a UUIDv7 begins with 0.

    Raises:
        InvalidFilter: no such entry; the message says how the task stands.
    """
    entries = PauseQueueEntry.objects.using(using).select_related("task")
    if is_entry_number(text):
        entry = entries.filter(pk=int(text)).first()
        if entry is None:
            raise InvalidFilter(
                "id", text, f"is not an entry of the pause queue of database {using!r}; it may have left"
            )
        return entry
    task = find_task(text, Task.objects.using(using).only("id", "status"))
    entry = entries.filter(task_id=task.pk).first()
    if entry is None:
        raise InvalidFilter("id", text, f"is task {task.pk}, which is {task.status} and not paused")
    return entry


def is_entry_number(text: str) -> bool:
    """Whether `text` is meant as the number of a pause entry, not as a task's id."""
    return text.isascii() and text.isdigit() and not text.startswith("0") and len(text) < 19
