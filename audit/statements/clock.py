"""The clock of a database: leases and times are judged by it, whatever the clock of this machine shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from audit.statements.rows import run

__all__ = ["database_now"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def database_now(using: str) -> datetime:
    """Return this moment by the clock of a database, aware.

    Args:
        using: its alias.
    """
    # As a number: without `USE_TZ` a moment comes naive, and is ambiguous for an hour each autumn.
    [(microseconds,)] = run(using, "SELECT (extract(epoch FROM statement_timestamp()) * 1000000)::bigint", [])
    return _EPOCH + timedelta(microseconds=microseconds)
