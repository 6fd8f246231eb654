"""Puts tasks and their pause entries together again, where something outside of the rules has parted them.

The triggers keep them together; a restore in parts or a session with the replica role does not.
"""

from __future__ import annotations

__all__ = ["make_entries_sql", "remove_entries_sql", "without_entry_sql", "without_pause_sql"]

_LOCK = "FOR NO KEY UPDATE OF task SKIP LOCKED"
_NOTED = """
INSERT INTO audit_executionlog (task_id, kind, revision, actor, attempt, action, output_summary)
SELECT task.id, 'note', task.revision, %s, task.attempt, 'recover', '{text}'
FROM repaired JOIN audit_task AS task ON task.id = repaired.task_id
"""


def without_entry_sql(limit: int) -> str:
    """Write the SELECT of paused tasks that have no entry."""
    return f"""
SELECT task.id FROM audit_task AS task
WHERE task.status = 'paused' AND NOT EXISTS (SELECT FROM audit_pause_queue AS entry WHERE entry.task_id = task.id)
ORDER BY task.id LIMIT {limit:d}
"""  # noqa: S608 - a number


def make_entries_sql(limit: int) -> str:
    """Write the statement that gives them one, held; its parameters are the actor, thrice."""
    return f"""
WITH picked AS MATERIALIZED ({without_entry_sql(limit)} {_LOCK}), repaired AS (
    INSERT INTO audit_pause_queue (task_id, work_plan, paused_by, held, priority, actor)
    SELECT task.id, task.work_plan, %s, true, task.priority, %s
    FROM audit_task AS task WHERE task.id = ANY (ARRAY(SELECT picked.id FROM picked))
    ON CONFLICT (task_id) DO NOTHING
    RETURNING task_id
), noted AS ({_NOTED.format(text="It was paused without an entry in the queue; it has one now, held.")})
SELECT task_id FROM repaired
"""  # noqa: S608 - constants of this module; every value is a parameter


def without_pause_sql(limit: int) -> str:
    """Write the SELECT of tasks that have an entry and are not paused."""
    return f"""
SELECT task.id FROM audit_pause_queue AS entry JOIN audit_task AS task ON task.id = entry.task_id
WHERE task.status <> 'paused'
ORDER BY entry.id LIMIT {limit:d}
"""  # noqa: S608 - a number


def remove_entries_sql(limit: int) -> str:
    """Write the statement that removes their entries; its parameter is the actor."""
    return f"""
WITH picked AS MATERIALIZED ({without_pause_sql(limit)} {_LOCK}), repaired AS (
    DELETE FROM audit_pause_queue WHERE task_id = ANY (ARRAY(SELECT picked.id FROM picked))
    RETURNING task_id
), noted AS ({_NOTED.format(text="It had an entry in the queue and was not paused; the entry is gone.")})
SELECT task_id FROM repaired
"""  # noqa: S608 - constants of this module; every value is a parameter
