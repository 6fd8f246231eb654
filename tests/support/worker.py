"""Workers for tests: real processes of `manage.py audit_worker`, with the handlers of `tests.support.handling`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.db import connection

from audit.models import ExecutionLog, Task
from tests.support.preloaded import Popen

__all__ = ["WorkerProcess", "approved", "eventually", "logged", "run_all", "worker"]

_PATIENCE = 120.0


class WorkerProcess:
    """A worker process; `lines` are what it has said so far."""

    def __init__(
        self,
        *arguments: str,
        audit: dict[str, Any] | None = None,
        database: dict[str, Any] | None = None,
        ignored: Sequence[int] = (),
        variables: dict[str, str] | None = None,
    ) -> None:
        given = {
            "DJANGO_SETTINGS_MODULE": "tests.support.worker_settings",
            "AUDIT_WORKER_DB": json.dumps({"NAME": connection.settings_dict["NAME"]} | (database or {})),
            "AUDIT_WORKER_AUDIT": json.dumps(audit or {}),
        }
        self.environment = os.environ | given | (variables or {})
        self.process = Popen(
            [sys.executable, "-m", "django", "audit_worker", *arguments],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # Whoever runs the tests under nohup must not decide what these processes ignore.
            ignored=ignored,
            forks=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            del self.lines[:-500]

    def said(self, text: str) -> bool:
        """Whether a line holds this text."""
        return any(text in line for line in self.lines)

    def send(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end; returns the exit code."""
        try:
            code = self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError("the worker does not end:\n" + "\n".join(self.lines[-40:])) from None
        self._reader.join(10)
        return code

    def children(self) -> list[int]:
        """The process ids of its children, each of which leads a group."""
        command = ["ps", "-o", "pid=,pgid=", "--ppid", str(self.process.pid)]
        out = subprocess.run(command, capture_output=True, text=True, check=False)
        found = (line.split() for line in out.stdout.splitlines())
        return [int(pid) for pid, group in found if pid == group]


@contextlib.contextmanager
def worker(*arguments: str, **options: Any) -> Iterator[WorkerProcess]:
    """A worker that is killed at the end of the block if it has not ended by then."""
    started = WorkerProcess("--poll-interval", "0.2", *arguments, **options)
    try:
        yield started
    except BaseException:
        sys.stderr.write("\n".join(["the worker said:", *started.lines[-60:], ""]))
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.process.kill()
        started.process.wait()
        started._reader.join(10)
        started.process.stderr.close()


def approved(action: str, plan: Any = None, **values: Any) -> Task:
    """A task that may be claimed."""
    task = Task.objects.request(action, plan=plan, actor="alice", **values)
    task.approve(actor="bob")
    return task


def eventually(condition: Callable[[], Any], what: str = "") -> Any:
    """Wait until a condition holds; returns what it returned."""
    began = time.monotonic()
    while not (found := condition()):
        waited = time.monotonic() - began
        assert waited < _PATIENCE, f"in vain: {what or condition}"
        # Most conditions ask the database. Asked 50 times a second, they would slow down what they wait for.
        time.sleep(min(max(waited / 10, 0.02), 0.1))
    return found


def logged(task: Task, action: str) -> ExecutionLog:
    """Wait for a step in the log of a task."""
    return eventually(lambda: ExecutionLog.objects.filter(task=task, action=action).first(), f"the step {action}")


def run_all(*arguments: str, code: int | None = 0, **options: Any) -> WorkerProcess:
    """Run a worker until nothing is left."""
    with worker("--drain", *arguments, **options) as started:
        assert started.wait() == code or code is None, "\n".join(started.lines)
        return started
