"""Workers among events, snapshots and random kills: every claim has one end, and the log knows of all that was done."""

from __future__ import annotations

import random
import threading
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from django.db import connection, transaction

from audit import emit_event
from audit.models import Event, ExecutionLog, Task
from tests.support.factories import sql
from tests.support.worker import WorkerProcess, approved, eventually, worker

_MANY = 600
pytestmark = pytest.mark.django_db(transaction=True)

_WORKERS = 3
_KILLS = 6
_TASKS = 60


def _now(task: Task) -> Task:
    task.refresh_from_db()
    return task


def _attempts(task: Task) -> int:
    """Check that each claim has one end, and return how many there were."""
    moves = ExecutionLog.objects.filter(task=task, kind="transition").order_by("id")
    states = list(moves.values_list("from_status", "to_status", "attempt"))
    assert all(before[1] == after[0] for before, after in pairwise(states)), states
    claims = [attempt for _, to, attempt in states if to == "executing"]
    ends = [attempt for since, _, attempt in states if since == "executing"]
    assert claims == ends == list(range(1, task.attempt + 1)), states
    return len(claims)


def test_events_at_the_moment_of_the_pause_and_twice() -> None:
    tasks = {f"build-{number}": approved("await-event", f"build-{number}") for number in range(6)}

    def emit(name: str, payload: int) -> None:
        try:
            step = ExecutionLog.objects.filter(task=tasks[name], action="is about to wait")
            eventually(step.exists)
            emit_event(name, payload)
        finally:
            connection.close()

    emitters = [threading.Thread(target=emit, args=(name, payload)) for name in tasks for payload in (1, 2)]
    with worker("--concurrency", "2"):
        for each in emitters:
            each.start()
        for each in emitters:
            each.join()
        eventually(lambda: {_now(task).status for task in tasks.values()} == {"completed"})
    for name, task in tasks.items():
        event = Event.objects.get(name=name)
        assert task.outcome == {"success": True, "name": name, "payload": event.payload, "timed_out": False}
        assert _attempts(task) == 2


def test_a_wait_that_times_out() -> None:
    task = approved("await-briefly", "never")
    with worker("--concurrency", "1"):
        eventually(lambda: _now(task).status == "completed")
    assert task.outcome == {"success": True, "name": "never", "payload": None, "timed_out": True}
    emit_event("never", "too late")
    assert _now(task).outcome["payload"] is None
    assert (_attempts(task), task.failures) == (2, 0)


def test_a_snapshot_that_is_held_holds_nothing_up(tmp_path: Path) -> None:
    file = tmp_path / "effects"
    tasks = [approved("effect", {"file": str(file), "way": way}) for way in ("end", "retry") * 5]
    many = [{"action": "quick", "actor": "alice", "priority": 1 + number % 5} for number in range(_MANY)]
    holding, done = threading.Event(), threading.Event()
    seen: list[int] = []

    def hold() -> None:
        try:
            with transaction.atomic():
                sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                for _ in range(2):
                    seen.append(Task.objects.filter(status="approved", attempt=0).count())
                    holding.set()
                    done.wait()
        finally:
            connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        holding.wait()
        eventually(lambda: seen)
        Task.objects.bulk_request(many)
        sql("UPDATE audit_task SET status = 'approved' WHERE action = 'quick'")
        # Each claim, each look of recovery and each end leaves rows behind that no vacuum may take away.
        with worker("--concurrency", "4", "--batch", "20"):
            eventually(lambda: not Task.objects.exclude(status="completed").exists())
    finally:
        done.set()
        holder.join()
    assert seen == [10, 10]
    assert Task.objects.filter(action="quick", attempt=1, expiries=0).count() == _MANY
    assert [_attempts(_now(task)) for task in tasks] == [1, 2] * 5


@pytest.mark.slow
def test_workers_that_are_killed_at_random_moments(tmp_path: Path) -> None:
    file = tmp_path / "effects"
    file.touch()
    tasks = [
        approved("effect", {"file": str(file), "way": ("end", "pause", "retry")[number % 3]})
        for number in range(_TASKS)
    ]

    def start() -> WorkerProcess:
        arguments = ("--poll-interval", "0.2", "--concurrency", "1", "--lease", "2", "--actions", "effect")
        return WorkerProcess(*arguments, audit={"MAX_EXPIRIES": 1000})

    def is_done() -> bool:
        return not Task.objects.exclude(status="completed").exists()

    workers = [start() for _ in range(_WORKERS)]
    try:
        for _ in range(_KILLS):
            rows = ExecutionLog.objects.count() + random.randrange(8)
            eventually(lambda rows=rows: ExecutionLog.objects.count() >= rows or is_done())
            victim = workers.pop(random.randrange(len(workers)))
            _kill(victim)
            workers.append(start())
        eventually(is_done)
    finally:
        for each in workers:
            _kill(each)
    effects = Counter(file.read_text().split())
    assert set(effects.values()) == {1}
    for task in tasks:
        claims = _attempts(_now(task))
        assert task.failures == (1 if task.plan["way"] == "retry" else 0)
        # An attempt that was killed before its effect has none; one that had an effect was claimed.
        done = sum(key.startswith(f"{task.pk}:") for key in effects)
        assert 1 <= done <= claims
        assert claims == task.expiries + (1 if task.plan["way"] == "end" else 2)


def _kill(running: WorkerProcess) -> None:
    running.process.kill()
    running.process.wait()
    running._reader.join(10)
    running.process.stderr.close()
