"""What the guards cost: the same statements on the same tables with their triggers, and without any."""

import time
from collections.abc import Iterator
from typing import Any

from tests.benchmarks.contenders import Own, empty_audit, fill_audit
from tests.benchmarks.measure import Report, rotated
from tests.benchmarks.places import Place

__all__ = ["BARE", "run", "without_triggers"]

BARE = "without triggers"
GUARDED = "with the guards"
_COLUMNS = "id, action, status, services_touched, plan, requested_by, actor, available_at, executing_ms, paused_ms"
_PLAN = '{"steps": ["pull", "run", "check"]}'
_VALUES = f"uuidv7(), 'deploy', 'pending', '{{kuma,dns}}', '{_PLAN}', 'alice', 'alice', now(), 0, 0"
_ROW = "id = (SELECT id FROM bench_rows WHERE n = :i)"
_CHANGE = "UPDATE audit_task SET summary = 'changed', actor = 'bob', revision = revision + 1"
_CLAIM = (
    "UPDATE audit_task SET status = 'executing', claim_token = gen_random_uuid(), claimed_by = 'bob',"
    " lease_expires_at = statement_timestamp() + interval '1 minute', actor = 'bob', revision = revision + 1"
)
_SINGLE = {
    "UPDATE of one row, status as it was": f"{_CHANGE} WHERE {_ROW}",
    "UPDATE of one row, approved to executing": f"{_CLAIM} WHERE {_ROW}",
    "INSERT of one row": f"INSERT INTO audit_task ({_COLUMNS}) VALUES ({_VALUES})",
}
_BULK = {
    "UPDATE of {} rows, status as it was": _CHANGE,
    "UPDATE of {} rows, approved to executing": _CLAIM,
    "INSERT of {} rows": f"INSERT INTO audit_task ({_COLUMNS}) SELECT {_VALUES} FROM bench_rows",
}


def without_triggers(place: Place, database: str) -> None:
    """Make a database with the tables, indexes and CHECKs of our database, and none of its triggers."""
    place.create(database, Own.database)
    with place.connect(database) as connection:
        found = connection.execute(
            "SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal AND tgname LIKE 'audit_%'"
        ).fetchall()
        for name, table in found:
            connection.execute(f"DROP TRIGGER {name} ON {table}")


def run(place: Place, report: Report, scale: float) -> None:
    """Measure and print; arguments as in `claims.run`."""
    databases = {BARE: "bench_bare", GUARDED: Own.database}
    without_triggers(place, databases[BARE])
    single, bulk = max(20, int(600 * scale)), max(100, int(10_000 * scale))
    for number in range(report.rounds):
        for subject in rotated(list(databases), number):
            for cell, rate in _rates(place, databases[subject], subject, single, bulk):
                report.add(cell, subject, rate, number)
        place.checkpoint()
        report.progress(number)
    report.say(
        "\nOne connection. With the guards: every rule, stamps, and for each INSERT and status change a log row."
        "\nWithout: the same tables, indexes and CHECKs. x is the ratio within a round (least-greatest)."
    )
    for cell in report.cells(BARE):
        report.table(cell, BARE, unit=" rows/s")


def _rates(place: Place, database: str, subject: str, single: int, bulk: int) -> Iterator[tuple[str, float]]:
    with place.connect(database) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS bench_rows (n bigint PRIMARY KEY, id uuid)")
        for cell, statement in _SINGLE.items():
            for durable in (True, False):
                _fill(connection, subject, single + 20)
                rate = place.pgbench(database, f"{statement};", clients=1, times=single, warm=20, durable=durable)
                yield f"{cell}{'' if durable else ', commit not awaited'}", rate.second
        for cell, statement in _BULK.items():
            _fill(connection, subject, bulk)
            began = time.perf_counter()
            connection.execute(statement)
            yield cell.format(bulk), bulk / (time.perf_counter() - began)


def _fill(connection: Any, subject: str, count: int) -> None:
    if subject == BARE:
        connection.execute("TRUNCATE audit_task, audit_executionlog, audit_pause_queue")
    else:
        empty_audit(connection)
    fill_audit(connection, count, "approved")
    connection.execute("TRUNCATE bench_rows")
    connection.execute("INSERT INTO bench_rows SELECT row_number() OVER (ORDER BY id), id FROM audit_task")
    connection.execute("VACUUM ANALYZE bench_rows")
