"""Claims by real processes that are killed, and a server that is."""

import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psutil
import pytest
from django.core.management import call_command
from django.db import connection, connections

from audit.exceptions import AuditError
from audit.models import ExecutionLog, PauseQueueEntry, Task
from auditproj.embedded.server import Server
from tests.support.preloaded import Popen
from tests.support.servers import database_settings

TASKS = 4_000
WORKERS = 6
KILLS = 24

# Each claim of each task, and what came after it.
_ENDS = """
SELECT started.task_id, started.attempt, ended.to_status, ended.actor
FROM audit_executionlog AS started
LEFT JOIN LATERAL (
    SELECT to_status, actor FROM audit_executionlog AS later
    WHERE later.task_id = started.task_id AND later.kind = 'transition' AND later.id > started.id
    ORDER BY later.id LIMIT 1
) AS ended ON true
WHERE started.kind = 'transition' AND started.to_status = 'executing'
"""


def _worker(name: str) -> Popen:
    command = [sys.executable, "-m", "tests.support.claim_worker", connection.settings_dict["NAME"], name, "1500"]
    return Popen(command)


def _approve(ids: list[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE audit_task SET status = 'approved', actor = 'bob', revision = revision + 1 WHERE id = ANY(%s)",
            [ids],
        )


def _wait_until_it_stands_still(worker: Popen) -> None:
    until = time.monotonic() + 60
    while worker.poll() is None and psutil.Process(worker.pid).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < until
        time.sleep(0.001)


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_killed_workers_lose_and_double_nothing() -> None:
    ids = Task.objects.bulk_request([{"action": "work", "actor": "alice"}] * TASKS)
    waiting = list(ids)
    chance = random.Random(7)
    workers = {f"w{number}": _worker(f"w{number}") for number in range(WORKERS)}
    kills = 0
    deadline = time.monotonic() + 600
    try:
        while any(worker.poll() is None for worker in workers.values()):
            assert time.monotonic() < deadline, f"{Task.objects.live().count()} tasks left, {kills} kills"
            time.sleep(0.05)
            # In portions, of which something is left for each kill: fast workers are not done before the last one.
            if waiting and not Task.objects.filter(status="approved").exists():
                portion = max(len(waiting) // (KILLS - kills + 1), 1)
                _approve(waiting[:portion])
                del waiting[:portion]
            # Those at work: one that still starts, on a busy machine, would lose nothing.
            busy = set(Task.objects.filter(status="executing").values_list("claimed_by", flat=True))
            busy = sorted(name for name in busy & workers.keys() if workers[name].poll() is None)
            if kills < KILLS and busy:
                name = chance.choice(busy)
                # It stands still while the test looks whether a kill would hit a claim.
                workers[name].send_signal(signal.SIGSTOP)
                _wait_until_it_stands_still(workers[name])
                if not Task.objects.filter(status="executing", claimed_by=name).exists():
                    workers[name].send_signal(signal.SIGCONT)
                    continue
                workers[name].kill()
                workers[name].wait()
                del workers[name]
                kills += 1
                workers[f"{name}+"] = _worker(f"{name}+")
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()

    assert kills == KILLS
    assert Task.objects.filter(status="completed").count() == len(ids) == TASKS
    completions = ExecutionLog.objects.filter(kind="transition", to_status="completed")
    assert completions.count() == completions.values("task_id").distinct().count() == TASKS
    with connection.cursor() as cursor:
        cursor.execute(_ENDS)
        ends = cursor.fetchall()
    assert len({(task, attempt) for task, attempt, _, _ in ends}) == len(ends), "an attempt was claimed twice"
    unpaired = [end for end in ends if end[2] not in {"completed", "approved"}]
    assert not unpaired
    expired = [end for end in ends if end[2] == "approved"]
    assert all(actor == "audit:recovery" for *_, actor in expired)
    assert len(expired) >= KILLS, "a kill hit no claim"
    assert len(ends) == TASKS + len(expired)


@pytest.mark.django_db(transaction=True)
def test_recovery_against_completion() -> None:
    """A worker that finishes and a recovery that ends its lease race: exactly one of them wins."""
    won = {"completed": 0, "recovered": 0}
    chance = random.Random(7)
    deadline = time.monotonic() + 300
    while sum(won.values()) < 40 or not all(won.values()):
        assert time.monotonic() < deadline, won
        Task.objects.request("race", actor="alice").approve(actor="bob")
        (task,) = Task.objects.claim(worker="w", lease=timedelta(milliseconds=1))
        time.sleep(0.005)
        lost: list[AuditError] = []
        start = threading.Barrier(2, timeout=120)

        # One of them a little after the other, by as much as a busy machine needs sooner or later.
        ahead = chance.uniform(-1, 1) * 0.005 * 1.02 ** sum(won.values())

        def finish(
            task: Task = task, lost: list[AuditError] = lost, start: threading.Barrier = start, wait: float = -ahead
        ) -> None:
            connection.ensure_connection()  # which takes longer than the race
            start.wait()
            time.sleep(max(wait, 0))
            try:
                task.complete()
            except AuditError as error:
                lost.append(error)
            finally:
                connection.close()

        thread = threading.Thread(target=finish)
        thread.start()
        start.wait()
        time.sleep(max(ahead, 0))
        recovered = Task.objects.recover_expired(max_expiries=1)
        thread.join()
        task = Task.objects.get(pk=task.pk)
        assert len(lost) == len(recovered)
        assert task.status == ("failed" if recovered else "completed")
        ends = ExecutionLog.objects.of(task).filter(kind="transition", from_status="executing")
        assert ends.count() == 1
        won["recovered" if recovered else "completed"] += 1


@pytest.fixture
def unblocked(django_db_blocker: Any) -> Iterator[None]:
    """Databases of the test's own, which Django's test cases know nothing of."""
    with django_db_blocker.unblock():
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("unblocked")
def test_paused_work_survives_an_immediate_stop(throwaway_server: Callable[..., Server]) -> None:
    # Durable, unlike the servers of other tests: what was committed must be there.
    server = throwaway_server(options={"fsync": "on", "full_page_writes": "on"})
    settings = database_settings(server, "postgres")
    connections.databases["crash"] = connections.configure_settings({"default": {}, "crash": settings})["crash"]
    try:
        call_command("migrate", database="crash", verbosity=0)
        tasks = Task.objects.using("crash")
        for number in range(20):
            task = tasks.request("work", plan={"number": number}, actor="alice")
            task.approve(actor="bob")
            task.pause(reason="insufficient_capacity", work_plan={"rest": number}, actor="w")
        connections["crash"].close()
        server.stop("immediate")
        server.ensure()
        entries = PauseQueueEntry.objects.using("crash").claim(worker="w2", limit=50)
        assert sorted(entry.work_plan["rest"] for entry in entries) == list(range(20))
        assert {entry.resume().status for entry in entries} == {"approved"}
        assert len(tasks.claim(worker="w3", limit=50)) == 20
    finally:
        connections["crash"].close()
        del connections["crash"], connections.databases["crash"]
