"""Prolongs many leases in one statement that never waits for a lock.

Every moment is the database's own clock, so that a client whose clock is wrong is not taken for dead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from audit.statements.rows import run

__all__ = ["Lease", "LeaseState", "prolong"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A claim that is to stay alive."""

    task_id: UUID
    token: UUID
    """The fencing token of the claim."""
    duration: timedelta
    """How long the claim lasts without a sign of life."""
    actor: str
    using: str
    """The alias of the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseState:
    """What became of a lease: `prolonged`; else `locked`, while another transaction has the row locked; else lost."""

    prolonged: bool
    locked: bool
    cancel_requested_at: datetime | None


def prolong(using: str, leases: Sequence[Lease]) -> dict[tuple[UUID, UUID], LeaseState]:
    """Prolong leases, each to at least its duration from now.

    A row that is locked is left for the next time: the lock may be that of the very work whose lease this is, in a
    transaction that takes long. Recovery skips locked rows too.

    Args:
        using: the alias of the database.
        leases: of tasks in that database.

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
    given = [
        [lease.task_id for lease in leases],
        [lease.token for lease in leases],
        [lease.duration for lease in leases],
        [lease.actor for lease in leases],
    ]
    return {
        (task_id, token): LeaseState(
            prolonged=prolonged, locked=exists and not prolonged, cancel_requested_at=cancel_requested_at
        )
        for task_id, token, prolonged, exists, cancel_requested_at in run(using, sql, given)
    }
