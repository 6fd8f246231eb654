"""`save()` and `queryset.update()`: of a plain Django model, of one that a package for history follows, of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, ClassVar

import psycopg

from tests.benchmarks.contenders import Contender, Own, absent, check, fill_audit
from tests.benchmarks.measure import Rate, Report, by_cpu, rotated
from tests.benchmarks.places import Place
from tests.benchmarks.work import ACTION, PLAN, SERVICES
from tests.benchmarks.worker import Crew, crew

__all__ = ["run"]

_SECONDS = 1.5
_ONE = "save() of one row"
_MANY = "queryset.update() of {} rows"
_WHO = "bob"


class Plain(Contender):
    """A model of ten columns with a primary key and one index; each change is a decision, as in all others."""

    name = "plain model"
    database = "bench_saves_plain"
    apps: ClassVar[tuple[str, ...]] = ("tests.benchmarks.saved",)
    settings: ClassVar[dict[str, object]] = {"SAVED": "none"}
    log = "nothing"
    steps: ClassVar[tuple[str, ...]] = ("save", "update")
    history = ""
    """SQL that is true when the history tells of the decision on a row of `job`, and who made it."""

    @classmethod
    def unlogged(cls, connection: psycopg.Connection[Any]) -> int:
        table = "audit_task" if issubclass(cls, OwnSaves) else "saved_job"
        [(count,)] = connection.execute(
            f"SELECT count(*) FROM {table} AS job WHERE status = 'approved' AND NOT ({cls.history or 'true'})"
        )
        return int(count)

    @staticmethod
    def empty(connection: psycopg.Connection[Any]) -> None:
        found = connection.execute(
            "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables"
            " WHERE schemaname = 'public' AND tablename ~ '^(saved|pghistory|auditlog)_'"
        ).fetchone()
        connection.execute(f"TRUNCATE {found[0]}")

    @staticmethod
    def fill(connection: psycopg.Connection[Any], count: int) -> None:
        connection.execute(
            "INSERT INTO saved_job (id, action, status, priority, services, plan, requested_by, decided_by, created_at,"
            " updated_at) SELECT uuidv7(), %s, 'pending', 3, %s, %s, 'alice', '', now(), now()"
            " FROM generate_series(1, %s)",
            [ACTION, SERVICES, psycopg.types.json.Jsonb(PLAN), count],
        )
        connection.execute("VACUUM ANALYZE")

    def install(self) -> None:
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        call_command("migrate", verbosity=0, run_syncdb=True)  # the model here has no migration

    def open(self) -> None:
        from tests.benchmarks.saved.models import Job

        self._jobs = Job.objects

    def acting(self) -> AbstractContextManager[object]:
        """Name who acts, as a request does once."""
        return nullcontext()

    def load(self, count: int) -> int:
        """Read the rows that will be saved."""
        self.claimed = list(self._jobs.filter(status="pending")[:count])
        return len(self.claimed)

    def save(self) -> int:
        """Decide on one, through its instance."""
        if not self.claimed:
            return 0
        job = self.claimed.pop()
        job.status, job.decided_by = "approved", _WHO
        with self.acting():
            job.save()
        return 1

    def update(self) -> int:
        """Decide on all, in one statement."""
        with self.acting():
            return int(self._jobs.filter(status="pending").update(status="approved", decided_by=_WHO))


class PgHistoryRows(Plain):
    """django-pghistory as its documentation begins, with a context that says who."""

    name = "pghistory, row triggers"
    database = "bench_saves_pghistory_rows"
    apps = ("pgtrigger", "pghistory", *Plain.apps)
    settings: ClassVar[dict[str, object]] = {"SAVED": "rows"}
    log = "the whole row, and a row for the context; by triggers"
    history = (
        "EXISTS (SELECT FROM saved_jobevent WHERE pgh_obj_id = job.id AND status = 'approved'"
        " AND pgh_context_id = ANY (SELECT id FROM pghistory_context WHERE metadata ->> 'user' = 'bob'))"
    )

    @staticmethod
    def missing() -> str:
        return absent("pghistory", "pgtrigger")

    def acting(self) -> AbstractContextManager[object]:
        import pghistory

        return pghistory.context(user=_WHO)


class PgHistoryStatements(PgHistoryRows):
    """The same, once a statement."""

    name = "pghistory, statement triggers"
    database = "bench_saves_pghistory_statements"
    settings: ClassVar[dict[str, object]] = {"SAVED": "statements"}


class _ByUser(Plain):
    """One whose history points to a user."""

    def install(self) -> None:
        super().install()
        from django.contrib.auth.models import User

        User.objects.create_user(_WHO)

    def open(self) -> None:
        super().open()
        self._user: Any = None

    @property
    def user(self) -> Any:
        """Who acts; read once, as from a session."""
        if self._user is None:
            from django.contrib.auth.models import User

            self._user = User.objects.get(username=_WHO)
        return self._user


class AuditLog(_ByUser):
    """django-auditlog: `register` and `set_actor`."""

    name = "auditlog"
    database = "bench_saves_auditlog"
    apps = ("auditlog", *Plain.apps)
    settings: ClassVar[dict[str, object]] = {"SAVED": "entries"}
    log = "what changed, by signals, in a statement of its own after reading the row once more; no update()"
    steps = ("save",)
    history = (
        "EXISTS (SELECT FROM auditlog_logentry WHERE object_pk = job.id::text AND actor_id IS NOT NULL"
        " AND changes ? 'status')"
    )

    @staticmethod
    def missing() -> str:
        return absent("auditlog")

    def acting(self) -> AbstractContextManager[object]:
        from auditlog.context import set_actor

        return set_actor(self.user)  # type: ignore[no-any-return]


class SimpleHistory(_ByUser):
    """django-simple-history: `HistoricalRecords`, the user on the instance."""

    name = "simple-history"
    database = "bench_saves_simple_history"
    apps = ("simple_history", *Plain.apps)
    settings: ClassVar[dict[str, object]] = {"SAVED": "records"}
    log = "the whole row, by signals, in a statement of its own; no update()"
    steps = ("save",)
    history = (
        "EXISTS (SELECT FROM saved_historicaljob AS kept WHERE kept.id = job.id AND kept.status = 'approved'"
        " AND history_user_id IS NOT NULL)"
    )

    @staticmethod
    def missing() -> str:
        return absent("simple_history")

    def save(self) -> int:
        if self.claimed:
            self.claimed[-1]._history_user = self.user
        return super().save()


class OwnSaves(Plain):
    """This app's task: `save()` and `update()` as Django has them, not the verbs."""

    name = "ours"
    database = Own.database
    apps = Own.apps
    settings: ClassVar[dict[str, object]] = {}
    log = Own.log
    history = (
        "EXISTS (SELECT FROM audit_executionlog WHERE task_id = job.id AND to_status = 'approved' AND actor = 'bob')"
    )

    empty = staticmethod(Own.empty)

    @staticmethod
    def fill(connection: psycopg.Connection[Any], count: int) -> None:
        fill_audit(connection, count, "pending")

    def open(self) -> None:
        from audit.models import Task

        self._jobs = Task.objects

    def acting(self) -> AbstractContextManager[object]:
        from audit.context import actor

        return actor(_WHO)

    def update(self) -> int:
        from django.db.models import F

        pending = self._jobs.filter(status="pending")
        return int(pending.update(status="approved", decided_by=_WHO, actor=_WHO, revision=F("revision") + 1))


class OwnVerb(OwnSaves):
    """This app's task by its verb, which is one statement."""

    name = "ours, by verb"
    log = Own.log
    steps = ("save",)

    def save(self) -> int:
        if not self.claimed:
            return 0
        self.claimed.pop().approve(actor=_WHO)
        return 1


SAVERS: dict[str, type[Plain]] = {
    each.name: each for each in (Plain, PgHistoryRows, PgHistoryStatements, AuditLog, SimpleHistory, OwnSaves, OwnVerb)
}


def run(place: Place, report: Report, scale: float) -> None:
    """Measure and print; arguments as in `claims.run`."""
    single, many = max(20, int(600 * scale)), max(100, int(10_000 * scale))
    with ExitStack() as stack:
        crews = dict(_crews(place, stack, report.say))
        for number in range(report.rounds):
            for name in rotated(list(crews), number):
                for cell, rate in _rates(place, crews[name], SAVERS[name], single, many):
                    report.add(cell, name, rate.second, number)
                    report.add(by_cpu(cell), name, rate.cpu, number)
            place.checkpoint()
            report.progress(number)
    report.say(
        "\nOne process. Each write is a decision, pending to approved. x is the ratio to the plain model within a round"
        " (least-greatest).\nWritten besides the row:"
    )
    for name in crews:
        report.say(f"  {name}: {SAVERS[name].log}")
    for cell in (_ONE, _MANY.format(many)):
        report.table(cell, Plain.name, unit=" rows/s")
        report.table(by_cpu(cell), Plain.name, unit="/CPU s")


def _crews(place: Place, stack: ExitStack, say: Callable[[str], None]) -> Iterator[tuple[str, Crew]]:
    for name, saver in SAVERS.items():
        if reason := saver.missing():
            say(f"skipped: {name}: {reason} (pip install 'django-task-audit[benchmark]')")
            continue
        if saver.database != Own.database:
            place.create(saver.database)
        made = stack.enter_context(crew(place, saver, 1))
        if saver.database != Own.database:
            made.order(1, "install")
        yield name, made


def _rates(place: Place, crew: Crew, saver: type[Plain], single: int, many: int) -> Iterator[tuple[str, Rate]]:
    warm = min(20, single)
    _fill(place, saver, single + warm)
    crew.order(1, "load", count=single + warm)
    crew.order(1, "save", times=warm)
    yield _ONE, crew.rate(1, "save", times=single, seconds=_SECONDS)
    _check(place, saver)
    if "update" in saver.steps:
        _fill(place, saver, many)
        yield _MANY.format(many), crew.rate(1, "update")
        _check(place, saver)


def _check(place: Place, saver: type[Plain]) -> None:
    with place.connect(saver.database) as connection:
        check(connection, saver)


def _fill(place: Place, saver: type[Plain], count: int) -> None:
    with place.connect(saver.database) as connection:
        saver.empty(connection)
        saver.fill(connection, count)
