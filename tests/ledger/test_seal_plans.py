"""Sealing many rows reads each about once, by the indexes that are there for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from audit.ledger import seal as sealer
from audit.ledger.verify.unsealed import _WAITING, backlog
from audit.models import ExecutionLog, LedgerHead, Task
from tests.support import filling
from tests.support.databases import ended
from tests.support.factories import sql
from tests.support.ledger import finish, sealed

TABLES = ("audit_task", "audit_executionlog", "audit_ledger_leaf")
INDEXES = ("audit_task_xid", "audit_executionlog_xid")

# Counted for this transaction, and those before it that are not reported yet: so differences are taken.
_COUNTS = """
SELECT relname || ' ' || what, number FROM (
    SELECT relname, seq_scan, seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = ANY(%s)
) AS counted
CROSS JOIN LATERAL
    (VALUES ('scans', seq_scan), ('scanned', seq_tup_read), ('fetched', idx_tup_fetch)) AS v (what, number)
UNION ALL SELECT relname, pg_stat_get_xact_tuples_returned(oid) FROM pg_class WHERE relname = ANY(%s)
"""


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """What the statement that looks for rows reads, by table and way, in all batches."""
    total: Counter[str] = Counter()
    pick = sealer.pick

    def counted(*arguments: Any) -> Any:
        def counts() -> Counter[str]:
            return Counter(dict(sql(_COUNTS, [list(TABLES), list(INDEXES)])))

        before = counts()
        found = pick(*arguments)
        total.update(counts() - before)
        return found

    monkeypatch.setattr(sealer, "pick", counted)
    return total


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("analyzed", [True, False], ids=["analyzed", "never analyzed"])
def test_an_import_in_one_transaction_is_walked_through_once(read: Counter[str], analyzed: bool) -> None:
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    filling.fill(connection.connection, 10_000)
    ended()
    if not analyzed:
        for table in TABLES:
            sql(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
            sql(f"DELETE FROM pg_statistic WHERE starelid = '{table}'::regclass")
            sql(f"UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE oid = '{table}'::regclass")
    tasks, logs = Task.objects.finished().count(), ExecutionLog.objects.count()
    assert tasks + logs > 30_000
    assert sealed(limit=2_000).size == tasks + logs
    assert not {name for name in read if name.endswith(("scans", "scanned"))}, read
    # A batch looks at as many rows of the log as it may take, and takes them when the tasks are done.
    assert read["audit_task_xid"] <= 1.1 * tasks + 2_000
    assert read["audit_executionlog_xid"] <= logs + 1.1 * tasks + 4_000
    # Whether a row has its leaf is asked once of each.
    assert read["audit_ledger_leaf fetched"] < 100

    # Nothing new: nothing to read. And one more row: itself.
    read.clear()
    assert sealed().sealed == 0
    assert read.total() < 20, read
    finish(1)
    assert sealed().sealed == 5
    assert read.total() < 60, read

    # What waits is counted by the same indexes, where the planner knows how little it is.
    finish(1)
    [head] = LedgerHead.objects.all()
    with connection.cursor() as cursor:
        assert backlog(cursor, head).count == 5
        cursor.execute(f"EXPLAIN {_WAITING}", [str(head.low_xid)] * 2)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert not analyzed or all(index in plan for index in INDEXES), plan
