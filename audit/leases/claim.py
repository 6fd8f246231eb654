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
    The client makes one token for all rows that a statement claims. A verb is fenced by row and token, so rows need
    none of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

from django.db import Error, connections
from django.db.models import Model

from audit.leases.arguments import ClaimArguments
from audit.leases.claim_start import Start, index_reads, session_claims
from audit.statements.retry import in_transaction, reconnecting
from audit.statements.rows import columns, fetch

__all__ = ["ENTRIES", "LARGEST_COUNT", "TASKS", "Claimable", "claim", "claim_sql"]

ModelT = TypeVar("ModelT", bound=Model)

LARGEST_COUNT = 2**31 - 1
"""Where counts saturate: a row that raw SQL or an import has counted to the end must not stop all others."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Claimable:
    """A table whose rows are claimed. There are two, constants of this module, so they are compared by identity."""

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
    given: ClaimArguments,
    *,
    where: str,
    params: Sequence[Any],
) -> list[ModelT]:
    """Claim rows for a worker, and return them, most urgent first.

    Args:
        model: the model of the table.
        what: the table.
        using: the alias to write through.
        given: who claims how much.
        where: further conditions on the table, each led by AND; may be empty.
        params: their parameters.
    """
    ask = _Claim(
        model=model,
        what=what,
        using=using,
        where=where,
        params=params,
        given=given,
    )
    limit = given.limit
    connection = connections[using]
    seen = session_claims(connection)
    start = None
    if seen.start is not None and not in_transaction(connection):
        start = seen.start_for(ask.rows)
    claimed = ask.take(limit, start)
    if start is not None and len(claimed) < limit:
        seen.start = None
        try:
            claimed += ask.take(limit - len(claimed))
        except Error:
            if not claimed:
                raise  # else what was claimed would be nobody's until its lease runs out
        claimed.sort(key=ask.order)
    return claimed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim(Generic[ModelT]):
    """What `claim` was asked for."""

    model: type[ModelT]
    what: Claimable
    using: str
    where: str
    params: Sequence[Any]
    given: ClaimArguments

    @property
    def rows(self) -> tuple[str, str, str]:
        """Which rows it is about, for `SessionClaims`."""
        return self.what.table, self.where, repr(self.params)

    @property
    def order(self) -> Callable[[Any], tuple[int, datetime, Any]]:
        """What gives the key of a row in the order of claims."""
        return attrgetter("priority", self.what.due, "id")

    def take(self, limit: int, start: Start | None = None) -> list[ModelT]:
        """Claim under a new token, from a start, or from the first row."""
        token = uuid4()
        attempt = partial(self._look, token, limit) if start is None else partial(self._claimed, token, limit, start)
        return reconnecting(connections[self.using], attempt, partial(self._again, token, attempt))

    def _claimed(self, token: UUID, limit: int, start: Start | None = None) -> list[ModelT]:
        sql = claim_sql(self.model, self.what, self.where, limit, from_start=start is not None)
        begins = [] if start is None else [start.due, start.ids]
        return self._fetched(sql, [self.given.worker, token, self.given.lease, self.given.actor, *begins, *self.params])

    def _look(self, token: UUID, limit: int) -> list[ModelT]:
        """Claim from the first row, and learn from it where the next claims may begin."""
        connection = connections[self.using]
        seen = session_claims(connection)
        counts = seen.counting and not in_transaction(connection)
        before = index_reads(self.using, self.what.index) if counts else 0
        began = time.monotonic()
        found = self._claimed(token, limit)
        took = time.monotonic() - began
        if not counts:
            seen.note(took, len(found))
            return found
        seen.learn(
            self.rows,
            list(map(self.order, found)),
            at=found[0].lease_expires_at - self.given.lease if found else None,  # type: ignore[attr-defined]
            lowest=self.what.lowest,
            took=took,
            read=index_reads(self.using, self.what.index) - before,
        )
        return found

    def _again(self, token: UUID, attempt: Callable[[], list[ModelT]]) -> list[ModelT]:
        """Claim anew, unless the server carried the first claim out and only its answer was lost."""
        name = self.what.table
        sql = f"SELECT {columns(self.model, name)} FROM {name} WHERE {self.what.claimed} AND claim_token = %s"  # noqa: S608 - constants of this module; every value is a parameter
        return self._fetched(sql, [token]) or attempt()

    def _fetched(self, sql: str, params: list[Any]) -> list[ModelT]:
        return sorted(fetch(self.model, self.using, sql, params), key=self.order)


@lru_cache(maxsize=256)
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
