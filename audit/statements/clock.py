"""The clock of a database: leases and times are judged by it, whatever the clock of this machine shows."""

from __future__ import annotations

from datetime import datetime

from audit.statements.rows import run
from audit.values import moments

__all__ = ["database_now"]


def database_now(using: str) -> datetime:
    """Return this moment by the clock of a database, aware.

    Args:
        using: its alias.
    """
    [(at,)] = run(using, "SELECT statement_timestamp()", [])
    return moments.with_zone(at)
