"""Connections of a worker: its own, beside those that handlers use, which are put in order between two tasks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from django.db import connections, reset_queries
from django.db.backends.base.base import BaseDatabaseWrapper

from audit.leases.keeper import LIVENESS

__all__ = ["own", "tidy"]


def own(using: str) -> Callable[[], BaseDatabaseWrapper]:
    """Return what makes a connection of a thread's own: never one of a pool, of which the work may hold the last.

    Args:
        using: the alias; it leads where it leads in the thread that calls this.

    Returns:
        To be called in the thread that uses the connection.
    """
    shared: Any = connections[using]
    settings = dict(shared.settings_dict)
    options = LIVENESS | settings.get("OPTIONS", {})
    options.pop("pool", None)
    kind: type[BaseDatabaseWrapper] = type(shared)
    return lambda: kind(settings | {"OPTIONS": dict(options)}, using)


def tidy() -> None:
    """Leave nothing of one task to the next: close connections that a handler left in a transaction, or broken.

    The others stay open, as long as `CONN_MAX_AGE` says.
    """
    reset_queries()
    for connection in connections.all(initialized_only=True):
        raw = connection.connection
        if raw is None and not connection.in_atomic_block:
            continue
        if connection.in_atomic_block or connection.closed_in_transaction or not _is_idle(raw):
            with contextlib.suppress(Exception):
                raw.close()
            del connections[connection.alias]
        else:
            connection.close_if_unusable_or_obsolete()


def _is_idle(raw: Any) -> bool:
    from psycopg.pq import TransactionStatus

    try:
        return raw.autocommit and not raw.closed and raw.info.transaction_status == TransactionStatus.IDLE
    except Exception:  # noqa: BLE001 - whatever the handler has made of it
        return False
