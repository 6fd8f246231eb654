"""The worker: claims approved work, has it run, stores how it ended, and looks after what others left behind."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from types import FrameType

from django.db import connections, router

from audit.leases.arguments import lease_of
from audit.models import Task
from audit.process.signals import SignalHandlers
from audit.values import redaction, validation
from audit.values.terminal import safe
from audit.worker.calls import Calls, StopRequests
from audit.worker.handlers import choose, discover, seconds
from audit.worker.shift import Shift
from audit.worker.summary import Summary, listed

__all__ = ["Summary", "Worker"]

logger = logging.getLogger("audit.worker")


class Worker:
    """Runs handlers until it is told to stop.

    Args:
        name: the worker's name, as it stands in its claims; `host:pid` when left out. If the name stays the same across
            restarts, the next worker of that name can take over what the last one left, before its leases end.
        concurrency: how many tasks run at the same time; the number of CPUs when left out.
        actions: which to run; all that have a handler when left out.
        labels: the labels of this worker; a handler that requires labels runs only where all of them are given.
        batch: how many tasks one query claims; as many as can start when left out. Those that cannot start yet wait in
            the worker, under its lease: quick for short work, unfair to other workers for long work.
        poll_interval: seconds between two queries for work when no notification comes.
        lease: how long a claim lasts after its last heartbeat; `AUDIT["LEASE_SECONDS"]` when left out.
        shutdown_timeout: seconds that work has to finish once the worker is told to stop.
        max_tasks: stop after so many attempts; no limit when left out.
        once: claim once, run that, and stop.
        drain: stop when there is nothing left to claim.
        using: the database alias; the router's choice when left out.
        say: takes lines for the person; they go to the logger `audit.worker` when left out.

    Raises:
        InvalidValue: an argument cannot be.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        concurrency: int | None = None,
        actions: Iterable[str] | None = None,
        labels: Iterable[str] = (),
        batch: int | None = None,
        poll_interval: float = 5.0,
        lease: timedelta | None = None,
        shutdown_timeout: float = 30.0,
        max_tasks: int | None = None,
        once: bool = False,
        drain: bool = False,
        using: str | None = None,
        say: Callable[[str], None] = logger.info,
    ) -> None:
        self.name = validation.label("name", f"{socket.gethostname()}:{os.getpid()}" if name is None else name)
        self.is_named = name is not None
        self.concurrency = validation.whole("concurrency", _cpus() if concurrency is None else concurrency)
        self.actions = None if actions is None else list(actions)
        self.labels = [validation.label("labels", label) for label in labels]
        self.batch = None if batch is None else validation.whole("batch", batch)
        self.poll_interval = seconds("poll_interval", poll_interval)
        self.lease = lease_of(lease)
        self.shutdown_timeout = seconds("shutdown_timeout", shutdown_timeout, lowest=0.0)
        self.max_tasks = None if max_tasks is None else validation.whole("max_tasks", max_tasks)
        self.once = once
        self.drain = drain
        self.using = using or router.db_for_write(Task)
        self.summary = Summary()
        self._tell = say
        self._calls = Calls()
        self._stop_requests = StopRequests()

    # From outside

    def stop(self) -> None:
        """Stop in good order; called twice, at once. May be called from any thread and from a signal handler."""
        self._stop_requests.count += 1
        self._calls.wake()

    def run(self) -> Summary:
        """Work until told to stop, or until what was asked for is done; returns what was done.

        In the main thread SIGTERM, SIGINT and SIGHUP stop it, unless they were ignored (nohup).

        Raises:
            AuditError: there is no handler that could run here, or child processes do not start.
            django.db.Error: the database could not be reached at the start.
        """
        redaction.check()
        handlers, lacking = choose(discover(), self.actions, self.labels)
        for action, labels in lacking.items():
            self._say(f"No {action}: this worker lacks {listed(labels)}.")
        began = time.monotonic()
        if not connections[self.using].in_atomic_block:
            connections[self.using].close()  # it may be one of a pool, and is not used here
        with self._calls, SignalHandlers((signal.SIGTERM, signal.SIGINT, signal.SIGHUP), self._on_signal):
            Shift(self, handlers, self._calls, self._stop_requests, self._say).run()
        self.summary.seconds = time.monotonic() - began
        self._say(f"Stopped: {self.summary}.")
        return self.summary

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop_requests.signal = number
        self.stop()

    def _say(self, line: str) -> None:
        self._tell(safe(redaction.redact_text(line)))


def _cpus() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
