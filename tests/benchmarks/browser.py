"""The browser's pages against those of a stock `ModelAdmin` on the same tasks, and the memory of an export."""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.benchmarks.browser_client import LIMIT_S, OURS, STOCK
from tests.benchmarks.contenders import Own
from tests.benchmarks.measure import Report
from tests.benchmarks.places import Place

__all__ = ["run"]

ROWS = (1_000_000,)
_EXPORTED = 150_000
_LOOKS = dict[tuple[str, str], list[float]]


def run(place: Place, report: Report, scale: float, rows: Sequence[int] = ROWS) -> None:
    """Measure and print.

    Args:
        place: the server.
        report: takes the numbers.
        scale: of the rows and of the looks at each page.
        rows: how many tasks; a database is made for each of these numbers.
    """
    found: dict[int, _LOOKS] = {}
    for wanted in rows:
        count = max(2000, int(wanted * scale))
        database = f"bench_browser_{wanted}"
        place.create(database, Own.database)
        environment = place.environment(database) | {"DJANGO_SETTINGS_MODULE": "tests.benchmarks.browser_settings"}
        [took] = _ask(environment, "fill", str(count))
        report.say(f"\n{count:,} tasks and their log, made in {took:.0f} s")
        looks: _LOOKS = {}
        cpu: _LOOKS = {}
        gone: set[str] = set()
        for each in _ask(environment, "pages", str(report.rounds), str(scale)):
            of = (each["case"], each["subject"])
            looks.setdefault(of, []).extend(each["seconds"])
            cpu.setdefault(of, []).append(each["cpu"])
            report.raw.append({"rows": count, **each})
            if each["subject"] == STOCK and each["status"] != 200:
                gone.add(each["case"])
        found[wanted] = looks
        _table(report, looks, cpu, gone)
        exported = max(1000, int(_EXPORTED * scale))
        [export] = _ask(environment, "export", str(exported))
        report.raw.append({"rows": count, "export": export})
        report.say(
            f"\nexport of {export['rows']:,} tasks as JSON Lines: {export['bytes'] / 1e6:.0f} MB in"
            f" {export['seconds']:.1f} s; the process held {export['before_mb']:.0f} MB before,"
            f" {export['peak_mb']:.0f} MB at the most"
        )
        report.target("memory of the export below 150 MB, as 150 MB / peak", 150 / export["peak_mb"], 1)
        for case, wanted_times in (("list, all time", 10), ("list, all time, with facets", 25)):
            report.target(f"{case}: times as fast as stock", _times(looks, case), wanted_times)
            report.target(f"{case}: times as little CPU", _times(cpu, case), wanted_times)
        worst = max(_p95(looks[case, OURS]) for case in _lists(looks))
        report.target("p95 of lists below 250 ms, as 250 ms / slowest", 0.25 / worst, 1)
    if len(rows) > 1:
        first, last = min(rows), max(rows)
        growth = _median(found[last], "list, all time", OURS) / _median(found[first], "list, all time", OURS)
        text = f"all-time list grows less than 1.5 times from {first:,} to {last:,} tasks, as 1.5 / growth"
        report.target(text, 1.5 / growth, 1)


def _ask(environment: Mapping[str, str], *arguments: str) -> Iterator[Any]:
    """Run a step in a process of its own and yield its answers as they come."""
    command = [sys.executable, "-m", "tests.benchmarks.browser_client", *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            yield json.loads(line)
    if process.returncode:
        raise RuntimeError(f"{arguments} ended with {process.returncode}")


def _table(report: Report, looks: _LOOKS, cpu: _LOOKS, gone: set[str]) -> None:
    report.say(
        f"\n{'milliseconds, warm':<30}{'ours':>8}{'p95':>8}{'CPU':>8}{'stock':>10}{'p95':>10}{'CPU':>10}"
        f"{'times':>9}{'CPU':>9}"
    )
    for case in dict.fromkeys(case for case, _ in looks):
        mark = "≥" if case in gone else ""
        ours = (_median(looks, case, OURS), _p95(looks[case, OURS]), _median(cpu, case, OURS))
        stock = (_median(looks, case, STOCK), _p95(looks[case, STOCK]), _median(cpu, case, STOCK))
        cells = [
            *(f"{each * 1e3:.0f}".rjust(8) for each in ours),
            *(f"{mark}{each * 1e3:.0f}".rjust(10) for each in stock),
            *(f"{mark}{_times(each, case):.1f}".rjust(9) for each in (looks, cpu)),
        ]
        report.say(f"{case:<30}{''.join(cells)}")
    report.say("CPU: of the process and of the server together, in milliseconds a page")
    if gone:
        report.say(f"≥: given up when one statement had run for {LIMIT_S} s")


def _times(values: _LOOKS, case: str) -> float:
    return _median(values, case, STOCK) / _median(values, case, OURS)


def _lists(looks: _LOOKS) -> list[str]:
    return [case for case, subject in looks if subject == OURS and case.startswith("list")]


def _median(looks: _LOOKS, case: str, subject: str) -> float:
    return statistics.median(looks[case, subject])


def _p95(seconds: Sequence[float]) -> float:
    return sorted(seconds)[max(0, round(len(seconds) * 0.95) - 1)]
