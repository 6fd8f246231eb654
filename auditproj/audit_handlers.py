"""What the workers of the demo run: harmless local commands, which read and do not write."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.utils.text import Truncator

from audit import handler
from audit.worker import Run

__all__ = [
    "BUILD_S",
    "LARGE",
    "LOOKS",
    "await_build",
    "keep_still",
    "look",
    "probe",
    "reindex",
    "roll_out",
    "start_service",
]

_PYTHON = (sys.executable, "-c")
_HASH = "import hashlib, sys; print(hashlib.sha256(open(sys.executable, 'rb').read()).hexdigest())"

LOOKS: dict[str, tuple[tuple[str, ...], ...]] = {
    "check-disk": (("df", "-h", "."),),
    "check-uptime": (("uptime",), ("uname", "-a")),
    "list-processes": (("ps", "-e"),),
    "compare-clocks": (("date", "-u"), (*_PYTHON, "import time; print(time.time())")),
    "checksum": ((*_PYTHON, _HASH),),
}
"""The commands of each action that only looks. They stand here, not in a plan: nobody can ask for another command."""

LARGE = "large"
"""The label of the worker that has room for large work."""
BUILD_S = 90
"""How long `await-build` waits, in seconds."""
_APPROVAL = timedelta(minutes=15)
_CLOSED_PORT = 9


@handler("check-disk", timeout=60)
@handler("check-uptime", timeout=60)
@handler("list-processes", timeout=60)
@handler("compare-clocks", timeout=60)
@handler("checksum", timeout=60)
def look(run: Run) -> str:
    """Run the commands of an action, each as a step."""
    output = ""
    for command in LOOKS[run.task.action]:
        with run.step(Truncator(" ".join(command)).chars(80)) as step:
            output = step.output_summary = _output(command)
    return output


@handler("keep-still")
def keep_still(run: Run) -> str:
    """Wait for some seconds, and stop early where somebody asks for it."""
    with run.step("sleep"):
        _sleep(run, 8)
    return "It was quiet."


@handler("probe", max_attempts=2, backoff=4)
def probe(run: Run) -> None:
    """Connect to a port that is closed: it is tried twice, and fails."""
    _connect(run, _CLOSED_PORT)


@handler("start-service", max_attempts=3, backoff=4)
def start_service(run: Run) -> str:
    """Wait for a service that is not there at first, so that the second attempt succeeds."""
    if not run.task.failures:
        _connect(run, _CLOSED_PORT)
    with _listening() as port:
        _connect(run, port)
    return "It answers."


@handler("roll-out")
def roll_out(run: Run) -> str:
    """Do the first step, ask a person, and do the rest."""
    steps = list(run.work_plan["steps"])
    if "check the canary" in steps:
        with run.step("check the canary") as step:
            step.output_summary = _output((*_PYTHON, _HASH))
        run.pause(
            reason="awaiting_approval",
            work_plan={**run.work_plan, "steps": steps[steps.index("check the canary") + 1 :]},
            resume_after=_APPROVAL,
            note="The canary is well. Shall the rest follow?",
        )
    for each in steps:
        with run.step(each):
            _sleep(run, 1)
    return "All of it has the new version."


@handler("await-build")
async def await_build(run: Run) -> dict[str, Any]:
    """Wait for an event and use what it brings; some never come."""
    name = f"build-{run.plan['build']}"
    event = await run.aawaited_event()
    if event is None:
        await run.alog("ask for the build", detail={"event": name})
        run.pause(event=name, resume_after=timedelta(seconds=BUILD_S))
    if event.timed_out:
        raise TimeoutError(f"{name} did not end within {BUILD_S} s")
    async with run.step("look at the result") as step:
        await asyncio.sleep(0.5)
        step.output_summary = f"{name}: {event.payload['result']}"
    return {"output_summary": step.output_summary, "build": event.payload}


@handler("reindex", labels=[LARGE])
def reindex(run: Run) -> str:
    """Do work that asks for memory: it is paused while the worker that may do it is short."""
    for part in range(1, 4):
        with run.step(f"part {part} of 3"):
            _sleep(run, 1)
    return "3 parts done"


def _output(command: tuple[str, ...]) -> str:
    """Run a command, and return the end of what it printed."""
    result = subprocess.run(  # noqa: S603 - from the tables of this module
        command, capture_output=True, text=True, errors="replace", check=False
    )
    output = (result.stdout + result.stderr).strip().replace("\0", "")[-400:]
    if result.returncode:
        raise RuntimeError(f"{command[0]} returned exit status {result.returncode}: {output}")
    return output


def _sleep(run: Run, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not run.cancelled:
        time.sleep(0.1)
    if run.cancelled:
        raise InterruptedError("Somebody asked for the end.")


def _connect(run: Run, port: int) -> None:
    with run.step(f"connect to port {port}", detail={"port": port}):
        socket.create_connection(("127.0.0.1", port), 2).close()


@contextlib.contextmanager
def _listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
