"""The SQL that writes a task as one line of JSON, or as the cells of one row, by PostgreSQL itself.

JSONB is put into the line as its own text. Moments are written in UTC with microseconds, whatever the session says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import EmptyResultSet
from django.db import connections, models
from django.db.models.expressions import RawSQL
from django.db.transaction import atomic

from audit import columns as described
from audit.columns import Column
from audit.verbs.differences import GIVEN_ENTRY, origin_here_sql, value_sql
from audit.verbs.inserts import GIVEN

if TYPE_CHECKING:
    from audit.models.querysets.log import ExecutionLogQuerySet
    from audit.models.querysets.pause import PauseQueueQuerySet
    from audit.models.querysets.task import TaskQuerySet

    Exportable: TypeAlias = TaskQuerySet | ExecutionLogQuerySet | PauseQueueQuerySet

__all__ = ["cells", "columns", "lines"]

_OWN = {name: column for name, column in GIVEN.items() if name != "origin"}
# The columns of a flat row, by table.
_CELLS = {
    "audit_task": _OWN | {name: described.by_name(described.TASK)[name] for name in ("recorded_at", "revision")},
    "audit_executionlog": described.by_name(described.LOG),
    "audit_pause_queue": described.by_name(described.ENTRY),
}

_BYTES_A_FETCH = 4_000_000


def lines(queryset: Exportable) -> Iterator[str]:
    """Yield each row as one line of JSON, without its end, in the order of their ids, of one snapshot.

    A task's line holds its log and its pause entry; a line of the log or the queue holds its columns.
    """
    table = queryset.model._meta.db_table
    sql = _line_sql() if table == "audit_task" else f"concat('{{', {_members_sql(table, _CELLS[table])}, '}}')"
    return (line for (line,) in _streamed(queryset, sql, models.TextField()))


def columns(queryset: Exportable) -> list[str]:
    """Name the cells that `cells` yields of each row."""
    return list(_CELLS[queryset.model._meta.db_table])


def cells(queryset: Exportable) -> Iterator[list[str | None]]:
    """Yield the texts of each row's `columns`, in the order of their ids, of one snapshot."""
    table = queryset.model._meta.db_table
    texts = ", ".join(f"({_text_sql(f'{table}.{name}', column)})::text" for name, column in _CELLS[table].items())
    return (row for (row,) in _streamed(queryset, f"ARRAY[{texts}]", ArrayField(models.TextField())))


def _line_sql() -> str:
    """Write the expression of a task's line.

    The origin of an imported task is written as it came while nothing has happened to the task here. Afterwards the
    task has a story of its own: this database's stamps and log, with the origin that came inside of them.
    """
    here = origin_here_sql("audit_task")
    origin = (
        "CASE WHEN audit_task.origin IS NULL THEN "
        f"{here} "
        "WHEN audit_task.revision = 1 AND NOT EXISTS (SELECT FROM audit_executionlog AS log"
        " WHERE log.task_id = audit_task.id AND (log.kind <> 'transition' OR log.revision <> 1))"
        f" THEN audit_task.origin ELSE {here} || jsonb_build_object('origin', audit_task.origin) END"
    )
    entry = (
        f"(SELECT concat('{{', {_members_sql('entry', GIVEN_ENTRY)}, '}}') FROM audit_pause_queue AS entry"  # noqa: S608 - as above
        " WHERE entry.task_id = audit_task.id)"
    )
    return (
        f"concat('{{', {_members_sql('audit_task', _OWN)}, ',\"pause_entry\":', coalesce({entry}, 'null'),"
        f" ',\"origin\":', ({origin})::text, '}}')"
    )


def _members_sql(alias: str, kinds: Mapping[str, Column]) -> str:
    """Write the expression of the members of an object, in this order.

    One argument a member: a function of PostgreSQL takes a hundred.
    """
    members = (f"'\"{name}\":' || {_json_sql(f'{alias}.{column.name}', column.type)}" for name, column in kinds.items())
    return f"concat_ws(',', {', '.join(members)})"


def _json_sql(column: str, kind: str) -> str:
    """Write the expression of a value's JSON text."""
    if kind in ("jsonb", "bigint", "integer", "smallint"):
        return f"coalesce({column}::text, 'null')"
    return f"coalesce(to_json({value_sql(column, kind)})::text, 'null')"


def _text_sql(column: str, kind: Column) -> str:
    """Write the expression of a value's text in a cell."""
    return f"to_json({column})" if kind.is_list else value_sql(column, kind.type)


def _streamed(queryset: Exportable, sql: str, kind: models.Field[Any, Any]) -> Iterator[tuple[Any]]:
    """Run one SELECT through a cursor of the server, in a transaction, so that memory stays bounded.

    `QuerySet.iterator()` opens its cursor outside of a transaction with HOLD, which copies the whole result first,
    and loses it behind a pooler in transaction mode.
    """
    query = queryset.order_by("pk").values_list(RawSQL(sql, (), output_field=kind)).query  # noqa: S611 - no parameters
    try:
        statement, params = query.get_compiler(queryset.db).as_sql()
    except EmptyResultSet:
        return
    connection = connections[queryset.db]
    with atomic(using=queryset.db), connection.chunked_cursor() as cursor:
        with connection.cursor() as plain:
            # All of it is read: of a cursor the planner expects a tenth, and would walk through every id for one day.
            plain.execute("SELECT set_config('cursor_tuple_fraction', '1', true)")
        cursor.execute(statement, params)
        count = 10
        while rows := cursor.fetchmany(count):
            yield from rows
            size = sum(len(str(row[0])) for row in rows) // len(rows) + 1
            count = max(1, min(1000, _BYTES_A_FETCH // size))
