"""The claim: which rows a worker gets, each of them once, however many workers ask.

Note [Shape of a claim]
    The picking select stands in a MATERIALIZED CTE, so that its LIMIT is taken once: written as
    `WHERE id IN (SELECT … LIMIT n … SKIP LOCKED)` a semijoin may run it again and take more than n rows.
    It goes through the priorities one by one (LATERAL), so that each is one range of the index
    `(priority, time, id)` and rows not yet due in front cost nothing; and it has no outer ORDER BY, which would
    lock every class before choosing. FOR NO KEY UPDATE, because FOR UPDATE would collide with the KEY SHARE
    lock that a log row being written takes on its task. `statement_timestamp()`, because `clock_timestamp()` is
    volatile and cannot use the index, and `now()` stands still in a transaction. The status is a literal: as a
    parameter a generic plan could not prove the partial index. So is the limit: a generic plan would take a tenth of
    the table for it, look dearer than planning anew, and never be used. The update takes the picked ids as one array,
    which is always looked up in the primary key.
"""

from django.db.models import Model

from audit.statements.rows import columns
from audit.values.failures import LEASE_EXPIRED

__all__ = ["claim_entries_sql", "claim_tasks_sql", "recover_tasks_sql"]

# A row that raw SQL or an import has counted to the end must not stop all others.
_LARGEST = 2**31 - 1


def claim_tasks_sql(model: type[Model], where: str, limit: int) -> str:
    """Write the statement that claims approved tasks.

    Args:
        model: `Task`.
        where: further conditions on `audit_task`, each led by AND; may be empty.
        limit: how many at most; must be a whole number, it is written into the statement.

    Returns:
        SQL with the parameters of `where`, then worker (text), lease (interval) and actor (text).
    """
    return f"""
WITH picked AS MATERIALIZED (
    SELECT found.id
    FROM generate_series(1, 5) AS class (priority)
    CROSS JOIN LATERAL (
        SELECT audit_task.id
        FROM audit_task
        WHERE audit_task.status = 'approved' AND audit_task.priority = class.priority
          AND audit_task.available_at <= statement_timestamp() {where}
        ORDER BY audit_task.available_at, audit_task.id
        LIMIT {limit:d}
        FOR NO KEY UPDATE OF audit_task SKIP LOCKED
    ) AS found
    LIMIT {limit:d}
), claimed AS (
    UPDATE audit_task AS task
    SET status = 'executing', attempt = least(task.attempt, {_LARGEST - 1}) + 1, claimed_by = %s,
        claim_token = gen_random_uuid(), lease_expires_at = statement_timestamp() + %s, actor = %s,
        revision = task.revision + 1
    WHERE task.id = ANY (ARRAY(SELECT picked.id FROM picked))
    RETURNING task.*
)
SELECT {columns(model, "claimed")} FROM claimed ORDER BY claimed.priority, claimed.available_at, claimed.id
"""  # noqa: S608 - built of constants and of what Django compiled; every value is a parameter


def claim_entries_sql(model: type[Model], where: str, limit: int) -> str:
    """Write the statement that claims due pause entries; arguments and parameters as in `claim_tasks_sql`."""
    return f"""
WITH picked AS MATERIALIZED (
    SELECT found.id
    FROM generate_series(1, 5) AS class (priority)
    CROSS JOIN LATERAL (
        SELECT audit_pause_queue.id
        FROM audit_pause_queue
        WHERE NOT audit_pause_queue.held AND audit_pause_queue.priority = class.priority
          AND audit_pause_queue.due_at <= statement_timestamp()
          AND (audit_pause_queue.lease_expires_at IS NULL
               OR audit_pause_queue.lease_expires_at <= statement_timestamp()) {where}
        ORDER BY audit_pause_queue.due_at, audit_pause_queue.id
        LIMIT {limit:d}
        FOR NO KEY UPDATE OF audit_pause_queue SKIP LOCKED
    ) AS found
    LIMIT {limit:d}
), claimed AS (
    UPDATE audit_pause_queue AS entry
    SET attempt = least(entry.attempt, {_LARGEST - 1}) + 1, claimed_by = %s, claim_token = gen_random_uuid(),
        lease_expires_at = statement_timestamp() + %s, actor = %s, revision = entry.revision + 1
    WHERE entry.id = ANY (ARRAY(SELECT picked.id FROM picked))
    RETURNING entry.*
)
SELECT {columns(model, "claimed")} FROM claimed ORDER BY claimed.priority, claimed.due_at, claimed.id
"""  # noqa: S608 - as above


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
    SELECT task.id, task.on_expiry = 'fail' OR least(task.expiries, {_LARGEST - 1}) + 1 >= %s
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
        expiries = least(task.expiries, {_LARGEST - 1}) + 1, actor = %s, revision = task.revision + 1
    FROM judged
    WHERE task.id = judged.id AND task.id = ANY (ARRAY(SELECT picked.id FROM picked))
    RETURNING task.*
)
SELECT {columns(model, "recovered")} FROM recovered ORDER BY recovered.id
"""  # noqa: S608 - as above
