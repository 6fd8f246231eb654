"""`audit_resume --loop` that is killed in the middle of a pass: nothing is lost, and nothing is resumed twice."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection

from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.pausing import PauseManager
from audit.status import PauseReason
from tests.support.agents import due_now
from tests.support.factories import sql
from tests.support.holding import OTHERS, held, is_held
from tests.support.preloaded import Popen
from tests.support.worker import approved, eventually, run_all

pytestmark = pytest.mark.django_db(transaction=True)

_EACH = 5


@contextlib.contextmanager
def _resumer() -> Iterator[Popen]:
    database = json.dumps({"NAME": connection.settings_dict["NAME"]})
    command = [sys.executable, "-m", "tests.support.managing", database, "audit_resume", "--loop", "--interval", "1"]
    process = Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _kill(process: Popen) -> None:
    process.kill()
    process.wait()
    assert process.stdout.read() == b"", "it has learnt what became of the pass"


def _paused(reason: PauseReason) -> list[Task]:
    tasks = [approved("echo") for _ in range(_EACH)]
    for task in tasks:
        task.pause(reason=reason, resume_after=timedelta(hours=1))
    return tasks


def _resumed(tasks: list[Task]) -> list[int]:
    """How often the log says of each that it went on."""
    moves = ExecutionLog.objects.filter(kind="transition", from_status="paused", to_status="approved")
    return [moves.filter(task=task).count() for task in tasks]


@pytest.mark.parametrize("at_commit", [False, True], ids=["before the commit", "at the commit"])
@pytest.mark.parametrize("reason", [PauseReason.MANUAL_PAUSE, PauseReason.INSUFFICIENT_CAPACITY])
def test_killed_in_the_middle_of_a_pass(reason: PauseReason, at_commit: bool) -> None:
    tasks = _paused(reason)
    with _resumer() as first:
        with held("approved", at_commit=at_commit):
            due_now()
            eventually(is_held)
            _kill(first)
            assert _resumed(tasks) == [0] * _EACH
            if reason == PauseReason.INSUFFICIENT_CAPACITY:
                # The pass of the dead one is not over at the server, so nobody else begins one.
                assert PauseManager().resume_due() == []
        eventually(lambda: sql(f"SELECT count(*) {OTHERS}") == [(0,)], "the session of the dead one ends")
    # Work for which there is capacity is resumed in a transaction of several statements, which ends with its session.
    undone = reason == PauseReason.INSUFFICIENT_CAPACITY and not at_commit
    assert _resumed(tasks) == [0 if undone else 1] * _EACH
    assert PauseQueueEntry.objects.count() == (_EACH if undone else 0)
    with _resumer() as second:
        eventually(lambda: _resumed(tasks) == [1] * _EACH)
        assert second.poll() is None
    assert PauseManager().resume_due() == []
    run_all("--concurrency", "1")
    for task in tasks:
        task.refresh_from_db()
        assert (task.status, task.attempt) == ("completed", 1)
    assert _resumed(tasks) == [1] * _EACH
