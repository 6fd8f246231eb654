"""Recovery: what becomes of executing work whose lease ran out."""

from django.db.models import Model

from audit.leases.claim import LARGEST_COUNT
from audit.statements.rows import columns
from audit.values.failures import LEASE_EXPIRED

__all__ = ["recover_tasks_sql"]


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
    SELECT audit_task.id FROM audit_task
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
                'The lease of %%s ran out at attempt %%s without a sign of life.', task.claimed_by, task.attempt)
        ) ELSE task.outcome END,
        expiries = least(task.expiries, {LARGEST_COUNT - 1}) + 1, actor = %s, revision = task.revision + 1
    FROM judged
    WHERE task.id = judged.id AND task.id = ANY (ARRAY(SELECT picked.id FROM picked))
    RETURNING task.*
)
SELECT {columns(model, "recovered")} FROM recovered ORDER BY recovered.id
"""  # noqa: S608 - built of constants and of what Django compiled; every value is a parameter
