"""Who is measured by `claims`: what they share, and ourselves. The others stand in `peers`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

import psycopg

from tests.benchmarks.work import ACTION, PLAN, SERVICES

ResultT = TypeVar("ResultT")

__all__ = [
    "AsyncContender",
    "Contender",
    "Driver",
    "Own",
    "OwnBare",
    "OwnPlanning",
    "connection_words",
    "empty_audit",
    "fill_audit",
]


class Contender:
    """A task queue on PostgreSQL, through its own API. Steps return how many rows they dealt with; 0 ends a loop."""

    name: ClassVar[str]
    database: ClassVar[str]
    apps: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[dict[str, object]] = {}
    """The OPTIONS of Django's connection."""
    log: ClassVar[str]
    """What a claim and an end write besides the job's row."""
    steps: ClassVar[tuple[str, ...]] = ("claim", "complete", "request")
    """What is measured of it."""
    alone: ClassVar[tuple[str, ...]] = ()
    """The steps it has no batch API for: a loop of single ones is measured."""

    def __init__(self) -> None:
        self.claimed: list[Any] = []

    @staticmethod
    def missing() -> str:
        """Say why it cannot be measured here; empty when it can."""
        return ""

    @staticmethod
    def empty(connection: psycopg.Connection[Any]) -> None:
        """Empty its tables."""
        raise NotImplementedError

    @staticmethod
    def fill(connection: psycopg.Connection[Any], count: int) -> None:
        """Put in jobs that are ready to be claimed."""
        raise NotImplementedError

    def install(self) -> None:
        """Make its tables; after `open`."""
        raise NotImplementedError

    def open(self) -> None:
        """Connect, or get ready to."""

    def close(self) -> None:
        """Let go of what would complain at the end of the process."""

    def claim(self, count: int) -> Any:
        """Claim jobs and keep them in `claimed`."""
        raise NotImplementedError

    def complete(self) -> Any:
        """Finish one of `claimed` well."""
        raise NotImplementedError

    def request(self, count: int) -> Any:
        """Ask for work."""
        raise NotImplementedError

    def loop(self, step: Callable[[], Any], times: int, seconds: float) -> tuple[int, float]:
        """Repeat a step, at most `times` and until `seconds` are over; return the rows and the seconds taken."""
        rows = 0
        began = time.perf_counter()
        for _ in range(times):
            done = step()
            rows += done
            if not done or time.perf_counter() - began > seconds:
                break
        return rows, time.perf_counter() - began


class AsyncContender(Contender):
    """One whose API is asynchronous: its steps are coroutines, run in one event loop (uvloop where it is there)."""

    def __init__(self) -> None:
        super().__init__()
        try:
            import uvloop
        except ImportError:
            self._runner = asyncio.Runner()
        else:
            self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)

    def run(self, awaitable: Awaitable[ResultT]) -> ResultT:
        """Wait for something in the one event loop."""

        async def wait() -> ResultT:
            return await awaitable

        return self._runner.run(wait())

    def loop(self, step: Callable[[], Awaitable[int]], times: int, seconds: float) -> tuple[int, float]:
        async def repeat() -> tuple[int, float]:
            rows = 0
            began = time.perf_counter()
            for _ in range(times):
                done = await step()
                rows += done
                if not done or time.perf_counter() - began > seconds:
                    break
            return rows, time.perf_counter() - began

        return self.run(repeat())


def empty_audit(connection: psycopg.Connection[Any]) -> None:
    """Empty the audit tables, which the owner alone can, without the triggers that refuse."""
    tables = ("audit_task", "audit_executionlog", "audit_pause_queue")
    with connection.transaction():
        for table in tables:
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER {table}_10_no_truncate")
        connection.execute(f"TRUNCATE {', '.join(tables)}")
        for table in tables:
            connection.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_10_no_truncate")


def fill_audit(connection: psycopg.Connection[Any], count: int, status: str = "approved") -> None:
    """Insert tasks in a status, logged and guarded as any."""
    connection.execute(
        """
        INSERT INTO audit_task (id, action, status, priority, services_touched, plan, requested_by, actor,
            available_at)
        SELECT uuidv7(), %s, %s, 3, %s, %s, 'alice', 'alice', now() FROM generate_series(1, %s)
        """,
        [ACTION, status, SERVICES, psycopg.types.json.Jsonb(PLAN), count],
    )
    connection.execute("VACUUM ANALYZE audit_task, audit_executionlog, audit_pause_queue")


class Own(Contender):
    """This app."""

    name = "ours"
    database = "bench_ours"
    apps = ("audit",)
    log = "log row with a SHA-256 of it, written by trigger in the same statement; a finished task is hashed too"

    empty = staticmethod(empty_audit)
    fill = staticmethod(fill_audit)

    def install(self) -> None:
        from django.core.management import call_command

        call_command("migrate", verbosity=0)

    def open(self) -> None:
        from audit.models import Task

        self._tasks = Task.objects

    def claim(self, count: int) -> int:
        claimed = self._tasks.claim("worker", limit=count)
        self.claimed += claimed
        return len(claimed)

    def complete(self) -> int:
        if not self.claimed:
            return 0
        self.claimed.pop().complete({"output_summary": "ok"})
        return 1

    def request(self, count: int) -> int:
        request = {"action": ACTION, "services": SERVICES, "plan": PLAN, "actor": "alice"}
        return len(self._tasks.bulk_request(request for _ in range(count)))


class OwnPlanning(Own):
    """This app on a connection that prepares nothing."""

    name = "ours, as behind a pooler"
    options: ClassVar[dict[str, object]] = {"prepare_threshold": None}


class OwnBare(Own):
    """This app as it would be with nothing of an audit trail but its table: no log, no rules, two indexes.

    What the others are compared with when the question is what the trail costs, and not how well it is written.
    """

    name = "ours, without the trail"
    database = "bench_bare"
    steps = ("claim", "request")
    log = "none: triggers off, and of the indexes the primary key and the claim's"

    @staticmethod
    def empty(connection: psycopg.Connection[Any]) -> None:
        connection.execute("TRUNCATE audit_task, audit_executionlog, audit_pause_queue")

    def install(self) -> None:
        from django.db import connection

        super().install()
        with connection.cursor() as cursor:
            for table in ("audit_task", "audit_executionlog", "audit_pause_queue"):
                cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            cursor.execute("ALTER TABLE audit_task ENABLE TRIGGER audit_task_20_stamp")
            cursor.execute(
                "SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'audit_task'::regclass"
                " AND NOT indisprimary AND indexrelid <> 'audit_task_claim'::regclass"
            )
            for (index,) in cursor.fetchall():
                cursor.execute(f"DROP INDEX {index}")


class Driver(Own):
    """The driver alone: the statement of our claim, prepared, its rows read and nothing made of them."""

    name = "psycopg alone, same SQL"
    steps = ("claim",)

    def open(self) -> None:
        from django.db import connection

        from audit.leases.claim import claim_tasks_sql
        from audit.models import Task

        self._sql = lambda count: claim_tasks_sql(Task, "", count)
        self._connection = psycopg.connect(autocommit=True, **connection_words(connection))

    def claim(self, count: int) -> int:
        params = ["worker", timedelta(seconds=60), "worker"]
        return len(self._connection.execute(self._sql(count), params, prepare=True).fetchall())


def connection_words(connection: Any) -> dict[str, Any]:
    """What a driver of its own needs to know to connect to the database of Django's connection."""
    parameters = connection.get_connection_params()
    return {name: parameters[name] for name in ("dbname", "host", "port", "user")}
