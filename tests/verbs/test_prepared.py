"""On a connection that binds on the server and prepares, as the documents advise workers, each verb does the same."""

import datetime
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import DataError, connection, connections, transaction

from audit import record
from audit.models import PauseQueueEntry, Task
from tests.support.factories import assert_same, sql

pytestmark = pytest.mark.django_db(transaction=True)

Options = Callable[..., None]

SOON = timedelta(microseconds=1)
PREPARING = {"server_side_binding": True, "prepare_threshold": 5}


@pytest.fixture(autouse=True)
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Options]:
    """Connect anew, with settings of a database; what a test prepares, no other test finds."""

    def anew(options: dict[str, Any] | None = None, **settings: Any) -> None:
        connection.close()
        given = connection.settings_dict
        monkeypatch.setitem(given, "OPTIONS", given["OPTIONS"] | (options or {}))
        for name, value in settings.items():
            monkeypatch.setitem(given, name, value)
        forget_time_zone()

    anew(PREPARING)
    yield anew
    connection.close()
    forget_time_zone()


def forget_time_zone() -> None:
    for name in ("timezone", "timezone_name"):
        connections["default"].__dict__.pop(name, None)


def approved(count: int = 1) -> None:
    ids = Task.objects.bulk_request([{"action": "work", "actor": "alice"}] * count)
    Task.objects.filter(pk__in=ids).update(status="approved")


def work(times: int = 10) -> None:
    """Claim and complete, again and again."""
    approved(times)
    for _ in range(times):
        [task] = Task.objects.claim("worker")
        task.complete({"output_summary": "ok"})
        assert_same(task)


def prepared() -> dict[str, int]:
    """The statements this session has prepared, by their first words, and how often each was not planned anew."""
    found = sql("SELECT statement, generic_plans FROM pg_prepared_statements WHERE NOT from_sql")
    return {" ".join(statement.split()[:4]): plans for statement, plans in found}


def test_a_busy_connection_prepares_and_plans_no_more() -> None:
    work(20)
    found = prepared()
    assert found.keys() >= {"UPDATE audit_task AS claimed", "UPDATE audit_task AS task"}
    # PostgreSQL makes five plans for the values before it takes one for all, and takes that only if it looks no dearer.
    assert min(found[f"UPDATE audit_task AS {name}"] for name in ("claimed", "task")) > 0, found


def test_a_connection_as_django_makes_it_prepares_nothing(connect: Options) -> None:
    """So a pooler in transaction mode needs no setting."""
    connect({"server_side_binding": False, "prepare_threshold": None})
    work()
    assert prepared() == {}


def test_a_transaction_that_failed_stops_nothing() -> None:
    work()
    with pytest.raises(DataError), transaction.atomic():
        sql("SELECT 1 / %s::int", [0])
    work(2)


def test_actions_are_prepared_as_one_statement() -> None:
    approved(10)
    for number in range(10):
        assert len(Task.objects.claim("worker", actions=["work", *map(str, range(number))])) == 1
    assert "UPDATE audit_task AS claimed" in prepared()


def test_with_debug_the_log_shows_what_was_run(connect: Options, settings: Any) -> None:
    connect({"server_side_binding": False})
    settings.DEBUG = True
    approved()
    [task] = Task.objects.claim("worker-7")
    # After a slow claim, one counts what its index gives it, before and after.
    assert any("worker-7" in each["sql"] for each in connection.queries)
    assert str(task.claimed_by) == "worker-7"


def test_every_verb_prepared(connect: Options) -> None:
    """The server finds out the types of all parameters, and each instance equals its row."""
    connect({**PREPARING, "prepare_threshold": 0})
    for number in range(3):
        task = Task.objects.request(
            "work", services=["kuma"], plan={"n": number}, summary='so "called" {}\\', actor="alice"
        )
        task.approve(actor="bob")
        [task] = Task.objects.claim("worker", lease=timedelta(minutes=number + 1))
        assert task.heartbeat(lease=timedelta(hours=1)) is False
        task.touch("dns", "kuma")
        task.log("step", duration_ms=10**number, detail={"n": number})
        task.log("step", step_number=40_000 * number)
        task.note("so", detail=[number])
        task.suggest("again", reason="why")
        task.request_cancel(actor="bob", reason="stop")
        assert task.heartbeat() is True
        task.release()
        [task] = Task.objects.claim("worker", actions=["work"])
        entry = task.pause(
            reason="insufficient_capacity", work_plan={"rest": number}, resume_after=timedelta(microseconds=1)
        )
        assert_same(task)
        [entry] = PauseQueueEntry.objects.claim("worker")
        entry.hold()
        entry.defer(timedelta(hours=1))
        entry.defer(entry.paused_at)
        [entry] = PauseQueueEntry.objects.claim("worker", limit=number + 1)
        entry.release()
        assert_same(entry)
        task = entry.resume(actor="bob")
        assert (task.plan, task.work_plan) == ({"n": number}, {"rest": number})
        [task] = Task.objects.claim("worker")
        task.complete(
            {"files": number}, resources={"wall_s": 1.5}, suggestions=[{"suggestion": "x"}] if number else None
        )
        assert_same(task)
        other = Task.objects.request("work", actor="alice")
        other.reject(reason="no", actor="bob")
        approved(3)
        first, second, third = Task.objects.claim("worker", limit=3, lease=SOON)
        first.fail("broke")
        second.pause(resume_after=datetime.datetime.now(datetime.UTC) + timedelta(days=1), priority=number + 1)
        PauseQueueEntry.objects.get(task=second).cancel(reason="no", actor="bob")
        [third] = Task.objects.recover_expired()
        third.reject(actor="bob")
        for each in (first, third, other):
            assert_same(each)
        with record("backup", services=["db"]) as recorded:
            recorded.log("dump")
    [(count,)] = sql("SELECT count(*) FROM pg_prepared_statements")
    assert count > 20


def test_after_a_rollback_and_a_reconnection() -> None:
    work()
    for _ in range(3):
        approved()
        with transaction.atomic():
            [task] = Task.objects.claim("worker")
            transaction.set_rollback(True)
        [again] = Task.objects.claim("worker")
        assert again == task
        again.complete()
    connection.close()
    work()
    assert prepared()


def test_time_zones(connect: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(PREPARING, TIME_ZONE="Asia/Tokyo")
    for zone, hours in (("Asia/Tokyo", 9), ("Asia/Kolkata", 5.5), (None, 0)):
        monkeypatch.setitem(connection.settings_dict, "TIME_ZONE", zone)
        forget_time_zone()
        connection.ensure_timezone()
        work()
        assert prepared()
        approved()
        [task] = Task.objects.claim("worker")
        assert task.started_at.utcoffset() == timedelta(hours=hours)
        assert_same(task)
