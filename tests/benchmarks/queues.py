"""The subjects of `queue`: each asks for jobs through its own API, and runs them by its own worker."""

from __future__ import annotations

import json
import random
import time
from typing import Any, ClassVar

import psycopg

from tests.benchmarks.audit_handlers import ASYNC, HANG, PROCESS
from tests.benchmarks.contenders import AsyncContender, Contender, Own, connection_words
from tests.benchmarks.history import ACTOR, history_sql
from tests.benchmarks.moments import note
from tests.benchmarks.peers import PgQueuer, PgQueuerHistory, Procrastinate, TasksDb, TasksDbHistory
from tests.benchmarks.work import ACTION, PLAN, SERVICES

__all__ = ["POLL_S", "QUEUES", "OwnHanging", "OwnQueue", "Queue"]

POLL_S = 1.0
"""How often every worker polls that is to poll, in seconds."""
_AT_ONCE = 10
_PAUSES = (0.05, 0.25)


class Queue(Contender):
    """What a subject can do besides being claimed from."""

    ways: ClassVar[tuple[str, ...]]
    """How its workers may hear of work: `notify`, `poll`."""
    history: ClassVar[bool] = False
    """Whether it keeps a trail of its rows."""

    def ask(self, count: int) -> Any:
        """Ask for jobs, one after the other."""
        raise NotImplementedError

    def ask_slowly(self, count: int) -> Any:
        """Ask for jobs, with pauses in which the workers are idle again."""
        raise NotImplementedError

    @staticmethod
    def done(connection: psycopg.Connection[Any]) -> int:
        """Count the jobs that have ended well."""
        raise NotImplementedError

    def work(self, name: str, way: str) -> None:
        """Be a worker until killed."""
        raise NotImplementedError


class _Asks(Queue):
    number = 0

    def one(self, number: int) -> None:
        """Ask for one job, and note when the call began that makes it ready."""
        raise NotImplementedError

    def ask(self, count: int) -> int:
        for _ in range(count):
            self.number += 1
            self.one(self.number)
        return count

    def ask_slowly(self, count: int) -> int:
        for _ in range(count):
            self.ask(1)
            time.sleep(random.uniform(*_PAUSES))
        return count


class _AsyncAsks(AsyncContender, Queue):
    number = 0

    async def one(self, number: int) -> None:
        """Ask for one job, and note when the call began."""
        raise NotImplementedError

    async def ask(self, count: int) -> int:
        for _ in range(count):
            self.number += 1
            note("asked", self.number)
            await self.one(self.number)
        return count

    async def ask_slowly(self, count: int) -> int:
        import asyncio

        for _ in range(count):
            await self.ask(1)
            await asyncio.sleep(random.uniform(*_PAUSES))
        return count


class OwnQueue(_Asks, Own):
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


class ProcrastinateQueue(_AsyncAsks, Procrastinate):
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


class PgQueuerQueue(_AsyncAsks, PgQueuer):
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


class TasksDbQueue(_Asks, TasksDb):
    """django-tasks-db: `enqueue`, `db_worker`, one task at a time."""

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


async def _async_job(number: int, **content: object) -> None:
    note("ran", number)


def tasks_job(number: int, **content: object) -> None:
    """The function that a job of django-tasks-db calls."""
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
    )
}
