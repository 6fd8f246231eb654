"""The connections that handlers use are put in order between two tasks."""

from __future__ import annotations

import contextlib
from typing import Any

from django.db import connections, reset_queries

__all__ = ["tidy"]


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
