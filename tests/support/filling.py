"""Many tasks quickly: a database for measuring and for reading plans, never for testing rules.

Rows are made by the server in one statement a table, with triggers off and indexes made afterwards: some 20 µs a row
instead of 200.
"""

import time
from typing import Any

__all__ = ["DAYS", "RARE_WORD", "fill"]

DAYS = 90
"""The tasks are spread over so many days up to now, more by day than by night."""
RARE_WORD = "zanzibar"
"""Stands in one summary of 10 000."""

# Values are chosen by a hash of the row's number: the same every time, and independent of each other.
_TASKS = """
INSERT INTO audit_task (id, action, summary, status, priority, services_touched, plan, requested_by, decided_by, actor,
    correlation_id, parent, created_at, recorded_at, available_at, decided_at, started_at, finished_at, claimed_by,
    claim_token, lease_expires_at, attempt, revision, outcome, resources_used, row_version, finished_xid, status_was,
    status_since, executing_ms, paused_ms)
SELECT
    (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(h, 1, 3) || '8'
        || substr(h, 4, 15))::uuid,
    (ARRAY['deploy', 'backup', 'rotate-key', 'scale', 'restart', 'migrate', 'patch', 'restore'])[1 + (a / 64) %% 8],
    (ARRAY['Deploy', 'Back up', 'Rotate the key of', 'Scale', 'Restart', 'Migrate', 'Patch', 'Restore'])
        [1 + (a / 64) %% 8] || ' service ' || b %% 211 || ' in region-' || c %% 12 || ' for ticket ' || n
        || CASE WHEN n %% 10000 = 77 THEN ' zanzibar' ELSE '' END,
    status,
    1 + a %% 5,
    ARRAY['svc-' || floor(211 * power(b / 65536.0, 2))::int, 'host-' || c %% 1500]
        || CASE WHEN a %% 3 = 0 THEN ARRAY['billing'] ELSE '{}'::text[] END,
    '{"steps": ["pull", "run", "check"], "image": "registry/app:2"}',
    'user-' || a %% 97,
    CASE WHEN status = 'pending' THEN '' ELSE 'lead-' || b %% 11 END,
    CASE WHEN status = 'pending' THEN 'user-' || a %% 97 ELSE 'orch-' || c %% 6 END,
    CASE WHEN a %% 4 = 0 THEN 'batch-' || n / 20 ELSE '' END,
    CASE WHEN a %% 50 = 0 THEN md5('p' || n / 100)::uuid END,
    at, at, at,
    CASE WHEN status <> 'pending' THEN at + interval '5 s' END,
    CASE WHEN status IN ('executing', 'completed', 'failed') THEN at + interval '9 s' END,
    CASE WHEN done THEN at + interval '10 s' + b %% 600 * interval '1 s' END,
    CASE WHEN status IN ('executing', 'completed', 'failed') THEN 'orch-' || c %% 6 ELSE '' END,
    CASE WHEN status IN ('executing', 'completed', 'failed') THEN md5('t' || n)::uuid END,
    CASE WHEN status = 'executing' THEN now() + interval '1 h' END,
    1, 4,
    CASE WHEN status = 'failed' THEN jsonb_build_object('success', false, 'output_summary', 'connection reset by peer',
            'error_type', (ARRAY['TimeoutError', 'OSError', 'MemoryError', 'ValueError', 'CalledProcessError'])[
                1 + (b / 7) %% 5])
        WHEN done THEN '{"success": true, "output_summary": "all checks passed", "error_type": null}' END,
    CASE WHEN done THEN '{"wall_s": 12.5, "cpu_s": 3.1, "peak_rss_bytes": 104857600}'::jsonb END,
    CASE WHEN done THEN 1 END,
    CASE WHEN done THEN pg_current_xact_id() END,
    CASE status WHEN 'pending' THEN NULL WHEN 'approved' THEN 'pending' WHEN 'rejected' THEN 'pending'
        WHEN 'executing' THEN 'approved' WHEN 'paused' THEN 'approved' ELSE 'executing' END,
    CASE WHEN done THEN at + interval '10 s' + b %% 600 * interval '1 s' ELSE at + interval '9 s' END,
    CASE WHEN status IN ('completed', 'failed') THEN 1000 * (1 + b %% 600) ELSE 0 END,
    CASE WHEN c %% 50 = 7 THEN 60000 ELSE 0 END
FROM (
    SELECT *, status IN ('completed', 'failed', 'rejected') AS done FROM (
        SELECT n, h, a, b, c, now() - interval '1 min' - (%(rows)s - n) * %(step)s::interval
                - sin((%(rows)s - n) / (%(rows)s / 565.0)) * interval '3 h' AS at,
            CASE WHEN n > %(rows)s - 400 AND a %% 3 = 0 THEN
                    (ARRAY['pending', 'approved', 'executing', 'paused'])[1 + b %% 4]
                WHEN c %% 100 < 5 THEN 'failed' WHEN c %% 100 = 5 THEN 'rejected' ELSE 'completed' END AS status
        FROM (
            SELECT n, h, ('x' || substr(h, 1, 6))::bit(24)::int AS a, ('x' || substr(h, 7, 4))::bit(16)::int AS b,
                ('x' || substr(h, 13, 6))::bit(24)::int AS c
            FROM (SELECT n, md5(n::text) AS h FROM generate_series(1, %(rows)s) AS n) AS hashed
        ) AS numbers
    ) AS given
) AS made ORDER BY n
"""
# For each task that it was asked for, then a step and its end; a note on one of a thousand.
_LOG = """
INSERT INTO audit_executionlog (task_id, at, kind, from_status, to_status, revision, actor, db_role, attempt,
    step_number, action, duration_ms, output_summary, row_version, xid)
SELECT task.id, task.created_at + which * interval '3 s', kind,
    CASE WHEN kind = 'transition' AND which > 0 THEN 'executing' END,
    CASE WHEN kind = 'transition' THEN CASE WHEN which = 0 THEN 'pending' ELSE task.status END END,
    which + 1, task.actor, 'app', 1, CASE WHEN kind = 'step' THEN 1 END,
    CASE WHEN kind = 'step' THEN 'run playbook' ELSE '' END, CASE WHEN kind = 'step' THEN 812 END,
    CASE WHEN kind = 'transition' THEN '' ELSE 'ok' END, 1, pg_current_xact_id()
FROM audit_task AS task
CROSS JOIN (VALUES (0, 'transition'), (1, 'step'), (2, 'transition'), (3, 'note')) AS line (which, kind)
WHERE (kind <> 'note' OR task.id::text LIKE '%%0a7') AND (which <> 2 OR task.finished_at IS NOT NULL)
ORDER BY task.created_at
"""
_QUEUE = """
INSERT INTO audit_pause_queue (task_id, reason, held, paused_at, resume_after, due_at, actor)
SELECT id, CASE WHEN id::text LIKE '%%1' THEN 'manual_pause' ELSE 'insufficient_capacity' END, id::text LIKE '%%1',
    created_at, created_at + interval '1 h', created_at + interval '1 h', actor
FROM audit_task WHERE status = 'paused'
"""
_TABLES = ("audit_task", "audit_executionlog", "audit_pause_queue")


def fill(connection: Any, rows: int) -> float:
    """Fill the empty tables of a migrated database.

    Args:
        connection: of psycopg or Django's cursor; autocommit, of the tables' owner.
        rows: how many tasks; each has some three rows in the log.

    Returns:
        How long it took, in seconds.
    """
    began = time.monotonic()
    indexes = connection.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = ANY (%s::regclass[]) AND NOT indisunique AND indisvalid",
        [list(_TABLES)],
    ).fetchall()
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    modes = connection.execute(
        "SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger"
        " WHERE tgrelid = ANY (%s::regclass[]) AND NOT tgisinternal",
        [list(_TABLES)],
    ).fetchall()
    for table, name, _ in modes:
        connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER {name}")
    connection.execute(_TASKS, {"rows": rows, "step": f"{DAYS * 86400 / rows} s"})
    connection.execute(_LOG, [])
    connection.execute(_QUEUE, [])
    for table, name, mode in modes:
        if mode != "D":
            always = "ALWAYS " if mode in ("A", b"A") else ""
            connection.execute(f"ALTER TABLE {table} ENABLE {always}TRIGGER {name}")
    for _, definition in indexes:
        connection.execute(definition)
    for table in _TABLES:
        connection.execute(f"VACUUM (ANALYZE) {table}")
    return time.monotonic() - began
