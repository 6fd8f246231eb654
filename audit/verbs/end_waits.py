"""Ends the waits of many paused tasks in one statement that never waits for a lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from audit.statements.rows import columns, fetch, run, table

__all__ = ["EMITTED", "PausedWork", "end_waits", "resume_waits", "waits_sql"]

EMITTED = "entry.event <> '' AND EXISTS (SELECT FROM audit_event AS event WHERE event.name = entry.event)"
"""The condition on `audit_pause_queue AS entry` that the event it waits for was emitted."""
_RESUMED = "status = 'approved', work_plan = coalesce(entry.work_plan, task.work_plan)"


@dataclass(frozen=True, slots=True, kw_only=True)
class PausedWork:
    """Which paused work is meant, and the order of the index that finds them, so that a pass reads no others."""

    where: str
    """The condition on `audit_pause_queue AS entry`."""
    order: str = "entry.id"
    by_priority: bool = False
    """Whether to go through the priorities one by one, as Note [Shape of a claim] in `audit.leases.claim` says."""


def waits_sql(waits: PausedWork, limit: int, lock: bool = False) -> str:
    """Write the SELECT of paused tasks and their entries.

    Args:
        waits: which.
        limit: how many at most; must be a whole number, it is written into the statement.
        lock: whether to lock the tasks, and skip those that are locked.
    """
    found = f"""
SELECT task.id, entry.id AS entry_id
FROM audit_pause_queue AS entry JOIN audit_task AS task ON task.id = entry.task_id
WHERE task.status = 'paused' AND {waits.where} {"AND entry.priority = class.priority" if waits.by_priority else ""}
ORDER BY {waits.order} LIMIT {limit:d}
{"FOR NO KEY UPDATE OF task SKIP LOCKED" if lock else ""}
"""  # noqa: S608 - conditions of this app; every value is a parameter
    if not waits.by_priority:
        return found
    return f"""
SELECT found.id, found.entry_id
FROM generate_series(1, 5) AS class (priority) CROSS JOIN LATERAL ({found}) AS found LIMIT {limit:d}
"""  # noqa: S608 - as above


def end_waits(
    using: str,
    waits: PausedWork,
    params: Sequence[Any],
    *,
    limit: int,
    actor: str,
    to: str = _RESUMED,
    to_params: Sequence[Any] = (),
) -> list[UUID]:
    """Let paused tasks go on, or end them; those that somebody else has locked are left alone.

    Args:
        using: the alias to write through.
        waits: which.
        params: the parameters of its condition.
        limit: how many at most.
        actor: who does it; the database names its role for ''.
        to: the assignments of the UPDATE of `audit_task AS task`.
        to_params: their parameters.

    Returns:
        The ids of the tasks.
    """
    sql = f"{_end_sql(waits, limit, to)} RETURNING task.id"
    return [key for (key,) in run(using, sql, [*params, *params, *to_params, actor])]


def resume_waits(using: str, waits: PausedWork, params: Sequence[Any], *, limit: int, actor: str) -> list[Any]:
    """Let paused tasks go on, as `end_waits` does.

    Args:
        using: the alias to write through.
        waits: which.
        params: the parameters of its condition.
        limit: how many at most.
        actor: who does it.

    Returns:
        The tasks, equal to their rows, the most urgent first.
    """
    task_model = table("Task")
    sql = f"{_end_sql(waits, limit, _RESUMED)} RETURNING {columns(task_model, 'task')}"
    found = fetch(task_model, using, sql, [*params, *params, actor])
    return sorted(found, key=lambda task: (task.priority, task.available_at, task.pk))


def _end_sql(waits: PausedWork, limit: int, to: str) -> str:
    # Task first, then entry: the order of the verbs and the triggers. The entry is locked too, and the condition asked
    # again: the task may have been resumed and paused anew since this statement's snapshot.
    return f"""
WITH picked AS MATERIALIZED ({waits_sql(waits, limit, lock=True)}), entry AS MATERIALIZED (
    SELECT entry.task_id, entry.work_plan FROM audit_pause_queue AS entry
    WHERE entry.id = ANY (ARRAY(SELECT picked.entry_id FROM picked)) AND {waits.where}
    FOR UPDATE SKIP LOCKED
)
UPDATE audit_task AS task SET {to}, actor = %s, revision = task.revision + 1
FROM entry
WHERE task.id = entry.task_id AND task.status = 'paused'
"""  # noqa: S608 - conditions of this app; every value is a parameter
