"""Runs one statement and makes model instances of the rows it returns."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

from django.db import connections, models

from audit.statements.preparing import run

__all__ = ["columns", "execute", "fetch"]

ModelT = TypeVar("ModelT", bound=models.Model)

_Converter = tuple[int, Any, Callable[..., Any]]


@cache
def columns(model: type[models.Model], alias: str) -> str:
    """List every column of a model, in its own order, for SELECT or RETURNING."""
    return ", ".join(f"{alias}.{field.column}" for field in model._meta.concrete_fields)


def fetch(model: type[ModelT], using: str, sql: str, params: Sequence[Any], *, prepare: bool = True) -> list[ModelT]:
    """Run a statement whose rows are `columns(model, …)` and return instances read from `using`; see `execute`."""
    return [instance for (instance,) in execute([model], using, sql, params, prepare=prepare)]


def execute(
    kinds: Sequence[type[models.Model]], using: str, sql: str, params: Sequence[Any], *, prepare: bool = True
) -> list[tuple[Any, ...]]:
    """Run a statement whose rows are the columns of several models, one after the other.

    Args:
        kinds: the models.
        using: the alias of the database.
        sql: the statement.
        params: for its placeholders.
        prepare: whether it may be prepared; not when Django compiled a part of it, for values bound by the client.

    Returns:
        A tuple of instances for each row, one for each model.
    """
    connection = connections[using]
    rows = run(using, sql, params, prepare)
    readers = []
    start = 0
    for model in kinds:
        names, converters = _reader(model)
        readers.append((model, names, converters, start, start + len(names)))
        start += len(names)
    made = []
    for row in rows:
        instances = []
        for model, names, converters, first, last in readers:
            values = list(row[first:last])
            for position, expression, convert in converters:
                if values[position] is not None:
                    values[position] = convert(values[position], expression, connection)
            instances.append(model.from_db(using, names, values))
        made.append(tuple(instances))
    return made


@cache
def _reader(model: type[models.Model]) -> tuple[list[str], list[_Converter]]:
    """The names of a model's columns, and how values of theirs are converted: the position, its expression, the call.

    NULL stays None. The field's own `from_db_value` is all there is to it: Django's backend for PostgreSQL converts
    nothing itself.
    """
    fields = model._meta.concrete_fields
    converters = [
        (position, field.get_col(model._meta.db_table), field.from_db_value)
        for position, field in enumerate(fields)
        if hasattr(field, "from_db_value")
    ]
    return [field.attname for field in fields], converters
