"""Prolongs many leases in one statement that never waits for a lock.

Every moment is the database's own clock, so that a client whose clock is wrong is not taken for dead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from audit.statements.retry import persistently
from audit.statements.rows import adapt

__all__ = ["Lease", "LeaseState", "Session", "prolong"]

_IDLE = "10s"  # so long the server keeps a row locked for whoever does not come back


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What decides in a session which tables a statement means, and what it may do with them."""

    search_path: str
    role: str
    """As PostgreSQL shows it: `none` where no SET ROLE holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A claim that is to stay alive."""

    task_id: UUID
    token: UUID
    """The fencing token of the claim."""
    duration: timedelta
    """How long the claim lasts without a heartbeat."""
    actor: str
    using: str
    """The alias of the database."""
    session: Session | None = None
    """The session that took it; None for what a new connection begins with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseState:
    """What became of a lease: `prolonged`; else `locked`, while another transaction has the row locked; else lost."""

    prolonged: bool
    locked: bool
    cancel_requested_at: datetime | None


def prolong(connection: BaseDatabaseWrapper, leases: Sequence[Lease]) -> dict[tuple[UUID, UUID], LeaseState]:
    """Prolong leases, each to at least its duration from now.

    A row that is locked is left for the next time: the lock may be that of the very work whose lease this is, in a
    transaction that takes long. Recovery skips locked rows too.

    Args:
        connection: a connection of one's own, in no transaction; it is left as it was set.
        leases: of tasks in that database, all taken in the same session.

    Returns:
        What became of each, by task id and token.
    """
    sql = """
WITH given AS MATERIALIZED (
    SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::interval[], %s::text[]) AS given (id, token, duration, actor)
), held AS MATERIALIZED (
    SELECT given.*
    FROM audit_task AS task JOIN given ON given.id = task.id AND given.token = task.claim_token
    WHERE task.status = 'executing'
    FOR NO KEY UPDATE OF task SKIP LOCKED
), prolonged AS (
    UPDATE audit_task AS task
    SET lease_expires_at = greatest(task.lease_expires_at, statement_timestamp() + held.duration), actor = held.actor,
        revision = task.revision + 1
    FROM held
    WHERE task.id = held.id
    RETURNING task.id, held.token, task.cancel_requested_at
)
SELECT given.id, given.token, prolonged.id IS NOT NULL, task.id IS NOT NULL, prolonged.cancel_requested_at
FROM given
LEFT JOIN prolonged ON prolonged.id = given.id AND prolonged.token = given.token
LEFT JOIN audit_task AS task
    ON task.id = given.id AND task.claim_token = given.token AND task.status = 'executing'
"""
    params = [
        [lease.task_id for lease in leases],
        [lease.token for lease in leases],
        [lease.duration for lease in leases],
        [lease.actor for lease in leases],
    ]
    found = persistently(connection, lambda: _in_session(connection, leases[0].session, sql, params))
    return {
        (task_id, token): LeaseState(
            prolonged=prolonged, locked=exists and not prolonged, cancel_requested_at=cancel_requested_at
        )
        for task_id, token, prolonged, exists, cancel_requested_at in found
    }


def _in_session(connection: BaseDatabaseWrapper, session: Session | None, sql: str, params: Sequence[Any]) -> Any:
    """Run a statement in a transaction with the settings of a session, which end with it: a pooler lends it on.

    Without such settings there is no transaction: where the network fails in the middle of one, the server keeps the
    row locked for whoever does not come back.
    """
    raw: Any
    # One cursor: some backends set a search path of their own with each new one.
    with connection.cursor() as cursor:
        raw = connection.connection
        with connection.wrap_database_errors, contextlib.nullcontext() if session is None else raw.transaction():
            if session is not None:
                cursor.execute(
                    "SELECT set_config('idle_in_transaction_session_timeout', %s, true),"
                    " set_config('search_path', %s, true), set_config('role', %s, true)",
                    [_IDLE, session.search_path, session.role],
                )
            adapt(connection, cursor, params)
            cursor.execute(sql, params)
            return cursor.fetchall()
