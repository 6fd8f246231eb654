"""Refuses, before a statement is sent, what PostgreSQL would refuse in the middle of the caller's transaction."""

import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from audit import conf
from audit.exceptions import InvalidValue
from audit.values.moments import with_zone

__all__ = [
    "EARLIEST",
    "LATEST",
    "LONGEST_SPAN",
    "MAX_DEPTH",
    "MAX_INTEGER",
    "MAX_LABEL",
    "MAX_SERVICE",
    "MAX_SERVICES",
    "MAX_TEXT",
    "JSONText",
    "document",
    "fitted_services",
    "fitted_text",
    "identifier",
    "label",
    "moment",
    "priority",
    "services",
    "span",
    "storable_text",
    "text",
    "uuid",
    "whole",
]

# A day inside Python's own range, so that no time zone moves a stored moment out of it.
EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
LATEST = datetime(9999, 12, 31, tzinfo=UTC)
LONGEST_SPAN = timedelta(days=365_000)

# Names are indexed, and an index row holds 2 700 bytes: this many characters fit whatever they are.
MAX_LABEL = 500
MAX_SERVICES = 500
MAX_SERVICE = 200
MAX_TEXT = 16_384
"""Characters of a summary, a note or a reason; what is longer belongs into a document, or elsewhere."""
# Levels of a JSON document: what every reader can walk through recursively.
MAX_DEPTH = 200

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


class JSONText(str):
    """A JSON document as its text, sent to the database as it is: 12.50 stays 12.50."""

    __slots__ = ()


def text(field: str, value: object, *, max_length: int | None = MAX_TEXT) -> str:
    """Return `value` if PostgreSQL can store it as text, and it is no longer than `max_length` characters.

    Raises:
        InvalidValue: not a string, too long, or with a NUL character or a lone surrogate in it.
    """
    if not isinstance(value, str):
        raise InvalidValue(field, value, "must be a string")
    if "\0" in value:
        raise InvalidValue(field, value, "contains a NUL character, which PostgreSQL cannot store")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(
            field, value, f"contains a lone surrogate at index {error.start}, which is not valid Unicode"
        ) from None
    if max_length is not None and len(value) > max_length:
        raise InvalidValue(field, value, f"has {len(value)} characters; at most {max_length} are allowed")
    return str(value)


def storable_text(foreign: str) -> str:
    """Escape what PostgreSQL cannot store as text: a foreign message must not keep the failure from being written."""
    return foreign.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def fitted_text(value: str, max_length: int = MAX_TEXT) -> str:
    """Cut a text to so many characters; the mark at its end says how long it was."""
    if len(value) <= max_length:
        return value
    mark = f"… ({len(value)} characters)"
    return f"{value[: max_length - len(mark)]}{mark}"


def label(field: str, value: object, *, max_length: int = MAX_LABEL) -> str:
    """Like `text`, and not empty; short enough for an index unless `max_length` says otherwise."""
    checked = text(field, value, max_length=max_length)
    if not checked.strip():
        raise InvalidValue(field, value, "must not be empty")
    return checked


def services(field: str, value: object) -> list[str]:
    """Return `value` as a list of service names, each once, in the given order.

    Raises:
        InvalidValue: a single string (its letters would become services), more than `MAX_SERVICES` names, or a name
            that is empty, unstorable or longer than `MAX_SERVICE` characters.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise InvalidValue(field, value, "must be a list of service names")
    checked = (label(f"{field}[{index}]", each, max_length=MAX_SERVICE) for index, each in enumerate(value))
    names = list(dict.fromkeys(checked))
    if len(names) > MAX_SERVICES:
        raise InvalidValue(field, names[:3], f"has {len(names)} names; at most {MAX_SERVICES} are allowed")
    return names


def fitted_services(names: Iterable[str]) -> list[str]:
    """Cut names that are too long, and leave out those that are too many; the last one says how many there were."""
    fitted = list(dict.fromkeys(fitted_text(each, MAX_SERVICE) if isinstance(each, str) else each for each in names))
    if len(fitted) > MAX_SERVICES:
        fitted[MAX_SERVICES - 1 :] = [f"… ({len(fitted)} services)"]
    return fitted


def priority(field: str, value: object) -> int:
    """Return `value` if it is a whole number from 1 (highest) to 5.

    Raises:
        InvalidValue: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 5:
        raise InvalidValue(field, value, "must be a whole number from 1 (highest) to 5")
    return value


def whole(field: str, value: object, *, lowest: int = 1, highest: int = 2**31 - 1) -> int:
    """Return `value` if it is a whole number from `lowest` to `highest`, else what a PostgreSQL integer holds.

    Raises:
        InvalidValue: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise InvalidValue(field, value, f"must be a whole number from {lowest} to {highest}")
    return value


def span(field: str, value: object) -> timedelta:
    """Return `value` if it is a positive span of time of at most a thousand years.

    Raises:
        InvalidValue: it is not.
    """
    if not isinstance(value, timedelta) or not timedelta(0) < value <= LONGEST_SPAN:
        raise InvalidValue(field, value, "must be a timedelta between zero and a thousand years")
    return value


def moment(field: str, value: object, *, or_span: bool = False) -> datetime:
    """Return `value`, aware, if it is a moment that every client can read back.

    Where the project's `USE_TZ` is off, a naive one is of its `TIME_ZONE`.

    Args:
        field: the name of the argument, for the error.
        value: the moment.
        or_span: whether the caller takes a timedelta too, so that the error says so.

    Raises:
        InvalidValue: not a datetime, naive, or at the very ends of Python's range.
    """
    if not isinstance(value, datetime):
        raise InvalidValue(field, value, f"must be a datetime{' or a timedelta' if or_span else ''}")
    value = with_zone(value)
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidValue(field, value, "has no time zone; use an aware datetime, such as django.utils.timezone.now()")
    if not EARLIEST <= value < LATEST:
        raise InvalidValue(field, value, f"must be between {EARLIEST.date()} and {LATEST.date()}")
    return value


def is_past(value: datetime) -> bool:
    """Whether a moment can no longer be waited for."""
    return value <= datetime.now(UTC)


def identifier(field: str, value: object) -> UUID:
    """Return `value` as a UUIDv7.

    Raises:
        InvalidValue: not a UUID, or of another version.
    """
    if not isinstance(value, UUID):
        try:
            value = UUID(str(value))
        except ValueError:
            raise InvalidValue(field, value, "is not a UUID") from None
    # As the database sees it: Python has a version for one variant of UUIDs alone.
    if (version := value.int >> 76 & 15) != 7:
        raise InvalidValue(field, value, f"is a UUID of version {version}; make one with audit.ids.uuid7()")
    return value


def uuid(field: str, value: object) -> UUID:
    """Return `value` as a UUID of any version.

    Raises:
        InvalidValue: it is none.
    """
    try:
        return value if isinstance(value, UUID) else UUID(str(value))
    except ValueError:
        raise InvalidValue(field, value, "is not a UUID") from None


def document(field: str, value: Any, *, limit: int | None = None) -> JSONText:
    """Return `value` as JSON text that PostgreSQL stores; a `JSONText` passes as it is, if it is not too large.

    Args:
        field: the name of the argument, for the error.
        value: the document.
        limit: its bytes at most; `AUDIT["MAX_JSON_BYTES"]` when left out.

    Raises:
        InvalidValue: NaN or infinite numbers, objects JSON has no form for, keys that are not strings, NUL
            characters, lone surrogates, nesting beyond what Python reads back, or more bytes than `limit`.
    """
    if isinstance(value, JSONText):
        encoded = value
    else:
        try:
            if not _plain(value, 0):
                _walk(field, value, 0)
            encoded = JSONText(_encode(value))
            if "\\u0000" in encoded or not encoded.isascii():
                _walk(field, value, 0)
        except (TypeError, OverflowError, RecursionError, ValueError) as error:
            if isinstance(error, InvalidValue):
                raise
            raise InvalidValue(field, value, f"is not JSON: {error}") from None
    if limit is None:
        limit = conf.settings().MAX_JSON_BYTES
    if len(encoded) > limit or len(encoded) * 4 > limit < len(encoded.encode()):
        raise InvalidValue(
            field,
            f"{len(encoded.encode())} bytes of JSON",
            f'is larger than the {limit} bytes allowed; store a reference, or raise AUDIT["MAX_JSON_BYTES"]',
        )
    return encoded


MAX_INTEGER = 10**4000
_LARGE = 10**18


def _plain(value: Any, depth: int) -> bool:
    """Whether a document is sound but for what its encoded text would show: the quick answer that most get."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return bool(-_LARGE < value < _LARGE)
    if depth >= MAX_DEPTH:
        return False
    if kind is dict:
        for key in value:
            if type(key) is not str:
                return False
        value = value.values()
    elif kind is not list:
        return False
    for inner in value:  # noqa: SIM110 - `all` of a generator takes twice as long
        if type(inner) is not str and not _plain(inner, depth + 1):
            return False
    return True


def _walk(path: str, value: Any, depth: int) -> None:
    if isinstance(value, str):
        text(path, value, max_length=None)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int):
        if not -MAX_INTEGER < value < MAX_INTEGER:
            raise InvalidValue(path, "an integer", "has more than 4000 digits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidValue(path, value, "is NaN or infinite, which JSON cannot express")
    elif depth >= MAX_DEPTH:
        raise InvalidValue(path[:200], "…", f"is nested deeper than {MAX_DEPTH} levels")
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InvalidValue(path, key, "is a key that is not a string")
            text(path, key, max_length=None)
            _walk(f"{path}.{key}", inner, depth + 1)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _walk(f"{path}[{index}]", inner, depth + 1)
    else:
        raise InvalidValue(path, value, f"is a {type(value).__name__}, which JSON cannot express")
