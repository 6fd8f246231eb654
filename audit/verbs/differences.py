"""What differs when a task that is requested or imported is here already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from audit import columns
from audit.columns import Column, Source
from audit.statements.rows import run
from audit.verbs.inserts import GIVEN, array

if TYPE_CHECKING:
    from audit.models import Task

__all__ = ["GIVEN_ENTRY", "arrays", "asks_otherwise", "differing", "origin_here_sql", "value_sql"]

Row = Mapping[str, Any]

GIVEN_ENTRY = columns.by_name(columns.ENTRY, Source.RECORD)
"""The columns of a pause entry that travel with its task."""
_STAMPS = columns.by_name(columns.TASK, Source.DATABASE)
_LOG = {name: column for name, column in columns.by_name(columns.LOG).items() if column.source is not Source.TABLE}


def differing(using: str, rows: Sequence[Row], entries: Mapping[UUID, Row]) -> dict[UUID, list[str]]:
    """Name the columns in which tasks that exist say something else than these rows.

    What the database fills in is compared when it is given. The origin differs when it claims a stamp or a line of
    the log that is neither this database's own nor stored with the task.

    Args:
        using: the alias to read through.
        rows: checked values by the names of `GIVEN`; documents as the text of their JSON.
        entries: checked values by the names of `GIVEN_ENTRY`, by the id of their task.

    Returns:
        The names by id, an empty list for a task that is the same.
    """
    compared = ", ".join(
        f"CASE WHEN given.origin IS NOT NULL AND NOT coalesce(task.origin @> given.origin::jsonb, false)"
        f" AND NOT {origin_here_sql('task')} @> given.origin::jsonb THEN 'origin' END"
        if column.name == "origin"
        else _compared("task", column)
        for column in GIVEN.values()
        if column.name != "id"
    )
    given, params = arrays(GIVEN, rows)
    sql = f"""
SELECT task.id, array_remove(ARRAY[{compared}], NULL)
FROM {given} JOIN audit_task AS task ON task.id = given.id
"""  # noqa: S608 - column names are this app's own; every value is a parameter
    found = dict(run(using, sql, params))
    if entries:
        compared = ", ".join(_compared("entry", column) for column in GIVEN_ENTRY.values())
        given, params = arrays(GIVEN_ENTRY, list(entries.values()), keys=list(entries))
        sql = f"""
SELECT entry.task_id, array_remove(ARRAY[{compared}], NULL)
FROM {given} JOIN audit_pause_queue AS entry ON entry.task_id = given.id
"""  # noqa: S608 - as above
        for key, different in run(using, sql, params):
            found[key] += [f"pause_entry.{name}" for name in different]
    return found


# What a task may lawfully gain or change once it moves; the rest of a request never changes.
_MAY_CHANGE = frozenset({"plan", "priority", "suggestions", "services_touched", "available_at", "approve_before"})
_ASKED = frozenset(columns.by_name(columns.TASK, Source.REQUEST)) - {"id"} | {"requested_by"}


def asks_otherwise(task: Task, values: Row, different: Iterable[str]) -> tuple[str, ...]:
    """Name the requested columns in which an existing task says something else.

    Args:
        task: the task, read after the comparison: its revision says whether it had moved on then.
        values: the values of the request.
        different: the columns that `differing` named.

    Returns:
        The names, in the order given; a task that has moved on may have touched more services, or changed priority.
    """
    asked = _ASKED if task.revision == 1 else _ASKED - _MAY_CHANGE
    found = [name for name in different if name in asked]
    if not set(values.get("services_touched", ())) <= set(task.services_touched):
        found.append("services_touched")
    return tuple(dict.fromkeys(found))


def arrays(
    kinds: Mapping[str, Column], rows: Sequence[Row], keys: Sequence[UUID] | None = None
) -> tuple[str, list[str]]:
    """Write rows as a table `given`, one array a column, for FROM.

    Args:
        kinds: its columns.
        rows: checked values; what is missing is the column's default.
        keys: values of a first column `id`, where the rows have none of their own.

    Returns:
        SQL and its parameters.
    """
    names = [] if keys is None else ["id"]
    kinds_sql = [] if keys is None else ["%s::uuid[]"]
    params = [] if keys is None else [array(GIVEN["id"], keys)]
    for name, column in kinds.items():
        names.append(name)
        kinds_sql.append(f"%s::{column.travels_as}[]")
        params.append(array(column, [row.get(name, column.default) for row in rows]))
    return f"unnest({', '.join(kinds_sql)}) AS given ({', '.join(names)})", params


def _compared(alias: str, column: Column) -> str:
    name = column.name
    here, there = f"{alias}.{name}", f"given.{name}" + ("" if column.travels_as == column.type else f"::{column.type}")
    if column.is_document:
        # As text: 12.50 is another document than 12.5.
        here, there = f"{here}::text", f"{there}::text"
    missing = f" AND given.{name}::text <> ''" if column.filled else ""
    return f"CASE WHEN {here} IS DISTINCT FROM {there}{missing} THEN '{name}' END"


def origin_here_sql(task: str) -> str:
    """Write the expression of what this database reports of a task as its origin: its stamps and its log.

    Args:
        task: the alias of `audit_task`.
    """
    stamps = f"jsonb_build_object({_pairs(task, _STAMPS)}"
    revision = f"(SELECT entry.revision FROM audit_pause_queue AS entry WHERE entry.task_id = {task}.id)"  # noqa: S608 - as above
    rows = f"jsonb_agg(jsonb_build_object({_pairs('log', _LOG)}) ORDER BY log.id)"
    log = f"(SELECT {rows} FROM audit_executionlog AS log WHERE log.task_id = {task}.id)"  # noqa: S608 - as above
    return f"{stamps}, 'pause_revision', {revision}, 'log', coalesce({log}, '[]'))"


def _pairs(alias: str, kinds: Mapping[str, Column]) -> str:
    """Write the arguments of `jsonb_build_object`."""
    return ", ".join(f"'{name}', {value_sql(f'{alias}.{name}', column.type)}" for name, column in kinds.items())


def value_sql(column: str, kind: str) -> str:
    """Write the expression of a value in a type that JSON has a form for.

    Args:
        column: the expression of the value.
        kind: its type.
    """
    if kind == "timestamptz":
        return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
    if kind == "xid8":
        return f"{column}::text::numeric"
    return column
