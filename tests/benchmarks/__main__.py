"""`python -m tests.benchmarks [guards|claims|queue|saves|touching|browser|ledger|all]`."""

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from auditproj.embedded.errors import EmbeddedError
from tests.benchmarks import browser, claims, guards, ledger, queue, saves, touching
from tests.benchmarks.contenders import Own
from tests.benchmarks.measure import Report
from tests.benchmarks.places import Place, scratch

_SUITES: dict[str, Callable[[Place, Report, float], None]] = {
    "guards": guards.run,
    "claims": claims.run,
    "queue": queue.run,
    "saves": saves.run,
    "touching": touching.run,
    "browser": browser.run,
    "ledger": ledger.run,
}


def main(arguments: list[str] | None = None) -> int:
    """Run suites on a scratch server and print what they find; 2 when there can be no server."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measure, as ratios.")
    parser.add_argument("suite", nargs="?", default="all", choices=[*_SUITES, "all"])
    parser.add_argument("--rounds", type=int, default=5, help="of which medians are taken (5)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the amounts; 1 is a real run, 0.05 a glance (1)")
    parser.add_argument(
        "--rows", type=int, nargs="+", default=browser.ROWS, metavar="N", help="tasks, for browser (1000000)"
    )
    parser.add_argument(
        "--subjects",
        nargs="+",
        default=list(queue.QUEUES),
        choices=queue.QUEUES,
        metavar="NAME",
        help="for queue (all)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every single measurement")
    given = parser.parse_args(arguments)
    if given.rounds < 1 or given.scale <= 0 or min(given.rows) < 1:
        parser.error("--rounds, --scale and --rows must be positive")
    report = Report(rounds=given.rounds, say=_say)
    suites = _SUITES | {
        "browser": partial(browser.run, rows=given.rows),
        "queue": partial(queue.run, subjects=given.subjects),
    }
    chosen = list(_SUITES) if given.suite == "all" else [given.suite]
    try:
        with scratch() as place:
            _say(f"{os.cpu_count()} cores; PostgreSQL 18 with fsync, one server, autovacuum off; scale {given.scale:g}")
            _migrate(place)
            for name in chosen:
                _say(f"\n== {name}")
                suites[name](place, report, given.scale)
    except EmbeddedError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command's output
        return 2
    if given.json:
        report.write(given.json)
    return 0


def _migrate(place: Place) -> None:
    """Make our database, and Django's default connection lead to it."""
    import django
    from django.db import connection

    place.create(Own.database)
    os.environ.update(place.environment(Own.database))
    django.setup()
    Own().install()
    connection.close()


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a command's output


if __name__ == "__main__":
    sys.exit(main())
