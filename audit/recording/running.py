"""Runs a command as recorded work: its output passes through, its signals reach it, its end is stored.

Note [Whose signals]
    The command gets a process group of its own, and the signals that this process receives (`FORWARDED`) go to that
    group. If standard input is a terminal, the command stays in our group: another group could not read from the
    terminal, and Ctrl-C reaches our group anyway.

Note [End of the output]
    The command has ended when its process has. Processes that it started in the background may hold the pipes open.
    We wait `_DRAIN_SECONDS` for their output, and then leave them alone.

Note [Lost output]
    If output cannot be passed on (a full disk, a closed descriptor), the work goes on: we keep reading, keep the end of
    the output, and turn success into `OUTPUT_LOST`. If nobody reads any more (`| head`), we close the pipe, and the
    command gets SIGPIPE as it would without us.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from django.db import Error, connections

from audit import conf
from audit.exceptions import AuditError, InvalidValue
from audit.process.resources import ChildMeter
from audit.process.signals import SignalHandlers
from audit.process.streams import say
from audit.recording.block import ACTOR_VARIABLE, Recording
from audit.recording.pipes import Pipes
from audit.values import redaction
from audit.values.failures import lacking
from audit.values.redaction import redact_command
from audit.values.validation import storable_text

__all__ = [
    "FORWARDED",
    "NOT_EXECUTABLE",
    "NOT_FOUND",
    "OUTPUTS",
    "OUTPUT_LOST",
    "TIMED_OUT",
    "Ended",
    "describe",
    "run",
    "run_recorded",
    "run_unrecorded",
]

logger = logging.getLogger("audit")

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_OF_TERMINAL = (signal.SIGINT, signal.SIGQUIT)

# As programs have it whose own writing fails.
OUTPUT_LOST = 1
# As shells and coreutils' timeout have them.
TIMED_OUT = 124
NOT_EXECUTABLE = 126
NOT_FOUND = 127

_OUTPUTS = {"stdout": "Standard output", "stderr": "Standard error"}
OUTPUTS = tuple(_OUTPUTS)
"""The outputs of a command whose end is kept."""
_DRAIN_SECONDS = 1.0
_KILL_AFTER_SECONDS = 10.0
# Each look comes half as much later than the one before, so that even a short command is seen late in its life.
_FIRST_LOOK_SECONDS = 0.001
_LOOK_FACTOR = 1.5
_LOOK_SECONDS = 1.0
_STORE_AGAIN_AFTER_SECONDS = (1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended: `status` as a shell would say it, and what is stored of it."""

    status: int
    outcome: dict[str, Any]
    resources: dict[str, Any] | None


def describe(argv: Sequence[str]) -> str:
    """Write a command as one would type it, storable and redacted."""
    return redact_command([storable_text(each) for each in argv])


def run_recorded(
    recording: Recording, argv: Sequence[str], *, timeout: float | None = None, keep: Collection[str] = OUTPUTS
) -> int:
    """Run a command as recorded work.

    When the end cannot be stored, not even after some seconds, an error is logged, the task is left to its lease
    (recovery fails it), and the command's exit status counts all the same.

    Args:
        recording: what `audit.record` made; it is begun and ended here.
        argv: the program and its arguments.
        timeout: seconds after which the command is ended, first by SIGTERM.
        keep: the outputs whose end is stored; of the others only how many bytes there were.

    Returns:
        The exit status: the command's own, 128 + n when signal n ended it, `TIMED_OUT`, `NOT_FOUND`,
        `NOT_EXECUTABLE`, or `OUTPUT_LOST` when all went well but for output that could not be passed on.

    Raises:
        InvalidValue: no command, or a timeout that is not positive; nothing was recorded.
        AuditError, django.db.Error: the record could not be begun; nothing was run.
    """
    _check(argv, timeout)
    task = recording.begin()
    using = task._state.db or "default"
    # The command may run for hours, an idle connection may not last that long.
    if not connections[using].in_atomic_block:
        connections[using].close()
    try:
        ended = run(
            argv,
            timeout=timeout,
            environment={"AUDIT_TASK_ID": str(task.pk), ACTOR_VARIABLE: task.requested_by},
            keep=keep,
        )
    except BaseException as error:
        # The lease ends what this cannot; and whoever hears that the record failed would run the command again.
        with contextlib.suppress(Error, AuditError):
            recording.end(error)
        raise
    task.outcome = ended.outcome
    task.resources_used = ended.resources
    try:
        recording.end(failed=ended.status != 0, again_after=_STORE_AGAIN_AFTER_SECONDS)
    except (Error, AuditError) as error:
        logger.error(
            "The end of the recorded command %s could not be stored: %s. Its task fails when its lease runs out.",
            task.pk,
            error,
        )
    return ended.status


def run(
    argv: Sequence[str],
    *,
    timeout: float | None = None,
    environment: dict[str, str] | None = None,
    out: int = 1,
    err: int = 2,
    keep: Collection[str] = OUTPUTS,
) -> Ended:
    """Run a command, pass its output through as it comes, and keep the end of it.

    Args:
        argv: the program and its arguments.
        timeout: seconds after which it is ended.
        environment: variables laid over this process's own.
        out: the file descriptor its standard output goes to.
        err: the file descriptor its standard error goes to.
        keep: the outputs whose end is kept.

    Raises:
        InvalidValue: no command, or a timeout that is not positive.
        AuditError: `AUDIT` says what cannot be, and nothing was run.
    """
    limit = conf.settings().OUTPUT_TAIL_BYTES
    redaction.check()
    ran = _run(argv, timeout, environment, out, err, dict.fromkeys(keep, limit) if limit else {})
    return _ended(argv, ran) if isinstance(ran, _Ran) else _not_started(argv, ran)


def run_unrecorded(argv: Sequence[str], *, timeout: float | None = None) -> int:
    """Run a command and pass its output through, whatever `AUDIT` says; nothing is kept.

    Args:
        argv: the program and its arguments.
        timeout: seconds after which it is ended.

    Returns:
        The exit status, as `run_recorded` returns it.

    Raises:
        InvalidValue: no command, or a timeout that is not positive.
    """
    ran = _run(argv, timeout, None, 1, 2, {})
    return ran.status if isinstance(ran, _Ran) else _status_of(ran)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ran:
    """A command that was run: its exit code, or the signal's number below zero."""

    code: int
    timed_out: float | None
    """After how many seconds it was ended, because they were its time."""
    received: Sequence[str]
    pipes: Pipes
    kept: Collection[str]
    resources: dict[str, Any]

    @property
    def status(self) -> int:
        if self.timed_out:
            return TIMED_OUT
        if not self.code and self.pipes.lost:
            return OUTPUT_LOST
        return self.code if self.code >= 0 else 128 - self.code


def _run(
    argv: Sequence[str],
    timeout: float | None,
    environment: dict[str, str] | None,
    out: int,
    err: int,
    limits: Mapping[str, int],
) -> _Ran | OSError:
    """Run a command and keep so many bytes of each output; an error when it could not be started."""
    _check(argv, timeout)
    apart = not sys.stdin or sys.stdin.closed or not sys.stdin.isatty()
    with _Forwarding(apart) as forwarding:
        meter = ChildMeter()
        try:
            process = subprocess.Popen(  # noqa: S603 - running the caller's command is the purpose
                argv,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=os.environ | (environment or {}),
                process_group=0 if apart else None,
            )
        except OSError as error:
            # The command cannot say it, and a cron job that stays silent looks fine.
            say(err, _problem(argv, error))
            return error
        try:
            meter.started()
            forwarding.to(process.pid)
            with Pipes(process, out, err, limits) as pipes:
                resources, status, timed_out = _wait(process.pid, pipes, meter, forwarding, timeout)
        except BaseException:
            forwarding.send(signal.SIGKILL)
            with process:  # closes what it wrote to
                process.wait()
                raise
        # Popen would wait once more.
        process.returncode = os.waitstatus_to_exitcode(status)
    if timed_out:
        # Its output may end in the middle of work, and an exit status of 124 is seen by few.
        say(err, f"{storable_text(argv[0])}: {_timed_out(timeout)}")
    for name, problem in pipes.lost.items():
        say(err, f"{_OUTPUTS[name]} of the command could not be passed on: {problem}")
    return _Ran(
        code=process.returncode,
        timed_out=timeout if timed_out else None,
        received=forwarding.received,
        pipes=pipes,
        kept=tuple(limits),
        resources=resources,
    )


def _check(argv: Sequence[str], timeout: float | None) -> None:
    if not argv or not argv[0]:
        raise InvalidValue("command", "", "is empty")  # and what follows may be secret
    if timeout is not None and not timeout > 0:
        raise InvalidValue("timeout", timeout, "must be a positive number of seconds")


def _status_of(error: OSError) -> int:
    return NOT_FOUND if error.errno in (errno.ENOENT, errno.ENOTDIR) else NOT_EXECUTABLE


def _problem(argv: Sequence[str], error: OSError) -> str:
    return storable_text(f"{argv[0]}: {error.strerror}")


def _not_started(argv: Sequence[str], error: OSError) -> Ended:
    status = _status_of(error)
    outcome: dict[str, Any] = {
        "success": False,
        "command": describe(argv),
        "exit_status": status,
        "error_type": "CommandNotFound" if status == NOT_FOUND else "CommandNotExecutable",
        "output_summary": _problem(argv, error),
    }
    return Ended(status=status, outcome=outcome, resources=None)


def _ended(argv: Sequence[str], ran: _Ran) -> Ended:
    code, status = ran.code, ran.status
    lost = {name: f"could not be passed on: {problem}" for name, problem in ran.pipes.lost.items()}
    failed = "Signal" if code < 0 else "ExitStatus" if code else "OutputLost" if lost else None
    error_type = "Timeout" if ran.timed_out else failed
    killed_by = _signal_name(-code) if code < 0 else None
    tails = {name: ran.pipes.tail(name) for name in OUTPUTS}
    said = _last_line(tails["stderr"] if status else tails["stdout"]) or _last_line(tails["stdout"])
    if ran.timed_out:
        said = _timed_out(ran.timed_out) + (f": {said}" if said else "")
    if error_type == "OutputLost":
        said = "; ".join(f"{_OUTPUTS[name]} {problem}" for name, problem in lost.items())
    if error_type == "ExitStatus":
        error_type = lacking(said) or error_type
    ended = f"killed by {killed_by}" if killed_by else f"exit status {code}"
    outcome: dict[str, Any] = {
        "success": status == 0,
        "command": describe(argv),
        "exit_status": status,
        "error_type": error_type,
        "output_summary": said or ended,
    }
    if lost:
        outcome["output_lost"] = lost
    if killed_by:
        outcome["signal"] = killed_by
    if ran.received:
        outcome["signals_forwarded"] = list(ran.received)
    for name, tail in tails.items():
        if name in ran.kept:
            outcome[name] = tail
        outcome[f"{name}_bytes"] = ran.pipes.seen(name)
    return Ended(status=status, outcome=outcome, resources=ran.resources)


def _wait(
    pid: int, pipes: Pipes, meter: ChildMeter, forwarding: _Forwarding, timeout: float | None
) -> tuple[dict[str, Any], int, bool]:
    """Pump output until the child has ended and its output has come.

    Returns:
        What it used, its wait status, and whether it ran out of time.
    """
    now = time.monotonic()
    deadline = now + timeout if timeout else None
    timed_out = False
    look = _FIRST_LOOK_SECONDS
    next_look = now
    while True:
        now = time.monotonic()
        if now >= next_look:
            meter.sample(pid, descendants=look >= _LOOK_SECONDS)
            look = min(look * _LOOK_FACTOR, _LOOK_SECONDS)
            next_look = now + look
        if deadline is not None and now >= deadline:
            forwarding.send(signal.SIGKILL if timed_out else signal.SIGTERM)
            timed_out = True
            deadline = now + _KILL_AFTER_SECONDS
        until = next_look if deadline is None else min(next_look, deadline)
        pipes.pump(max(0.0, until - now))
        found, status, rusage = os.wait4(pid, os.WNOHANG)
        if found:
            resources = meter.used(rusage)
            pipes.ignore_end()
            drained = time.monotonic() + _DRAIN_SECONDS
            while pipes.open and time.monotonic() < drained:
                pipes.pump(max(0.0, drained - time.monotonic()))
            return resources, status, timed_out


class _Forwarding(SignalHandlers):
    """Passes signals on to the child while the block lasts."""

    def __init__(self, group: bool) -> None:
        super().__init__(FORWARDED, self._receive)
        self.received: list[str] = []
        self._group = group
        self._pid: int | None = None

    def restore(self) -> None:
        """Let the child be, and signals act as before."""
        self._pid = None
        super().restore()

    def to(self, pid: int) -> None:
        """Name the child; what came before it did is sent to it now."""
        self._pid = pid
        for name in self.received:
            self.send(signal.Signals[name])

    def send(self, number: int) -> None:
        """Send a signal to the child, or its group; one that is gone gets none."""
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                (os.killpg if self._group else os.kill)(self._pid, number)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received.append(_signal_name(number))
        if self._group or number not in _OF_TERMINAL:
            self.send(number)


def _timed_out(seconds: float | None) -> str:
    return f"timed out after {seconds:g} s"


def _last_line(text: str) -> str:
    lines = text.rstrip().splitlines()
    return lines[-1].strip()[:200] if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
