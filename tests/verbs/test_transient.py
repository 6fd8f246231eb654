"""Refusals that pass: serialization failures, deadlocks and lock timeouts, outside of a transaction and inside one."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections, transaction

from audit import record
from audit.exceptions import TaskFrozen
from audit.ids import uuid7
from audit.interchange.importing import Importer, Read
from audit.interchange.records import TaskRecord
from audit.leases.claim_start import session_claims
from audit.models import PauseQueueEntry, Task
from audit.statements import retry
from tests.support.factories import entry_of, finished, sql, task_in

pytestmark = pytest.mark.django_db(transaction=True)

LOCK = "LOCK TABLE audit_task, audit_pause_queue, audit_executionlog IN ACCESS EXCLUSIVE MODE"


@contextmanager
def other_session() -> Iterator[psycopg.Connection]:
    wanted = ("dbname", "user", "host", "port", "password")
    settings = {key: value for key, value in connection.get_connection_params().items() if key in wanted}
    with psycopg.connect(**settings, autocommit=True) as opened:
        yield opened
        opened.execute("ROLLBACK")


@pytest.fixture
def impatient() -> Iterator[None]:
    """The test's own connection waits for no lock."""
    sql("SET lock_timeout = '20ms'")
    yield
    connection.set_autocommit(True)
    sql("SET lock_timeout = 0")


@contextmanager
def locked_once(only: str = "") -> Iterator[list[str]]:
    """Let somebody hold all tables while the first statement is tried, and let go before it is tried again.

    Args:
        only: how a statement begins whose first try is to meet the lock.

    Returns:
        The statements that were tried, from the first that met it.
    """
    tried: list[str] = []
    # After a slow claim, the next one would first read the server's counters.
    session_claims(connections[DEFAULT_DB_ALIAS]).counting = False

    def wrapper(execute: Callable[..., Any], statement: str, params: Any, many: bool, context: Any) -> Any:
        if tried or (statement.strip().startswith(only) and "SAVEPOINT" not in statement):
            if not tried:
                holder.execute("BEGIN")
                holder.execute(LOCK)
            else:
                holder.execute("ROLLBACK")
            tried.append(statement)
        return execute(statement, params, many, context)

    with other_session() as holder, connection.execute_wrapper(wrapper):
        yield tried


def approved() -> Task:
    return task_in("approved")


def executing() -> Task:
    approved()
    (task,) = Task.objects.claim(worker="w")
    return task


def entry() -> PauseQueueEntry:
    return entry_of(task_in("paused"))


def expired() -> Task:
    task = executing()
    sql("UPDATE audit_task SET lease_expires_at = now() - interval '1 s' WHERE id = %s", [task.pk])
    return task


def due() -> PauseQueueEntry:
    task = executing()
    return task.pause(reason="insufficient_capacity")


def recording() -> Any:
    begun = record("backup")
    begun.begin()
    return begun


def imported(_: Any) -> None:
    line = json.dumps({"id": str(uuid7()), "action": "a", "status": "rejected"})
    assert Importer().run([Read(place="line 1", record=TaskRecord.of_line(line))]).stored == 1


VERBS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "request": (lambda: None, lambda _: Task.objects.request("a")),
    "bulk_request": (lambda: None, lambda _: Task.objects.bulk_request([{"action": "a"}] * 3)),
    "bulk_record": (lambda: None, lambda _: Task.objects.bulk_record([{"action": "a", "status": "completed"}])),
    "import": (lambda: None, imported),
    "approve": (lambda: task_in("pending"), lambda task: task.approve()),
    "reject": (lambda: task_in("pending"), lambda task: task.reject(reason="no")),
    "claim": (approved, lambda _: Task.objects.claim(worker="w")[0]),
    "heartbeat": (executing, lambda task: task.heartbeat()),
    "touch": (executing, lambda task: task.touch("db")),
    "release": (executing, lambda task: task.release()),
    "complete": (executing, lambda task: task.complete({"n": 1})),
    "fail": (executing, lambda task: task.fail("no")),
    "pause": (executing, lambda task: task.pause()),
    "request_cancel": (executing, lambda task: task.request_cancel()),
    "log": (executing, lambda task: task.log("step")),
    "note": (executing, lambda task: task.note("text")),
    "suggest": (executing, lambda task: task.suggest("text")),
    "recover_expired": (expired, lambda _: Task.objects.recover_expired()[0]),
    "claim an entry": (due, lambda _: PauseQueueEntry.objects.claim(worker="w")[0]),
    "resume": (entry, lambda entry: entry.resume()),
    "cancel": (entry, lambda entry: entry.cancel()),
    "defer": (entry, lambda entry: entry.defer(timedelta(hours=1))),
    "hold": (entry, lambda entry: entry.hold()),
    "release an entry": (entry, lambda entry: entry.release()),
    "record begins": (lambda: record("backup"), lambda begun: begun.begin()),
    "record ends": (recording, lambda begun: begun.end()),
}


@pytest.mark.parametrize("name", VERBS)
def test_a_lock_that_was_not_to_be_had_is_waited_for_again(name: str, impatient: None) -> None:
    prepare, verb = VERBS[name]
    given = prepare()
    with locked_once() as tried:
        verb(given)
    assert tried[0] == tried[1]
    if name == "record begins":
        given.end()
    revisions = Counter(Task.objects.values_list("pk", flat=True))
    assert set(revisions.values()) == {1}


# A record refuses transactions, or joins them, on its own terms; atomic() would end one that Django does not know of.
INSIDE = [
    (how, name)
    for how in ("atomic", "no autocommit", "BEGIN")
    for name in VERBS
    if not name.startswith("record") and not (how == "BEGIN" and name in ("bulk_request", "bulk_record", "import"))
]


@pytest.mark.parametrize(("how", "name"), INSIDE)
def test_inside_a_transaction_the_refusal_is_the_callers(how: str, name: str, impatient: None) -> None:
    prepare, verb = VERBS[name]
    given = prepare()
    with locked_once() as tried, pytest.raises(OperationalError, match="lock timeout"):  # noqa: PT012 - three ways to begin
        if how == "atomic":
            with transaction.atomic():
                verb(given)
        elif how == "BEGIN":
            connection.connection.execute("BEGIN")
            try:
                verb(given)
            finally:
                connection.connection.execute("ROLLBACK")
        else:
            transaction.set_autocommit(False)
            try:
                verb(given)
            finally:
                transaction.rollback()
                transaction.set_autocommit(True)
    assert tried.count(tried[0]) == 1


def test_the_reason_of_a_refusal_is_read_again(impatient: None) -> None:
    task = finished()
    with locked_once("SELECT") as tried, pytest.raises(TaskFrozen):
        task.approve()
    assert len(tried) == 2


def test_a_lock_that_is_never_to_be_had_is_an_error(impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_LONGEST_WAIT_SECONDS", 0.01)
    tried: list[str] = []
    task = task_in("pending")

    def count(execute: Callable[..., Any], statement: str, *rest: Any) -> Any:
        tried.append(statement)
        return execute(statement, *rest)

    with other_session() as holder:
        holder.execute("BEGIN")
        holder.execute(LOCK)
        with connection.execute_wrapper(count), pytest.raises(OperationalError, match="lock timeout"):
            task.approve()
    assert len(tried) == 12
    task.approve()


def test_other_errors_are_raised_at_once() -> None:
    tried: list[str] = []

    def refuse(execute: Callable[..., Any], statement: str, *rest: Any) -> Any:
        tried.append(statement)
        return execute("SELECT pg_sleep(10)", None, False, rest[-1])

    sql("SET statement_timeout = '10ms'")
    try:
        with connection.execute_wrapper(refuse), pytest.raises(OperationalError, match="statement timeout"):
            Task.objects.request("a")
    finally:
        connection.close()  # on a busy machine even what takes the limit back might exceed it
    assert len(tried) == 1


# Isolation


@pytest.fixture(params=["repeatable read", "serializable"])
def isolation(request: pytest.FixtureRequest) -> Iterator[str]:
    """The default of every session that begins from now on."""
    [(name,)] = sql("SELECT current_database()")
    sql(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = '{request.param}'")
    connection.close()
    yield request.param
    sql(f'ALTER DATABASE "{name}" RESET default_transaction_isolation')
    connection.close()


class InThread:
    """A call in a thread with a connection of its own; its statements are counted."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.tried: list[str] = []
        self.pid = 0
        self._call = call
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        def count(execute: Callable[..., Any], statement: str, *rest: Any) -> Any:
            self.pid = connection.connection.info.backend_pid
            self.tried.append(statement)
            return execute(statement, *rest)

        try:
            with connection.execute_wrapper(count):
                self.result = self._call()
        except BaseException as error:  # noqa: BLE001 - raised by `wait`
            self.error = error
        finally:
            connections.close_all()

    def wait_until_blocked(self, by: psycopg.Connection) -> None:
        until = time.monotonic() + 120
        while sql("SELECT %s = ANY (pg_blocking_pids(%s))", [by.info.backend_pid, self.pid]) != [(True,)]:
            assert self._thread.is_alive(), f"it waited for nobody: {self.error}"
            assert time.monotonic() < until
            time.sleep(0.01)

    def wait(self) -> Any:
        self._thread.join(300)
        assert not self._thread.is_alive()
        if self.error:
            raise self.error
        return self.result


@pytest.mark.parametrize(
    "name",
    ["approve", "reject", "claim", "heartbeat", "complete", "pause", "suggest", "recover_expired", "resume", "hold"],
)
def test_a_row_that_changed_meanwhile(name: str, isolation: str) -> None:
    prepare, verb = VERBS[name]
    given = prepare()
    with other_session() as other:
        other.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        other.execute(LOCK)
        other.execute("UPDATE audit_task SET priority = 2, revision = revision + 1")
        other.execute("UPDATE audit_pause_queue SET priority = 2, revision = revision + 1")
        thread = InThread(lambda: verb(given))
        while not thread.pid:
            time.sleep(0.01)
        thread.wait_until_blocked(other)
        other.execute("COMMIT")
        thread.wait()
    assert len(thread.tried) >= 2
    assert thread.tried[0] == thread.tried[1]


@pytest.mark.parametrize("many", [False, True])
def test_an_id_that_somebody_else_inserts_meanwhile(many: bool, isolation: str) -> None:
    key = uuid7()
    with other_session() as other:
        other.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        other.execute("INSERT INTO audit_task (id, action, actor) VALUES (%s, 'a', 'x')", [key])
        request = {"action": "a", "id": key}
        thread = InThread(lambda: Task.objects.bulk_request([request]) if many else Task.objects.request(**request))
        while not thread.pid:
            time.sleep(0.01)
        thread.wait_until_blocked(other)
        other.execute("COMMIT")
        found = thread.wait()
    assert found == [] if many else found.pk == key


def test_workers_and_records_that_collide_lose_nothing(isolation: str) -> None:
    ids = Task.objects.bulk_request([{"action": "work", "actor": "a"}] * 120)
    sql("UPDATE audit_task SET status = 'approved', actor = 'b', revision = revision + 1")

    def work() -> None:
        while claimed := Task.objects.with_action("work").claim(worker="w", limit=2):
            for task in claimed:
                task.heartbeat()
                task.complete({})
            with record("beside"):
                pass

    threads = [InThread(work) for _ in range(4)]
    for thread in threads:
        thread.wait()
    assert Task.objects.filter(pk__in=ids, status="completed", attempt=1).count() == 120
    beside = Task.objects.with_action("beside")
    assert beside.count() == beside.filter(status="completed").count() >= 60


def test_a_deadlock_is_survived() -> None:
    """A session that inserts ids the other way round; which of the two is picked as the victim, time decides."""
    for patience in ("200ms", "1s", "5s", "20s"):
        first, second = sorted([uuid7(), uuid7()])

        def ask(patience: str = patience, first: Any = first, second: Any = second) -> list[Any]:
            sql(f"SET deadlock_timeout = '{patience}'")
            return Task.objects.bulk_request([{"action": "a", "id": key} for key in (first, second)])

        with other_session() as other:
            other.execute("SET deadlock_timeout = '30s'")
            insert = "INSERT INTO audit_task (id, action, actor) VALUES (%s, 'a', 'x') ON CONFLICT DO NOTHING"
            other.execute("BEGIN")
            other.execute(insert, [second])
            thread = InThread(ask)
            while not thread.pid:
                time.sleep(0.01)
            thread.wait_until_blocked(other)
            try:
                other.execute(insert, [first])
                other.execute("COMMIT")
                was_victim = False
            except psycopg.errors.DeadlockDetected:
                other.execute("ROLLBACK")
                was_victim = True
            found = thread.wait()
        if not was_victim:
            assert found == []
            inserts = [each for each in thread.tried if "INSERT" in each]
            assert len(inserts) >= 2
            return
    pytest.fail("the other session was picked each time")
