"""How claims and bulk statements are planned: by index, and never quadratic."""

import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from audit.leases.claim import ENTRIES, TASKS, claim_sql
from audit.leases.recover_sql import recover_tasks_sql
from audit.models import PauseQueueEntry, Task
from tests.support.factories import entry_of, refused, requested
from tests.support.factories import sql as run_sql
from tests.support.rules import source_of

LEASE = timedelta(seconds=60)
TOKEN = "00000000-0000-4000-8000-000000000000"
CLAIM = ["first", TOKEN, LEASE, "first"]
"""The parameters of a claim written by `claim_sql`."""


def plan_of(sql: str, params: list[Any], analyze: bool = True) -> dict[str, Any]:
    """EXPLAIN a statement, and leave no trace of having run it."""
    options = "ANALYZE, BUFFERS, FORMAT JSON" if analyze else "FORMAT JSON"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN ({options}) {sql}", params)
        (found,) = cursor.fetchone()
        transaction.set_rollback(True)
    return (json.loads(found) if isinstance(found, str) else found)[0]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


# Head of line: rows that are not due must cost nothing, however many stand in front.


def _without_triggers(table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")


_TASKS = """
INSERT INTO audit_task (id, action, status, priority, available_at, executing_ms, paused_ms)
SELECT (lpad(to_hex(extract(epoch FROM now())::bigint * 1000), 12, '0') || '7' || lpad(to_hex(n / 65536), 3, '0')
        || '8000' || lpad(to_hex(n), 12, '0'))::uuid, 'work', %s, %s, now() + %s * interval '1 second', 0, 0
FROM generate_series(%s, %s) AS n
"""
_ENTRIES = """
INSERT INTO audit_pause_queue (task_id, held, priority, resume_after, due_at)
SELECT id, false, priority, available_at, available_at FROM audit_task WHERE status = 'paused'
ON CONFLICT (task_id) DO NOTHING
"""


def _fill(status: str, *batches: tuple[int, int, int]) -> None:
    """Insert (count, priority, seconds from now) rows quickly: the rules are not what is tested here."""
    start = Task.objects.count() + 1
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        _without_triggers("audit_task")
        with _indexed_anew(cursor, "audit_task"):
            for count, priority, seconds in batches:
                cursor.execute(_TASKS, [status, priority, seconds, start, start + count - 1])
                start += count
        if status == "paused":
            _without_triggers("audit_pause_queue")
            with _indexed_anew(cursor, "audit_pause_queue"):
                cursor.execute(_ENTRIES)


@contextlib.contextmanager
def _indexed_anew(cursor: Any, table: str) -> Iterator[None]:
    """Make a table's indexes after its rows: quicker, and what other tests rolled back does not stand in them."""
    cursor.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = %s::regclass AND NOT indisunique",
        [table],
    )
    indexes = cursor.fetchall()
    for name, _ in indexes:
        cursor.execute(f"DROP INDEX {name}")
    yield
    for _, definition in indexes:
        cursor.execute(definition)
    cursor.execute(f"ANALYZE {table}")


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["tasks", "entries"])
def test_head_of_line(kind: str) -> None:
    if kind == "tasks":
        status, sql, index, table = "approved", claim_sql(Task, TASKS, "", 1), "audit_task_claim", "audit_task"
    else:
        status, sql = "paused", claim_sql(PauseQueueEntry, ENTRIES, "", 1)
        index, table = "audit_pause_queue_claim", "audit_pause_queue"
    # First not yet due in front of one of another priority, then future among due of one priority.
    for rows in ([(60_000, 1, 3600), (1, 5, -3600)], [(20_000, 1, -3600)]):
        _fill(status, *rows)
        found = plan_of(sql, CLAIM)["Plan"]
        scans = [node for node in nodes(found) if node.get("Relation Name") == table and "Scan" in node["Node Type"]]
        assert any(node.get("Index Name") == index for node in scans), scans
        assert not any(node["Node Type"] == "Seq Scan" for node in scans), scans
        (picked,) = (node for node in scans if node.get("Index Name") == index)
        # Five looks into the index, one for each priority, and the row that is taken.
        assert picked["Shared Hit Blocks"] + picked["Shared Read Blocks"] < 60, picked
        assert picked["Actual Rows"] * picked["Actual Loops"] == 1, picked


@pytest.mark.django_db
def test_recovery_looks_at_executing_tasks_alone() -> None:
    _fill("approved", (20_000, 3, -60))
    Task.objects.filter(pk__in=Task.objects.values("pk")[:5]).update(
        status="executing", claim_token=TOKEN, lease_expires_at=timezone.now()
    )
    found = plan_of(recover_tasks_sql(Task, "", 10), [3, "r"])["Plan"]
    scans = [node for node in nodes(found) if node.get("Relation Name") == "audit_task"]
    assert any(node.get("Index Name") == "audit_task_executing" for node in scans)
    assert not any(node["Node Type"] == "Seq Scan" for node in scans)


@pytest.mark.django_db
def test_the_plan_keeps_its_index_as_a_generic_plan() -> None:
    """Statuses are literals: as parameters, a generic plan could not prove the partial index."""
    _fill("approved", (20_000, 3, -60))
    with connection.cursor() as cursor:
        sql = claim_sql(Task, TASKS, "", 1)
        for number, kind in enumerate(("text", "uuid", "interval", "text"), 1):
            sql = sql.replace("%s", f"${number}::{kind}", 1)
        cursor.execute(f"PREPARE claim AS {sql}")
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        cursor.execute(f"EXPLAIN EXECUTE claim ('w', '{TOKEN}', '1 minute', 'w')")
        lines = "\n".join(line for (line,) in cursor.fetchall())
        cursor.execute("DEALLOCATE claim")
    assert "audit_task_claim" in lines
    assert "Seq Scan" not in lines


# The first bulk statements of a session, on tables that a vacuum has found empty

ROWS = 600
_TABLES = ("audit_task", "audit_executionlog", "audit_pause_queue")
_READ = """
SELECT coalesce(sum(pg_stat_get_xact_tuples_returned(seen.oid)), 0)::int
FROM pg_class AS seen LEFT JOIN pg_index AS index ON index.indexrelid = seen.oid
WHERE coalesce(index.indrelid, seen.oid) = ANY (%s::regclass[])
"""


# Each function that looks into a table, and the statement that would read all of it for each row.
_NEEDED = {
    "audit_log_write_v1": "note",
    "audit_entry_follow_v1": "change entries",
    "audit_task_queue_v1": "pause",
}


def _set_all(status: str) -> None:
    run_sql("UPDATE audit_task SET status = %s WHERE action = 'work'", [status])


_BULK = {
    "request": lambda: Task.objects.bulk_request([{"action": "work", "actor": "alice"}] * ROWS),
    "change plans": lambda: run_sql("UPDATE audit_task SET plan = '[1]' WHERE action = 'work'"),
    "approve": lambda: _set_all("approved"),
    "pause": lambda: _set_all("paused"),
    "change entries": lambda: run_sql("UPDATE audit_pause_queue SET held = false"),
    "resume": lambda: _set_all("approved"),
    "claim": lambda: Task.objects.claim("w", limit=ROWS),
    "note": lambda: run_sql("INSERT INTO audit_executionlog (task_id, kind) SELECT id, 'note' FROM audit_task"),
    "complete": lambda: _set_all("completed"),
    "record": lambda: Task.objects.bulk_record([{"action": "work", "status": "completed"}] * ROWS),
}


def _a_few() -> None:
    """Every kind of statement for one task at a time, so often that each plan is kept for all values."""
    for _ in range(8):
        with refused("23503"):
            run_sql("INSERT INTO audit_executionlog (task_id, kind) VALUES (gen_random_uuid(), 'note')")
    for _ in range(8):
        task = requested(plan=None)
        run_sql("UPDATE audit_task SET plan = '[1]' WHERE id = %s", [task.pk])
        task.approve(actor="bob")
        for _ in range(2):
            run_sql("UPDATE audit_task SET status = 'paused' WHERE id = %s", [task.pk])
            entry_of(task).defer(timedelta(seconds=1), actor="bob")
            task.note("x", actor="bob")
            run_sql("UPDATE audit_task SET status = 'approved' WHERE id = %s", [task.pk])
        task.reject(actor="bob")


def _rows_read_by_each(prelude: Callable[[], None]) -> dict[str, int]:
    """How many rows and entries of indexes each bulk statement reads, one after the other in a new session."""
    for table in _TABLES:
        run_sql(f"VACUUM {table}")
    connection.close()
    read = {}
    with transaction.atomic():
        prelude()
        [[before]] = run_sql(_READ, [list(_TABLES)])
        for name, statement in _BULK.items():
            statement()
            [[total]] = run_sql(_READ, [list(_TABLES)])
            read[name], before = total - before, total
        transaction.set_rollback(True)
    return read


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("prelude", [lambda: None, _a_few], ids=["nothing before", "a few tasks before"])
def test_no_bulk_statement_reads_all_rows_for_each(prelude: Callable[[], None]) -> None:
    read = _rows_read_by_each(prelude)
    # All rows for each would be ROWS * ROWS / 2.
    assert max(read.values()) <= 20 * ROWS, read
    assert sum(read.values()) > ROWS, "nothing was counted"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("function", "statement"), sorted(_NEEDED.items()))
def test_without_its_setting_a_bulk_statement_reads_all_rows_for_each(function: str, statement: str) -> None:
    """So the test above would see it."""
    source = source_of(function)
    run_sql(f"ALTER FUNCTION {function} RESET enable_seqscan")
    try:
        read = _rows_read_by_each(_a_few)
    finally:
        run_sql(source)
    assert read[statement] > 20 * ROWS, read


@pytest.mark.django_db
def test_each_function_that_looks_into_a_table_is_tried() -> None:
    with_it = "SELECT proname FROM pg_proc WHERE proname ~ '^audit_' AND 'enable_seqscan=off' = ANY (proconfig)"
    assert {name for (name,) in run_sql(with_it)} == _NEEDED.keys()
