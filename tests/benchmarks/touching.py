"""`touching()` on a million tasks: by its index, and by reading the table."""

import json
import time
from collections.abc import Iterator
from typing import Any

from psycopg import ClientCursor

from tests.benchmarks.guards import without_triggers
from tests.benchmarks.measure import Report, rotated
from tests.benchmarks.places import Place

__all__ = ["run"]

INDEX = "by index"
SCAN = "sequential scan"
_GIN = "audit_task_services_gin"
# A hundred services, of which a few are common; the pair is rare.
_ROWS = """
INSERT INTO audit_task (id, action, status, services_touched, requested_by, actor, created_at, recorded_at,
    available_at, started_at, finished_at, outcome, executing_ms, paused_ms, row_version, finished_xid)
SELECT uuidv7(), 'deploy', CASE WHEN n %% 20 = 0 THEN 'failed' ELSE 'completed' END,
    ARRAY['service-' || n %% 100, 'host-' || n %% 1000, 'zone-' || n %% 7], 'alice', 'worker', at, at, at, at, at,
    '{"success": true, "output_summary": "ok"}', 0, 0, 1, pg_current_xact_id()
FROM (SELECT n, now() - (n || ' seconds')::interval AS at FROM generate_series(1, %s) AS n) AS made
"""


def run(place: Place, report: Report, scale: float) -> None:
    """Measure and print; arguments as in `claims.run`."""
    count = max(2000, int(1_000_000 * scale))
    database = "bench_touching"
    without_triggers(place, database)
    with place.connect(database) as connection:
        began = time.monotonic()
        _fill(connection, count)
        report.say(f"  {count} tasks made in {time.monotonic() - began:.0f} s")
        queries = dict(_queries())
        plans = {name: _plan(connection, query) for name, query in queries.items()}
        for number in range(report.rounds):
            for subject in rotated([INDEX, SCAN], number):
                for name, query in queries.items():
                    report.add(name, subject, 1 / _seconds(connection, query, subject), number)
            report.progress(number)
    report.say(
        "\nWhole answers, one connection, everything in memory; the scan may run in parallel, the index does not."
    )
    for name in queries:
        report.table(name, SCAN, unit=" queries/s")
        report.say(f"  plan: {plans[name]}")
    used = [name for name in queries if _GIN in plans[name]]
    report.target("queries of touching() that use the index, of all", len(used) / len(queries), 1)


def _fill(connection: Any, count: int) -> None:
    """Insert without indexes, which are made again afterwards."""
    indexes = connection.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'audit_task' AND indexname <> 'audit_task_pkey'"
    ).fetchall()
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    connection.execute(_ROWS, [count])
    for _, definition in indexes:
        connection.execute(definition)
    connection.execute("VACUUM ANALYZE audit_task")


def _queries() -> Iterator[tuple[str, str]]:
    """Write the queries as the ORM does: all ids of the tasks that match."""
    from datetime import timedelta

    from django.db import connection

    from audit.models import Task

    asked = {
        "touching one service of 100 (1 % of the tasks)": Task.objects.touching("service-42"),
        "touching a service and a host (0.1 %)": Task.objects.touching("service-42", "host-142"),
        "touching a service, failed, of the last 7 days": (
            Task.objects.touching("service-40").failed().since(timedelta(days=7))
        ),
    }
    with connection.cursor() as cursor:
        for name, queryset in asked.items():
            sql, params = queryset.values("pk", "status").query.sql_with_params()
            yield name, ClientCursor(cursor.connection).mogrify(sql, params)
    connection.close()


def _plan(connection: Any, query: str) -> str:
    """The nodes of the plan that read something, outermost first."""

    def nodes(node: dict[str, Any]) -> Iterator[str]:
        name = node.get("Index Name") or node.get("Relation Name")
        if name:
            yield f"{node['Node Type']} {name}"
        for inner in node.get("Plans", ()):
            yield from nodes(inner)

    [(plan,)] = connection.execute(f"EXPLAIN (FORMAT JSON) {query}").fetchall()
    found = json.loads(plan) if isinstance(plan, str) else plan
    return ", ".join(nodes(found[0]["Plan"]))


def _seconds(connection: Any, query: str, subject: str) -> float:
    with connection.transaction():
        if subject == SCAN:
            for method in ("bitmapscan", "indexscan", "indexonlyscan"):
                connection.execute(f"SET LOCAL enable_{method} = off")
        began = time.perf_counter()
        # Planned each time: a plan that was prepared would outlive the settings above.
        connection.execute(query, prepare=False).fetchall()
        return time.perf_counter() - began
