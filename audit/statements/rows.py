"""Runs one statement and makes model instances of the rows it returns.

Note [Prepared statements]
    Planning anew takes a quarter of a single claim. Statements are the same text each time, so psycopg prepares them on
    a connection that binds on the server; `docs/api.md` has the options for workers. Nothing here needs to know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, timedelta
from functools import cache
from typing import Any, TypeVar

from django.apps import apps
from django.db import connections, models
from django.db.models import signals
from django.db.models.base import ModelState
from psycopg import postgres
from psycopg.adapt import Dumper
from psycopg.types.datetime import TimestamptzLoader

from audit.statements.retry import persistently

__all__ = ["adapt", "adopt", "columns", "execute", "fetch", "fetch_and", "run", "table", "update"]

ModelT = TypeVar("ModelT", bound=models.Model)

_Converter = tuple[str, Any, Callable[..., Any]]


def table(name: str) -> Any:
    """Return the model of this app with a name: for what is imported by the models themselves."""
    return apps.get_model("audit", name)


@cache
def columns(model: type[models.Model], alias: str) -> str:
    """List every column of a model, in its own order, for SELECT or RETURNING."""
    return ", ".join(f"{alias}.{field.column}" for field in model._meta.concrete_fields)


class _SpanDumper(Dumper):
    """Sends a day as 24 hours: psycopg's own sends a day of the calendar, which is 23 or 25 when clocks change."""

    oid = postgres.types["interval"].oid

    def dump(self, obj: timedelta) -> bytes:
        return b"%d microseconds" % (obj // timedelta(microseconds=1))


def run(using: str, sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows; see Note [Transient refusals] in `audit.statements.retry`.

    Args:
        using: the alias of the database.
        sql: the statement.
        params: for its placeholders.
    """
    connection = connections[using]
    return persistently(connection, lambda: _run(connection, sql, params))


def _run(connection: Any, sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        adapt(connection, cursor, params)
        cursor.execute(sql, params)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def adapt(connection: Any, cursor: Any, params: Sequence[Any]) -> None:
    """Let a cursor read moments quickly, and send spans of time as they are; see `_SpanDumper`.

    Args:
        connection: Django's connection.
        cursor: of it.
        params: what it will send.
    """
    if connection.timezone is UTC:
        # Django's own loader is a subclass in Python, for other time zones, and takes six times as long as this one. A
        # claim of a hundred tasks brings five hundred moments.
        cursor.adapters.register_loader("timestamptz", TimestamptzLoader)
    if any(isinstance(each[0] if isinstance(each, list) and each else each, timedelta) for each in params):
        cursor.adapters.register_dumper(timedelta, _SpanDumper)


def fetch(model: type[ModelT], using: str, sql: str, params: Sequence[Any]) -> list[ModelT]:
    """Run a statement whose rows are `columns(model, …)` and return instances read from `using`; see `execute`."""
    rows = run(using, sql, params)
    make = _maker(model, using)
    return [make(row) for row in rows]


def fetch_and(model: type[ModelT], using: str, sql: str, params: Sequence[Any]) -> list[tuple[ModelT, tuple[Any, ...]]]:
    """Run a statement whose rows are `columns(model, …)` and more; return instances, each with what more there was."""
    rows = run(using, sql, params)
    make = _maker(model, using)
    width = len(model._meta.concrete_fields)
    return [(make(row[:width]), row[width:]) for row in rows]


def execute(kinds: Sequence[type[models.Model]], using: str, sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Run a statement whose rows are the columns of several models, one after the other.

    Args:
        kinds: the models.
        using: the alias of the database.
        sql: the statement.
        params: for its placeholders.

    Returns:
        A tuple of instances for each row, one for each model.
    """
    rows = run(using, sql, params)
    readers = []
    start = 0
    for model in kinds:
        end = start + len(model._meta.concrete_fields)
        readers.append((_maker(model, using), start, end))
        start = end
    return [tuple([make(row[first:last]) for make, first, last in readers]) for row in rows]


def adopt(instance: models.Model, row: models.Model) -> None:
    """Make an instance equal to its row: every column, and no related object remembered from before."""
    for field in instance._meta.concrete_fields:
        setattr(instance, field.attname, getattr(row, field.attname))
    instance._state.fields_cache = {}
    instance._state.db = row._state.db
    instance._state.adding = False


def update(instance: models.Model, using: str, names: Sequence[str], values: Sequence[Any]) -> None:
    """Give an instance the values that a statement returned of some of its columns.

    Args:
        instance: a model instance that was read at the revision before.
        using: the alias they were read from.
        names: the columns.
        values: their values, as the database gave them.
    """
    given = dict(zip(names, values, strict=True))
    for name, expression, convert in _converters(type(instance)):
        if given.get(name) is not None:
            given[name] = convert(given[name], expression, connections[using])
    # Plain columns, which nothing of Django's listens to: `setattr` one by one takes three times as long.
    instance.__dict__.update(given)
    instance._state.fields_cache = {}
    instance._state.db = using
    instance._state.adding = False


def _maker(model: type[ModelT], using: str) -> Callable[[Sequence[Any]], ModelT]:
    """Return what makes an instance of a row.

    Where a model is made as Django makes it and nobody listens to the signals of that, its `__init__` is left out: it
    takes a third of the time of a claim of a hundred tasks.
    """
    connection = connections[using]
    named = _named(model)
    converters = _converters(model)
    usual = (
        model.__init__ is models.Model.__init__
        and not signals.pre_init.has_listeners(model)
        and not signals.post_init.has_listeners(model)
    )

    def make(row: Sequence[Any]) -> ModelT:
        values = named(*row)
        for name, expression, convert in converters:
            value = values[name]
            if value is not None:
                values[name] = convert(value, expression, connection)
        if not usual:
            return model.from_db(using, _names(model), list(values.values()))
        state = ModelState()
        state.adding = False
        state.db = using
        values["_state"] = state
        instance = model.__new__(model)
        instance.__dict__ = values
        return instance

    return make


@cache
def _named(model: type[models.Model]) -> Callable[..., dict[str, Any]]:
    """Return what makes a dictionary by name of a row's values, written out as a named tuple is.

    `dict(zip(…))` takes four times as long, which is a fifth of what the client does for a claim of a hundred tasks.
    """
    names = _names(model)
    given = ", ".join(f"value_{number}" for number in range(len(names)))
    pairs = ", ".join(f"{name!r}: value_{number}" for number, name in enumerate(names))
    written: Callable[..., dict[str, Any]] = eval(f"lambda {given}: {{{pairs}}}")  # noqa: S307 - names of fields
    return written


@cache
def _names(model: type[models.Model]) -> list[str]:
    return [field.attname for field in model._meta.concrete_fields]


@cache
def _converters(model: type[models.Model]) -> list[_Converter]:
    """Which columns of a model are converted, with the expression and the call.

    NULL stays None. The field's own `from_db_value` is all there is to it: Django's backend for PostgreSQL converts
    nothing itself.
    """
    return [
        (field.attname, field.get_col(model._meta.db_table), field.from_db_value)
        for field in model._meta.concrete_fields
        if hasattr(field, "from_db_value")
    ]
