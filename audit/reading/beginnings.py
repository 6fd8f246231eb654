"""Long texts read by their beginning: a row may hold megabytes that no list shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from django.db.models.functions import Left
from django.db.models.query import ModelIterable, QuerySet

from audit.values import validation

__all__ = ["beginnings"]

RowsT = TypeVar("RowsT", bound="QuerySet[Any]")

_PREFIX = "beginning_of_"


def beginnings(rows: RowsT, *columns: str) -> RowsT:
    """Read of these columns at most as much as a verb stores; what is longer was stored by SQL, and ends in `…`.

    Args:
        rows: a queryset of instances, not yet read.
        columns: names of text columns; `task__summary` for one of a row that is selected along.
    """
    read = rows.defer(*columns).annotate(
        **{f"{_PREFIX}{column}": Left(column, validation.MAX_TEXT + 1) for column in columns}
    )
    read._iterable_class = _Beginnings
    return read


class _Beginnings(ModelIterable):  # type: ignore[type-arg]  # generic in the stubs alone
    """Puts each beginning where the whole text would be."""

    def __iter__(self) -> Iterator[Any]:
        for row in super().__iter__():
            for name in [each for each in vars(row) if each.startswith(_PREFIX)]:
                *path, column = name.removeprefix(_PREFIX).split("__")
                holder = row
                for each in path:
                    holder = getattr(holder, each)
                text = vars(row).pop(name)
                if len(text) > validation.MAX_TEXT:
                    text = f"{text[: validation.MAX_TEXT - 1]}…"
                setattr(holder, column, text)
            yield row
