"""The INSERT of tasks that come from elsewhere, and what differs when wanted tasks are here already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections

from audit.verbs.exports import ENTRY_TRAVELS_AS, origin_here_sql
from audit.verbs.inserts import DOCUMENTS, TRAVELS_AS, array, statement

if TYPE_CHECKING:
    from audit.models import Task

__all__ = ["asks_otherwise", "differing", "insert_imported"]

Values = Mapping[str, Any]

# What the database fills in when it is not given, so that not giving it is no difference.
_FILLED_IN = (
    "created_at",
    "available_at",
    "finished_at",
    "claimed_by",
    "claim_token",
    "lease_expires_at",
    "actor",
    "paused_by",
    "paused_at",
)


def insert_imported(model: type[Task], using: str, rows: Sequence[Values], entries: Mapping[UUID, Values]) -> set[UUID]:
    """Insert tasks whose ids are free, with the pause entries of those that are paused, in one statement.

    Args:
        model: `Task`.
        using: the alias to write through.
        rows: values of every column in `TRAVELS_AS`, checked; documents as the text of their JSON.
        entries: values of the columns in `ENTRY_TRAVELS_AS` by the id of their task.

    Returns:
        The ids that were inserted.
    """
    sql, params = statement(model, rows, "audit_task.id")
    if entries:
        # In the statement that inserts the task: a trigger at its end would make an entry of its own otherwise.
        names = ", ".join(ENTRY_TRAVELS_AS)
        picked = ", ".join(
            "coalesce(given.paused_at, statement_timestamp())" if name == "paused_at" else f"given.{name}{_cast(name)}"
            for name in ENTRY_TRAVELS_AS
        )
        sql = f"""
WITH inserted AS ({sql}), entry AS (
    INSERT INTO audit_pause_queue (task_id, {names})
    SELECT inserted.id, {picked}
    FROM unnest(%s::uuid[], {_arrays(ENTRY_TRAVELS_AS)}) AS given (id, {names}) JOIN inserted ON inserted.id = given.id
)
SELECT id FROM inserted
"""  # noqa: S608 - column names are this module's own; every value is a parameter
        params = [*params, _ids(entries), *_columns(ENTRY_TRAVELS_AS, list(entries.values()))]
    with connections[using].cursor() as cursor:
        cursor.execute(sql, params)
        return {key for (key,) in cursor.fetchall()}


def differing(using: str, rows: Sequence[Values], entries: Mapping[UUID, Values]) -> dict[UUID, list[str]]:
    """Name the columns in which tasks that exist say something else than these rows.

    What the database fills in is compared when it is given. The origin differs when it claims a stamp or a line of
    the log that is neither this database's own nor stored with the task.

    Args:
        using: the alias to read through.
        rows: as in `insert_imported`.
        entries: as in `insert_imported`.

    Returns:
        The names by id, an empty list for a task that is the same.
    """
    compared = ", ".join(
        f"CASE WHEN given.origin IS NOT NULL AND NOT coalesce(task.origin @> given.origin::jsonb, false)"
        f" AND NOT {origin_here_sql('task')} @> given.origin::jsonb THEN 'origin' END"
        if name == "origin"
        else _compared("task", name)
        for name in TRAVELS_AS
        if name != "id"
    )
    names = ", ".join(TRAVELS_AS)
    sql = f"""
SELECT task.id, array_remove(ARRAY[{compared}], NULL)
FROM unnest({_arrays(TRAVELS_AS)}) AS given ({names}) JOIN audit_task AS task ON task.id = given.id
"""  # noqa: S608 - as above
    with connections[using].cursor() as cursor:
        cursor.execute(sql, _columns(TRAVELS_AS, rows))
        found = dict(cursor.fetchall())
        if entries:
            names = ", ".join(ENTRY_TRAVELS_AS)
            compared = ", ".join(_compared("entry", name) for name in ENTRY_TRAVELS_AS)
            sql = f"""
SELECT entry.task_id, array_remove(ARRAY[{compared}], NULL)
FROM unnest(%s::uuid[], {_arrays(ENTRY_TRAVELS_AS)}) AS given (id, {names})
JOIN audit_pause_queue AS entry ON entry.task_id = given.id
"""  # noqa: S608 - as above
            cursor.execute(sql, [_ids(entries), *_columns(ENTRY_TRAVELS_AS, list(entries.values()))])
            for key, different in cursor.fetchall():
                found[key] += [f"pause_entry.{name}" for name in different]
    return found


# What a request alone decides.
_ASKED = frozenset(
    {"action", "summary", "requested_by", "parent", "correlation_id", "estimated_resources", "on_expiry"}
)
# What a task may lawfully gain or change once it moves.
_ASKED_AT_FIRST = frozenset({"plan", "priority", "suggestions", "services_touched", "available_at"})


def asks_otherwise(task: Task, values: Values, different: Iterable[str]) -> tuple[str, ...]:
    """Name the requested columns in which an existing task says something else.

    Args:
        task: the task, read after the comparison: whether it had moved on then, its revision tells.
        values: the values of the request.
        different: the columns that `differing` named.

    Returns:
        The names, in the order given; a task that has moved on may have touched more services, changed priority or been
        resumed with another plan.
    """
    asked = _ASKED | _ASKED_AT_FIRST if task.revision == 1 else _ASKED
    found = [name for name in different if name in asked]
    if not set(values["services_touched"]) <= set(task.services_touched):
        found.append("services_touched")
    return tuple(dict.fromkeys(found))


def _compared(alias: str, name: str) -> str:
    here, there = f"{alias}.{name}", f"given.{name}{_cast(name)}"
    if _cast(name) == "::jsonb":
        # As text: 12.50 is another document than 12.5.
        here, there = f"{here}::text", f"{there}::text"
    missing = f" AND given.{name}::text <> ''" if name in _FILLED_IN else ""
    return f"CASE WHEN {here} IS DISTINCT FROM {there}{missing} THEN '{name}' END"


def _cast(name: str) -> str:
    if name in DOCUMENTS or name == "work_plan":
        return "::jsonb"
    return "::text[]" if name == "services_touched" else ""


def _arrays(kinds: Mapping[str, str]) -> str:
    return ", ".join(f"%s::{'text' if kind == 'jsonb' else kind}[]" for kind in kinds.values())


def _columns(kinds: Mapping[str, str], rows: Sequence[Values]) -> list[str]:
    return [array(name, rows) for name in kinds]


def _ids(entries: Mapping[UUID, Values]) -> str:
    return array("id", [{"id": key} for key in entries])
