"""The subjects of `queue`: each asks for jobs through its own API, and runs them by its own worker."""

from __future__ import annotations

import json
import sys
from typing import Any, ClassVar

import psycopg

from tests.benchmarks.asking import Asks, AsyncAsks, Queue
from tests.benchmarks.audit_handlers import ASYNC, HANG, PROCESS
from tests.benchmarks.contenders import Own, absent, connection_words
from tests.benchmarks.history import ACTOR, history_sql
from tests.benchmarks.moments import note
from tests.benchmarks.peers import PgQueuer, PgQueuerHistory, Procrastinate, TasksDb, TasksDbHistory
from tests.benchmarks.work import ACTION, PLAN, SERVICES, arguments

__all__ = ["POLL_S", "QUEUES", "OwnHanging", "OwnQueue", "Queue"]

POLL_S = 1.0
"""How often every worker polls that is to poll, in seconds."""
_AT_ONCE = 10


class OwnQueue(Asks, Own):
    """This app: request and approve, `audit_worker` with two child processes."""

    name = "ours"
    apps = ("audit", "tests.benchmarks")
    settings: ClassVar[dict[str, object]] = {"AUDIT": {"CAPACITY_GATE": None}}
    ways = ("notify", "poll")
    history = True
    action = PROCESS
    concurrency = 2
    lease_s: ClassVar[float | None] = None

    def one(self, number: int) -> None:
        task = self._tasks.request(self.action, services=SERVICES, plan={**PLAN, "n": number}, actor="alice")
        note("asked", number)
        task.approve(actor="bob")

    @staticmethod
    def done(connection: psycopg.Connection[Any]) -> int:
        return _count(connection, "audit_task", "completed")

    def work(self, name: str, way: str) -> None:
        from datetime import timedelta

        from django.conf import settings

        from audit.worker import Worker

        settings.AUDIT = {**settings.AUDIT, "NOTIFY": way == "notify"}
        lease = None if self.lease_s is None else timedelta(seconds=self.lease_s)
        poll = {"poll_interval": POLL_S} if way == "poll" else {}
        Worker(
            name=name, actions=[self.action], concurrency=self.concurrency, lease=lease, say=lambda line: None, **poll
        ).run()


class OwnAsync(OwnQueue):
    """This app with a handler that is a coroutine."""

    name = "ours, async"
    action = ASYNC
    concurrency = _AT_ONCE


class OwnHanging(OwnQueue):
    """This app with work that does not come back at first, one at a time."""

    action = HANG
    concurrency = 1
    lease_s = 5.0


class ProcrastinateQueue(AsyncAsks, Procrastinate):
    """procrastinate: `defer_async`, `run_worker_async`."""

    ways = ("notify", "poll")

    def open(self) -> None:
        super().open()
        self._asked = self._app.task(name="bench")(_async_job)

    async def one(self, number: int) -> None:
        await self._asked.defer_async(number=number, services=SERVICES, plan=PLAN)

    @staticmethod
    def done(connection: psycopg.Connection[Any]) -> int:
        return _count(connection, "procrastinate_jobs", "succeeded")

    def work(self, name: str, way: str) -> None:
        from django.db import connection
        from procrastinate import App, PsycopgConnector

        app = App(connector=PsycopgConnector(kwargs=connection_words(connection)))
        app.task(name="bench")(_async_job)
        poll = {"fetch_job_polling_interval": POLL_S} if way == "poll" else {}
        app.run_worker(name=name, concurrency=_AT_ONCE, listen_notify=way == "notify", **poll)


class ProcrastinateHistory(ProcrastinateQueue):
    """procrastinate with the history that a user would add: its own events name nobody."""

    name = "procrastinate + history"
    database = "bench_procrastinate_history"
    options: ClassVar[dict[str, object]] = ACTOR
    history = True

    @staticmethod
    def empty(connection: psycopg.Connection[Any]) -> None:
        Procrastinate.empty(connection)
        connection.execute("TRUNCATE procrastinate_jobs_history")

    @staticmethod
    def unlogged(connection: psycopg.Connection[Any]) -> int:
        return _unlogged(connection, "procrastinate_jobs", "todo")

    def install(self) -> None:
        super().install()
        _execute(history_sql("procrastinate_jobs", key="bigint"))


class PgQueuerQueue(AsyncAsks, PgQueuer):
    """pgqueuer: `enqueue`, `PgQueuer.run`."""

    ways = ("notify",)

    async def one(self, number: int) -> None:
        payload = json.dumps({"n": number, "services": SERVICES, "plan": PLAN}).encode()
        await self._queries.enqueue(ACTION, payload, 0)

    @staticmethod
    def done(connection: psycopg.Connection[Any]) -> int:
        return _count(connection, "pgqueuer_log", "successful")

    def work(self, name: str, way: str) -> None:
        from django.db import connection

        words = connection_words(connection)

        async def run() -> None:
            from pgqueuer import PgQueuer as Manager

            manager = Manager.from_psycopg_connection(await psycopg.AsyncConnection.connect(autocommit=True, **words))

            @manager.entrypoint(ACTION)
            async def work(job: Any) -> None:
                note("ran", json.loads(job.payload)["n"])

            await manager.run(batch_size=_AT_ONCE)

        self.run(run())


class PgQueuerQueueHistory(PgQueuerQueue, PgQueuerHistory):
    """The same, with the history that a user would add."""

    name = "pgqueuer + history"
    database = PgQueuerHistory.database
    options: ClassVar[dict[str, object]] = ACTOR
    history = True
    empty = staticmethod(PgQueuerHistory.empty)
    fill = staticmethod(PgQueuerHistory.fill)
    unlogged = staticmethod(PgQueuerHistory.unlogged)


class _DjangoTasks(Asks):
    """Backends of Django's own tasks."""

    ways = ("poll",)

    def open(self) -> None:
        super().open()
        try:
            from django.tasks import task
        except ImportError:
            from django_tasks import task

        # A job is found again by the path of its function.
        globals()["tasks_job"] = self._asked = task()(tasks_job)

    def one(self, number: int) -> None:
        note("asked", number)
        self._asked.enqueue(number=number, services=SERVICES, plan=PLAN)


class TasksDbQueue(_DjangoTasks, TasksDb):
    """django-tasks-db: `enqueue`, `db_worker`, one task at a time."""

    @staticmethod
    def done(connection: psycopg.Connection[Any]) -> int:
        return _count(connection, "django_tasks_database_dbtaskresult", "SUCCESSFUL")

    def work(self, name: str, way: str) -> None:
        from django.core.management import call_command

        call_command("db_worker", interval=POLL_S, worker_id=name, verbosity=0)


class TasksDbQueueHistory(TasksDbQueue, TasksDbHistory):
    """The same, with the history that a user would add."""

    name = "django-tasks-db + history"
    database = TasksDbHistory.database
    options: ClassVar[dict[str, object]] = ACTOR
    history = True


class OxQueue(_DjangoTasks):
    """django-ox: `enqueue`, `ox_worker`, one task at a time; single claims as its worker makes them."""

    name = "django-ox"
    database = "bench_django_ox"
    apps = ("django_ox",)
    settings: ClassVar[dict[str, object]] = {"TASKS": {"default": {"BACKEND": "django_ox.backend.OxBackend"}}}
    log = "none"
    alone = ("claim",)
    table = "django_ox_oxtask"

    @staticmethod
    def missing() -> str:
        return absent("django_ox") if sys.version_info >= (3, 12) else "it needs Python 3.12"

    @classmethod
    def empty(cls, connection: psycopg.Connection[Any]) -> None:
        connection.execute(f"TRUNCATE {cls.table} CASCADE")

    @classmethod
    def fill(cls, connection: psycopg.Connection[Any], count: int) -> None:
        connection.execute(
            f"INSERT INTO {cls.table} (id, task_path, args, kwargs, queue_name, priority, takes_context, backend_name,"
            " status, attempts, max_attempts, errors, worker_ids, enqueued_at, lease_epoch)"
            " SELECT gen_random_uuid(), 'tests.benchmarks.queues.tasks_job', '[]', %s, 'default', 0, false, 'default',"
            " 'READY', 0, 3, '[]', '[]', clock_timestamp(), 0 FROM generate_series(1, %s)",
            [psycopg.types.json.Jsonb(arguments()), count],
        )
        connection.execute(f"VACUUM ANALYZE {cls.table}")

    def install(self) -> None:
        from django.core.management import call_command

        call_command("migrate", verbosity=0)

    def claim(self, count: int) -> int:
        from django_ox.worker import Worker

        if not hasattr(self, "_worker"):
            self._worker = Worker()
        for claimed in range(count):
            if (found := self._worker.claim_one()) is None:
                return claimed
            self.claimed.append(found)
        return count

    @classmethod
    def done(cls, connection: psycopg.Connection[Any]) -> int:
        return _count(connection, cls.table, "SUCCESSFUL")

    def work(self, name: str, way: str) -> None:
        from django.core.management import call_command
        from django.db import connections

        # As its guide advises; else its threads connect anew for every task.
        connections.settings["default"]["CONN_MAX_AGE"] = 600
        call_command("ox_worker", interval=POLL_S, verbosity=0)


class OxQueueHistory(OxQueue):
    """The same, with the history that a user would add."""

    name = "django-ox + history"
    database = "bench_django_ox_history"
    options: ClassVar[dict[str, object]] = ACTOR
    history = True

    @classmethod
    def empty(cls, connection: psycopg.Connection[Any]) -> None:
        super().empty(connection)
        connection.execute(f"TRUNCATE {cls.table}_history")

    @classmethod
    def unlogged(cls, connection: psycopg.Connection[Any]) -> int:
        return _unlogged(connection, cls.table, "READY")

    def install(self) -> None:
        super().install()
        _execute(history_sql(self.table, key="uuid"))


async def _async_job(number: int, **content: object) -> None:
    note("ran", number)


def tasks_job(number: int, **content: object) -> None:
    """The function that a job of django-tasks-db and django-ox calls."""
    note("ran", number)


def _count(connection: psycopg.Connection[Any], table: str, status: str) -> int:
    [(count,)] = connection.execute(f"SELECT count(*) FROM {table} WHERE status = %s", [status])
    return int(count)


def _unlogged(connection: psycopg.Connection[Any], table: str, first: str) -> int:
    [(count,)] = connection.execute(
        f"SELECT count(*) FROM {table} AS job WHERE job.status <> %s AND NOT EXISTS (SELECT"
        f" FROM {table}_history AS kept WHERE kept.job_id = job.id AND kept.to_status = job.status::text"
        " AND kept.from_status IS NOT NULL AND kept.actor = 'worker')",
        [first],
    )
    return int(count)


def _execute(statements: str) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statements)


QUEUES: dict[str, type[Queue]] = {
    each.name: each
    for each in (
        OwnQueue,
        OwnAsync,
        PgQueuerQueue,
        PgQueuerQueueHistory,
        ProcrastinateQueue,
        ProcrastinateHistory,
        TasksDbQueue,
        TasksDbQueueHistory,
        OxQueue,
        OxQueueHistory,
    )
}
