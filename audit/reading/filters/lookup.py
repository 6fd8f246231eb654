"""Finds the one row that somebody names, by its id or the beginning of it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from audit.exceptions import InvalidFilter
from audit.models import PauseQueueEntry, Task
from audit.reading.filters.task_filter import TaskFilter
from audit.status import Status
from audit.values.terminal import brief

if TYPE_CHECKING:
    from audit.models.querysets.task import TaskQuerySet

__all__ = ["NotFound", "find_entry", "find_task", "is_entry_number"]

_NAMED = 5
_WHOLE = 32
_WRITE = "write a UUID or its first hexadecimal digits"


class NotFound(InvalidFilter):
    """A text that names no task or entry, or several: as `InvalidFilter`, with a message of its own.

    Args:
        field: what the text was given as; a plain `id` is not named in the message.
        value: the text.
        problem: what is wrong, after the text.
        sentence: the same as a whole sentence.
    """

    def __init__(self, field: str, value: str, problem: str, sentence: str) -> None:
        super().__init__(field, value, problem)
        self.args = (sentence if field == "id" else f"{field}: {sentence}",)


def find_task(text: str, queryset: TaskQuerySet, field: str = "id") -> Task:
    """Return the one task whose id is `text` or begins with it (hexadecimal digits, dashes as you like).

    Args:
        text: what somebody typed.
        queryset: where to look; its database, its deferred columns.
        field: what to call the text in errors.

    Raises:
        NotFound: no id at all, the beginning of none, or of several; a few of those are named.
    """
    try:
        wanted = TaskFilter(ids=(text,))
    except InvalidFilter as error:
        raise NotFound(field, text, error.problem, f"{brief(text)} is not a task id: {_WRITE}.") from None
    found = list(wanted.apply(queryset).order_by("id")[: _NAMED + 1])
    if len(found) == 1:
        return found[0]
    if not found:
        problem = f"begins no task of database {queryset.db!r}; audit_list shows their ids"
        (digits,) = wanted.ids
        if len(digits) == _WHOLE:
            raise NotFound(field, text, problem, f"No task {UUID(digits)} in database {queryset.db!r}.")
        sentence = f"No task in database {queryset.db!r} has an id that begins with {text}. audit_list shows their ids."
        raise NotFound(field, text, problem, sentence)
    named = ", ".join(str(each.pk) for each in found[:_NAMED])
    more = ", …" if len(found) > _NAMED else ""
    sentence = f"Several tasks have an id that begins with {text}. Write more of it: {named}{more}"
    raise NotFound(field, text, f"begins several tasks, write more of it: {named}{more}", sentence)


def find_entry(text: str, using: str) -> PauseQueueEntry:
    """Return the pause entry of this number, or of the task that `find_task` finds.

    Decimal digits without a leading zero are an entry's number: a UUIDv7 begins with 0.

    Raises:
        NotFound: no such entry; the message says how the task stands.
    """
    entries = PauseQueueEntry.objects.using(using).select_related("task")
    if is_entry_number(text):
        entry = entries.filter(pk=int(text)).first()
        if entry is None:
            problem = f"is not an entry of the pause queue of database {using!r}; it may have left"
            sentence = f"The pause queue of database {using!r} has no entry {text}. It may have left the queue."
            raise NotFound("id", text, problem, sentence)
        return entry
    task = find_task(text, Task.objects.using(using).only("id", "status"))
    entry = entries.filter(task_id=task.pk).first()
    if entry is None:
        way_out = "; audit_decide pause pauses it" if task.status == Status.APPROVED else ""
        sentence = f"Task {task.pk} is {task.status} and not paused{way_out}."
        raise NotFound("id", text, f"is task {task.pk}, which is {task.status} and not paused{way_out}", sentence)
    return entry


def is_entry_number(text: str) -> bool:
    """Whether `text` is meant as the number of a pause entry, not as a task's id."""
    return text.isascii() and text.isdigit() and not text.startswith("0") and len(text) < 19
