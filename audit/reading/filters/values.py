"""What a filter's values look like as text: read, checked and written, one function each."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any
from uuid import UUID

from django.utils import timezone

from audit.exceptions import InvalidFilter, InvalidValue
from audit.status import FINISHED, LIVE, FailureClass, Status
from audit.values import moments, validation

__all__ = [
    "BY_FIELD",
    "BY_NAME",
    "GROUPS",
    "KEYS",
    "LONGEST_SPAN",
    "MOST_VALUES",
    "PATH",
    "ROOTS",
    "Key",
    "When",
    "document",
    "label",
    "parse_when",
    "search_word",
    "short_id",
    "span_text",
    "when_text",
]

When = datetime | timedelta

MOST_VALUES = 100
LONGEST_SPAN = timedelta(days=36525)
# Of what stands in documents and texts; names have the limit of their columns.
_LONGEST_VALUE = 1000
_LONGEST_ACTION = 100

_SPAN = re.compile(r"([0-9]{1,10})\s*([smhdw])", re.IGNORECASE)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_when(field: str, value: object) -> When:
    """Read a moment or a span of time.

    Args:
        field: its name, for the error.
        value: ISO 8601 (`2026-11-24T05:48:03+01:00`; naive means the current time zone), a date (its first moment
            there), or a span such as `15m`, `24h`, `7d`, `2w`; a datetime or timedelta is checked alone.

    Returns:
        An aware datetime, or a timedelta of whole seconds.

    Raises:
        InvalidFilter: none of these, or beyond what can be stored (moments) or 100 years (spans).
    """
    when = _parsed_when(field, value) if isinstance(value, str) else value
    if isinstance(when, timedelta):
        if not timedelta(0) < when <= LONGEST_SPAN or when.microseconds:
            raise InvalidFilter(field, value, "must be a span of whole seconds, more than none and at most 100 years")
        return when
    try:
        return validation.moment(field, when)
    except InvalidValue as error:
        raise InvalidFilter(field, value, error.problem) from None


def _parsed_when(field: str, value: str) -> When:
    text = value.strip()
    if span := _SPAN.fullmatch(text):
        seconds = int(span[1]) * _UNITS[span[2].lower()]
        return timedelta(seconds=min(seconds, 10**12))  # far beyond the longest, and within what a timedelta holds
    # A plus sign that nobody escaped arrives from a URL as a space.
    text = re.sub(r"(T\S+) (\d\d:?\d\d)$", r"\1+\2", text)
    try:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else timezone.make_aware(moment)
    except (ValueError, OverflowError):
        raise InvalidFilter(
            field,
            value,
            "is not a time; write 2026-11-24, 2026-11-24T05:48:03+01:00, or a span back from now such as 24h"
            " (units: s, m, h, d, w)",
        ) from None


def span_text(span: timedelta) -> str:
    """Write a span of whole seconds as `parse_when` reads it, in the largest unit that divides it: `24h` is `1d`."""
    seconds = int(span.total_seconds())
    unit = next(unit for unit in "dhms" if seconds % _UNITS[unit] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def when_text(value: When) -> str:
    if isinstance(value, timedelta):
        return span_text(value)
    return moments.iso(value)


def label(field: str, value: object, longest: int = _LONGEST_VALUE) -> str:
    try:
        return validation.label(field, value, max_length=longest)
    except InvalidValue as error:
        raise InvalidFilter.of(error) from None


def search_word(field: str, value: object) -> str:
    """Check what is looked for among words: signs alone are in no index of words."""
    text = label(field, value)
    if not any(each.isalnum() for each in text):
        raise InvalidFilter(field, value, "has no letter or digit; words are looked for by their beginnings")
    return text


def _status(field: str, value: object) -> tuple[str, ...]:
    name = value.lower() if isinstance(value, str) else value
    if name in GROUPS:
        return GROUPS[name]
    if name not in Status.values:
        raise _unknown(field, value, "a status", [*Status.values, *map(str, GROUPS)])
    return (str(Status(name)),)


def _unknown(field: str, value: object, what: str, known: Sequence[str]) -> InvalidFilter:
    close = get_close_matches(str(value).lower(), known, 1, 0.7)
    meant = f"did you mean {close[0]}? There are" if close else "use one of"
    return InvalidFilter(field, value, f"is not {what}; {meant} {', '.join(known)}")


GROUPS: dict[object, tuple[str, ...]] = {"live": tuple(map(str, LIVE)), "finished": tuple(map(str, FINISHED))}
"""Words that stand for several statuses."""


def _failure(field: str, value: object) -> tuple[str, ...]:
    name = value.lower() if isinstance(value, str) else value
    if name not in FailureClass.values:
        raise _unknown(field, value, "a class of failures", FailureClass.values)
    return (str(FailureClass(name)),)


def _seal(field: str, value: object) -> tuple[str, ...]:
    if value != "failed":
        raise InvalidFilter(field, value, "is not a state of a seal to look for; use failed")
    return ("failed",)


def _whens(field: str, value: object) -> tuple[When, ...]:
    return (parse_when(field, value),)


def _id(field: str, value: object) -> tuple[str, ...]:
    digits = str(value).replace("-", "").lower()
    if not re.fullmatch("[0-9a-f]{1,32}", digits):
        raise InvalidFilter(field, value, "is not an id; write a UUID or its first hexadecimal digits")
    return (digits,)


def _id_text(digits: str) -> str:
    return str(UUID(digits)) if len(digits) == 32 else digits


def short_id(value: UUID) -> str:
    """Write the beginning of an id that pages and lists show and searches find: its milliseconds and the twelve bits
    below them, as in `019c2f3a-1b2c-7d4e`."""
    return str(value)[:18]


def _uuid(field: str, value: object) -> tuple[UUID, ...]:
    try:
        return (validation.uuid(field, value),)
    except InvalidValue as error:
        raise InvalidFilter.of(error) from None


def document(path: object, value: object) -> tuple[str, str]:
    if not isinstance(path, str) or not PATH.fullmatch(path):
        roots = ", ".join(ROOTS)
        raise InvalidFilter("path", path, f"is not a path; write one of {roots}, and keys of letters, digits, _ and -")
    return path, label(path, value)


ROOTS = ("outcome", "plan", "resources_used", "estimated_resources", "origin")
PATH = re.compile(rf"(?:{'|'.join(ROOTS)})(?:\.[A-Za-z0-9_-]+){{1,20}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """How one field is called, read and written."""

    name: str
    field: str
    read: Callable[[str, object], Sequence[Any]]
    write: Callable[[Any], str] = str
    many: bool = True
    longest: int | None = None
    """How many characters a value may have, where it may be any text."""


def _named(name: str, field: str, longest: int = validation.MAX_LABEL) -> Key:
    def read(called: str, value: object) -> tuple[str, ...]:
        return (label(called, value, longest),)

    return Key(name=name, field=field, read=read, longest=longest)


KEYS = (
    Key(name="status", field="statuses", read=_status),
    _named("service", "services", validation.MAX_SERVICE),
    _named("any_service", "any_services", validation.MAX_SERVICE),
    _named("action", "actions", _LONGEST_ACTION),
    _named("actor", "actors"),
    *(
        Key(name=name, field=name, read=_whens, write=when_text, many=False)
        for name in ("since", "until", "finished_since", "finished_until")
    ),
    _named("correlation_id", "correlation_ids"),
    Key(name="id", field="ids", read=_id, write=_id_text),
    Key(name="parent", field="parents", read=_uuid),
    Key(name="failure", field="failures", read=_failure),
    Key(name="seal", field="seals", read=_seal),
    _named("error_type", "error_types", _LONGEST_VALUE),
)
BY_FIELD = {key.field: key for key in KEYS}
BY_NAME = {key.name: key for key in KEYS} | {"outcome.error_type": KEYS[-1]}
