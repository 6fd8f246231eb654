"""What the newest stored verification says of single rows, written once for pages and filters.

A report is JSON that somebody stored; what does not read as an id in it is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import Q
from django.db.models.expressions import RawSQL

__all__ = ["NEWEST", "OF_TASK", "SealState", "TaskSeal", "named_by_verification", "seal_of", "seal_state"]

NEWEST = r"""
last AS MATERIALIZED (
    SELECT verdict, size, finished_at, report -> 'findings' AS findings
    FROM audit_ledger_verification WHERE verdict <> 'unchecked' ORDER BY finished_at DESC, id DESC LIMIT 1
), finding AS MATERIALIZED (
    SELECT reported.place,
        reported.finding ->> 'code' AS code,
        CASE WHEN reported.finding ->> 'task' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
            THEN (reported.finding ->> 'task')::uuid END AS task,
        CASE WHEN reported.finding ->> 'log' ~ '^[0-9]{1,18}$' THEN (reported.finding ->> 'log')::bigint END AS log
    FROM last CROSS JOIN LATERAL jsonb_array_elements(
        CASE jsonb_typeof(last.findings) WHEN 'array' THEN last.findings ELSE '[]' END
    ) WITH ORDINALITY AS reported (finding, place)
    WHERE last.verdict = 'tampering'
), blamed AS MATERIALIZED (
    SELECT coalesce(finding.task, log.task_id) AS task, (array_agg(finding.code ORDER BY finding.place))[1] AS code
    FROM finding LEFT JOIN audit_executionlog AS log ON log.id = finding.log
    WHERE finding.task IS NOT NULL OR finding.log IS NOT NULL
    GROUP BY 1
)
"""
"""Common table expressions: `last`, the newest stored verification that could check; `finding`, what it found about
single rows, in its order; `blamed`, each task that it names, itself or by a row of its log, with the first code.

A report holds at most `audit.ledger.verify.findings.MAX_FINDINGS` findings of a code, so all of this is bounded.
"""

_NAMED = f"WITH {NEWEST} SELECT task FROM blamed WHERE task IS NOT NULL"  # noqa: S608 - our own text


def named_by_verification() -> Q:
    """The condition that the newest stored verification found something about a task or a row of its log."""
    named: Any = RawSQL(_NAMED, ())  # noqa: S611 - our own text
    return Q(id__in=named)


# Which epoch a leaf belongs to says in which run of sizes its checkpoint is looked for.
OF_TASK = f"""
WITH {NEWEST}
SELECT wanted.id, leaf.index, blamed.code, last.verdict, last.size, last.finished_at, sealed.created_at
FROM unnest(%s::uuid[]) AS wanted (id)
LEFT JOIN audit_ledger_leaf AS leaf ON leaf.task_id = wanted.id
LEFT JOIN blamed ON blamed.task = wanted.id
LEFT JOIN last ON true
LEFT JOIN LATERAL (
    SELECT created_at FROM audit_ledger_checkpoint
    WHERE size > leaf.index
        AND epoch = coalesce((SELECT max(number) FROM audit_ledger_epoch WHERE size <= leaf.index), 1)
    ORDER BY size LIMIT 1
) AS sealed ON true
"""  # noqa: S608 - our own text
"""Of each task: its id, its leaf, what was found about it; of the newest verification its verdict, size and end; and
when the first checkpoint that covers the leaf was signed."""


class SealState(StrEnum):
    """How a finished row stands in the ledger, as far as the newest stored verification says."""

    FAILED = "failed"
    """It was found to be tampered with."""
    UNSEALED = "unsealed"
    VERIFIED = "verified"
    UNCLEAR = "unclear"
    """The verification found tampering, not with this row."""
    SEALED = "sealed"
    """Nothing has verified it yet."""


def seal_state(leaf: int | None, code: str | None, verdict: str | None, size: int | None) -> SealState:
    """Judge a row.

    Args:
        leaf: the number of its leaf, if it is sealed.
        code: what the newest verification found about it, if anything.
        verdict: what that verification came to, if there is one.
        size: how many leaves it covered.
    """
    if code is not None:
        return SealState.FAILED
    if leaf is None:
        return SealState.UNSEALED
    if verdict == "tampering":
        return SealState.UNCLEAR
    if verdict == "intact" and size is not None and leaf < size:
        return SealState.VERIFIED
    return SealState.SEALED


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSeal:
    """How a task stands in the ledger, and since when."""

    state: SealState
    leaf: int | None
    """Number of its leaf."""
    covered_at: datetime | None
    """When the first checkpoint that covers it was signed."""
    finding: str | None
    """Code of what the newest verification found about the task or its log."""
    verified_at: datetime | None
    """When that verification ended."""


def seal_of(task_id: UUID, using: str) -> TaskSeal:
    """Read how a task stands in the ledger.

    Args:
        task_id: which task.
        using: alias of the database.
    """
    with connections[using].cursor() as cursor:
        cursor.execute(OF_TASK, [[task_id]])
        _, leaf, code, verdict, size, verified_at, covered_at = cursor.fetchone()
    state = seal_state(leaf, code, verdict, size)
    return TaskSeal(state=state, leaf=leaf, covered_at=covered_at, finding=code, verified_at=verified_at)
