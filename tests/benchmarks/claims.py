"""Claim one, claim 100, complete, request 10 000, and records: this app, its SQL under pgbench, other task queues."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from psycopg import ClientCursor

from tests.benchmarks.contenders import Contender, Own, check, sent
from tests.benchmarks.measure import Rate, Report, by_cpu, rotated
from tests.benchmarks.peers import CONTENDERS
from tests.benchmarks.places import Place
from tests.benchmarks.work import ACTION, PLAN, SERVICES
from tests.benchmarks.worker import Crew, crew

__all__ = ["run"]

WORKERS = (1, 4)
RAW = "pgbench, same SQL"
PLANNED = "pgbench, planned each time"
LOOSE = "pgbench, commits not awaited"
_SECONDS = 1.5

_FAR = 2.0
_WANTED = {
    "claim one": {RAW: 0.9, "pgqueuer": 1.4, "procrastinate": 1.4},
    "complete": {"pgqueuer": 0.8, "procrastinate": 1.3, "django-tasks-db": 1.1},
    "hundred": {"pgqueuer": 0.55, "procrastinate": _FAR, "django-tasks-db": _FAR},
    "request": {"pgqueuer": 0.65, "procrastinate": _FAR, "django-tasks-db": _FAR},
    "record, start": {},
    "record, end": {},
}
"""Ours in times of another, at least; those that keep a history are to be outdone everywhere."""
_AUDITED = {"pgqueuer + history": 1.0, "django-tasks-db + history": 1.0}

_UUID = r"[0-9a-f-]{32,36}"


class _Sizes:
    """How much is done in a cell."""

    def __init__(self, scale: float) -> None:
        self.single = max(10, int(400 * scale))
        self.warm = max(2, int(20 * min(scale, 1)))
        self.batches = max(3, int(50 * scale))
        self.batch = 100
        self.request = max(100, int(10_000 * scale))


def run(place: Place, report: Report, scale: float) -> None:
    """Measure, print, and judge the targets.

    Args:
        place: the server.
        report: takes the results.
        scale: 1 for a real run; less for a glance.
    """
    sizes = _Sizes(scale)
    with ExitStack() as stack:
        crews = dict(_crews(place, stack, report.say))
        statements = _statements(place, sizes)
        subjects = [RAW, PLANNED, LOOSE, "SELECT 1", "one indexed UPDATE", *crews]
        for number in range(report.rounds):
            for workers in WORKERS:
                for subject in rotated(subjects, number):
                    if subject in crews:
                        rates = _crew_rates(place, crews[subject], CONTENDERS[subject], workers, sizes)
                    else:
                        rates = _pgbench_rates(place, subject, statements, workers, sizes)
                    for what, rate in rates:
                        cell = _cell(what, workers, sizes)
                        report.add(cell, subject, rate.second, number)
                        report.add(by_cpu(cell), subject, rate.cpu, number)
                place.checkpoint()
            report.progress(number)
    _print(report, sizes, list(crews))


def _cell(what: str, workers: int, sizes: _Sizes) -> str:
    named = {"hundred": f"claim {sizes.batch}, rows", "request": f"request {sizes.request}, rows"}.get(what, what)
    return f"{named}, {workers} process{'es' if workers > 1 else ''}"


def _crews(place: Place, stack: ExitStack, say: Callable[[str], None]) -> Iterator[tuple[str, Crew]]:
    for name, contender in CONTENDERS.items():
        if reason := contender.missing():
            say(f"skipped: {name}: {reason} (pip install 'django-task-audit[benchmark]')")
            continue
        theirs = contender.database != Own.database
        if theirs:
            place.create(contender.database)
        made = stack.enter_context(crew(place, contender, max(WORKERS)))
        if theirs:
            made.order(1, "install")
        yield name, made


@contextmanager
def _filled(place: Place, contender: type[Contender], count: int) -> Iterator[Any]:
    with place.connect(contender.database) as connection:
        contender.empty(connection)
        if count:
            contender.fill(connection, count)
        yield connection


def _crew_rates(
    place: Place, crew: Crew, contender: type[Contender], workers: int, sizes: _Sizes
) -> Iterator[tuple[str, Rate]]:
    each = sizes.single // (1 if workers == 1 else 2)
    with _filled(place, contender, workers * (each + sizes.warm)) as connection:
        crew.order(workers, "claim", count=1, times=sizes.warm)
        yield "claim one", crew.rate(workers, "claim", count=1, times=each, seconds=_SECONDS)
        if "complete" in contender.steps:
            crew.order(workers, "complete", times=sizes.warm)
            yield "complete", crew.rate(workers, "complete", times=each, seconds=_SECONDS)
        check(connection, contender)
    each = sizes.batches // (1 if workers == 1 else 2)
    with _filled(place, contender, workers * sizes.batch * (each + 2)):
        crew.order(workers, "claim", count=sizes.batch, times=2)
        yield "hundred", crew.rate(workers, "claim", count=sizes.batch, times=each, seconds=_SECONDS)
    if "request" in contender.steps:
        with _filled(place, contender, 0):
            crew.order(workers, "request", count=20)
            yield "request", crew.rate(workers, "request", count=sizes.request // workers)
    if "start" in contender.steps:
        each = sizes.single // (1 if workers == 1 else 2)
        with _filled(place, contender, 0):
            crew.order(workers, "start", times=sizes.warm)
            yield "record, start", crew.rate(workers, "start", times=each, seconds=_SECONDS)
            crew.order(workers, "end", times=sizes.warm)
            yield "record, end", crew.rate(workers, "end", times=each, seconds=_SECONDS)
            crew.order(workers, "end", times=each + sizes.warm)  # none stays open
    crew.order(workers, "forget")


def _pgbench_rates(
    place: Place, subject: str, statements: dict[str, str], workers: int, sizes: _Sizes
) -> Iterator[tuple[str, Rate]]:
    each = sizes.single // (1 if workers == 1 else 2)

    def rate(script: str, times: int, warm: int) -> Rate:
        return place.pgbench(
            Own.database,
            script,
            clients=workers,
            times=times,
            warm=warm,
            durable=subject != LOOSE,
            prepared=subject != PLANNED,
        )

    if subject == "SELECT 1":
        yield "claim one", rate("SELECT 1;", each, sizes.warm)
        return
    if subject == "one indexed UPDATE":
        yield "claim one", rate("UPDATE bench_floor SET n = n + 1 WHERE id = :i * 8 + :client_id;", each, sizes.warm)
        return
    with _filled(place, Own, workers * (each + sizes.warm)) as connection:
        yield "claim one", rate(statements["claim one"], each, sizes.warm)
        connection.execute("TRUNCATE bench_claims")
        connection.execute(
            "INSERT INTO bench_claims SELECT row_number() OVER (ORDER BY random()), id, claim_token FROM audit_task"
        )
        connection.execute("VACUUM ANALYZE bench_claims")
        yield "complete", rate(statements["complete"], each, sizes.warm)
    if subject == RAW:
        each = sizes.batches // (1 if workers == 1 else 2)
        with _filled(place, Own, workers * sizes.batch * (each + 2)):
            yield "hundred", rate(statements["hundred"], each, 2).times(sizes.batch)
        with _filled(place, Own, 0):
            yield "request", rate(statements[f"request {workers}"], 1, 0).times(sizes.request // workers)


def _statements(place: Place, sizes: _Sizes) -> dict[str, str]:
    """Write, as scripts of pgbench, the statements that our verbs send; seen on their way to the database."""
    from django.db import connection

    from audit.models import Task

    with place.connect(Own.database) as plain:
        plain.execute("CREATE TABLE bench_claims (n bigint PRIMARY KEY, id uuid, claim_token uuid)")
        plain.execute("CREATE TABLE bench_floor (id integer PRIMARY KEY, n integer DEFAULT 0)")
        plain.execute("INSERT INTO bench_floor (id) SELECT generate_series(1, 50000)")
        plain.execute("VACUUM ANALYZE bench_floor")
        Own.empty(plain)
        Own.fill(plain, 2 * sizes.batch + 1)

        def written(act: Callable[[], object]) -> list[str]:
            """Whatever an act sends to the database, with its parameters written in."""
            return [ClientCursor(plain).mogrify(*statement).strip() + ";" for statement in sent(act)]

        claimed = Task.objects.claim("worker", limit=sizes.batch)
        [one] = written(lambda: Task.objects.claim("worker"))
        [hundred] = written(lambda: Task.objects.claim("worker", limit=sizes.batch))
        [complete] = written(lambda: claimed[0].complete({"output_summary": "ok"}))
        request = {"action": ACTION, "services": SERVICES, "plan": PLAN, "actor": "alice"}
        requests = {
            f"request {workers}": written(lambda n=sizes.request // workers: Task.objects.bulk_request([request] * n))
            for workers in WORKERS
        }
        connection.close()
    for column in ("claim_token", "id"):
        # Client 0 of four takes the rows 1, 5, 9…
        found = f"(SELECT {column} FROM bench_claims WHERE n = (:i - 1) * :clients + :client_id + 1)"
        complete, count = re.subn(rf"\b{column} = '{_UUID}'(::uuid)?", f"{column} = {found}", complete)
        if not count:
            raise RuntimeError(f"no {column} = … in the statement that completes: {complete}")
    return {
        "claim one": one,
        "hundred": hundred,
        "complete": complete,
        **{name: "\n".join(["BEGIN;", *map(_with_new_ids, texts), "COMMIT;"]) for name, texts in requests.items()},
    }


def _with_new_ids(insert: str) -> str:
    def made(ids: re.Match[str]) -> str:
        return f"(SELECT array_agg(uuidv7()) FROM generate_series(1, {ids[0].count(',') + 1}))"

    return re.sub(r"'\{[^']*\}'::uuid\[\]", made, insert)


def _print(report: Report, sizes: _Sizes, crews: list[str]) -> None:
    report.say(
        f"\nMedians of {report.rounds} rounds; ours x is our rate in times of the other's (least-greatest), both of one"
        " round; ~ marks what is more than 1.15 times as great in one round as in another."
        "\nBy CPU: rows for each second of CPU that client and server used, which depends less on what else runs."
    )
    report.say("Included, besides the job's row:")
    report.say(f"  {Own.name} and {RAW}: {Own.log}")
    others = [name for name in crews if CONTENDERS[name].database != Own.database]
    for name in others:
        report.say(f"  {name}: {CONTENDERS[name].log}")
    steps = {"hundred": "claim", "request": "request"}
    for workers in WORKERS:
        for what, wanted in _WANTED.items():
            step = steps.get(what, "")
            alone = [name for name in crews if step in CONTENDERS[name].alone]
            where = "in one transaction" if step == "request" else "of single claims"
            notes = dict.fromkeys(alone, f"no batch API: a loop {where}")
            cell = _cell(what, workers, sizes)
            report.compare(cell, Own.name, wanted | _AUDITED, notes=notes)
            report.compare(by_cpu(cell), Own.name, wanted | _AUDITED, unit="/CPU s", notes=notes)
