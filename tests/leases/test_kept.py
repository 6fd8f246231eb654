"""Records and transactions, the thread that keeps their leases, and the ends that cannot be stored."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection, connections, transaction

from audit import record
from audit.exceptions import NotDurable, TaskFrozen
from audit.leases import keeper as keeping
from audit.leases.keeper import LeaseKeeper
from audit.leases.prolong import Lease, prolong
from audit.models import Task
from audit.recording import current_task
from tests.support.holding import OTHERS
from tests.support.preloaded import Popen
from tests.support.worker import eventually

SHORT = timedelta(seconds=1)
KEPT = timedelta(seconds=6)  # a busy machine prolongs it in time


def stored(task: Task) -> Task:
    return Task.objects.get(pk=task.pk)


def database_clock() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


def threads() -> int:
    """How many threads of keepers run; each lingers some seconds after its last lease."""
    return sum(each.name == "audit-leases" for each in threading.enumerate())


def sessions() -> set[int]:
    """The sessions that clients have in the database, beside this one; those of earlier tests may still end."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pid {OTHERS}")
        return {pid for (pid,) in cursor.fetchall()}


@pytest.fixture
def alone() -> Iterator[str]:
    """An alias with a connection of its own to the same database."""
    connections.settings["alone"] = connections.settings["default"] | {"TEST": {}}
    # A wrapper that calls itself "default": Django forbids its test cases an alias that they do not name.
    connections["alone"] = connection.copy()
    try:
        yield "alone"
    finally:
        connections["alone"].close()
        del connections["alone"]
        del connections.settings["alone"]


# Transactions


@pytest.mark.django_db
def test_the_transaction_of_a_test_case_is_no_transaction_of_the_caller() -> None:
    assert connection.in_atomic_block
    with record("backup") as task:
        pass
    assert stored(task).status == "completed"
    with transaction.atomic(), pytest.raises(NotDurable), record("backup"):
        pytest.fail("the block ran")


@pytest.mark.django_db(transaction=True)
def test_a_durable_record_refuses_a_transaction_and_says_what_to_do() -> None:
    with transaction.atomic(), pytest.raises(NotDurable) as caught, record("backup"):
        pytest.fail("the block ran")
    message = str(caught.value)
    assert "record('backup')" in message
    assert all(way in message for way in ("outside of atomic()", "RECORD_USING", "durable=False"))
    assert current_task() is None
    assert not Task.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_without_autocommit_a_record_is_not_durable_either() -> None:
    transaction.set_autocommit(False)
    try:
        with pytest.raises(NotDurable), record("backup"):
            pytest.fail("the block ran")
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


@pytest.mark.django_db(transaction=True)
def test_joining_shares_the_fate_of_the_transaction() -> None:
    with transaction.atomic(), record("kept", durable=False):
        pass
    with pytest.raises(KeyError), transaction.atomic(), record("lost", durable=False):
        raise KeyError
    assert [(task.action, task.status) for task in Task.objects.all()] == [("kept", "completed")]


@pytest.mark.django_db(transaction=True)
def test_a_transaction_inside_the_block_may_fail() -> None:
    with pytest.raises(IntegrityError), record("backup") as task, transaction.atomic():  # noqa: PT012 - the block is the point
        Task.objects.request("rolled back")
        Task.objects.filter(pk=task.pk).update(priority=9)
    assert [(each.action, each.status) for each in Task.objects.all()] == [("backup", "failed")]
    assert stored(task).outcome["error_type"] == "IntegrityError"


@pytest.mark.django_db(transaction=True)
def test_an_aborted_transaction_does_not_hide_its_exception(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL, "audit"), pytest.raises(IntegrityError) as caught:  # noqa: SIM117 - the blocks are the point
        with transaction.atomic(), record("backup", durable=False) as task:
            Task.objects.filter(pk=task.pk).update(priority=9)
    assert "could not be stored" in caught.value.__notes__[0]
    assert not Task.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("by_setting", [True, False])
def test_an_alias_of_its_own_survives_the_rollback(alone: str, settings: Any, by_setting: bool) -> None:
    if by_setting:
        settings.AUDIT = {"RECORD_USING": alone}
    with pytest.raises(KeyError), transaction.atomic(), record("backup", using=None if by_setting else alone) as task:  # noqa: PT012 - as above
        Task.objects.request("rolled back")
        task.log("step")
        raise KeyError
    assert [(each.action, each.status) for each in Task.objects.all()] == [("backup", "failed")]
    assert stored(task).execution_log.count() == 3


# Leases


@pytest.mark.django_db(transaction=True)
def test_short_records_need_no_connection_of_the_thread() -> None:
    before = sessions()
    with record("short"):
        assert sessions() <= before


@pytest.mark.django_db(transaction=True)
def test_leases_outlive_themselves_and_the_thread_closes_its_connection() -> None:
    eventually(lambda: threads() == 0)
    before = sessions()
    with record("long", lease=KEPT, actor="alice") as task, record("inner", lease=KEPT) as inner:
        first = task.lease_expires_at
        eventually(lambda: database_clock() > max(first, inner.lease_expires_at))
        assert not Task.objects.recover_expired()
        assert stored(task).lease_expires_at > first + timedelta(seconds=1)
        assert stored(inner).lease_expires_at > first + timedelta(seconds=1)
        assert stored(task).actor == "alice"
        assert threads() == 1
    assert (task.status, inner.status) == ("completed", "completed")
    eventually(lambda: sessions() <= before)


@pytest.mark.django_db(transaction=True)
def test_the_block_learns_that_somebody_asks_it_to_stop() -> None:
    with record("long", lease=SHORT) as task:
        assert task.cancel_requested_at is None
        stored(task).request_cancel(actor="bob", reason="enough")
        eventually(lambda: task.cancel_requested_at is not None)
    assert task.status == "completed"


@pytest.mark.django_db(transaction=True)
def test_a_lease_that_the_work_itself_has_locked_is_prolonged_afterwards() -> None:
    with record("long", lease=KEPT) as task, record("other", lease=KEPT) as other:
        with transaction.atomic():
            task.touch("db")
            # The lock of one record does not keep the other's lease from being prolonged.
            eventually(lambda: stored(other).lease_expires_at > other.lease_expires_at + timedelta(seconds=1))
        eventually(lambda: stored(task).lease_expires_at > task.lease_expires_at)
    assert (task.status, other.status) == ("completed", "completed")


def lose(task: Task) -> None:
    # In one transaction: the keeper, which skips locked rows, cannot prolong it in between.
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE audit_task SET lease_expires_at = now() - interval '1 s' WHERE id = %s", [task.pk])
        # No other one: on a slow machine theirs may have run out, too.
        assert [each.pk for each in Task.objects.filter(pk=task.pk).recover_expired()] == [task.pk]


@pytest.mark.django_db(transaction=True)
def test_a_lost_lease_is_reported_to_the_log_and_to_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(TaskFrozen), record("long", lease=SHORT) as task:  # noqa: PT012 - as above
        lose(task)
        eventually(lambda: "is lost" in caplog.text)
        task.outcome["files"] = 3
    assert stored(task).outcome["error_type"] == "LeaseExpired"
    note = task.execution_log.get(kind="note", action="")
    assert "ended as completed" in note.output_summary
    assert note.detail["outcome"] == {"success": True, "files": 3}


@pytest.mark.django_db(transaction=True)
def test_a_lost_lease_does_not_hide_the_exception(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ZeroDivisionError) as caught, record("long") as task:  # noqa: PT012 - as above
        lose(task)
        raise ZeroDivisionError
    assert "could not be stored" in caught.value.__notes__[0]
    assert str(task.pk) in caplog.text
    assert stored(task).outcome["error_type"] == "LeaseExpired"
    assert task.execution_log.get(kind="note", action="").detail["outcome"]["error_type"] == "ZeroDivisionError"


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_went_stale_meanwhile_is_replaced() -> None:
    with record("long") as task:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            pid = cursor.fetchone()[0]
        killer = connection.copy()
        with killer.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
            eventually(lambda: not _lives(cursor, pid))
        killer.close()
    assert stored(task).status == "completed"


def _lives(cursor: Any, pid: int) -> bool:
    cursor.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid])
    return bool(cursor.fetchall())


@pytest.mark.django_db(transaction=True)
def test_the_thread_survives_a_database_that_is_away(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = []

    def away_at_first(*args: Any) -> Any:
        if len(failures) < 2:
            failures.append(args)
            raise OperationalError("away")
        return prolong(*args)

    monkeypatch.setattr(keeping, "prolong", away_at_first)
    with record("long", lease=SHORT) as task:
        first = task.lease_expires_at
        eventually(lambda: stored(task).lease_expires_at > first)
    assert len(failures) == 2
    assert "could not be prolonged: away" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_records_of_many_threads() -> None:
    def work() -> None:
        try:
            for _ in range(10):
                with record("work"):
                    pass
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Task.objects.filter(status="completed").count() == 60


# The leases of a worker

LEASE = timedelta(seconds=3)


@pytest.fixture
def own_keeper() -> Iterator[LeaseKeeper]:
    """A keeper of this test alone, whose thread prolongs nothing once the test is over and tables are emptied."""
    own, at_work, over = LeaseKeeper(), threading.Lock(), threading.Event()
    prolong = own._prolong

    def prolong_unless_over(due: list[Any]) -> None:
        with at_work:
            if not over.is_set():
                prolong(due)

    own._prolong = prolong_unless_over  # type: ignore[method-assign]
    yield own
    for kept in list(own._kept):
        own.forget(kept)
    with at_work:
        over.set()


def claimed(count: int = 1, lease: timedelta = LEASE) -> list[Task]:
    for _ in range(count):
        Task.objects.request("work").approve()
    return Task.objects.claim(worker="w", limit=count, lease=lease)


def lease_of(task: Task, duration: timedelta = LEASE, actor: str = "w") -> Lease:
    return Lease(task_id=task.pk, token=task.claim_token, duration=duration, actor=actor, using="default")


def unexpected() -> None:
    raise AssertionError("the lease is not lost")


@pytest.mark.django_db(transaction=True)
def test_a_thread_that_sleeps_long_is_woken_for_a_shorter_lease(own_keeper: LeaseKeeper) -> None:
    hour = timedelta(hours=1)
    (long,) = claimed(lease=hour)
    own_keeper.keep(lease_of(long, hour), on_lost=unexpected)
    eventually(lambda: own_keeper._wakes_at > time.monotonic() + 600)
    (short,) = claimed()
    own_keeper.keep(lease_of(short), on_lost=unexpected)
    eventually(lambda: stored(short).lease_expires_at > short.lease_expires_at)
    assert stored(long).lease_expires_at == long.lease_expires_at


@pytest.mark.django_db(transaction=True)
def test_fifty_claims_of_a_worker_are_prolonged_by_one_statement(
    own_keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = claimed(50)
    statements: list[int] = []

    def counted(using: str, leases: Any) -> Any:
        statements.append(len(leases))
        return prolong(using, leases)

    monkeypatch.setattr(keeping, "prolong", counted)
    began = time.monotonic()
    with monkeypatch.context() as patched:
        # A millisecond after each other, however slow the machine is.
        clock = SimpleNamespace(monotonic=lambda: began + len(own_keeper._kept) / 1000)
        patched.setattr(keeping, "time", clock)
        for task in tasks:
            own_keeper.keep(lease_of(task), on_lost=unexpected)
    eventually(lambda: bool(statements))
    assert statements[0] == 50
    eventually(lambda: all(stored(task).lease_expires_at > task.lease_expires_at for task in tasks))


@pytest.mark.django_db(transaction=True)
def test_a_worker_hears_of_each_lease_by_itself(own_keeper: LeaseKeeper) -> None:
    lost, asked, unasked = claimed(3)
    heard: list[Any] = []
    kept = [
        own_keeper.keep(
            lease_of(task),
            on_lost=lambda task=task: heard.append(("lost", task.pk)),
            on_cancel_requested=lambda at, task=task: heard.append((at, task.pk)),
        )
        for task in (lost, asked, unasked)
    ]
    lose(lost)
    stored(asked).request_cancel(actor="bob")
    moment = stored(asked).cancel_requested_at
    eventually(lambda: {("lost", lost.pk), (moment, asked.pk)} <= set(heard))
    assert [each.lost for each in kept] == [True, False, False]
    before = stored(unasked).lease_expires_at
    eventually(lambda: stored(unasked).lease_expires_at > before)
    assert set(heard) == {("lost", lost.pk), (moment, asked.pk)}
    assert heard.count(("lost", lost.pk)) == 1


@pytest.mark.django_db(transaction=True)
def test_a_claim_that_came_after_a_lost_one_does_not_pass_for_it() -> None:
    (first,) = claimed()
    lose(first)
    (second,) = Task.objects.claim(worker="w", lease=LEASE)
    assert first.pk == second.pk
    found = prolong(connection, [lease_of(first), lease_of(second)])
    states = [found[each.pk, each.claim_token] for each in (first, second)]
    assert [(state.prolonged, state.locked) for state in states] == [(False, False), (True, False)]


@pytest.mark.django_db(transaction=True)
def test_a_lease_that_is_forgotten_runs_out(own_keeper: LeaseKeeper) -> None:
    forgotten, other = claimed(2)
    own_keeper.forget(own_keeper.keep(lease_of(forgotten), on_lost=unexpected))
    own_keeper.keep(lease_of(other), on_lost=unexpected)
    eventually(lambda: stored(other).lease_expires_at > other.lease_expires_at)
    assert stored(forgotten).lease_expires_at == forgotten.lease_expires_at
    # On a busy machine the other's lease may run out too.
    eventually(lambda: forgotten.pk in [each.pk for each in Task.objects.recover_expired()])


@pytest.mark.django_db(transaction=True)
def test_a_callback_that_raises_is_logged_and_the_thread_lives_on(
    own_keeper: LeaseKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    lost, other = claimed(2)
    own_keeper.keep(lease_of(lost), on_lost=broken)
    own_keeper.keep(lease_of(other), on_lost=unexpected, on_tick=broken)
    lose(lost)
    eventually(lambda: stored(other).lease_expires_at > other.lease_expires_at)
    eventually(lambda: f"lease of task {lost.pk} failed" in caplog.text)
    assert f"lease of task {other.pk} failed" in caplog.text


# Processes


@pytest.mark.django_db(transaction=True)
def test_a_forked_child_leaves_the_record_to_its_parent() -> None:
    recording = record("forking")
    task = recording.begin()
    connection.close()
    child = os.fork()
    if child == 0:
        # No assertion and no exception of the child may reach pytest.
        status = 1
        try:
            recording.end()
            with record("of the child"):
                pass
            connection.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert stored(task).status == "executing"
    recording.end()
    assert [each.status for each in Task.objects.order_by("id")] == ["completed", "completed"]


@pytest.mark.django_db(transaction=True)
def test_killed_with_sigkill_it_fails_after_its_lease_and_no_worker_gets_it() -> None:
    database = connection.settings_dict["NAME"]
    process = Popen(
        [sys.executable, "-m", "tests.support.recorder", database, "hang", "6"], stdout=subprocess.PIPE, text=True
    )
    try:
        key = process.stdout.readline().strip()
        first = Task.objects.get(pk=key).lease_expires_at
        eventually(lambda: database_clock() > first)
        assert not Task.objects.recover_expired(), "alive, it keeps its lease"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert Task.objects.get(pk=key).status == "executing"
    found: list[Task] = []

    def recovered() -> bool:
        assert not Task.objects.claim(worker="w")
        found.extend(Task.objects.recover_expired())
        return bool(found)

    eventually(recovered)
    assert not Task.objects.claim(worker="w")
    task = Task.objects.get(pk=key)
    assert (task.status, task.outcome["error_type"], task.attempt) == ("failed", "LeaseExpired", 1)
    transitions = task.execution_log.filter(kind="transition").order_by("id")
    assert list(transitions.values_list("to_status", flat=True)) == ["executing", "failed"]
