"""New tasks: checks their values, and inserts one or ten thousand of them with one INSERT.

A row is a mapping of column names to values, checked, and holds what was given alone: what is missing is the column's
default. Documents are the text of their JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections
from django.db.transaction import atomic

from audit import columns, ids
from audit.columns import Source
from audit.context import get_actor
from audit.exceptions import InvalidValue
from audit.statements import rows as made
from audit.statements.retry import persistently
from audit.status import OnExpiry, Status
from audit.values import validation

if TYPE_CHECKING:
    from audit.models import Task

__all__ = ["GIVEN", "array", "insert", "insert_ids", "placeholder", "recorded", "requested", "statement"]

Row = Mapping[str, Any]
Check = Callable[[str, Any], Any]

_CHUNK = 5000

GIVEN = columns.by_name(columns.TASK, Source.REQUEST, Source.RECORD)
"""The columns of a task that may be given when it is inserted."""
# A span given for `approve_before`: the database adds it to its own clock.
_WITHIN = columns.Column(name="approve_within", type="interval", source=Source.REQUEST)
_REQUESTABLE = columns.by_name(columns.TASK, Source.REQUEST).keys() - {"services_touched"} | {"actor", "services"}
_RECORDABLE = GIVEN.keys() - {"services_touched"} | {"services"}


def requested(requests: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Check the keywords of `Task.objects.request`, of many requests, and return the rows of pending tasks.

    Raises:
        InvalidValue: a value could not be stored.
    """
    rows = []
    current: str | None = None
    for request in requests:
        given = dict(request)
        _insist_on_known("request", given, _REQUESTABLE)
        actor = given.pop("actor", None)
        if actor is not None:
            name = validation.label("actor", actor)
        else:
            name = current = get_actor() if current is None else current
        rows.append({**given, "requested_by": name, "actor": name})
    return _checked(rows)


def recorded(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Check column values of tasks in any status, the services as `services`, and return their rows.

    Raises:
        InvalidValue: an unknown name, or a value that could not be stored.
    """
    rows = [dict(record) for record in records]
    for row in rows:
        _insist_on_known("record", row, _RECORDABLE)
    return _checked(rows)


def _insist_on_known(what: str, given: Mapping[str, Any], known: Set[str]) -> None:
    if "services_touched" in given:
        raise InvalidValue("services_touched", given["services_touched"], "is called `services` here")
    if unknown := given.keys() - known:
        raise InvalidValue(what, sorted(unknown), f"unknown names; known: {', '.join(sorted(known))}")


def _checked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Check every value, and give an id to each row that has none."""
    sound: set[tuple[str, str]] = set()  # short texts that were checked: most rows say the same
    for row in rows:
        if "services" in row:
            row["services_touched"] = row.pop("services")
        if "action" not in row:
            raise InvalidValue("action", None, "is required")
        for name, value in list(row.items()):
            is_short = type(value) is str and len(value) <= validation.MAX_LABEL
            if value is None and name in _OPTIONAL:
                del row[name]
            elif name == "approve_before" and isinstance(value, timedelta):
                del row[name]
                row[_WITHIN.name] = f"{validation.span(name, value) // timedelta(microseconds=1)} microseconds"
            elif not is_short:
                row[name] = _CHECKS[name](name, value)
            elif (name, value) not in sound:
                row[name] = _CHECKS[name](name, value)
                if type(row[name]) is str:
                    sound.add((name, value))
    lacking = [row for row in rows if "id" not in row]
    for row, made_id in zip(lacking, ids.uuid7s(len(lacking)), strict=True):
        row["id"] = made_id
    return rows


def _label(name: str, value: object) -> str:
    return validation.text(name, value, max_length=validation.MAX_LABEL)


def _one_of(choices: Sequence[str]) -> Check:
    known = frozenset(choices)

    def check(name: str, value: object) -> Any:
        if not isinstance(value, str) or value not in known:
            raise InvalidValue(name, value, f"must be one of {', '.join(choices)}")
        return value

    return check


def _suggestions(name: str, value: object) -> str:
    if not isinstance(value, list | tuple | validation.JSONText):
        raise InvalidValue(name, value, "must be a list")
    return validation.document(name, value)


_BY_TYPE: dict[str, Check] = {
    "text": _label,
    "jsonb": validation.document,
    "timestamptz": validation.moment,
    "uuid": validation.uuid,
    "integer": partial(validation.whole, lowest=0),
    "bigint": partial(validation.whole, lowest=0, highest=2**63 - 1),
}
_CHECKS: dict[str, Check] = {
    **{name: _BY_TYPE[column.type] for name, column in GIVEN.items() if column.type in _BY_TYPE},
    "id": validation.identifier,
    "action": partial(validation.label, max_length=100),
    "summary": validation.text,
    "status": _one_of(Status.values),
    "priority": validation.priority,
    "services_touched": lambda _, value: validation.services("services", value),
    "suggestions": _suggestions,
    "on_expiry": _one_of(OnExpiry.values),
}
_OPTIONAL = frozenset(name for name, column in GIVEN.items() if column.default is None) - {"action"}


def insert(model: type[Task], using: str, rows: Sequence[Row]) -> list[Task]:
    """Insert tasks whose ids are free, and return those that were inserted, equal to their rows."""
    sql, params = statement(rows, made.columns(model, "audit_task"))
    return made.fetch(model, using, sql, params)


def insert_ids(using: str, rows: Sequence[Row]) -> list[UUID]:
    """Insert tasks whose ids are free, all in one transaction, and return the ids that were inserted, in order."""
    # In one order, whoever sends the same ids: else two callers could wait for each other.
    ordered = sorted(rows, key=lambda row: row["id"])

    def attempt() -> set[UUID]:
        with atomic(using=using, savepoint=False), connections[using].cursor() as cursor:
            inserted: set[UUID] = set()
            for start in range(0, len(ordered), _CHUNK):
                cursor.execute(*statement(ordered[start : start + _CHUNK], "audit_task.id"))
                inserted.update(key for (key,) in cursor.fetchall())
        return inserted

    inserted = persistently(connections[using], attempt)
    return [key for key in dict.fromkeys(row["id"] for row in rows) if key in inserted]


def statement(rows: Sequence[Row], returning: str) -> tuple[str, list[Any]]:
    """Write the INSERT of rows.

    Columns that no row names are left out, and a value that all rows share is sent once; of the others one array a
    column is sent.

    Args:
        rows: what `requested` or `recorded` returned.
        returning: what to return of each row that was inserted.

    Returns:
        SQL and its parameters.
    """
    named = set().union(*rows)
    shared: dict[str, Any] = {}
    varying: dict[str, str] = {}
    for name, column in GIVEN.items():
        if name not in named:
            continue
        values = [row.get(name, column.default) for row in rows]
        first = values[0]
        if name != "id" and (first is None or isinstance(first, str | int)) and values.count(first) == len(values):
            if first != column.default:
                shared[name] = first
        elif name == "id" or any(value != column.default for value in values):
            varying[name] = array(column, values)
    picked = {name: _picked(GIVEN[name]) for name in varying}
    picked |= {name: placeholder(GIVEN[name]) for name in shared}
    if "created_at" not in named:
        # The default, now(), would be the beginning of the caller's transaction.
        picked["created_at"] = "statement_timestamp()"
    if _WITHIN.name in named:
        varying[_WITHIN.name] = array(_WITHIN, [row.get(_WITHIN.name) for row in rows])
        moment = picked.get("approve_before", "NULL::timestamptz")
        picked["approve_before"] = f"coalesce({moment}, statement_timestamp() + given.{_WITHIN.name})"
    arrays = ", ".join(f"%s::{({**GIVEN, _WITHIN.name: _WITHIN})[name].travels_as}[]" for name in varying)
    sql = f"""
INSERT INTO audit_task ({", ".join(picked)})
SELECT {", ".join(picked.values())} FROM unnest({arrays}) AS given ({", ".join(varying)})
ON CONFLICT (id) DO NOTHING
RETURNING {returning}
"""  # noqa: S608 - column names are this app's own; every value is a parameter
    return sql, [*shared.values(), *varying.values()]


def placeholder(column: columns.Column) -> str:
    """Write the placeholder of one value of a column."""
    return f"%s::{column.type}"


def _picked(column: columns.Column) -> str:
    value = f"given.{column.name}" + ("" if column.travels_as == column.type else f"::{column.type}")
    return f"coalesce({value}, statement_timestamp())" if column.name == "created_at" else value


def array(column: columns.Column, values: Sequence[Any]) -> str:
    """Write values of a column as the text of an array; psycopg writes a list many times slower."""
    if column.type == "uuid":
        return "{" + ",".join(["NULL" if value is None else value.hex for value in values]) + "}"
    if column.is_list:
        values = ["{" + ",".join(map(_quoted, value)) + "}" for value in values]
    return "{" + ",".join([_element(value) for value in values]) + "}"


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    return _quoted(value) if isinstance(value, str) else f'"{value}"'


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
