"""What proof costs: sealing beside sixteen writers, and a million rows sealed and verified."""

import json
import subprocess
import sys
from typing import Any

from tests.benchmarks.contenders import Own, empty_audit, fill_audit, truncate
from tests.benchmarks.measure import Report, rotated
from tests.benchmarks.places import Place

__all__ = ["run"]

ALONE = "nobody seals"
ASYNC = "sealer beside"
CHAINED = "with a chain in the trigger"
_WRITERS = 16
_DATABASES = {ALONE: Own.database, ASYNC: Own.database, CHAINED: "bench_chained"}
_LEDGER = ("leaf", "tile", "head", "checkpoint", "epoch", "verification")

_FINISH = (
    'UPDATE audit_task SET status = \'completed\', outcome = \'{"success": true, "output_summary": "up"}\','
    " actor = 'bob', revision = revision + 1"
)
# Each writer of sixteen has rows of its own.
_ONE = f"{_FINISH} WHERE id = (SELECT id FROM bench_rows WHERE n = (:i - 1) * :clients + :client_id + 1);"
_CHAIN = """
CREATE TABLE bench_chain (id int PRIMARY KEY, head bytea NOT NULL);
INSERT INTO bench_chain VALUES (1, sha256(''));
CREATE FUNCTION bench_chain() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE bench_chain SET head = sha256(head || convert_to(NEW::text, 'UTF8')) WHERE id = 1;
    RETURN NULL;
END $$;
CREATE TRIGGER bench_chain AFTER INSERT OR UPDATE ON audit_task FOR EACH ROW
    WHEN (NEW.finished_xid IS NOT NULL) EXECUTE FUNCTION bench_chain();
CREATE TRIGGER bench_chain AFTER INSERT ON audit_executionlog FOR EACH ROW EXECUTE FUNCTION bench_chain();
"""


def run(place: Place, report: Report, scale: float) -> None:
    """Measure and print; arguments as in `claims.run`."""
    _make(place)
    each = max(5, int(200 * scale))
    cell = f"{_WRITERS} writers, a task finished by each"
    for number in range(report.rounds):
        for subject in rotated(list(_DATABASES), number):
            report.add(cell, subject, _writers(place, subject, each), number)
        place.checkpoint()
        report.progress(number)
    report.say("\nTasks finished per second by all writers together. x is the ratio within a round.")
    report.table(cell, ALONE, unit=" rows/s")
    report.target("16 writers: sealing beside them against a chain", report.ratio(cell, ASYNC, CHAINED), 1)
    _rates(place, report, max(2000, int(334_000 * scale)))


def _make(place: Place) -> None:
    place.create(_DATABASES[CHAINED], Own.database)
    with place.connect(_DATABASES[CHAINED]) as connection:
        connection.execute(_CHAIN)


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
