"""Repeats a statement that met trouble which passes: a conflict with another transaction, or a connection that died.

Note [Transient refusals]
    A statement that PostgreSQL refused with one of `TRANSIENT` has done nothing, so outside of a transaction it may be
    repeated as it is. Inside one it may not: the whole transaction is to be repeated, which only its owner can do.

Note [Connections that died]
    A server that restarts, a fail-over or a firewall ends the session of a process that lives long, and the process
    hears of it by its next statement. Whether the server carried that one out nobody knows, so only a statement that
    may be repeated, or whose result can be found again, is sent through a new connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from django.db import Error, InterfaceError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

from audit.values.backoff import backoff

__all__ = ["TRANSIENT", "has_died", "in_transaction", "persistently", "reconnecting"]

T = TypeVar("T")

TRANSIENT = frozenset(["40001", "40P01", "55P03"])
"""SQL states of a serialization failure, a deadlock, and a lock that was not to be had in time."""

_TRIES = 12
_FIRST_WAIT_SECONDS = 0.01
_LONGEST_WAIT_SECONDS = 0.5


def persistently(connection: BaseDatabaseWrapper, attempt: Callable[[], T]) -> T:
    """Make an attempt, and outside of a transaction again, after a short wait, while it is refused for the moment.

    Args:
        connection: what the attempt is made through.
        attempt: changes nothing when it is refused: one statement, or one transaction of its own.

    Returns:
        What it returns.

    Raises:
        django.db.Error: it was refused a dozen times, or inside a transaction, or for another reason.
    """
    for tried in range(1, _TRIES):
        try:
            return attempt()
        except Error as error:
            if getattr(error.__cause__, "sqlstate", None) not in TRANSIENT or in_transaction(connection):
                raise
        time.sleep(backoff(_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS, tried))
    return attempt()


def reconnecting(connection: BaseDatabaseWrapper, attempt: Callable[[], T], again: Callable[[], T] | None = None) -> T:
    """Make an attempt, and outside of a transaction once more if the connection turns out to have died.

    Args:
        connection: what the attempt is made through.
        attempt: the first attempt.
        again: the second, where it must first look whether the first was carried out.

    Returns:
        What the attempt returns.

    Raises:
        django.db.Error: it failed otherwise, inside a transaction, or again.
    """
    try:
        return attempt()
    except (OperationalError, InterfaceError):
        if connection.in_atomic_block or not connection.get_autocommit() or not has_died(connection):
            raise
        connection.close()
    return (again or attempt)()


def has_died(connection: BaseDatabaseWrapper) -> bool:
    """Whether a connection was open and is not any more, as far as this side has heard."""
    return connection.connection is not None and bool(connection.connection.closed)


def in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether somebody has a transaction open: Django, or a BEGIN of the caller's own."""
    if connection.in_atomic_block or not connection.get_autocommit():
        return True
    raw = connection.connection
    return raw is not None and raw.info.transaction_status != TransactionStatus.IDLE
