"""Prepared statements: used where they are safe, with the same results, and given up where they are not."""

import datetime
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import DataError, ProgrammingError, connection, connections, transaction

from audit import record
from audit.models import PauseQueueEntry, Task
from audit.statements import preparing
from tests.support.factories import assert_same, sql

pytestmark = pytest.mark.django_db(transaction=True)

Options = Callable[..., None]

SOON = timedelta(microseconds=1)


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

    anew()
    yield anew
    connection.close()
    forget_time_zone()


def forget_time_zone() -> None:
    for name in ("timezone", "timezone_name"):
        connections["default"].__dict__.pop(name, None)


def approved(count: int = 1) -> None:
    ids = Task.objects.bulk_request([{"action": "work", "actor": "alice"}] * count)
    Task.objects.filter(pk__in=ids).update(status="approved")


def work(times: int = preparing.PATIENCE + 5) -> None:
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
    work(preparing.PATIENCE + 10)
    found = prepared()
    assert found.keys() == {"UPDATE audit_task AS claimed", "UPDATE audit_task AS task"}
    # PostgreSQL makes five plans for the values before it takes one for all, and takes that only if it looks no dearer.
    assert min(found.values()) > 0, found


def test_a_short_request_prepares_nothing() -> None:
    work(preparing.PATIENCE // 2)
    assert prepared() == {}


def test_what_a_filter_adds_is_not_prepared() -> None:
    approved(preparing.PATIENCE + 5)
    for _ in range(preparing.PATIENCE + 5):
        assert len(Task.objects.filter(action="work").claim("worker")) == 1
    assert prepared() == {}


def test_actions_are_prepared_as_one_statement() -> None:
    approved(preparing.PATIENCE + 5)
    for number in range(preparing.PATIENCE + 5):
        assert len(Task.objects.claim("worker", actions=["work", *map(str, range(number))])) == 1
    assert prepared().keys() == {"UPDATE audit_task AS claimed"}


@pytest.mark.parametrize(
    ("options", "settings"),
    [({"prepare_threshold": None}, {}), ({}, {"DISABLE_SERVER_SIDE_CURSORS": True})],
    ids=["never", "pooler"],
)
def test_the_project_says_no(connect: Options, options: dict[str, Any], settings: dict[str, Any]) -> None:
    connect(options, **settings)
    work()
    assert prepared() == {}


def test_a_pooler_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells the client a process number of its own making."""
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", 1)
    work()
    assert prepared() == {}


def test_the_project_says_yes(connect: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", 1)
    connect({"prepare_threshold": 0}, DISABLE_SERVER_SIDE_CURSORS=True)
    work()
    assert prepared()


def test_a_project_that_binds_on_the_server_keeps_its_cursors(connect: Options) -> None:
    connect({"server_side_binding": True})
    work()
    assert prepared() == {}


def test_with_debug_the_log_shows_what_was_run(settings: Any) -> None:
    work()
    settings.DEBUG = True
    approved()
    [task] = Task.objects.claim("worker-7")
    assert "worker-7" in connection.queries[-1]["sql"]
    assert str(task.claimed_by) == "worker-7"


def test_every_verb_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server finds out the types of all parameters, and each instance equals its row."""
    monkeypatch.setattr(preparing, "PATIENCE", 0)
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


def test_wrappers_see_the_statement_and_errors_are_djangos() -> None:
    work()
    seen = []

    def see(execute: Any, statement: str, params: Any, many: bool, context: Any) -> Any:
        seen.append(params)
        return execute(statement, params, many, context)

    approved()
    with connection.execute_wrapper(see):
        [task] = Task.objects.claim("worker-7")
    assert seen == [["worker-7", task.claim_token, timedelta(seconds=60), "worker-7"]]
    assert preparing._sessions[connections["default"]].prepares
    for _ in range(3):
        with pytest.raises(DataError):
            preparing.run("default", "SELECT 1 / %s::int", [0], prepare=True)
    work(2)


def test_a_session_that_forgot_goes_on_without() -> None:
    work()
    sql("DEALLOCATE ALL")
    work()
    assert prepared() == {}
    assert preparing._sessions[connections["default"]].prepares is False


def test_in_a_transaction_a_session_that_forgot_says_so_once() -> None:
    work()
    approved()
    sql("DEALLOCATE ALL")
    with pytest.raises(ProgrammingError), transaction.atomic():
        Task.objects.claim("worker")
    with transaction.atomic():
        assert len(Task.objects.claim("worker")) == 1


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
    connect(TIME_ZONE="Asia/Tokyo")
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


def test_what_is_large_or_many_is_not_held() -> None:
    work()
    kept = preparing._sessions[connections["default"]].kept
    count = len(kept)
    approved(5)
    Task.objects.claim("worker", limit=4)
    [task] = Task.objects.claim("worker")
    task.log("step", output_summary="x" * 20_000)
    assert len(kept) == count
    for number in range(100):
        preparing.run("default", f"SELECT {number}", [], prepare=True)
    assert len(kept) == preparing._KEPT
