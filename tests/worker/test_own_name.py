"""What a dead worker left is taken over by the next one of its name; what a living one works on is not."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from django.conf import LazySettings
from django.db import connection

from audit.models import ExecutionLog, Task
from audit.statements import connections as statements_connections
from audit.worker import own_name
from audit.worker.own_name import QUIET_SECONDS, OwnName
from tests.support.factories import sql
from tests.support.worker import approved, eventually, logged, worker

pytestmark = pytest.mark.django_db(transaction=True)

_QUICK: dict[str, Any] = {"audit": {"AGENT_HEARTBEAT_SECONDS": 1}, "variables": {"AUDIT_WORKER_QUIET": "4"}}
_TOOK_OVER = "Took over 1 that the last worker of this name left."
_HOLDERS = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class _Clock:
    """The monotonic clock of the code under test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.monotonic()
        monkeypatch.setattr(own_name, "time", SimpleNamespace(monotonic=lambda: self.now))

    def goes_on(self) -> None:
        self.now += QUIET_SECONDS


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    return _Clock(monkeypatch)


@pytest.fixture(autouse=True)
def _no_locks_left() -> Iterator[None]:
    yield
    sql("SELECT pg_advisory_unlock_all()")
    eventually(lambda: sql(_HOLDERS) == [])


@contextlib.contextmanager
def _another(name: str) -> Iterator[Any]:
    """A session of another living worker of this name."""
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock_shared(%s)", [OwnName("default", name, set)._key])
            cursor.execute("SELECT pg_backend_pid()")
            [(pid,)] = cursor.fetchall()
        yield other
    finally:
        other.close()
        eventually(lambda: (pid,) not in sql(_HOLDERS))


def _claimed(name: str = "w1", lease: timedelta = timedelta(hours=1)) -> Task:
    approved("deploy")
    [task] = Task.objects.claim(name, 1, lease)
    return task


def _held(name: str = "w1", *tokens: UUID | None) -> OwnName:
    made = OwnName("default", name, lambda: {each for each in tokens if each is not None})
    assert made.hold()
    return made


def test_what_nobody_works_on_is_taken_over_once_it_was_quiet_for_long_enough(clock: _Clock) -> None:
    left, other = _claimed(), _claimed("w2")
    mine = _held()
    assert mine.take_over() == []
    assert mine.next_look(60.0) < QUIET_SECONDS
    clock.now += QUIET_SECONDS - 0.1
    assert mine.take_over() == []
    clock.now += 0.2
    assert mine.take_over() == [left.pk]
    assert mine.next_look(60.0) == 60.0
    for task, status in ((left, "approved"), (other, "executing")):
        task.refresh_from_db()
        assert task.status == status
    assert ExecutionLog.objects.filter(task=left).order_by("-id").values_list("actor", flat=True)[0] == "audit:recovery"
    clock.goes_on()
    assert mine.take_over() == []


def test_work_that_kills_its_worker_each_time_fails_at_last(clock: _Clock, settings: LazySettings) -> None:
    settings.AUDIT = {"MAX_EXPIRIES": 2}
    left = _claimed()
    mine = _held()
    for status in ("approved", "failed"):
        assert mine.take_over() == []
        clock.goes_on()
        assert mine.take_over() == [left.pk]
        left.refresh_from_db()
        assert left.status == status
        if status == "approved":
            [left] = Task.objects.claim("w1", 1, timedelta(hours=1))
    assert (left.expiries, left.outcome["error_type"]) == (2, "WorkerRestarted")


def test_a_session_that_lingers_is_waited_for(clock: _Clock) -> None:
    left = _claimed()
    mine = _held()
    with _another("w1"):
        for _ in range(3):
            assert mine.take_over() == []
            clock.goes_on()
        assert mine.next_look(60.0) == 60.0
    assert mine.take_over() == []
    clock.goes_on()
    assert mine.take_over() == [left.pk]


def test_a_worker_that_is_back_in_time_keeps_its_work(clock: _Clock) -> None:
    _claimed()
    mine = _held()
    assert mine.take_over() == []
    with _another("w1"):
        clock.goes_on()
        assert mine.take_over() == []
    assert mine.take_over() == []


def test_a_worker_that_is_back_at_the_last_moment_keeps_its_work(
    clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    _claimed()
    mine = _held()
    assert mine.take_over() == []
    clock.goes_on()
    look = mine._left
    with contextlib.ExitStack() as stack:

        def back() -> Any:
            found = look()
            stack.enter_context(_another("w1"))
            return found

        monkeypatch.setattr(mine, "_left", back)
        assert mine.take_over() == []


def test_a_sign_of_life_keeps_the_work(clock: _Clock) -> None:
    left = _claimed()
    mine = _held()
    for _ in range(3):
        assert mine.take_over() == []
        left.heartbeat(lease=timedelta(hours=2))
        clock.goes_on()
    assert mine.take_over() == []
    clock.goes_on()
    assert mine.take_over() == [left.pk]


def test_a_new_claim_of_the_same_task_is_another_one(clock: _Clock) -> None:
    left = _claimed()
    mine = _held()
    assert mine.take_over() == []
    left.release()
    [again] = Task.objects.claim("w1", 1, timedelta(hours=1))
    clock.goes_on()
    assert mine.take_over() == []
    again.refresh_from_db()
    assert again.status == "executing"


def test_own_work_is_not_taken(clock: _Clock) -> None:
    task = _claimed()
    mine = _held("w1", task.claim_token)
    assert mine.take_over() == []
    clock.goes_on()
    assert mine.take_over() == []


def test_a_new_session_begins_anew(clock: _Clock) -> None:
    left = _claimed()
    mine = _held()
    assert mine.take_over() == []
    clock.goes_on()
    connection.close()
    # The session that held the lock is gone, so this one says nothing.
    assert mine.take_over() == []
    assert mine.hold()
    assert mine.take_over() == []
    clock.goes_on()
    assert mine.take_over() == [left.pk]


def test_behind_a_pooler_leases_decide(clock: _Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    _claimed()
    # The number that the client was given is not the server's.
    lent = SimpleNamespace(info=SimpleNamespace(backend_pid=connection.connection.info.backend_pid + 1))
    behind = SimpleNamespace(connection=lent, cursor=connection.cursor)
    monkeypatch.setattr(statements_connections, "connections", {"default": behind})
    mine = OwnName("default", "w1", set)
    assert not mine.hold()
    assert mine.take_over() == []
    clock.goes_on()
    assert mine.take_over() == []
    assert sql(_HOLDERS) == []


def test_a_restart_under_the_same_name_takes_over(tmp_path: Path) -> None:
    task = approved("wait", str(tmp_path / "end"))
    with worker("--concurrency", "1", "--lease", "3600", "--name", "same") as running:
        logged(task, "waits")
        running.process.kill()
        running.process.wait()
    (tmp_path / "end").touch()
    # With the waits that it has everywhere else.
    with worker("--concurrency", "1", "--lease", "3600", "--name", "same") as running:
        eventually(lambda: _now(task).status == "completed")
        eventually(lambda: running.said(_TOOK_OVER))
    assert (task.attempt, task.failures, task.expiries) == (2, 0, 1)


def test_a_killed_worker_whose_session_lingers_is_taken_over_when_that_ends(tmp_path: Path) -> None:
    task = approved("wait", str(tmp_path / "end"))
    with worker("--concurrency", "1", "--lease", "3600", "--name", "same") as running:
        logged(task, "waits")
        running.process.kill()
        running.process.wait()
    other = approved("echo")
    with contextlib.ExitStack() as lingering:
        lingering.enter_context(_another("same"))  # as the server keeps the session of a machine that is off
        with worker("--concurrency", "1", "--lease", "3600", "--name", "same", **_QUICK) as running:
            eventually(lambda: _now(other).status == "completed")
            assert not running.said("Took over")
            assert _now(task).attempt == 1
            lingering.close()
            (tmp_path / "end").touch()
            eventually(lambda: _now(task).status == "completed")
            eventually(lambda: running.said(_TOOK_OVER))
    assert task.attempt == 2


@pytest.mark.slow
def test_an_end_that_the_database_refuses_is_nothing_that_another_worker_left() -> None:
    task = approved("echo")
    sql(
        "CREATE FUNCTION zz_refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'not today'; END $$;"
        " CREATE TRIGGER zz_refuse BEFORE UPDATE ON audit_task FOR EACH ROW"
        " WHEN (OLD.status = 'executing' AND NEW.status IN ('completed', 'failed')) EXECUTE FUNCTION zz_refuse()"
    )
    try:
        with worker("--concurrency", "1", "--lease", "12", "--name", "same", **_QUICK) as running:
            eventually(lambda: running.said("its end could not be stored, and its lease runs out: not today"))
            sql("DROP FUNCTION zz_refuse() CASCADE")
            eventually(lambda: _now(task).status == "completed")
            assert not running.said("Took over")
    finally:
        sql("DROP FUNCTION IF EXISTS zz_refuse() CASCADE")
    assert (task.attempt, task.expiries) == (2, 1)
    refused = ExecutionLog.objects.get(task=task, detail__error_type="NotStored")
    assert (refused.actor, refused.attempt) == ("same", 1)
    assert refused.output_summary.startswith("The work ended (complete), and that could not be stored: not today")
    assert " ran out at " in ExecutionLog.objects.get(task=task, action="recovery").output_summary


def test_three_workers_of_one_name(tmp_path: Path) -> None:
    ends = [tmp_path / str(number) for number in range(3)]
    options = ("--concurrency", "1", "--lease", "3600", "--name", "same", "--actions")
    first, second = approved("wait", str(ends[0])), approved("heed")
    with worker(*options, "wait", **_QUICK) as one:
        logged(first, "waits")
        with worker(*options, "heed", **_QUICK) as two:
            logged(second, "waits")
            third = approved("echo")
            with worker(*options, "echo", **_QUICK) as three:
                eventually(lambda: _now(third).status == "completed")
                one.process.kill()
                one.process.wait()
                # Two did not have the name alone when it began, and three does not have it now.
                late = sql("SELECT statement_timestamp() + interval '8 seconds'")[0][0]
                eventually(lambda: sql("SELECT statement_timestamp() > %s", [late]) == [(True,)])
                assert not any(each.said("Took over") for each in (two, three))
                assert [_now(each).status for each in (first, second)] == ["executing", "executing"]
            # Now two is alone, and takes what one left; its own it leaves alone.
            eventually(lambda: two.said(_TOOK_OVER))
            assert [_now(each).status for each in (first, second)] == ["approved", "executing"]
            assert not two.said("lost")
    assert second.attempt == 1


def test_a_living_worker_whose_session_is_cut_keeps_its_work(tmp_path: Path) -> None:
    tasks = [approved("wait", str(tmp_path / "end")) for _ in range(2)]
    options = ("--concurrency", "1", "--lease", "3600", "--name", "same")
    with worker(*options) as one, worker(*options) as two:
        for task in tasks:
            logged(task, "waits")
        before = {pid for (pid,) in sql(_HOLDERS)}
        assert len(before) == 2
        sql("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", [list(before)])
        back = eventually(lambda: len(now := {pid for (pid,) in sql(_HOLDERS)} - before) == 2 and now)
        assert not back & before
        (tmp_path / "end").touch()
        for task in tasks:
            eventually(lambda task=task: _now(task).status == "completed")
            assert task.attempt == 1
        assert not any(each.said("Took over") or each.said("lost") for each in (one, two))


def _now(task: Task) -> Task:
    task.refresh_from_db()
    return task
