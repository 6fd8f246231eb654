"""The two workers of the demo, of which one is killed now and then."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from django.db import DatabaseError, connection

from auditproj.audit_handlers import LARGE
from auditproj.demo import tied
from auditproj.embedded.places import make_home

__all__ = ["LEASE_S", "Workers"]

LEASE_S = 15
_NAMES = {"orch-1": (), "orch-2": ("--labels", LARGE)}
_VICTIM = "orch-1"
_FIRST_S = 45.0
_EVERY_S = 240.0
_LOOK_S = 0.5
# Longer than a lease and half of one: the other worker has recovered what was lost.
_AWAY_S = 2.0 * LEASE_S


class Workers:
    """Two processes of `audit_worker`.

    Args:
        home: the directory for their logs.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ended = threading.Event()

    @property
    def logs(self) -> str:
        """Where they write what they do."""
        return str(self._home / "orch-*.log")

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Let them work while the block lasts, and kill one now and then."""
        make_home(self._home)
        for name in _NAMES:
            self._log(name).unlink(missing_ok=True)
            self._start(name)
        killer = threading.Thread(target=self._kill_now_and_then, daemon=True)
        killer.start()
        try:
            yield
        finally:
            self._ended.set()
            killer.join()
            with tied.ending(self._processes.values()):
                pass

    def _log(self, name: str) -> Path:
        return self._home / f"{name}.log"

    def _start(self, name: str) -> None:
        argv = ("audit_worker", "--name", name, "--concurrency", "2", "--lease", str(LEASE_S), *_NAMES[name])
        with self._log(name).open("ab") as output:
            self._processes[name] = tied.started("auditproj.demo.tied", *argv, "--shutdown-timeout", "5", output=output)

    def _kill_now_and_then(self) -> None:
        wait = _FIRST_S
        while not self._ended.wait(wait):
            wait = _LOOK_S
            with contextlib.suppress(DatabaseError):
                if _is_working(_VICTIM):
                    self._kill(_VICTIM)
                    wait = _EVERY_S
            connection.close()

    def _kill(self, name: str) -> None:
        process = self._processes[name]
        process.kill()
        process.wait()
        if process.stdin:
            process.stdin.close()
        if not self._ended.wait(_AWAY_S):
            self._start(name)


def _is_working(name: str) -> bool:
    """Whether a worker is in the middle of something that takes some seconds."""
    from audit.models import Task

    return Task.objects.filter(status="executing", claimed_by=name, action="keep-still").exists()
