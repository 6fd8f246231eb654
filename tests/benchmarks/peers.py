"""The other task queues, each through its own API, as its own worker would use it."""

import json
import uuid
from datetime import timedelta
from typing import Any, ClassVar

import psycopg

from tests.benchmarks.contenders import (
    AsyncContender,
    Contender,
    Driver,
    Own,
    OwnBare,
    OwnPlanning,
    absent,
    connection_words,
)
from tests.benchmarks.history import ACTOR, history_sql
from tests.benchmarks.work import ACTION, arguments

__all__ = ["CONTENDERS", "job"]


def job(**content: object) -> None:
    """The function that a job would call."""


class Procrastinate(AsyncContender):
    """procrastinate: `JobManager.fetch_job`, `finish_job`, `Task.batch_defer_async`."""

    name = "procrastinate"
    database = "bench_procrastinate"
    log = "event row by trigger, not hashed; NOTIFY for each request"
    alone = ("claim",)

    @staticmethod
    def missing() -> str:
        return absent("procrastinate", "psycopg_pool")

    @staticmethod
    def empty(connection: psycopg.Connection[Any]) -> None:
        connection.execute("TRUNCATE procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers")

    @staticmethod
    def fill(connection: psycopg.Connection[Any], count: int) -> None:
        connection.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, args)"
            " SELECT 'default', %s, 0, %s FROM generate_series(1, %s)",
            [ACTION, psycopg.types.json.Jsonb(arguments()), count],
        )
        connection.execute("VACUUM ANALYZE procrastinate_jobs, procrastinate_events")

    def install(self) -> None:
        self.run(self._app.schema_manager.apply_schema_async())

    def open(self) -> None:
        from django.db import connection
        from procrastinate import App, PsycopgConnector

        self._app = App(connector=PsycopgConnector(kwargs=connection_words(connection), min_size=1, max_size=1))
        self._task = self._app.task(name=ACTION)(job)
        self._worker: int | None = None
        self.run(self._app.open_async())

    def close(self) -> None:
        self.run(self._app.close_async())

    async def claim(self, count: int) -> int:
        manager = self._app.job_manager
        if not self.claimed:  # real workers of `queue` have deleted the one before, which sends no heartbeats
            self._worker = await manager.register_worker()
        for claimed in range(count):
            found = await manager.fetch_job(None, self._worker)
            if found is None:
                return claimed
            self.claimed.append(found)
        return count

    async def complete(self) -> int:
        from procrastinate.jobs import Status

        if not self.claimed:
            return 0
        await self._app.job_manager.finish_job(self.claimed.pop(), Status.SUCCEEDED, delete_job=False)
        return 1

    async def request(self, count: int) -> int:
        return len(await self._task.batch_defer_async(*(arguments() for _ in range(count))))


class PgQueuer(AsyncContender):
    """pgqueuer: `Queries.dequeue`, `log_jobs`, `enqueue`."""

    name = "pgqueuer"
    database = "bench_pgqueuer"
    log = "log row in the same statement, not hashed; a finished job leaves its table; NOTIFY by trigger"

    @staticmethod
    def missing() -> str:
        return absent("pgqueuer")

    @staticmethod
    def empty(connection: psycopg.Connection[Any]) -> None:
        connection.execute("TRUNCATE pgqueuer, pgqueuer_log")

    @staticmethod
    def fill(connection: psycopg.Connection[Any], count: int) -> None:
        connection.execute(
            "INSERT INTO pgqueuer (priority, entrypoint, payload, status)"
            " SELECT 0, %s, %s, 'queued' FROM generate_series(1, %s)",
            [ACTION, json.dumps(arguments()).encode(), count],
        )
        connection.execute("VACUUM ANALYZE pgqueuer, pgqueuer_log")

    def install(self) -> None:
        self.run(self._queries.install())

    def open(self) -> None:
        from django.db import connection
        from pgqueuer.ports.repository import EntrypointExecutionParameter
        from pgqueuer.queries import Queries

        self._queries = Queries.from_psycopg_connection(
            self.run(psycopg.AsyncConnection.connect(autocommit=True, **connection_words(connection)))
        )
        self._entrypoints = {ACTION: EntrypointExecutionParameter(concurrency_limit=0)}
        self._worker = uuid.uuid4()

    async def claim(self, count: int) -> int:
        found = await self._queries.dequeue(count, self._entrypoints, self._worker, None, timedelta(seconds=60))
        self.claimed += found
        return len(found)

    async def complete(self) -> int:
        if not self.claimed:
            return 0
        await self._queries.log_jobs([(self.claimed.pop(), "successful", None)])
        return 1

    async def request(self, count: int) -> int:
        payloads = [json.dumps(arguments()).encode() for _ in range(count)]
        return len(await self._queries.enqueue([ACTION] * count, payloads, [0] * count))


class TasksDb(Contender):
    """django-tasks-db: what its `db_worker` does to claim and to end, and `Task.enqueue`."""

    name = "django-tasks-db"
    database = "bench_django_tasks_db"
    apps = ("django_tasks_db",)
    log = "none"
    alone = ("claim", "request")

    @staticmethod
    def missing() -> str:
        from django import VERSION

        return absent("django_tasks_db", *(["django_tasks"] if VERSION < (6, 0) else []))

    @staticmethod
    def empty(connection: psycopg.Connection[Any]) -> None:
        connection.execute("TRUNCATE django_tasks_database_dbtaskresult")

    @staticmethod
    def fill(connection: psycopg.Connection[Any], count: int) -> None:
        connection.execute(
            "INSERT INTO django_tasks_database_dbtaskresult (id, status, enqueued_at, args_kwargs, priority, task_path,"
            " worker_ids, queue_name, backend_name, run_after, exception_class_path, traceback)"
            " SELECT gen_random_uuid(), 'READY', clock_timestamp(), %s, 0, 'tests.benchmarks.peers.job', '[]',"
            " 'default', 'default', '9999-01-01 00:00:00+00', '', '' FROM generate_series(1, %s)",
            [psycopg.types.json.Jsonb({"args": [], "kwargs": arguments()}), count],
        )
        connection.execute("VACUUM ANALYZE django_tasks_database_dbtaskresult")

    def install(self) -> None:
        from django.core.management import call_command

        call_command("migrate", verbosity=0)

    def open(self) -> None:
        from django_tasks_db.models import DBTaskResult
        from django_tasks_db.utils import exclusive_transaction

        try:
            from django.tasks import task
        except ImportError:
            from django_tasks import task

        self._results = DBTaskResult.objects
        self._transaction = exclusive_transaction
        # A job is found again by the path of its function.
        globals()["job"] = self._task = task()(job)

    def claim(self, count: int) -> int:
        for claimed in range(count):
            ready = self._results.ready().filter(backend_name="default", queue_name__in=["default"])
            with self._transaction(ready.db):
                found = ready.get_locked()
                if found is None:
                    return claimed
                found.claim("worker")
            self.claimed.append(found)
        return count

    def complete(self) -> int:
        if not self.claimed:
            return 0
        self.claimed.pop().set_successful(None)
        return 1

    def request(self, count: int) -> int:
        # One transaction, as a careful caller would make: one commit instead of one for each job.
        with self._transaction():
            for _ in range(count):
                self._task.enqueue(**arguments())
        return count


class PgQueuerHistory(PgQueuer):
    """pgqueuer with the history that a user would add. A finished job is deleted; its own log says how it ended."""

    name = "pgqueuer + history"
    database = "bench_pgqueuer_history"
    options: ClassVar[dict[str, object]] = ACTOR
    log = "its log row and a history row by trigger: from, to, when, who, database role"

    @staticmethod
    def empty(connection: psycopg.Connection[Any]) -> None:
        connection.execute("TRUNCATE pgqueuer, pgqueuer_log, pgqueuer_history")

    @staticmethod
    def fill(connection: psycopg.Connection[Any], count: int) -> None:
        PgQueuer.fill(connection, count)
        connection.execute("VACUUM ANALYZE pgqueuer_history")

    @staticmethod
    def unlogged(connection: psycopg.Connection[Any]) -> int:
        [(count,)] = connection.execute(
            "SELECT count(*) FROM pgqueuer_log AS logged WHERE NOT EXISTS (SELECT FROM pgqueuer_history AS kept"
            " WHERE kept.job_id = logged.job_id AND kept.to_status = logged.status::text AND kept.actor = 'worker')"
        )
        return int(count)

    def install(self) -> None:
        super().install()
        ended = (
            "coalesce((SELECT ending.status::text FROM pgqueuer_log AS ending WHERE ending.job_id = gone.id"
            " AND ending.created = now() ORDER BY ending.id DESC LIMIT 1), 'deleted')"
        )
        _execute(history_sql("pgqueuer", key="bigint", deleted=ended))


class TasksDbHistory(TasksDb):
    """django-tasks-db with the history that a user would add."""

    name = "django-tasks-db + history"
    database = "bench_django_tasks_db_history"
    options: ClassVar[dict[str, object]] = ACTOR
    log = "history row by trigger: from, to, when, who, database role"
    _table = "django_tasks_database_dbtaskresult"

    @classmethod
    def empty(cls, connection: psycopg.Connection[Any]) -> None:
        connection.execute(f"TRUNCATE {cls._table}, {cls._table}_history")

    @classmethod
    def fill(cls, connection: psycopg.Connection[Any], count: int) -> None:
        TasksDb.fill(connection, count)
        connection.execute(f"VACUUM ANALYZE {cls._table}_history")

    @classmethod
    def unlogged(cls, connection: psycopg.Connection[Any]) -> int:
        [(count,)] = connection.execute(
            f"SELECT count(*) FROM {cls._table} AS job WHERE job.status <> 'READY' AND NOT EXISTS (SELECT"
            f" FROM {cls._table}_history AS kept WHERE kept.job_id = job.id AND kept.to_status = job.status"
            " AND kept.from_status IS NOT NULL AND kept.actor = 'worker')"
        )
        return int(count)

    def install(self) -> None:
        super().install()
        _execute(history_sql(self._table, key="uuid"))


def _execute(statements: str) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statements)


CONTENDERS: dict[str, type[Contender]] = {
    each.name: each
    for each in (
        *(Own, OwnPlanning, OwnBare, Driver, PgQueuer, PgQueuerHistory, Procrastinate, TasksDb, TasksDbHistory),
    )
}
