"""Words, found by their index whatever the planner expects of them.

How often a word occurs PostgreSQL knows of the commonest alone. Of any other it assumes so much that, for the newest
rows with it, walking back in time looks cheaper than the index: a word that stands in 500 of five million tasks then
costs most of a minute. So it is asked first how many there are, up to a bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from django.db import connections, transaction

if TYPE_CHECKING:
    from audit.filters.task import TaskFilter
    from audit.querysets.task import TaskQuerySet

__all__ = ["FEW", "found", "found_few"]

FEW = 5000
"""How many tasks are few: more than these are met soon enough on the way back in time, among ten million and less."""


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
                "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_indexscan', 'off', true)"
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
    return narrowed if few is None else tasks.filter(pk__in=few)
