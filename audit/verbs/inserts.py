"""New tasks: checks their values, and inserts one or ten thousand of them with one INSERT.

A row is a mapping of column names to values, checked, and holds what was given alone: what is missing is the column's
default. Documents are the text of their JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from datetime import timedelta
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections
from django.db.transaction import atomic

from audit import columns, conf, ids
from audit.columns import Source
from audit.context import get_actor
from audit.exceptions import InvalidValue
from audit.statements import rows as made
from audit.statements.retry import persistently
from audit.status import OnExpiry, Status
from audit.values import validation

if TYPE_CHECKING:
    from audit.models import Task

__all__ = ["GIVEN", "array", "identify", "insert", "insert_ids", "placeholder", "recorded", "requested", "statement"]

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
    checker = _Checker("request", _REQUESTABLE, _OPTIONAL | {"actor"}, {"actor": validation.label})
    current: str | None = None
    for request in requests:
        row = checker.row(request)
        if "actor" not in row:
            row["actor"] = current = get_actor() if current is None else current
        row["requested_by"] = row["actor"]
        rows.append(row)
    return rows


def recorded(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Check column values of tasks in any status, the services as `services`, and return their rows.

    Raises:
        InvalidValue: an unknown name, or a value that could not be stored.
    """
    checker = _Checker("record", _RECORDABLE, _OPTIONAL)
    return [checker.row(record) for record in records]


def identify(rows: Sequence[dict[str, Any]]) -> bool:
    """Give an id to each row that has none, and return whether no row had one."""
    lacking = [row for row in rows if "id" not in row]
    for row, made_id in zip(lacking, ids.uuid7s(len(lacking)), strict=True):
        row["id"] = made_id
    return len(lacking) == len(rows)


class _Checker:
    """Checks the values of many rows. A short text, or a list of services, that several rows have is checked once."""

    def __init__(
        self, what: str, known: Set[str], optional: Set[str], checks: Mapping[str, Check] | None = None
    ) -> None:
        self._what = what
        self._known = known
        self._optional = optional
        self._checks = {**_CHECKS, **(checks or {})}
        self._sound: dict[str, dict[str, Any]] = {name: {} for name in known}
        self._sound_services: dict[tuple[Any, ...], list[str]] = {}
        self._limit = conf.settings().MAX_JSON_BYTES

    def row(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row: the values that are given, checked."""
        if not given.keys() <= self._known:
            self._refuse(given)
        row: dict[str, Any] = {}
        for name, value in given.items():
            if value is None and name in self._optional:
                continue
            if name in _DOCUMENTS:
                row[name] = _DOCUMENTS[name](name, value, limit=self._limit)
            elif type(value) is str and len(value) <= validation.MAX_LABEL:
                sound = self._sound[name]
                if value not in sound:
                    sound[value] = self._checks[name](name, value)
                row[name] = sound[value]
            elif name == "services":
                row["services_touched"] = self._services(value)
            elif name == "approve_before" and isinstance(value, timedelta):
                row[_WITHIN.name] = f"{validation.span(name, value) // timedelta(microseconds=1)} microseconds"
            else:
                row[name] = self._checks[name](name, value)
        if "action" not in row:
            raise InvalidValue("action", None, "is required")
        return row

    def _services(self, names: Any) -> list[str]:
        if type(names) is not list:
            return validation.services("services", names)
        sound = self._sound_services
        try:
            return sound[tuple(names)]
        except (KeyError, TypeError):  # a list not seen yet, or one with an element that cannot be a key
            return sound.setdefault(tuple(names), validation.services("services", names))

    def _refuse(self, given: Mapping[str, Any]) -> None:
        if "services_touched" in given:
            raise InvalidValue("services_touched", given["services_touched"], "is called `services` here")
        unknown = sorted(given.keys() - self._known)
        raise InvalidValue(self._what, unknown, f"unknown names; known: {', '.join(sorted(self._known))}")


def _label(name: str, value: object) -> str:
    return validation.text(name, value, max_length=validation.MAX_LABEL)


def _one_of(choices: Sequence[str]) -> Check:
    known = frozenset(choices)

    def check(name: str, value: object) -> Any:
        if not isinstance(value, str) or value not in known:
            raise InvalidValue(name, value, f"must be one of {', '.join(choices)}")
        return value

    return check


def _suggestions(name: str, value: object, *, limit: int) -> str:
    if not isinstance(value, list | tuple | validation.JSONText):
        raise InvalidValue(name, value, "must be a list")
    return validation.document(name, value, limit=limit)


_DOCUMENTS: dict[str, Callable[..., str]] = {
    **{name: validation.document for name, column in GIVEN.items() if column.is_document},
    "suggestions": _suggestions,
}
_BY_TYPE: dict[str, Check] = {
    "text": _label,
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
    "services": validation.services,
    "on_expiry": _one_of(OnExpiry.values),
}
_OPTIONAL = frozenset(name for name, column in GIVEN.items() if column.default is None) - {"action"}


def insert(model: type[Task], using: str, rows: Sequence[Row], *, new: bool = False) -> list[Task]:
    """Insert tasks whose ids are free, and return those that were inserted, equal to their rows.

    Args:
        model: `Task`.
        using: the alias to write through.
        rows: what `requested` or `recorded` returned, with their ids.
        new: whether nobody can have used these ids before; see `statement`.
    """
    sql, params = statement(rows, made.columns(model, "audit_task"), new=new)
    return made.fetch(model, using, sql, params)


def insert_ids(using: str, rows: Sequence[dict[str, Any]]) -> list[UUID]:
    """Insert tasks whose ids are free, all in one transaction, and return the ids that were inserted, in order.

    Args:
        using: the alias to write through.
        rows: what `requested` or `recorded` returned; those without an id get one.
    """
    new = identify(rows)
    # In one order, whoever sends the same ids: else two callers could wait for each other.
    ordered = sorted(rows, key=itemgetter("id"))
    chunks = [ordered[start : start + _CHUNK] for start in range(0, len(ordered), _CHUNK)]

    def attempt() -> set[UUID]:
        with atomic(using=using, savepoint=False), connections[using].cursor() as cursor:
            inserted: set[UUID] = set()
            for chunk in chunks:
                cursor.execute(*statement(chunk, "" if new else "audit_task.id", new=new))
                if not new:
                    inserted.update(key for (key,) in cursor.fetchall())
        return inserted

    inserted = persistently(connections[using], attempt)
    return [key for key in dict.fromkeys(row["id"] for row in rows) if new or key in inserted]


def statement(rows: Sequence[Row], returning: str, *, new: bool = False) -> tuple[str, list[Any]]:
    """Write the INSERT of rows.

    Columns that no row names are left out, and a value that all rows share is sent once; of the others one array a
    column is sent.

    Args:
        rows: what `requested` or `recorded` returned, with their ids.
        returning: what to return of each row that was inserted; may be empty.
        new: whether nobody can have used these ids before. Then no row is looked for first, which saves a twelfth of
            the statement.

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
        if name != "id" and isinstance(first, _SHAREABLE) and values.count(first) == len(values):
            if first != column.default:
                shared[name] = _listed(first) if isinstance(first, list) else first
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
{"" if new else "ON CONFLICT (id) DO NOTHING"}
{f"RETURNING {returning}" if returning else ""}
"""  # noqa: S608 - column names are this app's own; every value is a parameter
    return sql, [*shared.values(), *varying.values()]


_SHAREABLE = (str, int, list, type(None))


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
        values = [_listed(value) for value in values]
    if values and all(isinstance(value, str) for value in values):
        joined = "\0".join(values)
        if joined.count("\0") == len(values) - 1:  # a NUL in a value is for PostgreSQL to refuse
            return '{"' + _escaped(joined).replace("\0", '","') + '"}'
    return "{" + ",".join([_element(value) for value in values]) + "}"


def _listed(names: Sequence[str]) -> str:
    return "{" + ",".join(map(_quoted, names)) + "}"


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    return _quoted(value) if isinstance(value, str) else f'"{value}"'


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
