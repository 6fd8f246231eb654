"""Reading for a page: one read-only transaction with a time limit, and a shorter limit for each panel in it.

Every transaction and savepoint here ends with a rollback. Nothing was written, and the rollback also takes the time
limit back when a caller's own transaction goes on around the page (`ATOMIC_REQUESTS`, a test).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from django.db import DatabaseError, connections, transaction

from audit.inspection.rights import missing_right
from audit.values import moments

__all__ = [
    *("LIST_MS", "NOT_MIGRATED", "PANEL_MS", "TOO_SLOW", "Panel"),
    *("noting_denied", "page_now", "panel", "reading", "reading_page", "set_locally", "sqlstate"),
]

LIST_MS = 1500
"""How long one statement of a page may take, in milliseconds."""
PANEL_MS = 400
"""How long one panel may take, in milliseconds."""

# Cancelled by the time limit or, on a standby, because the replay of the primary's changes would not wait for it.
TOO_SLOW = frozenset({"57014", "40001", "40P01"})
NOT_MIGRATED = frozenset({"42P01", "42703"})

T = TypeVar("T")

_logger = logging.getLogger("audit.admin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel(Generic[T]):
    """What a panel shows: a value, or the fact that it could not be had in time."""

    value: T | None = None
    degraded: bool = False
    denied: bool = False
    """Whether that is because the database role may not read it."""


_denied: ContextVar[list[str] | None] = ContextVar("denied", default=None)
_moment: ContextVar[datetime | None] = ContextVar("moment", default=None)


@contextmanager
def noting_denied() -> Iterator[list[str]]:
    """Collect, while the block lasts, which rights the panels in it lacked: a sentence each, none twice."""
    denied: list[str] = []
    outer = _denied.set(denied)
    try:
        yield denied
    finally:
        _denied.reset(outer)


@contextmanager
def reading(using: str, limit_ms: int = LIST_MS) -> Iterator[datetime]:
    """Open a read-only transaction in which no statement runs longer than the limit, or reads a table as a whole.

    What no index finds is then looked for from the newest row backwards, which may end early; a sequential scan, the
    planner's choice for it, has to see every row before it can say which are the newest.

    Args:
        using: the database alias.
        limit_ms: milliseconds for each statement.

    Returns:
        The moment at which it began, by the database's clock.
    """
    with moments.aware(using), transaction.atomic(using=using):
        at = set_locally(using, transaction_read_only="on", statement_timeout=str(limit_ms), enable_seqscan="off")
        try:
            yield at
        finally:
            transaction.set_rollback(True, using=using)


@contextmanager
def reading_page(using: str, limit_ms: int = LIST_MS) -> Iterator[None]:
    """Open `reading` for a page, whose parts ask `page_now`.

    Args:
        using: the database alias.
        limit_ms: milliseconds for each statement.
    """
    with reading(using, limit_ms) as at:
        outer = _moment.set(at)
        try:
            yield
        finally:
            _moment.reset(outer)


def page_now() -> datetime:
    """Return the moment at which the `reading_page` transaction around this call began, by the database's clock.

    Pages judge every lease, due time and age by it: the clock of the web server may be hours off.

    A page that says why nothing could be read has no such transaction. It has links to shorter ranges, which need no
    exact moment, and so gets this machine's.
    """
    return _moment.get() or moments.now()


def panel(using: str, work: Callable[[], T], limit_ms: int = PANEL_MS) -> Panel[T]:
    """Run a panel's queries in a savepoint; what fails or takes too long degrades the panel, never the page.

    Args:
        using: the alias of the `reading` transaction around it.
        work: queries, evaluated; a lazy queryset would run after the limit is gone.
        limit_ms: milliseconds for each of its statements.
    """
    try:
        with transaction.atomic(using=using):
            set_locally(using, statement_timeout=str(limit_ms))
            value = work()
            transaction.set_rollback(True, using=using)
    except DatabaseError as error:
        if sqlstate(error) in NOT_MIGRATED:
            raise
        right, denied = missing_right(error, using), _denied.get()
        if right and denied is not None and right not in denied:
            denied.append(right)
        if sqlstate(error) not in TOO_SLOW:
            _logger.warning("A panel of the audit browser failed: %s", error)
        return Panel(degraded=True, denied=bool(right))
    return Panel(value=value)


def sqlstate(error: DatabaseError) -> str:
    """Return the five characters by which PostgreSQL names an error; empty where the server gave none."""
    return getattr(error.__cause__, "sqlstate", None) or ""


def set_locally(using: str, **values: str) -> datetime:
    """Set parameters for the rest of the transaction or savepoint, in one round trip (SET LOCAL).

    Returns:
        This moment by the database's clock.
    """
    calls = ", ".join("set_config(%s, %s, true)" for _ in values)
    with connections[using].cursor() as cursor:
        cursor.execute(f"SELECT statement_timestamp(), {calls}", [each for pair in values.items() for each in pair])
        at: datetime = cursor.fetchone()[0]
    return moments.with_zone(at)
