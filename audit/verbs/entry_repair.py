"""Puts tasks and their pause entries together again, where something outside of the rules has parted them.

The triggers keep them together; a restore in parts or a session with the replica role does not.

Note [By index alone]
    Two indexes are compared, that of paused tasks by id and that of entries by task, and no row is read of what is in
    order. A `part` of both is a range of task ids: the statement's parameters begin with its two ends, twice.
"""

from __future__ import annotations

__all__ = ["make_entries_sql", "part_sql", "remove_entries_sql", "without_entry_sql", "without_pause_sql"]

_LOCK = "FOR NO KEY UPDATE OF task SKIP LOCKED"
_NOTED = """
INSERT INTO audit_executionlog (task_id, kind, revision, actor, attempt, action, output_summary)
SELECT task.id, 'note', task.revision, %s, task.attempt, 'recover', '{text}'
FROM repaired JOIN audit_task AS task ON task.id = repaired.task_id
"""


def part_sql(size: int) -> str:
    """Write the SELECT of the last of so many paused tasks behind one, its parameter; no row where there are fewer."""
    return f"""
SELECT task.id FROM audit_task AS task WHERE task.status = 'paused' AND task.id > %s
ORDER BY task.id OFFSET {size - 1:d} LIMIT 1
"""  # noqa: S608 - a number


def _within(part: bool, column: str) -> str:
    return f" AND {column} > %s AND {column} <= %s" if part else ""


def without_entry_sql(limit: int, part: bool = False) -> str:
    """Write the SELECT of paused tasks that have no entry."""
    return f"""
SELECT task.id FROM audit_task AS task
WHERE task.status = 'paused' {_within(part, "task.id")} AND NOT EXISTS (
    SELECT FROM audit_pause_queue AS entry WHERE entry.task_id = task.id {_within(part, "entry.task_id")})
ORDER BY task.id LIMIT {limit:d}
"""  # noqa: S608 - a number


def make_entries_sql(limit: int, part: bool = False) -> str:
    """Write the statement that gives them one, held; its (further) parameters are the actor, thrice."""
    return f"""
WITH picked AS MATERIALIZED ({without_entry_sql(limit, part)} {_LOCK}), repaired AS (
    INSERT INTO audit_pause_queue (task_id, work_plan, paused_by, held, priority, actor)
    SELECT task.id, task.work_plan, %s, true, task.priority, %s
    FROM audit_task AS task WHERE task.id = ANY (ARRAY(SELECT picked.id FROM picked))
    ON CONFLICT (task_id) DO NOTHING
    RETURNING task_id
), noted AS ({_NOTED.format(text="It was paused without an entry in the queue; it has one now, held.")})
SELECT task_id FROM repaired
"""  # noqa: S608 - constants of this module; every value is a parameter


def without_pause_sql(limit: int, part: bool = False) -> str:
    """Write the SELECT of tasks that have an entry and are not paused."""
    return f"""
WITH alone AS MATERIALIZED (
    SELECT entry.task_id FROM audit_pause_queue AS entry
    WHERE NOT EXISTS (
        SELECT FROM audit_task AS paused
        WHERE paused.id = entry.task_id AND paused.status = 'paused' {_within(part, "paused.id")}
    ) {_within(part, "entry.task_id")}
)
SELECT task.id FROM audit_task AS task
WHERE task.id = ANY (ARRAY(SELECT alone.task_id FROM alone)) AND task.status <> 'paused'
ORDER BY task.id LIMIT {limit:d}
"""  # noqa: S608 - a number


def remove_entries_sql(limit: int, part: bool = False) -> str:
    """Write the statement that removes their entries; its (last) parameter is the actor."""
    return f"""
WITH picked AS MATERIALIZED ({without_pause_sql(limit, part)} {_LOCK}), repaired AS (
    DELETE FROM audit_pause_queue WHERE task_id = ANY (ARRAY(SELECT picked.id FROM picked))
    RETURNING task_id
), noted AS ({_NOTED.format(text="It had an entry in the queue and was not paused; the entry is gone.")})
SELECT task_id FROM repaired
"""  # noqa: S608 - constants of this module; every value is a parameter
