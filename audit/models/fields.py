"""Column types that Django lacks or reads too strictly for an audit trail."""

import json
import math
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.types.json import Jsonb

from audit.values.validation import EARLIEST, LATEST, MAX_DEPTH, JSONText

if TYPE_CHECKING:
    _Field = models.Field[int | None, int | None]
else:
    _Field = models.Field

__all__ = ["JSONField", "UnreadableJSON", "XidField", "readable"]


class UnreadableJSON(JSONText):
    """The text of a JSON document that PostgreSQL took and Python cannot read back or walk through.

    Integers of 5 000 digits, numbers beyond a float, or more levels than a verb would store.
    """

    __slots__ = ()


class JSONField(models.JSONField):
    """A JSONB column whose documents never raise on reading: what Python cannot parse comes as its text.

    Saved again, such a text goes back as the document it is, not as a string.
    """

    # Read back with RETURNING, as columns with a `db_default` are; theirs would be a JSON null, not an SQL NULL.
    db_returning = True

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
        if not isinstance(value, str):
            return super().from_db_value(value, expression, connection)
        try:
            document = _decode(value)
        except (ValueError, RecursionError):
            return UnreadableJSON(value)
        if value.count("[") + value.count("{") > MAX_DEPTH and _too_deep(document):
            return UnreadableJSON(value)
        return document

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        if isinstance(value, JSONText):
            return Jsonb(value, dumps=str)
        return super().get_db_prep_value(value, connection, prepared)

    def value_to_string(self, obj: models.Model) -> Any:
        value = super().value_to_string(obj)
        return str(value) if isinstance(value, JSONText) else value


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number beyond a float")
    return number


_decode = json.JSONDecoder(parse_float=_finite).decode


def _too_deep(document: Any) -> bool:
    """Whether a document has more levels than the verbs store, found without recursion."""
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return any(isinstance(each, dict | list) for each in level)


class XidField(_Field):
    """A 64-bit transaction id (`xid8`), read as an int."""

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "xid8"

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> int | None:
        return None if value is None else int(value)

    def to_python(self, value: Any) -> int | None:
        return None if value is None else int(value)

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        # xid8 has a cast from text alone.
        return None if value is None else str(int(value))


def readable(*names: str) -> models.Q:
    """The condition of a CHECK that every moment lies where Python can read it, whatever the time zone; NULL passes.

    Args:
        names: columns of type timestamptz.
    """
    bounds = {f"{name}__gte": EARLIEST for name in names}
    bounds |= {f"{name}__lt": LATEST for name in names}
    return models.Q(**bounds)
