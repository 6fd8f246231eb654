"""A PostgreSQL server that is killed under a worker, and started again."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.core.management import call_command
from django.db import connections

from audit.models import ExecutionLog, Task
from auditproj.embedded.server import Server
from tests.support.holding import held, is_held
from tests.support.servers import connected, database_settings
from tests.support.worker import eventually, worker

_ALIAS = "killed"
_CUTS = ("completed", "executing", "completed")
"""On the way to which status the server is killed."""
_EACH = 12


@pytest.fixture
def server(throwaway_server: Callable[..., Server], django_db_blocker: Any) -> Iterator[Server]:
    """A server of the test's own, with the tables, at the alias `killed`."""
    made = throwaway_server()
    with django_db_blocker.unblock(), connected(made, "audit", _ALIAS):
        call_command("migrate", database=_ALIAS, verbosity=0)
        yield made


def _kill(server: Server) -> None:
    """SIGKILL for the server and all its sessions."""
    postmaster = psutil.Process(server.postmaster_pid())
    processes = [postmaster, *postmaster.children(recursive=True)]
    for each in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    _, left = psutil.wait_procs(processes, timeout=60)
    assert not left
    connections[_ALIAS].close()


def _approved(action: str, plan: Any) -> Task:
    task = Task.objects.using(_ALIAS).request(action, plan=plan, actor="alice")
    task.approve(actor="bob")
    return task


def _count(**conditions: Any) -> int:
    return ExecutionLog.objects.using(_ALIAS).filter(**conditions).count()


def test_a_worker_outlives_the_server_and_does_nothing_twice(server: Server, tmp_path: Path) -> None:
    end, file = tmp_path / "end", tmp_path / "effects"
    waits = _approved("wait", str(end))
    tasks: list[Task] = []
    # What no lease that runs out explains: only a claim whose answer was lost is made again.
    options = ("--concurrency", "2", "--lease", "3600", "--name", "w1")
    with worker(*options, database=database_settings(server)) as running:
        eventually(lambda: _count(task=waits, action="waits"))
        for kill, cut in enumerate(_CUTS, 1):
            seen = _count(action="effect")
            tasks += [_approved("effect", {"file": str(file), "way": "end"}) for _ in range(_EACH)]
            eventually(lambda seen=seen, kill=kill: _count(action="effect") > seen + kill)
            with held(cut, using=_ALIAS):
                # However fast the worker is, there is one that comes to this.
                tasks.append(_approved("effect", {"file": str(file), "way": "end"}))
                eventually(lambda: is_held(_ALIAS))
                _kill(server)  # the server has what the worker wants to store, and never does it
                eventually(lambda kill=kill: sum("The database is away" in line for line in running.lines) >= kill)
                end.touch()  # the work ends while there is no server
                server.ensure()
            eventually(lambda kill=kill: sum("The database is back" in line for line in running.lines) >= kill)
        unfinished = Task.objects.using(_ALIAS).exclude(status="completed")
        eventually(lambda: not unfinished.exists(), "all work is done")
        assert running.process.poll() is None

    effects = Counter(line.split(":")[0] for line in file.read_text().split())
    assert effects == {str(task.pk): 1 for task in tasks}, "work whose end was to be stored ran again"
    for task in (waits, *tasks):
        task.refresh_from_db()
        claims = _count(task=task, to_status="executing")
        assert claims == task.attempt == 1 + _count(task=task, action="recovery")
        assert _count(task=task, to_status="completed") == 1
    assert waits.attempt == 1
