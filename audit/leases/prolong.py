"""Recorded work: the INSERT that starts it under a lease, and the one statement that keeps many leases alive.

Every moment is the database's own clock, so that a client whose clock is wrong is not taken for dead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections

from audit.statements.rows import columns, fetch
from audit.verbs.inserts import GIVEN, placeholder

if TYPE_CHECKING:
    from audit.models import Task

__all__ = ["Hold", "Kept", "insert_executing", "prolong"]


def insert_executing(model: type[Task], using: str, values: Mapping[str, Any], lease: timedelta) -> Task:
    """Insert one task as executing, claimed by whoever records it, and return it, equal to its row.

    Args:
        model: `Task`, or a class of its rows.
        using: the alias to write through.
        values: what `audit.verbs.inserts.recorded` has checked.
        lease: how long it lasts without a sign of life.
    """
    given = {name: values[name] for name in GIVEN if name in values}
    sql = f"""
INSERT INTO audit_task ({", ".join(given)}, status, attempt, on_expiry,
    created_at, started_at, claim_token, lease_expires_at)
VALUES ({", ".join(placeholder(GIVEN[name]) for name in given)}, 'executing', 1, 'fail',
    statement_timestamp(), statement_timestamp(), gen_random_uuid(), statement_timestamp() + %s)
RETURNING {columns(model, "audit_task")}
"""  # noqa: S608 - column names are this module's own; every value is a parameter
    (task,) = fetch(model, using, sql, [*given.values(), lease])
    return task


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A claim to keep alive."""

    task_id: UUID
    token: UUID
    lease: timedelta
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What became of a claim: `prolonged`; else `held`, when another transaction has the row locked; else lost."""

    prolonged: bool
    held: bool
    cancel_requested_at: datetime | None


def prolong(using: str, holds: Sequence[Hold]) -> dict[UUID, Kept]:
    """Prolong many claims, each to at least its lease from now, in one statement that never waits for a lock.

    A row that is locked is left for the next time: the lock may be that of the very work whose lease this is, in a
    transaction that takes long. Recovery skips locked rows too.

    Returns:
        What became of each, by task id.
    """
    sql = """
WITH given AS MATERIALIZED (
    SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::interval[], %s::text[]) AS given (id, token, lease, actor)
), held AS MATERIALIZED (
    SELECT task.id
    FROM audit_task AS task JOIN given ON given.id = task.id AND given.token = task.claim_token
    WHERE task.status = 'executing'
    FOR NO KEY UPDATE OF task SKIP LOCKED
), prolonged AS (
    UPDATE audit_task AS task
    SET lease_expires_at = greatest(task.lease_expires_at, statement_timestamp() + given.lease), actor = given.actor,
        revision = task.revision + 1
    FROM held JOIN given ON given.id = held.id
    WHERE task.id = held.id
    RETURNING task.id, task.cancel_requested_at
)
SELECT given.id, prolonged.id IS NOT NULL, task.id IS NOT NULL, prolonged.cancel_requested_at
FROM given
LEFT JOIN prolonged ON prolonged.id = given.id
LEFT JOIN audit_task AS task
    ON task.id = given.id AND task.claim_token = given.token AND task.status = 'executing'
"""
    with connections[using].cursor() as cursor:
        cursor.execute(
            sql,
            [
                [hold.task_id for hold in holds],
                [hold.token for hold in holds],
                [hold.lease for hold in holds],
                [hold.actor for hold in holds],
            ],
        )
        return {
            key: Kept(prolonged=prolonged, held=held, cancel_requested_at=moment)
            for key, prolonged, held, moment in cursor.fetchall()
        }
