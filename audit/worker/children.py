"""Child processes of a worker, as the worker sees them.

Note [How children start]
    Each is a fresh interpreter that sets Django up once and is used for many tasks. It is not forked from the worker,
    which has threads and open connections; nor from a template that has Django set up: what apps start in `ready()`
    (threads, exporters, connections) would be copied in a state that nobody foresaw. And a worker can wait for a child
    of its own, and learn how it died and what it used. The price is a second or so for each start, which a replacement
    spends while others work.

Note [Groups]
    A child leads a process group of its own, so that what its handlers start ends with it, and so that Ctrl-C in a
    terminal reaches the worker alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from django.db import connections

from audit.agents.gpu import memory_of
from audit.worker import messages
from audit.worker.metering import high_water
from audit.worker.output import Output

__all__ = ["Child", "Death"]

_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]);"
    " from audit.worker.child_main import main; main(int(sys.argv[1]))"
)
_SEND_SECONDS = 30.0
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """How a child ended: its exit status, below zero the signal; and what its last task had used by then."""

    code: int
    resources: dict[str, Any]

    def describe(self) -> tuple[str, str, dict[str, Any]]:
        """Return the type of the error, a sentence, and what else the outcome says."""
        if self.code >= 0:
            said = f"The process of the handler ended with exit status {self.code} before the handler did."
            return "ExitStatus", said, {"exit_status": self.code}
        name = _signal_name(-self.code)
        hint = " Perhaps the system was short of memory." if name == "SIGKILL" else ""
        said = f"The process of the handler was killed by {name}.{hint}"
        return "Signal", said, {"signal": name}


class Child:
    """One child process; it starts on construction."""

    def __init__(self, worker: str) -> None:
        """Start it.

        Args:
            worker: the name of the worker.
        """
        ours, theirs = socket.socketpair()
        self.connection = ours
        self.connection.settimeout(_SEND_SECONDS)
        self.reader = messages.Reader(ours)
        self.output = Output()
        with theirs, self.output.given_away() as out:
            flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter and a module of this package
                [
                    sys.executable,
                    *flags,
                    "-c",
                    _CODE,
                    str(theirs.fileno()),
                    json.dumps(sys.path),
                    f"audit_worker {worker}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        self.ready = False
        """Whether it has set Django up."""
        self.tasks = 0
        """How many tasks it has run."""
        self.resident = 0
        """Its resident set after the last one, in bytes."""
        self.cpu = 0.0
        """Seconds of CPU that it and those it waited for had used by then."""
        self.gone = False
        self.retired_at: float | None = None
        """When it was told to end, on the monotonic clock."""
        self._cpu_before = 0.0
        self._started = time.monotonic()
        self._peak = 0
        self._gpu_peak: int | None = None
        with contextlib.suppress(OSError):
            messages.send(ours, ("begin", {"worker": worker, "databases": _databases(), "variables": _variables()}))

    @property
    def pid(self) -> int:
        """Its process id, and that of its group."""
        return self._process.pid

    @property
    def retired(self) -> bool:
        """Whether it is to end, and takes no more tasks."""
        return self.retired_at is not None

    def run(self, action: str, task: Any) -> None:
        """Hand it a task.

        Raises:
            OSError: it is gone, or takes nothing.
        """
        self.tasks += 1
        self._started = time.monotonic()
        self._peak, self._gpu_peak = 0, None
        self._cpu_before = self.cpu
        messages.send(self.connection, ("work", action, task))

    def tell(self, *message: Any) -> None:
        """Send it a message; one that is gone hears nothing."""
        with contextlib.suppress(OSError):
            messages.send(self.connection, message)

    def sample(self) -> None:
        """Look at what it uses now."""
        self._peak = max(self._peak, high_water(self.pid))
        seen = memory_of(self.pid)
        if seen is not None:
            self._gpu_peak = max(self._gpu_peak or 0, seen)

    def measured(self, resources: dict[str, Any] | None) -> dict[str, Any]:
        """Add to what it says it used what only the worker has seen."""
        return (resources or {}) | ({} if self._gpu_peak is None else {"gpu_vram_bytes": self._gpu_peak})

    def stop(self) -> None:
        """End its handler: `Stopped` in the handler, SIGTERM to what the handler has started."""
        self.tell("stop")
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and what it has started at once."""
        self._signal(signal.SIGKILL)

    def retire(self) -> None:
        """Let it end in good order; it is not used again."""
        if self.retired_at is None:
            self.retired_at = time.monotonic()
            self.tell("leave")

    def reap(self) -> Death | None:
        """Return how it ended, once it has; what it had started ends with it."""
        if self.gone:
            return None
        try:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            # Before it is waited for: afterwards the number may be another's.
            self._signal(signal.SIGKILL)
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:
            status, usage = 0, resource.getrusage(resource.RUSAGE_CHILDREN)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self.gone = True
        cpu = max(usage.ru_utime + usage.ru_stime - self._cpu_before, 0.0)
        peak = self._peak or usage.ru_maxrss * _MAXRSS_UNIT
        used = {
            "wall_s": round(time.monotonic() - self._started, 6),
            "cpu_s": round(cpu, 6),
            "peak_rss_bytes": peak,
            "peak_rss_source": "sampled" if self._peak else "at_most",
        }
        return Death(code=self._process.returncode, resources=self.measured(used))

    def close(self) -> None:
        """Close what leads to it, once it is gone."""
        self.connection.close()
        self.output.close()

    def _signal(self, number: int) -> None:
        if not self.gone:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)


def _databases() -> dict[str, Any]:
    """Where the connections of this process lead: a test runner has led them elsewhere than the settings say."""
    return {alias: dict(connections[alias].settings_dict) for alias in connections}


def _variables() -> dict[str, str]:
    # Only in os.environ since Django was set up, where settings.configure() was not used.
    name = os.environ.get("DJANGO_SETTINGS_MODULE")
    return {"DJANGO_SETTINGS_MODULE": name} if name else {}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
