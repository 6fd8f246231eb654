"""Sessions that the server has ended: what begins work goes on through a new one."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import Error, InterfaceError, OperationalError, connection, transaction

from audit import record
from audit.models import PauseQueueEntry, Task
from tests.support.factories import sql, task_in

pytestmark = pytest.mark.django_db(transaction=True)


def end_session() -> None:
    """End this thread's session, as a restart of the server does; its end has arrived when this returns."""
    connection.ensure_connection()
    pid = connection.connection.info.backend_pid
    killer = connection.copy()
    try:
        with killer.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
            until = time.monotonic() + 60
            while cursor.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]) and cursor.fetchall():
                assert time.monotonic() < until
                time.sleep(0.01)
    finally:
        killer.close()


@pytest.fixture(autouse=True)
def usable_afterwards() -> Iterator[None]:
    yield
    connection.close()


@record("nightly")
def nightly() -> int:
    return 1


@record("nightly")
async def anightly() -> int:
    return 1


def block() -> int:
    with record("nightly") as task:
        task.log("step")
    assert task.status == "completed"
    return 1


def claim() -> int:
    (task,) = Task.objects.claim(worker="w")
    assert task.attempt == 1
    return 1


def claim_entry() -> int:
    (entry,) = PauseQueueEntry.objects.claim(worker="w")
    assert entry.attempt == 1
    return 1


def recover() -> int:
    (task,) = Task.objects.recover_expired(limit=1)
    assert task.expiries == 1
    return 1


def request() -> int:
    assert Task.objects.request("work").revision == 1
    return 1


STARTS: list[Callable[[], int]] = [nightly, async_to_sync(anightly), block, claim, claim_entry, recover, request]
IDS = ["function", "coroutine", "block", "claim", "claim of an entry", "recovery", "request"]


def give_work() -> None:
    """Three of each kind of work."""
    for _ in range(3):
        task_in("approved")
        Task.objects.claim(worker="lost")
        sql("UPDATE audit_task SET lease_expires_at = now() - interval '1 s' WHERE status = 'executing'")
    for _ in range(3):
        task_in("approved").pause(reason="insufficient_capacity")
        task_in("approved")


@pytest.mark.parametrize("start", STARTS, ids=IDS)
def test_a_daemon_whose_session_was_ended_works_on(start: Callable[[], int]) -> None:
    give_work()
    for _ in range(3):
        end_session()
        assert start() == 1


def test_a_block_whose_session_ends_inside_it_is_completed() -> None:
    end_session()
    with record("long") as task:
        end_session()
    assert Task.objects.get(pk=task.pk).status == "completed"


@contextmanager
def answers_lost() -> Iterator[list[str]]:
    """Let the session end after each statement was carried out, before its answer arrives: the first two statements."""
    sent: list[str] = []

    def wrapper(execute: Callable[..., Any], statement: str, params: Any, many: bool, context: Any) -> Any:
        sent.append(statement)
        answer = execute(statement, params, many, context)
        if len(sent) == 1:
            end_session()
            execute("SELECT 1", None, False, context)
            pytest.fail("the session goes on")
        return answer

    with connection.execute_wrapper(wrapper):
        yield sent


def test_a_record_whose_answer_was_lost_is_not_begun_twice() -> None:
    with answers_lost() as sent, record("once") as task:
        assert task.status == "executing"
        assert task.attempt == 1
    assert len(sent) == 3
    assert Task.objects.get().status == "completed"


def test_a_claim_whose_answer_was_lost_is_found_again() -> None:
    give_work()
    with answers_lost():
        claimed = Task.objects.with_action("deploy").claim(worker="w", limit=2)
    assert len(claimed) == 2
    assert Task.objects.filter(claimed_by="w").count() == 2
    claimed[0].complete({})
    with answers_lost():
        (entry,) = PauseQueueEntry.objects.claim(worker="w")
    assert PauseQueueEntry.objects.filter(claimed_by="w").get() == entry
    entry.resume()


HELD: dict[str, Callable[[Task], object]] = {
    "heartbeat": lambda task: task.heartbeat(),
    "complete": lambda task: task.complete({"n": 1}),
    "fail": lambda task: task.fail("no"),
}


@pytest.mark.parametrize("verb", HELD)
@pytest.mark.parametrize("answered", [True, False], ids=["not sent", "carried out"])
def test_a_worker_whose_session_was_ended_meanwhile_goes_on(verb: str, answered: bool) -> None:
    task_in("approved")
    (task,) = Task.objects.claim(worker="w")
    if answered:
        end_session()
        HELD[verb](task)
    else:
        with answers_lost():
            HELD[verb](task)
    row = Task.objects.get()
    assert row.status == {"heartbeat": "executing", "complete": "completed", "fail": "failed"}[verb]
    assert (row.status, row.revision) == (task.status, task.revision)
    transitions = [(None, "pending"), ("pending", "approved"), ("approved", "executing")]
    ended = [] if verb == "heartbeat" else [("executing", row.status)]
    log = task.execution_log.filter(kind="transition").order_by("id")
    assert list(log.values_list("from_status", "to_status")) == transitions + ended


def test_a_request_whose_answer_was_lost_is_one_task() -> None:
    with answers_lost():
        task = Task.objects.request("once")
    assert Task.objects.get() == task


@pytest.mark.parametrize("start", STARTS[3:], ids=IDS[3:])
def test_a_transaction_that_lost_its_session_is_the_callers(start: Callable[[], int]) -> None:
    give_work()
    before = sql("SELECT sum(revision), count(*) FROM audit_task")
    with pytest.raises((OperationalError, InterfaceError)), transaction.atomic():  # noqa: PT012 - the block is the point
        Task.objects.request("rolled back")
        end_session()
        start()
    connection.close()
    assert sql("SELECT sum(revision), count(*) FROM audit_task") == before


def test_without_autocommit_the_loss_is_the_callers() -> None:
    transaction.set_autocommit(False)
    Task.objects.request("lost")
    end_session()
    with pytest.raises(OperationalError):
        Task.objects.request("work")
    connection.close()
    connection.set_autocommit(True)
    assert not Task.objects.exists()


def test_an_error_of_a_session_that_lives_is_raised_once() -> None:
    sent: list[str] = []

    def wrapper(execute: Callable[..., Any], statement: str, *rest: Any) -> Any:
        sent.append(statement)
        return execute("SELECT pg_sleep(10)", None, False, rest[-1])

    sql("SET statement_timeout = '10ms'")
    pid = connection.connection.info.backend_pid
    with connection.execute_wrapper(wrapper), pytest.raises(Error, match="statement timeout"):
        nightly()
    assert len(sent) == 1
    assert connection.connection.info.backend_pid == pid
