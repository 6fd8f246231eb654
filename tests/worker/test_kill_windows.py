"""Workers that are killed in the windows about the end of their work, with what the handler did outside as witness."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from audit.models import ExecutionLog, Task
from tests.support.holding import held, is_held
from tests.support.proxy import network
from tests.support.worker import approved, eventually, logged, worker

pytestmark = pytest.mark.django_db(transaction=True)

_ONE = ("--concurrency", "1")


def _now(task: Task) -> Task:
    task.refresh_from_db()
    return task


def _count(task: Task, **conditions: str) -> int:
    return ExecutionLog.objects.filter(task=task, **conditions).count()


def test_killed_between_the_end_of_its_handler_and_the_storing_of_it(tmp_path: Path) -> None:
    ended, effects = tmp_path / "ended", tmp_path / "effects"
    task = approved("effect", {"file": str(effects), "way": "end"})
    with worker(*_ONE, "--name", "gone", variables={"AUDIT_WORKER_GATE_END": str(ended)}) as gone:
        eventually(ended.exists)
        gone.process.kill()
        gone.process.wait()
    assert (_now(task).status, effects.read_text()) == ("executing", f"{task.pk}:1\n")
    Task.objects.filter(pk=task.pk).update(lease_expires_at=task.created_at)
    with worker(*_ONE):
        eventually(lambda: _now(task).status == "completed")
    # It was done twice, and the log says so.
    assert effects.read_text() == f"{task.pk}:1\n{task.pk}:2\n"
    assert (_count(task, to_status="executing"), task.expiries, task.failures) == (2, 1, 0)
    assert ExecutionLog.objects.get(task=task, action="recovery").detail["claimed_by"] == "gone"


@pytest.mark.parametrize(
    ("way", "status", "effects"), [("end", "completed", 1), ("retry", "approved", 2), ("pause", "paused", 2)]
)
def test_killed_between_the_commit_of_its_end_and_the_answer(
    way: str, status: str, effects: int, tmp_path: Path
) -> None:
    file = tmp_path / "effects"
    task = approved("effect", {"file": str(file), "way": way})
    with network() as net, contextlib.ExitStack() as stack:
        with held(status):
            gone = stack.enter_context(worker(*_ONE, "--name", "same", database=net.settings))
            logged(task, "effect")
            eventually(is_held)
            net.cut()  # the server has it all, and its answer gets no further
        eventually(lambda: _now(task).status == status)
        gone.process.kill()
        gone.process.wait()
        assert not any(said in line for line in gone.lines for said in ("completed", "is tried again", "paused"))
    with worker(*_ONE, "--name", "same") as running:
        later = approved("echo")
        eventually(lambda: _now(task).status == _now(later).status == "completed")
        assert not running.said("Took over")
    assert file.read_text() == "".join(f"{task.pk}:{attempt}\n" for attempt in range(1, effects + 1))
    assert (_count(task, to_status="executing"), task.expiries) == (effects, 0)
    assert (_count(task, to_status=status), _count(task, action="recovery")) == (2 if way == "retry" else 1, 0)
