"""Ends the waits of many paused tasks in one statement that never waits for a lock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from audit.statements.rows import run

__all__ = ["end_waits", "waits_sql"]


def waits_sql(where: str, limit: int, lock: bool = False) -> str:
    """Write the SELECT of paused tasks and their entries under a condition.

    Args:
        where: the condition on `audit_pause_queue AS entry`.
        limit: how many at most; must be a whole number, it is written into the statement.
        lock: whether to lock the tasks, and skip those that are locked.
    """
    return f"""
SELECT task.id, entry.id AS entry_id
FROM audit_pause_queue AS entry JOIN audit_task AS task ON task.id = entry.task_id
WHERE task.status = 'paused' AND {where}
ORDER BY entry.id LIMIT {limit:d}
{"FOR NO KEY UPDATE OF task SKIP LOCKED" if lock else ""}
"""  # noqa: S608 - conditions of this app; every value is a parameter


def end_waits(
    using: str,
    where: str,
    params: Sequence[Any],
    *,
    limit: int,
    actor: str,
    to: str = "status = 'approved', work_plan = coalesce(entry.work_plan, task.work_plan)",
    to_params: Sequence[Any] = (),
) -> list[UUID]:
    """Let paused tasks go on, or end them; those that somebody else has locked are left alone.

    Args:
        using: the alias to write through.
        where: the condition on `audit_pause_queue AS entry`.
        params: its parameters.
        limit: how many at most.
        actor: who does it; the database names its role for ''.
        to: the assignments of the UPDATE of `audit_task AS task`.
        to_params: their parameters.

    Returns:
        The ids of the tasks.
    """
    # Task first, then entry: the order of the verbs and the triggers. The entry is locked too, and the condition asked
    # again: the task may have been resumed and paused anew since this statement's snapshot.
    sql = f"""
WITH picked AS MATERIALIZED ({waits_sql(where, limit, lock=True)}), entry AS MATERIALIZED (
    SELECT entry.task_id, entry.work_plan FROM audit_pause_queue AS entry
    WHERE entry.id = ANY (ARRAY(SELECT picked.entry_id FROM picked)) AND {where}
    FOR UPDATE
)
UPDATE audit_task AS task SET {to}, actor = %s, revision = task.revision + 1
FROM entry
WHERE task.id = entry.task_id AND task.status = 'paused'
RETURNING task.id
"""  # noqa: S608 - as above
    return [key for (key,) in run(using, sql, [*params, *params, *to_params, actor])]
