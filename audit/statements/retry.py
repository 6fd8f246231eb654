"""Repeats a statement after a temporary problem: a conflict with another transaction, or a connection that died.

Note [Transient refusals]
    A statement that PostgreSQL refused with one of `TRANSIENT` has changed nothing. Outside of a transaction it is
    therefore repeated as it is. Inside a transaction it is not: the whole transaction must be repeated, and only the
    code that opened it can do that.

Note [Connections that died]
    A restart of the server, a fail-over or a firewall can end the session of a long-lived process. The process notices
    this at its next statement, and cannot know whether the server executed that statement. So a statement is sent again
    through a new connection only if executing it twice does no harm, or if the caller can find its result.
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
"""SQL states of a serialization failure, of a deadlock, and of a lock that was not available in time."""

_TRIES = 12
_FIRST_WAIT_SECONDS = 0.01
_LONGEST_WAIT_SECONDS = 0.5


def persistently(connection: BaseDatabaseWrapper, attempt: Callable[[], T]) -> T:
    """Call `attempt`, and repeat it after a short wait while PostgreSQL refuses it with one of `TRANSIENT`.

    Inside a transaction nothing is repeated; see Note [Transient refusals].

    Args:
        connection: the connection that `attempt` uses.
        attempt: executes one statement, or one transaction of its own. If it is refused, it has changed nothing.

    Returns:
        What `attempt` returns.

    Raises:
        django.db.Error: `attempt` was refused a dozen times, inside a transaction, or for another reason.
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
    """Call `attempt`, and if its connection has died, try once more through a new connection.

    Inside a transaction nothing is repeated; see Note [Connections that died].

    Args:
        connection: the connection that `attempt` uses.
        attempt: the first attempt.
        again: the second attempt, if it differs from the first: it looks for the result of the first, and executes
            the statement again only if there is none. When left out, `attempt` is called again.

    Returns:
        What the attempt that succeeded returns.

    Raises:
        django.db.Error: `attempt` failed for another reason or inside a transaction, or the second attempt failed too.
    """
    try:
        return attempt()
    except (OperationalError, InterfaceError):
        if connection.in_atomic_block or not connection.get_autocommit() or not has_died(connection):
            raise
        connection.close()
    return (again or attempt)()


def has_died(connection: BaseDatabaseWrapper) -> bool:
    """Whether a connection was open and is known to be closed now. A break that nobody has noticed does not count."""
    return connection.connection is not None and bool(connection.connection.closed)


def in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether a transaction is open on a connection, begun by Django or by the caller's own BEGIN."""
    if connection.in_atomic_block or not connection.get_autocommit():
        return True
    raw = connection.connection
    return raw is not None and raw.info.transaction_status != TransactionStatus.IDLE
