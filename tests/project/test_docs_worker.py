"""The whole worker of docs/api.md does what the page says."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from audit.models import ExecutionLog, PauseQueueEntry, Task
from tests.support.documents import PAGES, Place, blocks

pytestmark = pytest.mark.django_db(transaction=True)


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < end, "nothing came of it in five minutes"
        time.sleep(0.05)


@contextmanager
def _worker(folder: Path) -> Iterator[subprocess.Popen[str]]:
    [code] = [
        each.code
        for each in blocks(PAGES["docs/api.md"].read_text(encoding="utf-8"))
        if each.runner == "tests/project/test_docs_worker.py"
    ]
    place = Place("worker.py", folder)
    (folder / "worker.py").write_text(code, encoding="utf-8")
    worker = subprocess.Popen(
        [sys.executable, "worker.py"],
        cwd=folder,
        env=place.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    try:
        yield worker
        worker.send_signal(signal.SIGTERM)
        said, _ = worker.communicate(timeout=300)
        assert worker.returncode == 0, said
    finally:
        worker.kill()
        worker.wait()


def _approved(*steps: list[str]) -> Task:
    task = Task.objects.request("deploy", plan={"steps": list(steps)})
    task.approve()
    return task


def _status(task: Task) -> str:
    task.refresh_from_db()
    return task.status


def test_it_claims_resumes_recovers_and_fails(tmp_path: Path) -> None:
    paused = _approved(["true"], ["true"])
    paused.pause(reason="insufficient_capacity", work_plan={"steps": [["true"]]})
    lost = _approved(["true"])
    [_] = Task.objects.filter(pk=lost.pk).claim(worker="dead", lease=timedelta(microseconds=1))
    plain, bad = _approved(["true"]), _approved(["false"])
    tasks = [paused, lost, plain, bad]
    with _worker(tmp_path):
        _until(lambda: Task.objects.finished().count() == len(tasks))
    assert [_status(each) for each in tasks] == ["completed", "completed", "completed", "failed"]
    assert lost.expiries == 1
    assert bad.outcome["error_type"] == "CalledProcessError"
    steps = ExecutionLog.objects.filter(kind="step")
    assert steps.filter(task=paused).count() == 1, "what remained of it"
    assert steps.filter(task=plain).count() == 1


def test_a_signal_pauses_the_rest_and_another_worker_goes_on(tmp_path: Path) -> None:
    go = tmp_path / "go"
    waiting = ["sh", "-c", f"touch '{tmp_path}/begun'; while [ ! -e '{go}' ]; do sleep 0.05; done"]
    task = _approved(waiting, ["true"])
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with _worker(first) as worker:
        _until((tmp_path / "begun").exists)
        worker.send_signal(signal.SIGTERM)
        go.touch()
        _until(lambda: worker.poll() is not None)
    assert _status(task) == "paused"
    assert PauseQueueEntry.objects.get(task=task).work_plan == {"steps": [["true"]]}
    with _worker(second):
        _until(lambda: _status(task) == "completed")
    assert task.attempt == 2


def test_it_stops_when_it_is_asked_to(tmp_path: Path) -> None:
    task = _approved(["sh", "-c", f"touch '{tmp_path}/begun'; while [ ! -e '{tmp_path}/go' ]; do sleep 0.05; done"], [])
    with _worker(tmp_path):
        _until((tmp_path / "begun").exists)
        Task.objects.get(pk=task.pk).request_cancel()
        (tmp_path / "go").touch()
        _until(lambda: _status(task) == "failed")
    assert task.outcome["output_summary"] == "cancelled"
