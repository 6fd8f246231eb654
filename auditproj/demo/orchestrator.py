"""A small live orchestrator: asks for work, decides, claims, runs harmless local commands, pauses and resumes.

Run as `python -m auditproj.demo.orchestrator NAME`; it ends when its standard input does, so that it never outlives
the demo, whatever ends that.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import django
from django.db import DatabaseError, connection
from django.utils.text import Truncator

if TYPE_CHECKING:
    from audit.models import Task

__all__ = ["UNDECIDED", "main"]

# action: (summary, services, commands); all of them read, none of them writes.
_PYTHON = (sys.executable, "-c")
_HASH = "import hashlib, sys; print(hashlib.sha256(open(sys.executable, 'rb').read()).hexdigest())"
_CONNECT = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
_WORK: dict[str, tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]]] = {
    "check-disk": ("Check free disk space", ("backup",), (("df", "-h", "."),)),
    "check-uptime": ("Read load and uptime", ("grafana",), (("uptime",), ("uname", "-a"))),
    "list-processes": ("List running processes", ("edge", "gateway"), (("ps", "-e"),)),
    "compare-clocks": (
        "Compare clocks",
        ("dns",),
        (("date", "-u"), (*_PYTHON, "import time; print(time.time())")),
    ),
    "checksum": ("Checksum the interpreter", ("vault",), ((*_PYTHON, _HASH),)),
    "probe": ("Probe a port that is closed", ("kuma", "gateway"), ((*_PYTHON, _CONNECT),)),
    "wait": ("Wait for a quiet moment", ("ci",), (("sleep", "2"),)),
}
_PAUSE_S = 1.5
UNDECIDED = 8
"""How many requests stay pending, for whoever reads along to decide; older ones are approved by the policy."""


def main(name: str) -> None:
    """Work until standard input ends."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "auditproj.settings")
    django.setup()
    from audit.exceptions import AuditError

    ended = threading.Event()
    threading.Thread(target=_wait_for_end, args=(ended,), daemon=True).start()
    chance = random.Random()  # noqa: S311 - variety, not secrecy
    while not ended.wait(_PAUSE_S * chance.uniform(0.5, 1.5)):
        try:
            _round(name, chance, ended)
        except AuditError as error:  # a person decided first
            print(f"{name}: {error}", file=sys.stderr)  # noqa: T201 - a process of its own
        except DatabaseError as error:
            print(f"{name}: {error}".strip(), file=sys.stderr)  # noqa: T201 - a process of its own
            connection.close()
            time.sleep(_PAUSE_S)
    connection.close()


def _wait_for_end(ended: threading.Event) -> None:
    while sys.stdin.read(1):
        pass
    ended.set()


def _round(name: str, chance: random.Random, ended: threading.Event) -> None:
    from audit.exceptions import IllegalTransition
    from audit.models import PauseQueueEntry, Task

    action = chance.choice(tuple(_WORK))
    summary, services, commands = _WORK[action]
    pending = Task.objects.filter(status="pending", action__in=_WORK).order_by("-created_at")
    if left := pending[UNDECIDED : UNDECIDED + 1]:
        with contextlib.suppress(IllegalTransition):  # the other one was faster
            left[0].approve(actor="policy:demo")
    elif chance.random() < 0.8:
        task = Task.objects.request(
            action,
            summary=summary,
            services=services,
            plan={"commands": [list(command) for command in commands]},
            actor=f"agent-{chance.randint(1, 12):02}",
        )
        decision = chance.random()
        if decision < 0.05:
            task.reject(actor="policy:demo", reason="Enough of these for now.")
        elif decision < 0.93:
            task.approve(actor="policy:demo")
    Task.objects.recover_expired()
    for entry in PauseQueueEntry.objects.claim(worker=name, limit=2):
        entry.resume()
    for task in Task.objects.claim(worker=name, lease=timedelta(seconds=30), actions=_WORK):
        if ended.is_set():
            task.release()
        elif task.attempt == 1 and chance.random() < 0.12:
            task.pause(
                reason="insufficient_capacity",
                work_plan=task.plan,
                resume_after=timedelta(seconds=chance.randint(5, 40)),
                note="Another task has the machine.",
            )
        else:
            _execute(task)


def _execute(task: Task) -> None:
    output = ""
    started = time.monotonic()
    for command in _WORK[task.action][2]:
        begun = time.monotonic()
        status, output = _run(command)
        task.log(
            Truncator(" ".join(command)).chars(80),
            duration_ms=int(1000 * (time.monotonic() - begun)),
            output_summary=output,
            detail={"exit_status": status},
        )
        if status:
            task.fail(
                output.splitlines()[-1] if output else f"exit status {status}",
                outcome={"error_type": "CalledProcessError", "exit_status": status},
                resources={"wall_s": round(time.monotonic() - started, 3)},
            )
            return
    task.complete({"output_summary": output}, resources={"wall_s": round(time.monotonic() - started, 3)})


def _run(command: tuple[str, ...]) -> tuple[int, str]:
    """Run a command of the table above; return its exit status and the end of its output."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
    except OSError as error:
        return 127, str(error)
    return result.returncode, (result.stdout + result.stderr).strip().replace("\0", "")[-400:]


if __name__ == "__main__":
    main(sys.argv[1])
