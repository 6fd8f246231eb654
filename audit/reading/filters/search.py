"""Words, found by their index whatever the planner expects of them.

How often a word occurs PostgreSQL knows of the commonest alone. Of any other it assumes so much that, for the newest
rows with it, walking back in time looks cheaper than the index: a word that stands in 500 of five million tasks then
costs most of a minute. So it is asked first how many there are, up to a bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django.db import connections, transaction
from django.db.models import BooleanField, F, Func, Value

if TYPE_CHECKING:
    from audit.models.querysets.task import TaskQuerySet
    from audit.reading.filters.task_filter import TaskFilter

__all__ = ["FEW", "among", "found", "found_few"]

FEW = 20_000
"""How many tasks are few: more than these are met soon enough on the way back in time, among ten million and less."""
_ROOM_KB = 32 * 1024
"""Memory for a bitmap, in kB, where the server gives less. One that outgrows it knows pages instead of rows, and the
words of every row on them are made again: ten times as long, for a word of every task beside rarer ones."""


def found_few(tasks: TaskQuerySet) -> list[UUID] | None:
    """Return the ids of all tasks of a queryset if they are few, in one statement that reads by indexes alone.

    Args:
        tasks: filtered by words, and whatever else.

    Returns:
        The ids in no order, or None for more than `FEW`.
    """
    using = tasks.db
    with transaction.atomic(using=using):
        with connections[using].cursor() as cursor:
            # Leaves bitmaps, the one way to read the index of words.
            cursor.execute(
                "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_indexscan', 'off', true), "
                "set_config('work_mem', greatest(pg_size_bytes(current_setting('work_mem')) / 1024, %s)::text, true)",
                [_ROOM_KB],
            )
        found = list(tasks.order_by().values_list("pk", flat=True)[: FEW + 1])
        # Takes the settings back where a transaction goes on around this.
        transaction.set_rollback(True, using=using)
    return found if len(found) <= FEW else None


def found(wanted: TaskFilter, tasks: TaskQuerySet) -> TaskQuerySet:
    """Narrow a queryset to what a filter means, for a caller that wants the newest of them.

    Args:
        wanted: the filter; without words this is its `apply`.
        tasks: of the database that is asked, at once when there are words.
    """
    narrowed = wanted.apply(tasks)
    few = found_few(narrowed) if wanted.words else None
    return narrowed if few is None else among(tasks, few)


def among(tasks: TaskQuerySet, keys: list[UUID]) -> TaskQuerySet:
    """Narrow a queryset to these ids, given as one array: Django's `pk__in` makes a parameter of each, which is slow.

    Args:
        tasks: a queryset.
        keys: the ids; with none there is nothing to ask the database.
    """
    if not keys:
        return tasks.none()
    array = Value(f"{{{','.join(map(str, keys))}}}")
    return tasks.filter(
        Func(F("pk"), array, template="(%(expressions)s::uuid[]))", arg_joiner=" = ANY (", output_field=BooleanField())
    )
