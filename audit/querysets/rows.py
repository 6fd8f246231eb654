"""Runs one statement and makes model instances of the rows it returns."""

from collections.abc import Sequence
from typing import Any, TypeVar

from django.db import connections, models

__all__ = ["columns", "execute", "fetch"]

ModelT = TypeVar("ModelT", bound=models.Model)


def columns(model: type[models.Model], alias: str) -> str:
    """List every column of a model, in its own order, for SELECT or RETURNING."""
    return ", ".join(f"{alias}.{field.column}" for field in model._meta.concrete_fields)


def fetch(model: type[ModelT], using: str, sql: str, params: Sequence[Any]) -> list[ModelT]:
    """Run a statement whose rows are `columns(model, …)` and return instances read from `using`."""
    return [instance for (instance,) in execute([model], using, sql, params)]


def execute(kinds: Sequence[type[models.Model]], using: str, sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Run a statement whose rows are the columns of several models, one after the other.

    Returns:
        A tuple of instances for each row, one for each model.
    """
    connection = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        rows = cursor.fetchall()
    readers = []
    start = 0
    for model in kinds:
        fields = model._meta.concrete_fields
        converters = [
            (
                position,
                field.get_col(model._meta.db_table),
                [
                    *connection.ops.get_db_converters(field.get_col(model._meta.db_table)),
                    *field.get_db_converters(connection),
                ],
            )
            for position, field in enumerate(fields)
        ]
        converters = [each for each in converters if each[2]]
        readers.append((model, start, start + len(fields), [field.attname for field in fields], converters))
        start += len(fields)
    made = []
    for row in rows:
        instances = []
        for model, first, last, names, converters in readers:
            values = list(row[first:last])
            for position, expression, chain in converters:
                for convert in chain:
                    values[position] = convert(values[position], expression, connection)
            instances.append(model.from_db(using, names, values))
        made.append(tuple(instances))
    return made
