"""Recovery: what becomes of executing work that nobody does any more, and of requests that nobody approved."""

from django.db.models import Model

from audit.leases.claim import LARGEST_COUNT
from audit.statements.rows import columns
from audit.values.failures import LEASE_EXPIRED, WORKER_RESTARTED

__all__ = [
    "ACTOR",
    "RECOVERY",
    "expired_sql",
    "overdue_sql",
    "own_sql",
    "recover_tasks_sql",
    "reject_overdue_sql",
    "release_own_sql",
]

ACTOR = "audit:recovery"
"""Who recovers, where no `actor` block says otherwise."""
RECOVERY = "recovery"
"""The `action` of the note about a claim that was taken back."""
_ISO = """'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"""
_LOCK = "FOR NO KEY UPDATE SKIP LOCKED"


def recover_tasks_sql(model: type[Model], where: str, limit: int) -> str:
    """Write the statement that ends expired leases: back to approved, or failed.

    A task fails when it says so (`on_expiry`), when it has lost too many leases, or when a person had asked it
    to stop: running it once more would be the opposite of what they asked.

    Args:
        model: `Task`.
        where: further conditions on `audit_task`, each led by AND; may be empty.
        limit: how many at most; must be a whole number, it is written into the statement.

    Returns:
        SQL with the parameters of `where`, then max_expiries (int) and actor (text).
    """
    return f"""
WITH picked AS MATERIALIZED (
    SELECT {_held("audit_task")} FROM audit_task
    WHERE audit_task.status = 'executing' AND audit_task.lease_expires_at <= statement_timestamp() {where}
    ORDER BY audit_task.id LIMIT {limit:d}
    FOR NO KEY UPDATE OF audit_task SKIP LOCKED
), judged AS (
    SELECT task.id, task.on_expiry = 'fail' OR least(task.expiries, {LARGEST_COUNT - 1}) + 1 >= %s
        OR task.cancel_requested_at IS NOT NULL AS fails
    FROM audit_task AS task JOIN picked ON picked.id = task.id
), recovered AS (
    UPDATE audit_task AS task
    SET status = CASE WHEN judged.fails THEN 'failed' ELSE 'approved' END,
        outcome = CASE WHEN judged.fails THEN jsonb_build_object(
            'success', false,
            'error_type', '{LEASE_EXPIRED}',
            'output_summary', format(
                'The lease of %%s ran out at attempt %%s without a heartbeat.', task.claimed_by, task.attempt)
        ) ELSE task.outcome END,
        expiries = least(task.expiries, {LARGEST_COUNT - 1}) + 1, actor = %s, revision = task.revision + 1
    FROM judged
    WHERE task.id = judged.id AND task.id = ANY (ARRAY(SELECT picked.id FROM picked))
    RETURNING task.*
), noted AS ({_note_sql("recovered", "The lease of %%s, which held this since %%s, ran out at %%s, in attempt %%s.")})
SELECT {columns(model, "recovered")} FROM recovered ORDER BY recovered.id
"""  # noqa: S608 - built of constants and of what Django compiled; every value is a parameter


def expired_sql(limit: int) -> str:
    """Write the SELECT of executing tasks whose lease has run out."""
    return f"""
SELECT task.id FROM audit_task AS task
WHERE task.status = 'executing' AND task.lease_expires_at <= statement_timestamp()
ORDER BY task.id LIMIT {limit:d}
"""  # noqa: S608 - a number


def own_sql(limit: int, where: str = "", selected: str = "task.id") -> str:
    """Write the SELECT of executing tasks that are claimed under a name, and whose lease lasts.

    Args:
        limit: how many at most; must be a whole number, it is written into the statement.
        where: further conditions on `task`, each led by AND.
        selected: the columns.

    Returns:
        SQL with the parameters name (text), then those of `where`.
    """
    return f"""
SELECT {selected} FROM audit_task AS task
WHERE task.status = 'executing' AND task.claimed_by = %s AND task.lease_expires_at > statement_timestamp() {where}
ORDER BY task.id LIMIT {limit:d}
"""  # noqa: S608 - conditions of this app; every value is a parameter


def release_own_sql(limit: int, max_expiries: int, where: str = "") -> str:
    """Write the statement that takes those claims back: to approved, or failed where the work must not run again.

    A claim that is taken back is a lost lease: work that kills its worker each time must not run for ever.

    Args:
        limit: how many at most; must be a whole number, it is written into the statement.
        max_expiries: how many lost leases fail a task; a whole number, too.
        where: further conditions on `task`, each led by AND.

    Returns:
        SQL with the parameters name (text), those of `where`, and actor (text).
    """
    expiries = f"least(task.expiries, {LARGEST_COUNT - 1}) + 1"
    fails = f"(task.on_expiry = 'fail' OR task.cancel_requested_at IS NOT NULL OR {expiries} >= {max_expiries:d})"
    note = "%%s, which held this since %%s with a lease until %%s, is gone or was restarted, in attempt %%s."
    return f"""
WITH picked AS MATERIALIZED ({own_sql(limit, where, _held("task"))} {_LOCK}), recovered AS (
UPDATE audit_task AS task
SET status = CASE WHEN {fails} THEN 'failed' ELSE 'approved' END,
    outcome = CASE WHEN {fails} THEN jsonb_build_object(
        'success', false,
        'error_type', '{WORKER_RESTARTED}',
        'output_summary', format('%%s was restarted in the middle of attempt %%s.', task.claimed_by, task.attempt)
    ) ELSE task.outcome END,
    expiries = {expiries}, actor = %s, revision = task.revision + 1
WHERE task.id = ANY (ARRAY(SELECT picked.id FROM picked))
RETURNING task.*
), noted AS ({_note_sql("recovered", note)})
SELECT recovered.id FROM recovered
"""  # noqa: S608 - constants of this module; every value is a parameter


def _held(task: str) -> str:
    return ", ".join(f"{task}.{name}" for name in ("id", "claimed_by", "status_since", "lease_expires_at"))


def _note_sql(moved: str, text: str) -> str:
    """Write the INSERT of a note that says what `picked` held; the row of the transition has no words."""
    since, until = (
        f"to_char(picked.{name} AT TIME ZONE 'UTC', {_ISO})" for name in ("status_since", "lease_expires_at")
    )
    return f"""
    INSERT INTO audit_executionlog (task_id, kind, revision, actor, attempt, action, output_summary, detail)
    SELECT {moved}.id, 'note', {moved}.revision, {moved}.actor, {moved}.attempt, '{RECOVERY}',
        format('{text}', picked.claimed_by, {since}, {until}, {moved}.attempt),
        jsonb_build_object('claimed_by', picked.claimed_by, 'since', {since}, 'lease_expires_at', {until})
    FROM {moved} JOIN picked ON picked.id = {moved}.id
"""  # noqa: S608 - constants of this module


def overdue_sql(limit: int) -> str:
    """Write the SELECT of pending tasks that nobody approved in time."""
    return f"""
SELECT task.id FROM audit_task AS task
WHERE task.status = 'pending' AND task.approve_before <= statement_timestamp()
ORDER BY task.approve_before, task.id LIMIT {limit:d}
"""  # noqa: S608 - a number


def reject_overdue_sql(limit: int) -> str:
    """Write the statement that rejects them; its parameters are outcome (jsonb) and actor (text)."""
    return f"""
WITH picked AS MATERIALIZED ({overdue_sql(limit)} {_LOCK})
UPDATE audit_task AS task
SET status = 'rejected', outcome = %s::jsonb, actor = %s, revision = task.revision + 1
WHERE task.id = ANY (ARRAY(SELECT picked.id FROM picked))
RETURNING task.id
"""  # noqa: S608 - constants of this module; every value is a parameter
