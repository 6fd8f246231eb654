"""New tasks: their values checked, and one INSERT for one or for ten thousand of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections

from audit import ids
from audit.context import get_actor
from audit.exceptions import InvalidValue
from audit.statements.rows import columns, fetch
from audit.status import OnExpiry, Status
from audit.values import validation

if TYPE_CHECKING:
    from audit.models import Task

__all__ = [
    "DOCUMENTS",
    "TRAVELS_AS",
    "array",
    "insert",
    "insert_ids",
    "recorded",
    "requested",
    "statement",
]

Values = Mapping[str, Any]
Check = Callable[[str, Any], Any]

_CHUNK = 5000

# Column → the type its values travel as. Arrays and documents travel as text: arrays of arrays would have to be
# rectangular, and a document's text reaches JSONB as it is.
TRAVELS_AS = {
    "id": "uuid",
    "action": "text",
    "summary": "text",
    "status": "text",
    "priority": "smallint",
    "services_touched": "text",
    "plan": "text",
    "estimated_resources": "text",
    "resources_used": "text",
    "outcome": "text",
    "suggestions": "text",
    "requested_by": "text",
    "decided_by": "text",
    "parent": "uuid",
    "correlation_id": "text",
    "created_at": "timestamptz",
    "available_at": "timestamptz",
    "decided_at": "timestamptz",
    "started_at": "timestamptz",
    "finished_at": "timestamptz",
    "claimed_by": "text",
    "claim_token": "uuid",
    "lease_expires_at": "timestamptz",
    "attempt": "integer",
    "expiries": "integer",
    "on_expiry": "text",
    "cancel_requested_at": "timestamptz",
    "actor": "text",
    "origin": "text",
}
DOCUMENTS = ("plan", "estimated_resources", "resources_used", "outcome", "suggestions", "origin")
_LABELS = ("requested_by", "decided_by", "correlation_id", "claimed_by", "actor")
_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(TRAVELS_AS),
    **dict.fromkeys(("summary", *_LABELS), ""),
    "status": "pending",
    "priority": 3,
    "services_touched": (),
    "attempt": 0,
    "expiries": 0,
    "on_expiry": "requeue",
}


def requested(*, actor: str | None = None, services: Iterable[str] = (), **given: Any) -> dict[str, Any]:
    """Check the keywords of `Task.objects.request` and return them as column values of a pending task.

    Raises:
        InvalidValue: a value could not be stored.
    """
    name = get_actor() if actor is None else validation.label("actor", actor)
    if unknown := given.keys() - _REQUESTABLE:
        raise InvalidValue("request", sorted(unknown), f"unknown keywords; known: {', '.join(sorted(_REQUESTABLE))}")
    return recorded(**given, services_touched=services, requested_by=name, actor=name)


_REQUESTABLE = {
    "action",
    "summary",
    "plan",
    "priority",
    "id",
    "parent",
    "correlation_id",
    "available_at",
    "estimated_resources",
    "suggestions",
    "on_expiry",
}


def recorded(**given: Any) -> dict[str, Any]:
    """Check column values of a task in any status, and complete them with defaults.

    Raises:
        InvalidValue: an unknown column, or a value that could not be stored.
    """
    if unknown := given.keys() - TRAVELS_AS.keys():
        raise InvalidValue("record", sorted(unknown), f"unknown columns; known: {', '.join(sorted(TRAVELS_AS))}")
    if "action" not in given:
        raise InvalidValue("action", None, "is required")
    values = _DEFAULTS | given
    # What is not given is a default, and sound.
    for name, value in given.items():
        if value is not None or name not in _OPTIONAL:
            values[name] = _CHECKS[name](name, value)
    if values["id"] is None:
        values["id"] = ids.uuid7()
    return values


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


_CHECKS: dict[str, Check] = {
    **dict.fromkeys(DOCUMENTS, validation.document),
    **dict.fromkeys((name for name, kind in TRAVELS_AS.items() if kind == "timestamptz"), validation.moment),
    **dict.fromkeys(_LABELS, _label),
    "action": partial(validation.label, max_length=100),
    "summary": validation.text,
    "status": _one_of(Status.values),
    "priority": validation.priority,
    "services_touched": lambda _, value: validation.services("services", value),
    "suggestions": _suggestions,
    "attempt": partial(validation.whole, lowest=0),
    "expiries": partial(validation.whole, lowest=0),
    "on_expiry": _one_of(OnExpiry.values),
    "id": validation.identifier,
    "parent": validation.uuid,
    "claim_token": validation.uuid,
}
_OPTIONAL = frozenset(name for name, default in _DEFAULTS.items() if default is None) - {"action"}


def insert(model: type[Task], using: str, rows: Sequence[Values]) -> list[Task]:
    """Insert tasks whose ids are free, and return those that were inserted, equal to their rows."""
    sql, params = statement(model, rows, columns(model, "audit_task"))
    return fetch(model, using, sql, params)


def insert_ids(model: type[Task], using: str, rows: Sequence[Values]) -> list[UUID]:
    """Insert tasks whose ids are free, all in one transaction, and return the ids that were inserted, in order."""
    from django.db.transaction import atomic

    inserted: set[UUID] = set()
    with atomic(using=using, savepoint=False), connections[using].cursor() as cursor:
        for start in range(0, len(rows), _CHUNK):
            cursor.execute(*statement(model, rows[start : start + _CHUNK], "audit_task.id"))
            inserted.update(key for (key,) in cursor.fetchall())
    return [key for key in dict.fromkeys(row["id"] for row in rows) if key in inserted]


def statement(model: type[Task], rows: Sequence[Values], returning: str) -> tuple[str, list[Any]]:
    """Write the INSERT of rows given as one array a column, leaving out columns that no row names."""
    used = [name for name in TRAVELS_AS if any(row[name] != _DEFAULTS[name] for row in rows)]
    params = [array(name, rows) for name in used]
    arrays = ", ".join(f"%s::{TRAVELS_AS[name]}[]" for name in used)
    picked = ", ".join(_arriving(name) for name in used)
    sql = f"""
INSERT INTO audit_task ({", ".join(used)})
SELECT {picked} FROM unnest({arrays}) AS given ({", ".join(used)})
ON CONFLICT (id) DO NOTHING
RETURNING {returning}
"""  # noqa: S608 - column names are this module's own; every value is a parameter
    return sql, params


def array(name: str, rows: Sequence[Values]) -> str:
    """Write one column of rows as the text of an array; psycopg writes a list many times slower."""
    return "{" + ",".join([_element(name, row[name]) for row in rows]) + "}"


def _element(name: str, value: Any) -> str:
    if value is None:
        return "NULL"
    if name == "services_touched":
        value = "{" + ",".join(map(_quoted, value)) + "}"
    return _quoted(value) if isinstance(value, str) else f'"{value}"'


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _arriving(name: str) -> str:
    if name in DOCUMENTS:
        return f"given.{name}::jsonb"
    if name == "services_touched":
        return f"given.{name}::text[]"
    if name == "created_at":
        return "coalesce(given.created_at, statement_timestamp())"
    return f"given.{name}"
