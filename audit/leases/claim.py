"""The claim: which rows a worker gets, each of them once, however many workers ask.

Note [Shape of a claim]
    The picking select stands in ARRAY(…), an InitPlan, so that it runs once and its LIMIT is taken once: written as
    `WHERE id IN (SELECT … LIMIT n … SKIP LOCKED)` a semijoin may run it again and take more than n rows.
    It goes through the priorities one by one (LATERAL), so that each is one range of the index
    `(priority, time, id)` and rows not yet due in front cost nothing; and it has no outer ORDER BY, which would
    lock every class before choosing. FOR NO KEY UPDATE, because FOR UPDATE would collide with the KEY SHARE
    lock that a pause entry being written takes on its task. `statement_timestamp()`, because `clock_timestamp()` is
    volatile and cannot use the index, and `now()` stands still in a transaction. The status is a literal: as a
    parameter a generic plan could not prove the partial index. So is the limit: a generic plan would take a tenth of
    the table for it, look dearer than planning anew, and never be used. The update takes the picked ids as one array,
    which is always looked up in the primary key. RETURNING has no order: the caller sorts.

Note [Token]
    The client makes one token for all rows of a claim. A verb is fenced by row and token, so rows need none of their
    own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID, uuid4

from django.db import connections
from django.db.models import Model

from audit.leases.claim_start import SLOW_SECONDS, SLOW_SECONDS_PER_ROW, index_reads, session_claims
from audit.statements.retry import in_transaction, reconnecting
from audit.statements.rows import columns, fetch

__all__ = ["ENTRIES", "LARGEST_COUNT", "TASKS", "Claimable", "claim", "claim_sql"]

ModelT = TypeVar("ModelT", bound=Model)

LARGEST_COUNT = 2**31 - 1
"""Where counts saturate: a row that raw SQL or an import has counted to the end must not stop all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimable:
    """A table whose rows are claimed."""

    table: str
    waiting: str
    """The condition on rows that wait, in literals, as their partial index has it."""
    due: str
    """The column that says from when on a row may be claimed."""
    claimed: str
    """The condition on rows that are claimed."""
    index: str
    """The index of what waits, by priority, time and id."""
    key: str
    """The type of the id."""
    lowest: Any
    """The lowest id."""
    sets: str = ""
    """Further assignments of the claim."""


TASKS = Claimable(
    table="audit_task",
    waiting="audit_task.status = 'approved'",
    due="available_at",
    claimed="audit_task.status = 'executing'",
    index="audit_task_claim",
    key="uuid",
    lowest=UUID(int=0),
    sets="status = 'executing', ",
)
ENTRIES = Claimable(
    table="audit_pause_queue",
    waiting="NOT audit_pause_queue.held AND (audit_pause_queue.lease_expires_at IS NULL"
    " OR audit_pause_queue.lease_expires_at <= statement_timestamp())",
    due="due_at",
    claimed="audit_pause_queue.claimed_by <> ''",
    index="audit_pause_queue_claim",
    key="bigint",
    lowest=0,
)


def claim(
    model: type[ModelT],
    what: Claimable,
    using: str,
    *,
    where: str,
    params: Sequence[Any],
    limit: int,
    worker: str,
    lease: timedelta,
    actor: str,
) -> list[ModelT]:
    """Claim rows for a worker, and return them, most urgent first.

    Args:
        model: the model of the table.
        what: the table.
        using: the alias to write through.
        where: further conditions on the table, each led by AND; may be empty.
        params: their parameters.
        limit: how many at most.
        worker: whose claim it is.
        lease: how long it lasts without a sign of life.
        actor: who acts.
    """
    connection = connections[using]
    seen = session_claims(connection)
    start = None
    if seen.start is not None and not in_transaction(connection):
        start = seen.start_for((what.table, where, repr(params)))
    token = uuid4()

    def attempt() -> list[ModelT]:
        sql = claim_sql(model, what, where, limit, from_start=start is not None)
        given = [start.due, start.ids] if start else []

        def look() -> list[ModelT]:
            return sorted(fetch(model, using, sql, [worker, token, lease, actor, *given, *params]), key=order)

        if start:
            return look()
        if not seen.counting or in_transaction(connection):
            began = time.monotonic()
            found = look()
            seen.counting = time.monotonic() - began > SLOW_SECONDS + SLOW_SECONDS_PER_ROW * len(found)
            return found
        before = index_reads(using, what.index)
        began = time.monotonic()
        found = look()
        seen.learn(
            (what.table, where, repr(params)),
            [order(row) for row in found],
            at=found[0].lease_expires_at - lease if found else None,  # type: ignore[attr-defined]
            lowest=what.lowest,
            took=time.monotonic() - began,
            read=index_reads(using, what.index) - before,
        )
        return found

    def again() -> list[ModelT]:
        # Perhaps the server carried the first one out, and only its answer was lost.
        here = f"SELECT {columns(model, what.table)} FROM {what.table} WHERE {what.claimed} AND claim_token = %s"  # noqa: S608 - constants of this module; every value is a parameter
        return sorted(fetch(model, using, here, [token]), key=order) or attempt()

    def order(row: Any) -> tuple[int, datetime, Any]:
        return row.priority, getattr(row, what.due), row.pk

    claimed = reconnecting(connection, attempt, again)
    if start is not None and len(claimed) < limit:
        seen.start = None
        rest = limit - len(claimed)
        claimed += claim(
            model, what, using, where=where, params=params, limit=rest, worker=worker, lease=lease, actor=actor
        )
        claimed.sort(key=order)
    return claimed


def claim_sql(model: type[Model], what: Claimable, where: str, limit: int, *, from_start: bool = False) -> str:
    """Write the statement of a claim.

    Args:
        model: the model of the table.
        what: the table.
        where: further conditions on it, each led by AND; may be empty.
        limit: how many at most; must be a whole number, it is written into the statement.
        from_start: whether to begin at a start: see Note [Start] in `audit.leases.claim_start`.

    Returns:
        SQL with the parameters worker (text), token (uuid), lease (interval), actor (text), then the due times and the
        ids of the start (arrays), then those of `where`.
    """
    name = what.table
    classes, start = "generate_series(1, 5) AS class (priority)", ""
    if from_start:
        classes = f"unnest(%s::timestamptz[], %s::{what.key}[]) WITH ORDINALITY AS class (due, id, priority)"
        start = f"AND ({name}.{what.due}, {name}.id) >= (class.due, class.id)"
    return f"""
UPDATE {name} AS claimed
SET {what.sets}attempt = least(claimed.attempt, {LARGEST_COUNT - 1}) + 1, claimed_by = %s, claim_token = %s,
    lease_expires_at = statement_timestamp() + %s, actor = %s, revision = claimed.revision + 1
WHERE claimed.id = ANY (ARRAY(
    SELECT found.id
    FROM {classes}
    CROSS JOIN LATERAL (
        SELECT {name}.id
        FROM {name}
        WHERE {what.waiting} AND {name}.priority = class.priority
          AND {name}.{what.due} <= statement_timestamp() {start} {where}
        ORDER BY {name}.{what.due}, {name}.id
        LIMIT {limit:d}
        FOR NO KEY UPDATE OF {name} SKIP LOCKED
    ) AS found
    LIMIT {limit:d}
))
RETURNING {columns(model, "claimed")}
"""  # noqa: S608 - built of constants and of what Django compiled; every value is a parameter
