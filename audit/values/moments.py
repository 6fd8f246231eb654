"""Moments with a time zone, whatever the project's `USE_TZ` is.

Note [Projects without time zones]
    With `USE_TZ = False` Django reads every moment naive, in the zone of `TIME_ZONE`, which the session has, too. That
    is what a caller of this app gets and may give. Inside, such a moment is no moment for an hour each autumn, and two
    of them cannot be subtracted. So pages and commands read inside `aware`, moments given are made aware where they
    are checked (`audit.values.validation.moment`), and now is `now()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import connections
from django.utils import timezone
from psycopg.types.datetime import TimestamptzLoader

__all__ = ["aware", "iso", "local", "now", "with_zone"]


def now() -> datetime:
    """Return this moment, aware."""
    return datetime.now(UTC)


def with_zone(value: datetime) -> datetime:
    """Return a moment that the project means, aware: a naive one is of `TIME_ZONE` where `USE_TZ` is off."""
    if settings.USE_TZ or value.utcoffset() is not None:
        return value
    return timezone.make_aware(value, timezone.get_default_timezone())


def iso(value: datetime) -> str:
    """Write an aware moment as ISO 8601 in UTC, as all JSON of this app has it: `2026-11-28T10:00:00Z`."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def local(value: datetime) -> datetime:
    """Return a moment in the current time zone."""
    return timezone.localtime(with_zone(value))


@contextmanager
def aware(using: str) -> Iterator[None]:
    """Read moments aware in the block, from a connection; see Note [Projects without time zones].

    Args:
        using: its alias. A connection that is not PostgreSQL's is left as it is.
    """
    connection = connections[using]
    if settings.USE_TZ or connection.vendor != "postgresql":
        yield
        return
    with connection.execute_wrapper(_reading_aware):
        yield


def _reading_aware(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    context["cursor"].adapters.register_loader("timestamptz", TimestamptzLoader)
    return execute(sql, params, many, context)
