"""Who is measured by `claims`: what they share, and ourselves. The others stand in `peers`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import psycopg

from tests.benchmarks.work import ACTION, PLAN, SERVICES

if TYPE_CHECKING:
    from audit.recording.block import Recording

ResultT = TypeVar("ResultT")

__all__ = [
    "AsyncContender",
    "Contender",
    "Driver",
    "Own",
    "OwnBare",
    "OwnPlanning",
    "absent",
    "check",
    "connection_words",
    "empty_audit",
    "fill_audit",
    "sent",
    "truncate",
]


_TABLES = ("audit_task", "audit_executionlog", "audit_pause_queue")


def absent(*modules: str) -> str:
    """Say which of these modules are not installed; empty when all are."""
    lacking = [name for name in modules if find_spec(name) is None]
    return f"{', '.join(lacking)} not installed" if lacking else ""


class Contender:
    """A task queue on PostgreSQL, through its own API. Steps return how many rows they dealt with; 0 ends a loop."""

    name: ClassVar[str]
    database: ClassVar[str]
    apps: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[dict[str, object]] = {}
    """The OPTIONS of Django's connection."""
    settings: ClassVar[dict[str, object]] = {}
    """More of Django's settings."""
    log: ClassVar[str]
    """What a claim and an end write besides the job's row."""
    steps: ClassVar[tuple[str, ...]] = ("claim", "complete", "request")
    """What is measured of it; `start` and `end` are those of work that is recorded while it happens."""
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

    @staticmethod
    def unlogged(connection: psycopg.Connection[Any]) -> int:
        """Count the changes that its history should tell and does not; a history that is not written costs nothing."""
        return 0

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

    def start(self) -> Any:
        """Begin a record and keep it open."""
        raise NotImplementedError

    def end(self) -> Any:
        """End one of the open records well."""
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


def check(connection: psycopg.Connection[Any], contender: type[Contender]) -> None:
    """Refuse to measure a contender whose history has holes.

    Raises:
        RuntimeError: with how many.
    """
    if count := contender.unlogged(connection):
        raise RuntimeError(f"{contender.name}: {count} changes are not in its history")


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


def truncate(connection: psycopg.Connection[Any], tables: Sequence[str]) -> None:
    """Empty tables, which the owner alone can, without the triggers that refuse."""
    refusing = connection.execute(
        "SELECT tgrelid::regclass, tgname FROM pg_trigger"
        " WHERE tgrelid = ANY (%s::regclass[]) AND NOT tgisinternal AND tgtype & 32 <> 0",  # 32: TRUNCATE
        [list(tables)],
    ).fetchall()
    with connection.transaction():
        for table, trigger in refusing:
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}")
        connection.execute(f"TRUNCATE {', '.join(tables)}")
        for table, trigger in refusing:
            connection.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}")


def empty_audit(connection: psycopg.Connection[Any]) -> None:
    """Empty the audit tables."""
    truncate(connection, _TABLES)


def fill_audit(connection: psycopg.Connection[Any], count: int, status: str = "approved") -> None:
    """Insert tasks in a status, logged and guarded as any; where the rules are off, with what they would stamp."""
    connection.execute(
        """
        INSERT INTO audit_task (id, action, status, priority, services_touched, plan, requested_by, actor,
            available_at, executing_ms, paused_ms)
        SELECT uuidv7(), %s, %s, 3, %s, %s, 'alice', 'alice', now(), 0, 0 FROM generate_series(1, %s)
        """,
        [ACTION, status, SERVICES, psycopg.types.json.Jsonb(PLAN), count],
    )
    connection.execute("VACUUM ANALYZE audit_task, audit_executionlog, audit_pause_queue")


class Own(Contender):
    """This app, on a connection with the options that its documents advise workers."""

    name = "ours"
    database = "bench_ours"
    options: ClassVar[dict[str, object]] = {"server_side_binding": True, "prepare_threshold": 5}
    apps = ("audit",)
    log = "log row by trigger in the same statement; rules that refuse whatever is not allowed"
    steps: ClassVar[tuple[str, ...]] = (*Contender.steps, "start", "end")

    empty = staticmethod(empty_audit)
    fill = staticmethod(fill_audit)

    def install(self) -> None:
        from django.core.management import call_command

        call_command("migrate", verbosity=0)

    def open(self) -> None:
        from audit.models import Task

        self._tasks = Task.objects
        self._open: list[tuple[Context, Recording]] = []

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

    def start(self) -> int:
        from audit import record

        # Each in a context of its own, as in a process of its own: else it would be a part of those that are open.
        context, recording = copy_context(), record(ACTION, services=SERVICES, plan=PLAN, actor="worker")
        context.run(recording.__enter__)
        self._open.append((context, recording))
        return 1

    def end(self) -> int:
        if not self._open:
            return 0
        context, recording = self._open.pop()
        context.run(recording.__exit__, None, None, None)
        return 1


class OwnPlanning(Own):
    """This app on a connection as Django makes it, which prepares nothing."""

    name = "ours, without options"
    options: ClassVar[dict[str, object]] = {}


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
        connection.execute(f"TRUNCATE {', '.join(_TABLES)}")

    def install(self) -> None:
        from django.db import connection

        super().install()
        with connection.cursor() as cursor:
            for table in _TABLES:
                cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            # Without the rules nobody stamps the columns that a row must have.
            cursor.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = 'audit_task'::regclass"
                " AND attnum > 0 AND NOT attisdropped AND attnotnull AND attname <> 'id'"
            )
            for (column,) in cursor.fetchall():
                cursor.execute(f"ALTER TABLE audit_task ALTER COLUMN {column} DROP NOT NULL")
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

        super().open()
        self._connection = psycopg.connect(autocommit=True, **connection_words(connection))
        self._statements: dict[int, tuple[Any, Any]] = {}

    def claim(self, count: int) -> int:
        if count not in self._statements:
            [self._statements[count]] = sent(lambda: self._tasks.claim("worker", limit=count))
        return len(self._connection.execute(*self._statements[count], prepare=True).fetchall())


def sent(act: Callable[[], object]) -> list[tuple[Any, Any]]:
    """Return the statements, with their parameters, that an act sends through Django's connection.

    But for those by which a claim after a slow one counts what its index gave it: the next claim sends none.
    """
    from django.db import connection

    statements: list[tuple[Any, Any]] = []

    def see(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "pg_stat_get_xact_tuples_returned" not in sql:
            statements.append((sql, params))
        return execute(sql, params, many, context)

    connection.ensure_connection()  # which asks some things of its own
    with connection.execute_wrapper(see):
        act()
    return statements


def connection_words(connection: Any) -> dict[str, Any]:
    """What a driver of its own needs to know to connect to the database of Django's connection."""
    parameters = connection.get_connection_params()
    return {name: parameters[name] for name in ("dbname", "host", "port", "user", "options") if name in parameters}
