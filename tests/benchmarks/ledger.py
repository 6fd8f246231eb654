"""What proof costs: a hash for each row that finishes, sealing beside sixteen writers, and a million rows verified."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.benchmarks.contenders import Own, empty_audit, fill_audit, truncate
from tests.benchmarks.measure import Report, turns
from tests.benchmarks.places import Place

__all__ = ["run"]

UNSEALED = "guards alone"
HASHED = "with hashes"
ASYNC = "with hashes, sealer beside"
CHAINED = "with a chain in the trigger"
_WRITERS = 16
_DATABASES = {UNSEALED: "bench_unsealed", HASHED: Own.database, ASYNC: Own.database, CHAINED: "bench_chained"}
_LEDGER = ("leaf", "tile", "head", "checkpoint", "epoch", "verification")

_FINISH = (
    'UPDATE audit_task SET status = \'completed\', outcome = \'{"success": true, "output_summary": "up"}\','
    " actor = 'bob', revision = revision + 1"
)
_STEP = (
    "INSERT INTO audit_executionlog (task_id, kind, action, actor, output_summary, duration_ms)"
    " SELECT id, 'step', 'pull image', 'bob', 'pulled', 812 FROM audit_task"
)
# Each writer of sixteen has rows of its own.
_ONE = f"{_FINISH} WHERE id = (SELECT id FROM bench_rows WHERE n = (:i - 1) * :clients + :client_id + 1);"
_CHAIN = """
CREATE TABLE bench_chain (id int PRIMARY KEY, head bytea NOT NULL);
INSERT INTO bench_chain VALUES (1, sha256(''));
CREATE FUNCTION bench_chain() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE bench_chain SET head = sha256(head || NEW.row_hash) WHERE id = 1;
    RETURN NULL;
END $$;
CREATE TRIGGER bench_chain AFTER INSERT OR UPDATE ON audit_task FOR EACH ROW
    WHEN (NEW.row_hash IS NOT NULL) EXECUTE FUNCTION bench_chain();
CREATE TRIGGER bench_chain AFTER INSERT ON audit_executionlog FOR EACH ROW EXECUTE FUNCTION bench_chain();
"""


def run(place: Place, report: Report, scale: float) -> None:
    """Measure and print; arguments as in `claims.run`."""
    _make(place)
    bulk, each = max(200, int(50_000 * scale)), max(5, int(200 * scale))
    for number in range(report.rounds):
        for subject in turns([UNSEALED, HASHED], number):
            for cell, rate in _processor(place, subject, bulk):
                report.add(cell, subject, rate, number)
        for subject in turns(list(_DATABASES), number):
            report.add(f"{_WRITERS} writers, a task finished by each", subject, _writers(place, subject, each), number)
        place.checkpoint()
        report.progress(number)
    report.say(
        "\nRows per second of processor time of the one backend that writes them; finishing a task writes its log row"
        "\ntoo, so there are two hashes. Guards alone: every rule and stamp, no salt, no hash. x is the ratio within a"
        "\nround."
    )
    for cell in report.cells(HASHED):
        report.table(cell, UNSEALED, unit=" rows/s")
    cell = f"{_WRITERS} writers, a task finished by each"
    report.target("16 writers: sealing beside them against a chain", report.ratio(cell, ASYNC, CHAINED), 1)
    _rates(place, report, max(2000, int(334_000 * scale)))


def _make(place: Place) -> None:
    for database in (_DATABASES[UNSEALED], _DATABASES[CHAINED]):
        place.create(database, Own.database)
    with place.connect(_DATABASES[UNSEALED]) as connection:
        connection.execute("DROP TRIGGER audit_task_90_seal ON audit_task")
        connection.execute("DROP TRIGGER audit_executionlog_90_seal ON audit_executionlog")
        connection.execute("ALTER TABLE audit_task DROP CONSTRAINT audit_task_finished_sealed")
        connection.execute("ALTER TABLE audit_executionlog DROP CONSTRAINT audit_executionlog_row_version_known")
        for column in ("row_version", "salt", "row_hash", "xid"):
            connection.execute(f"ALTER TABLE audit_executionlog ALTER {column} DROP NOT NULL")
    with place.connect(_DATABASES[CHAINED]) as connection:
        connection.execute(_CHAIN)


def _processor(place: Place, subject: str, count: int) -> Iterator[tuple[str, float]]:
    """Rows a second of the backend's processor time."""
    with place.connect(_DATABASES[subject]) as connection:
        _fill(connection, count)
        for cell, statement in ((f"finish {count:,} tasks", _FINISH), (f"write {count:,} log rows", _STEP)):
            began = _spent(connection)
            connection.execute(statement)
            yield cell, count / max(_spent(connection) - began, 0.01)


def _spent(connection: Any) -> float:
    """Processor time of a connection's backend, in seconds."""
    import psutil

    times = psutil.Process(connection.info.backend_pid).cpu_times()
    return float(times.user + times.system)


def _writers(place: Place, subject: str, each: int) -> float:
    with place.connect(_DATABASES[subject]) as connection:
        _fill(connection, _WRITERS * (each + 2))
        connection.execute("DROP TABLE IF EXISTS bench_rows")
        connection.execute(
            "CREATE TABLE bench_rows AS SELECT row_number() OVER (ORDER BY id) AS n, id FROM audit_task;"
            "CREATE UNIQUE INDEX ON bench_rows (n); ANALYZE bench_rows"
        )
    if subject != ASYNC:
        return place.pgbench(_DATABASES[subject], _ONE, clients=_WRITERS, times=each, warm=2).second
    command, environment = _step(), _environment(place, "seal", "1")
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as sealer:
        assert sealer.stdout
        sealer.stdout.readline()  # it is connected
        try:
            return place.pgbench(_DATABASES[subject], _ONE, clients=_WRITERS, times=each, warm=2).second
        finally:
            sealer.communicate()  # its input ends, and so does it


def _fill(connection: Any, count: int) -> None:
    """Executing tasks, and nothing sealed yet."""
    truncate(connection, [f"audit_ledger_{name}" for name in _LEDGER])
    empty_audit(connection)
    fill_audit(connection, count, "executing")


def _rates(place: Place, report: Report, count: int) -> None:
    """Seal and verify `count` tasks and twice as many log rows, in a process of its own, whose memory is looked at."""
    with place.connect(Own.database) as connection:
        _fill(connection, count)
        connection.execute(_FINISH)
        connection.execute("VACUUM ANALYZE audit_task, audit_executionlog")
    done = subprocess.run(
        _step(),
        env=_environment(place, "rates"),
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    report.raw.append({"ledger": found})
    report.say(
        f"\n{found['rows']:,} rows, processor time of client and server together: sealed {found['seal']:,.0f} rows/s, "
        f"verified {found['verify']:,.0f} rows/s; memory of the process at most {found['memory_mb']:.0f} MB\n"
        f"one of them proven in {found['prove_ms']:.1f} ms, the proof checked in {found['check_ms']:.2f} ms (medians)"
    )
    report.target("seal, rows a second of processor time, as thousands", found["seal"] / 1000, 80)
    report.target("verify, rows a second of processor time, as thousands", found["verify"] / 1000, 50)
    report.target("memory below 200 MB, as 200 MB / most", 200 / found["memory_mb"], 1)
    report.target("proof of one below 20 ms, as 20 ms / median", 20 / found["prove_ms"], 1)
    report.target("its check below 2 ms, as 2 ms / median", 2 / found["check_ms"], 1)


def _step() -> list[str]:
    return [sys.executable, "-m", "tests.benchmarks.ledger_client"]


def _environment(place: Place, *arguments: str) -> dict[str, str]:
    return place.environment(Own.database) | {"LEDGER_CLIENT": json.dumps(arguments)}
