"""Workers that are killed, cut off, stopped or doubled: nothing is lost, and nothing is done twice unsaid."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.db import connection

from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.recovery import recover
from tests.support.factories import sql
from tests.support.holding import OTHERS, held, is_held, server_session
from tests.support.worker import WorkerProcess, approved, eventually, logged, run_all, worker

pytestmark = pytest.mark.django_db(transaction=True)

_KEPT = "6"  # seconds; a busy machine prolongs it in time


def _now(task: Task) -> Task:
    task.refresh_from_db()
    return task


def _claims(task: Task) -> int:
    return ExecutionLog.objects.filter(task=task, to_status="executing").count()


def _kill(running: WorkerProcess) -> None:
    running.process.kill()
    running.process.wait()


def _let_run_out(task: Task) -> None:
    """End the lease of a worker that is gone or stands still."""
    Task.objects.filter(pk=task.pk).update(lease_expires_at=task.created_at)


def test_killed_while_its_claim_is_committed() -> None:
    """The server finishes the statement of a worker that is gone: executing, for nobody, until the lease runs out."""
    task = approved("echo")
    with held("executing"), worker("--concurrency", "1", "--name", "gone") as running:
        eventually(is_held)
        _kill(running)
    eventually(lambda: _now(task).status == "executing")
    assert task.claimed_by == "gone"
    _let_run_out(task)
    with worker("--concurrency", "1"):
        eventually(lambda: _now(task).status == "completed")
    assert (task.attempt, task.expiries) == (2, 1)


def test_killed_between_the_commit_of_its_claim_and_the_start_of_the_handler(tmp_path: Path) -> None:
    asked, effects = tmp_path / "asked", tmp_path / "effects"
    task = approved("effect", {"file": str(effects), "way": "end"})
    gate = {"CAPACITY_GATE": "tests.support.handling.gates.never_answer"}
    with worker(
        "--concurrency", "1", "--name", "gone", audit=gate, variables={"AUDIT_WORKER_GATE": str(asked)}
    ) as gone:
        eventually(asked.exists)
        # Another session sees it: the claim is committed.
        assert (_now(task).status, task.claimed_by) == ("executing", "gone")
        _kill(gone)
    assert not effects.exists()
    _let_run_out(task)
    with worker("--concurrency", "1"):
        eventually(lambda: _now(task).status == "completed")
    assert effects.read_text() == f"{task.pk}:2\n"
    assert (_claims(task), task.attempt, task.expiries, task.failures) == (2, 2, 1, 0)
    assert ExecutionLog.objects.get(task=task, action="recovery").detail["claimed_by"] == "gone"


def test_killed_in_the_work_and_at_its_end(tmp_path: Path) -> None:
    in_work, at_end = approved("wait", str(tmp_path / "work")), approved("wait", str(tmp_path / "end"))
    with worker("--concurrency", "2", "--lease", "60") as running:
        logged(in_work, "waits")
        logged(at_end, "waits")
        with held("completed"):
            (tmp_path / "end").touch()
            eventually(is_held)
            _kill(running)
    # The server has carried out what it was sent: that work is done, and not done again.
    eventually(lambda: _now(at_end).status == "completed")
    assert _now(in_work).status == "executing"
    _let_run_out(in_work)
    (tmp_path / "work").touch()
    with worker("--concurrency", "1") as running:
        eventually(lambda: _now(in_work).status == "completed")
    assert (_claims(at_end), _claims(in_work), in_work.expiries, in_work.failures) == (1, 2, 1, 0)
    moves = ExecutionLog.objects.filter(task=in_work, kind="transition").order_by("id")
    assert [each.to_status for each in moves][-4:] == ["executing", "approved", "executing", "completed"]


def test_work_that_blocks_keeps_its_lease(tmp_path: Path) -> None:
    task = approved("wait", str(tmp_path / "end"))
    with worker("--concurrency", "1", "--lease", _KEPT) as running:
        logged(task, "waits")
        first_end = _now(task).lease_expires_at
        eventually(lambda: sql("SELECT statement_timestamp() > %s", [first_end]) == [(True,)])
        assert recover().total == 0
        (tmp_path / "end").touch()
        eventually(lambda: _now(task).status == "completed")
        assert not running.said("lost")
    assert (task.attempt, task.expiries) == (1, 0)


def test_a_worker_that_lost_its_lease_stores_nothing(tmp_path: Path) -> None:
    task = approved("wait", str(tmp_path / "end"))
    with worker("--concurrency", "1", "--lease", "15", "--poll-interval", "3600", audit={"NOTIFY": False}) as running:
        child = logged(task, "waits").detail["pid"]
        running.send(signal.SIGSTOP)
        eventually(lambda: psutil.Process(running.process.pid).status() == psutil.STATUS_STOPPED)
        _let_run_out(task)
        eventually(lambda: recover().leases == (task.pk,))
        [taken] = Task.objects.claim("other", actions=["wait"])
        running.send(signal.SIGCONT)
        eventually(lambda: running.said("its lease is lost; its handler is stopped"))
        eventually(lambda: running.said("nothing of it was stored"))
        eventually(lambda: not Path(f"/proc/{child}").exists() or child not in running.children())
        assert _now(task).claimed_by == "other"
        taken.complete({"by": "other"})
    assert _now(task).outcome == {"by": "other", "success": True}


def test_a_database_that_is_away_for_a_while_costs_nothing(tmp_path: Path) -> None:
    task, later = approved("wait", str(tmp_path / "end")), approved("steps")
    name = connection.settings_dict["NAME"]
    with worker("--concurrency", "1") as running:
        logged(task, "waits")
        with server_session("postgres") as server:
            server.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
            sql(f"SELECT pg_terminate_backend(pid) {OTHERS}")
            (tmp_path / "end").touch()
            eventually(lambda: running.said("The database is away"))
            server.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
        eventually(lambda: running.said("The database is back"))
        eventually(lambda: _now(task).status == "completed")
        eventually(lambda: _now(later).status == "completed")
        assert running.process.poll() is None
    assert (task.attempt, task.expiries) == (1, 0)


def test_connections_that_are_cut_again_and_again(tmp_path: Path) -> None:
    """Each cut waits until the worker has got on since the last one: a slow machine gets nowhere between two others."""
    waits = approved("wait", str(tmp_path / "end"))

    def cut() -> int:
        return len(sql(f"SELECT pg_terminate_backend(pid) {OTHERS}"))

    with worker("--concurrency", "2", "--drain") as running:
        logged(waits, "waits")  # so it cannot end before the first cut
        assert cut()
        tasks = [approved("tell") for _ in range(12)]
        unfinished = Task.objects.filter(action="tell").exclude(status="completed")
        while unfinished.exists():
            rows = ExecutionLog.objects.count()
            cut()
            eventually(lambda rows=rows: ExecutionLog.objects.count() > rows or not unfinished.exists())
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.process.wait(0.3)
        (tmp_path / "end").touch()
        assert running.wait() == 0
    for task in tasks:
        assert _now(task).status == "completed"
        assert _claims(task) == task.attempt
        # An answer that was lost may have let the same be written twice, but never less.
        assert ExecutionLog.objects.filter(task=task, action="told").exists()


@pytest.mark.parametrize("hours", [-5, 5])
def test_only_the_clock_of_the_database_counts(hours: int, tmp_path: Path) -> None:
    wrong, task = approved("clock"), approved("wait", str(tmp_path / "end"))
    with worker("--concurrency", "1", "--lease", _KEPT, variables={"AUDIT_WORKER_CLOCK": str(hours * 3600)}) as running:
        logged(task, "waits")
        first_end = _now(task).lease_expires_at
        # Its end may be stored after the next one has begun.
        eventually(lambda: _now(wrong).status == "completed")
        for clock in ("time", "now", "django"):
            off = "SELECT abs(extract(epoch FROM statement_timestamp()) + %s - %s) < 3600"
            assert sql(off, [hours * 3600, _now(wrong).outcome[clock]]) == [(True,)], clock
        near = "SELECT abs(extract(epoch FROM %s::timestamptz - statement_timestamp())) < 3600"
        assert sql(near, [first_end]) == [(True,)]
        eventually(lambda: sql("SELECT statement_timestamp() > %s", [first_end]) == [(True,)])
        assert recover().total == 0
        (tmp_path / "end").touch()
        eventually(lambda: _now(task).status == "completed")
        assert not running.said("lost")


def test_work_that_holds_the_last_connection_of_a_pool_keeps_its_lease(tmp_path: Path) -> None:
    pytest.importorskip("psycopg_pool")
    tasks = [approved("hold", str(tmp_path / "end")) for _ in range(2)]
    pool = {"OPTIONS": {"pool": {"min_size": 1, "max_size": 2, "timeout": 60}}, "CONN_MAX_AGE": 0}
    engine = {"ENGINE": "django.db.backends.postgresql", **_reached()}
    with worker("--concurrency", "2", "--lease", _KEPT, database=engine | pool) as running:
        for task in tasks:
            logged(task, "holds")
        ends = [_now(task).lease_expires_at for task in tasks]
        eventually(lambda: sql("SELECT statement_timestamp() > %s", [max(ends)]) == [(True,)])
        assert recover().total == 0
        (tmp_path / "end").touch()
        eventually(lambda: {_now(task).status for task in tasks} == {"completed"})
        assert not running.said("lost")


def _reached() -> dict[str, Any]:
    parameters = connection.get_connection_params()
    return {
        "HOST": str(parameters.get("host", "")),
        "PORT": str(parameters.get("port", "")),
        "USER": str(parameters.get("user", "")),
        "PASSWORD": str(parameters.get("password", "") or ""),
    }


def test_a_plan_that_changed_goes_back_to_a_person() -> None:
    task = approved("replan", ["a", "b"])
    run_all("--concurrency", "1", audit={"REAPPROVE_CHANGED_PLANS": True})
    assert _now(task).status == "paused"
    entry = PauseQueueEntry.objects.get(task=task)
    assert (entry.reason, entry.held, entry.work_plan) == ("awaiting_approval", True, ["c"])
    entry.resume(actor="carol")
    run_all("--concurrency", "1")
    assert (_now(task).status, task.outcome["result"]) == ("completed", ["c"])
