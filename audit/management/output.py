"""What commands print: JSON, moments, durations and counts.

Every value of a task is somebody's text, so whatever is printed goes through `safe` or `json_text`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

from audit.values import moments
from audit.values.terminal import safe, safe_json

__all__ = ["age", "count", "duration", "json_text", "moment", "safe", "sentences"]


def json_text(value: Mapping[str, Any], *, indent: int | None = None) -> str:
    """Write one JSON document; what a terminal would obey is escaped, as JSON allows.

    Moments are ISO 8601 in UTC, durations seconds, bytes hexadecimal.

    Args:
        value: the document.
        indent: blanks a level, on many lines; none: on one line.
    """
    text = json.dumps(value, ensure_ascii=False, default=_plain, indent=indent)
    return "\n".join(map(safe_json, text.split("\n")))


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return moments.iso(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    return str(value)


def moment(value: datetime | None, *, precise: bool = False) -> str:
    """Write a moment in the current time zone: to the second, or precisely with the zone; `-` for none."""
    if value is None:
        return "-"
    local = moments.local(value)
    if precise:
        return f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03d} {local:%Z}"
    return f"{local:%Y-%m-%d %H:%M:%S}"


def duration(value: timedelta | float | None) -> str:
    """Write a span in at most two units: `812 ms`, `4.2 s`, `3 m 12 s`, `2 h 05 m`, `9 d 4 h`; `-` for none."""
    if value is None:
        return "-"
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} m"
    return f"{hours // 24} d {hours % 24} h"


def age(since: datetime | None, now: datetime) -> str:
    """Write how long ago a moment was, or how far ahead it is (`in 5 m 00 s`)."""
    if since is None:
        return "-"
    return f"in {duration(since - now)}" if since > now else duration(now - since)


def count(number: int, one: str = "", many: str = "") -> str:
    """Write a number with its thousands apart, and what is counted behind it: `1 task`, `20 000 tasks`, `2 leaves`."""
    digits = f"{number:,}".replace(",", "\N{NO-BREAK SPACE}")
    if not one:
        return digits
    return f"{digits} {one if number == 1 else many or f'{one}s'}"


def sentences(text: str) -> str:
    """Join the lines of a message, each with a mark at its end: libpq ends some without, before the next sentence."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return " ".join([*(line if line[-1] in ".:;,?!" else f"{line}." for line in lines[:-1]), *lines[-1:]])
