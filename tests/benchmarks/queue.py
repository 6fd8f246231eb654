"""Whole queues with their workers: from the request to the end, picking up, held snapshots, killed and idle workers."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.contenders import Own, check
from tests.benchmarks.measure import Rate, Report, by_cpu, rotated
from tests.benchmarks.moments import VARIABLE, read
from tests.benchmarks.places import Place
from tests.benchmarks.queue_worker import Hands, hands
from tests.benchmarks.queues import POLL_S, QUEUES, OwnHanging, OwnQueue, Queue
from tests.benchmarks.worker import Crew, crew

__all__ = ["run"]

WORKERS = (1, 4)
_WAYS = {"notify": "with NOTIFY", "poll": f"polled every {POLL_S:g} s"}
_PATIENCE_S = 120.0
# Of CPU in half a second: of all workers together, or of each of many.
_QUIET_S = 0.1
_IDLE_S = 0.006
_CLAIMS_S = 240.0
_BATCH = 100


class _Sizes:
    """How much is done in a cell."""

    def __init__(self, scale: float) -> None:
        self.jobs = max(20, int(1000 * scale))
        self.warm = 4
        self.looks = max(3, int(100 * scale))
        self.claims = max(500, int(50_000 * scale))
        self.single = max(20, int(200 * min(scale, 1)))
        self.idle = max(2, int(100 * scale))
        self.idle_s = max(1.0, 30 * min(scale, 1))


class _Bench:
    """The subjects that are here, each with a process that asks for jobs."""

    def __init__(
        self, place: Place, stack: ExitStack, folder: Path, say: Callable[[str], None], subjects: Collection[str]
    ) -> None:
        self.place = place
        self.moments = folder / "moments"
        self.asking: dict[str, Crew] = {}
        for name in subjects:
            queue = QUEUES[name]
            if reason := queue.missing():
                say(f"skipped: {name}: {reason} (pip install 'django-task-audit[benchmark]')")
                continue
            theirs = queue.database != Own.database
            if theirs:
                place.create(queue.database)
            self.asking[name] = stack.enter_context(crew(place, queue, 1))
            if theirs:
                self.asking[name].order(1, "install")

    @contextmanager
    def working(self, queue: type[Queue], workers: int, way: str) -> Iterator[tuple[Hands, Any]]:
        """Empty tables and workers that have begun to work."""
        self.moments.write_text("")  # others have it open
        names = [f"w{number}" for number in range(workers)]
        with (
            self.place.connect(queue.database) as connection,
            hands(self.place, queue, names, way, self.moments) as made,
        ):
            queue.empty(connection)
            yield made, connection

    def wait(self, made: Hands, what: Callable[[], bool]) -> None:
        """Wait for a condition as long as the workers live."""
        until = time.monotonic() + _PATIENCE_S
        while not what():
            made.check()
            if time.monotonic() > until:
                raise RuntimeError("the workers do not get on")
            time.sleep(0.01)

    def settle(self, made: Hands) -> None:
        """Wait until all workers have started: what they and their children use for that is no cost of a job."""
        until, used = time.monotonic() + _PATIENCE_S, made.cpu()
        while time.monotonic() < until:
            time.sleep(0.5)
            before, used = used, made.cpu()
            if used - before < max(_QUIET_S, _IDLE_S * len(made.processes)):
                return
        raise RuntimeError("the workers do not come to rest")


def run(place: Place, report: Report, scale: float, subjects: Collection[str] = tuple(QUEUES)) -> None:
    """Measure and print; arguments as in `claims.run`, and the names of those that are measured."""
    sizes = _Sizes(scale)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="audit-benchmark-")))
        stack.enter_context(_variable(str(folder / "moments")))
        bench = _Bench(place, stack, folder, report.say, subjects)
        waits: dict[tuple[str, str], list[float]] = {}
        recoveries: dict[str, list[float]] = {}
        for number in range(report.rounds):
            for name in rotated(list(bench.asking), number):
                for workers in WORKERS:
                    rate = _whole(bench, name, workers, sizes)
                    cell = _cell(workers)
                    report.add(cell, name, rate.second, number)
                    report.add(by_cpu(cell), name, rate.cpu, number)
                for way in QUEUES[name].ways:
                    waits.setdefault((way, name), []).extend(_picked_up(bench, name, way, sizes))
                if name != "ours, async":  # it claims as the other does
                    before, after = _held(bench, name, sizes)
                    report.add(_HELD, name, after / before, number)
                report.add(_IDLE, name, _idle(bench, name, sizes), number)
            for what, seconds in _recovered(bench).items():
                recoveries.setdefault(what, []).append(seconds)
            place.checkpoint()
            report.progress(number)
    _print(report, sizes, waits, recoveries)


@contextmanager
def _variable(path: str) -> Iterator[None]:
    """Name the file of moments to the processes that ask for jobs."""
    os.environ[VARIABLE] = path
    try:
        yield
    finally:
        del os.environ[VARIABLE]


def _cell(workers: int) -> str:
    return f"from request to end, {workers} worker{'s' if workers > 1 else ''}"


_HELD = "claims under a held snapshot, rate after by rate before"
_IDLE = "idle workers, cores for 100 of them"


def _whole(bench: _Bench, name: str, workers: int, sizes: _Sizes) -> Rate:
    queue, asking = QUEUES[name], bench.asking[name]
    with bench.working(queue, workers, queue.ways[0]) as (made, connection):
        warm = workers * sizes.warm
        asking.order(1, "ask", count=warm)
        bench.wait(made, lambda: queue.done(connection) == warm)
        bench.settle(made)
        began, used = time.monotonic(), bench.place.cpu() + made.cpu()
        [(_, _, cpu)] = asking.order(1, "ask", count=sizes.jobs)
        bench.wait(made, lambda: queue.done(connection) == warm + sizes.jobs)
        seconds = time.monotonic() - began
        used = bench.place.cpu() + made.cpu() + cpu - used
        check(connection, queue)
    return Rate(sizes.jobs / seconds, sizes.jobs / max(used, 0.01))


def _picked_up(bench: _Bench, name: str, way: str, sizes: _Sizes) -> list[float]:
    """Seconds from the call that makes a job ready to the first line of its handler."""
    queue, asking = QUEUES[name], bench.asking[name]
    with bench.working(queue, 1, way) as (made, connection):
        asking.order(1, "ask", count=sizes.warm)
        bench.wait(made, lambda: queue.done(connection) == sizes.warm)
        warm = set(read(bench.moments)["asked"])
        asking.order(1, "ask_slowly", count=sizes.looks)
        bench.wait(made, lambda: queue.done(connection) == sizes.warm + sizes.looks)
    found = read(bench.moments)
    return [found["ran"][each] - at for each, at in found["asked"].items() if each not in warm]


def _held(bench: _Bench, name: str, sizes: _Sizes) -> tuple[float, float]:
    """Rates of single claims at the start and after many claims, while one transaction keeps its snapshot."""
    queue, asking = QUEUES[name], bench.asking[name]
    batch = 1 if "claim" in queue.alone else _BATCH
    with bench.place.connect(queue.database) as connection, bench.place.connect(queue.database) as holding:
        queue.empty(connection)
        queue.fill(connection, sizes.claims + 3 * sizes.single)
        with holding.transaction():
            holding.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            holding.execute("SELECT count(*) FROM pg_class")
            asking.order(1, "claim", count=1, times=sizes.single)
            before = asking.rate(1, "claim", count=1, times=sizes.single).second
            asking.order(1, "claim", count=batch, times=sizes.claims // batch, seconds=_CLAIMS_S)
            after = asking.rate(1, "claim", count=1, times=sizes.single, seconds=_CLAIMS_S).second
    asking.order(1, "forget")
    return before, after


def _idle(bench: _Bench, name: str, sizes: _Sizes) -> float:
    """Cores that a hundred idle workers would use, with the server's part."""
    queue, asking = QUEUES[name], bench.asking[name]
    with bench.working(queue, sizes.idle, queue.ways[0]) as (made, connection):
        count = sizes.idle * sizes.warm
        asking.order(1, "ask", count=count)
        bench.wait(made, lambda: queue.done(connection) == count)
        bench.settle(made)
        began, used = time.monotonic(), bench.place.cpu() + made.cpu()
        time.sleep(sizes.idle_s)
        made.check()
        used = bench.place.cpu() + made.cpu() - used
        return 100 * used / (time.monotonic() - began) / sizes.idle


def _recovered(bench: _Bench) -> dict[str, float]:
    """Seconds from the kill of a worker to the second attempt, by who makes it."""
    found = {}
    for what, name in (("another worker", "w1"), ("a new worker of the same name", "w0")):
        with ExitStack() as stack:
            asking = stack.enter_context(crew(bench.place, OwnHanging, 1))
            made, connection = stack.enter_context(bench.working(OwnHanging, 1, "notify"))
            asking.order(1, "ask", count=1)
            bench.wait(made, lambda: 1 in read(bench.moments).get("ran", {}))
            if name == "w1":
                connection.execute("TRUNCATE audit_agent CASCADE")
                made.start(name)
                bench.wait(made, partial(_is_there, connection, name))
            killed = time.time()
            made.kill("w0")
            if name == "w0":
                made.start(name)
            bench.wait(made, lambda: 1 in read(bench.moments).get("again", {}))
            found[what] = read(bench.moments)["again"][1] - killed
    return found


def _is_there(connection: Any, name: str) -> bool:
    """Whether a worker has registered."""
    return bool(connection.execute("SELECT FROM audit_agent WHERE name = %s", [name]).fetchall())


def _print(
    report: Report, sizes: _Sizes, waits: dict[tuple[str, str], list[float]], recoveries: dict[str, list[float]]
) -> None:
    report.say(
        f"\nMedians of {report.rounds} rounds; ours x is our rate in times of the other's (least-greatest), both of one"
        " round; ~ marks what is more than 1.15 times as great in one round as in another."
        "\nOurs asks twice for each task, to request and to approve; the others once."
    )
    audited = {name: 1.0 for name, queue in QUEUES.items() if queue.history and not name.startswith("ours")}
    for workers in WORKERS:
        for cell, unit in ((_cell(workers), "/s"), (by_cpu(_cell(workers)), "/CPU s")):
            for ours in (name for name in ("ours", "ours, async") if report.has(cell, name)):
                report.compare(cell, ours, audited, unit=unit, notes={})
    for way, words in _WAYS.items():
        report.say(f"\npick-up {words}, milliseconds from the call to the handler: p50, p99")
        for (of, name), seconds in waits.items():
            if of == way:
                report.raw.append({"pick-up": way, "subject": name, "seconds": seconds})
                report.say(f"  {name:<28}{_percentile(seconds, 50):>10,.1f}{_percentile(seconds, 99):>10,.1f}")
    p50 = _percentile(waits["notify", OwnQueue.name], 50)
    report.target("pick-up p50 below 50 ms with NOTIFY, as 50 ms / p50", 50 / max(p50, 0.001), 1)
    report.say(f"\n{_HELD}, {sizes.claims:,} claims between")
    for name in QUEUES:
        if report.has(_HELD, name):
            report.say(f"  {name:<28}{_median(report, _HELD, name):>10.2f}")
    report.target(
        f"at least half the claim rate after {sizes.claims:,} claims under a held snapshot",
        _median(report, _HELD, OwnQueue.name),
        0.5,
    )
    report.say(f"\n{_IDLE}, from {sizes.idle}")
    for name in QUEUES:
        if report.has(_IDLE, name):
            report.say(f"  {name:<28}{_median(report, _IDLE, name):>10.2f}")
    report.say(f"\nrecovery after a kill, lease of {OwnHanging.lease_s:g} s: seconds to the second attempt")
    for what, seconds in recoveries.items():
        report.raw.append({"recovery": what, "seconds": seconds})
        report.say(f"  {what:<32}{statistics.median(seconds):>8.1f}")


def _median(report: Report, cell: str, name: str) -> float:
    return statistics.median(
        float(str(each["rate"])) for each in report.raw if each.get("cell") == cell and each.get("subject") == name
    )


def _percentile(seconds: list[float], percent: int) -> float:
    ordered = sorted(seconds)
    return 1000 * ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
