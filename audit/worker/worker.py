"""The worker: claims approved work, has it run, stores how it ended, and looks after what others left behind.

Note [Threads of a worker]
    The worker's own thread keeps time and never waits for the database: the clerk does (`clerk`). The keeper of leases
    (`audit.leases.keeper`) prolongs them from a thread and a connection of its own, so that neither blocking work nor a
    busy clerk loses one. The listener (`wakeup`) hears of new work.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from types import FrameType
from typing import Any

from django.db import connections, router

from audit import conf
from audit.leases.arguments import lease_of
from audit.models import Task
from audit.pausing import CapacityVerdict
from audit.process.signals import SignalHandlers
from audit.values import redaction, validation
from audit.values.terminal import safe
from audit.worker.books import GONE, Books, Claimed
from audit.worker.children import Child
from audit.worker.clerk import Clerk, is_away
from audit.worker.ending import End
from audit.worker.floor import Floor, Job
from audit.worker.handlers import choose, discover, seconds
from audit.worker.inbox import Inbox
from audit.worker.upkeep import OwnName, Upkeep
from audit.worker.wakeup import Listener

__all__ = ["Summary", "Worker"]

logger = logging.getLogger("audit.worker")

_STORE_SECONDS = 10.0
"""How long a worker that stops waits for the database to take what is left to store."""
_AT_ONCE_SECONDS = 5.0
_LONGEST_RECOVERY_SECONDS = 30.0
_TRIES_TO_BEGIN = 5


@dataclass(slots=True)
class Summary:
    """What a worker did: how many attempts ended in each way, by word."""

    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    interrupted: int = 0
    """The signal that stopped it at once; 0 when it stopped in good order."""

    @property
    def ended(self) -> int:
        """How many attempts ended."""
        return sum(self.counts.values())

    def __str__(self) -> str:
        counted = ", ".join(f"{number} {word}" for word, number in self.counts.most_common())
        return f"{counted or 'nothing ran'} in {self.seconds:.0f} s"


class Worker:
    """Runs handlers until it is told to stop.

    Args:
        name: whose claims they are; `host:pid` when left out. A name that stays the same across restarts lets the next
            worker of it take over at once what the last one left.
        concurrency: how many tasks at once; the number of CPUs when left out.
        actions: which to run; all that have a handler when left out.
        labels: what this worker offers to handlers that ask for it.
        batch: how many to claim at a time; as many as there are free places when left out. More than that wait in the
            worker, under its lease: quick for short work, unfair to other workers for long work.
        poll_interval: seconds between two looks for work when nothing wakes it.
        lease: how long a claim lasts without a sign of life; `AUDIT["LEASE_SECONDS"]` when left out.
        shutdown_timeout: seconds that work has to finish once the worker is told to stop.
        max_tasks: stop after so many attempts.
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
        self.concurrency = validation.whole("concurrency", _cpus() if concurrency is None else concurrency)
        self.actions = None if actions is None else list(actions)
        self.labels = [validation.label("labels", each) for each in labels]
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
        self._inbox = Inbox()
        self._stops = 0
        self._signal = 0

    # From outside

    def stop(self) -> None:
        """Stop in good order; called twice, at once. May be called from any thread and from a signal handler."""
        self._stops += 1
        self._inbox.wake()

    def run(self) -> Summary:
        """Work until told to stop, or until what was asked for is done; returns what was done.

        In the main thread SIGTERM, SIGINT and SIGHUP stop it, unless they were ignored (nohup).

        Raises:
            AuditError: there is no handler that could run here, or child processes do not start.
            django.db.Error: the database could not be reached at the start.
        """
        redaction.check()
        self._handlers, lacking = choose(discover(), self.actions, self.labels)
        for action, labels in lacking.items():
            self._say(f"No {action}: this worker lacks {_listed(labels)}.")
        began = time.monotonic()
        if not connections[self.using].in_atomic_block:
            connections[self.using].close()  # it may be one of a pool, and is not used here
        with self._inbox, SignalHandlers((signal.SIGTERM, signal.SIGINT, signal.SIGHUP), self._on_signal):
            self._open()
            try:
                self._work()
            finally:
                self._close()
        self.summary.seconds = time.monotonic() - began
        self._say(f"Stopped: {self.summary}.")
        return self.summary

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        self.stop()

    # Opening and closing

    def _open(self) -> None:
        self._waiting: deque[Claimed] = deque()
        self._by_claim: dict[Claimed, Job] = {}
        self._storing = 0
        self._claiming = self._claimed_once = self._found_nothing = self._more = False
        self._hungry = True
        self._poll_at = 0.0
        self._stop_at: float | None = None
        self._interrupted = False
        self._books = Books(self.using, self.name, self.lease, on_lost=self._lost, on_cancel=self._cancelled)
        self._upkeep = Upkeep(
            self.using,
            self.name,
            self._handlers,
            self.labels,
            self.concurrency,
            min(self.lease.total_seconds() / 2, _LONGEST_RECOVERY_SECONDS),
        )
        self._upkeep_under_way = 0
        self._clerk = Clerk(self.using, self._inbox.put, self._say)
        self._floor = Floor(
            self.name,
            self._handlers,
            self.concurrency,
            give=self._give,
            deliver=self._inbox.put,
            ended=self._ended,
            say=self._say,
        )
        self._listener = None
        if conf.settings().NOTIFY:
            self._listener = Listener(self.using, self._handlers, lambda: self._inbox.put(self._woken))
        self._begun = False
        own_name = OwnName(self.using, self.name)
        self._begin = partial(self._clerk.give, lambda: self._upkeep.begin(own_name), self._on_begun)
        self._tries = 0
        self._begin()
        # A new session holds none of the locks of the one before.
        self._clerk.connected.append(own_name.take)

    def _on_begun(self, said: str | None, problem: Exception | None) -> None:
        if problem is not None:
            self._tries += 1
            if self._tries >= _TRIES_TO_BEGIN or not is_away(problem):
                raise problem
            self._begin()
            return
        self._begun = True
        places = f"{self.concurrency} at once" if self.concurrency > 1 else "one at a time"
        self._say(f"Worker {self.name} runs {_listed(self._handlers)}, {places}.")
        if said:
            self._say(said)

    def _close(self) -> None:
        if self._listener is not None:
            self._listener.end()
        self._floor.kill()
        for each in (*self._waiting, *self._by_claim):
            self._books.forget(each)
        self._clerk.end(1.0)

    # The loop

    def _work(self) -> None:
        while True:
            self._inbox.run()
            self._floor.look()
            if self._stops or self._is_done():
                self._shut_down()
            if self._stop_at is not None and (self._stops > 1 or self._has_shut_down()):
                break
            if self._stop_at is None:
                self._floor.keep_children()
                self._start_waiting()
                self._claim()
                self._look_after()
            self._wait()
        self._finish()

    def _wait(self) -> None:
        # What cannot be done now must not wake it again and again: whatever makes it possible does.
        moments = [self._floor.wakes_at(starting=self._stop_at is None)]
        if self._stop_at is not None:
            moments.append(time.monotonic() + 1.0 if self._interrupted else self._stop_at)
        else:
            if self._may_claim():
                moments.append(self._poll_at)
            if self._may_look_after():
                moments.append(self._upkeep.wakes_at())
        pause = min(moments) - time.monotonic()
        for child in self._inbox.wait(self._floor.selector, max(min(pause, 60.0), 0.0)):
            self._floor.hear(child)

    def _is_done(self) -> bool:
        """Whether what was asked for is done."""
        if self._stop_at is not None or not self._begun:
            return False
        idle = not self._by_claim and not self._waiting and not self._claiming and not self._storing
        if self.max_tasks is not None and idle and self.summary.ended >= self.max_tasks:
            return True
        if self.once:
            return idle and self._claimed_once
        return self.drain and idle and self._found_nothing

    # Claims

    def _woken(self) -> None:
        self._hungry = True

    def _may_claim(self) -> bool:
        if not self._begun or self._claiming or self._waiting or (self.once and self._claimed_once):
            return False
        return self._floor.free > 0

    def _claim(self) -> None:
        if not self._may_claim():
            return
        if self._upkeep.draining:
            self._found_nothing = self._claimed_once = True
            self._poll_at = time.monotonic() + self.poll_interval
            return
        if not (self._hungry or time.monotonic() >= self._poll_at):
            return
        limit = self._floor.free
        if self.batch is not None:
            limit = self.batch
        if self.max_tasks is not None:
            limit = min(limit, self.max_tasks - self.summary.ended - len(self._by_claim) - self._storing)
            if limit <= 0:
                self._poll_at = time.monotonic() + self.poll_interval
                return
        self._claiming, self._hungry = True, False
        self._clerk.give(
            self._pause_short if self._upkeep.short else lambda: self._claimed(limit),
            self._on_claimed,
        )

    def _claimed(self, limit: int) -> list[Claimed]:
        """Claim, and keep what there is room for; in the clerk's thread."""
        found = self._books.claim(list(self._handlers), limit)
        verdicts: dict[Claimed, CapacityVerdict] = {}
        with contextlib.suppress(Exception):  # then each is asked about by itself, and its error is reported
            verdicts = self._upkeep.verdicts(found)
        fates = [self._fate(each, verdicts.get(each)) for each in found]
        # What was given back would come again at once.
        self._more = len(found) >= limit and "released" not in fates
        self._found_nothing = all(fate == "released" for fate in fates)
        return [each for each, fate in zip(found, fates, strict=True) if fate == "runs"]

    def _fate(self, claimed: Claimed, verdict: CapacityVerdict | None) -> str:
        fate = "runs"
        try:
            fate = self._upkeep.fate(claimed, verdict)
        except GONE:
            self._say(f"{_named(claimed.task)}: its lease was lost before it started.")
            fate = "lost"
        except Exception as error:  # noqa: BLE001 - a gate of the project's own; the work does not wait for its mistakes
            if not is_away(error):
                self._say(f"{_named(claimed.task)}: the capacity gate failed, and it runs: {error!r}")
        if fate != "runs":
            self._books.forget(claimed)
        return fate

    def _pause_short(self) -> list[Claimed]:
        """Claim nothing, and pause what no agent has room for; in the clerk's thread."""
        self._upkeep.pause_short()
        self._more, self._found_nothing = False, True
        return []

    def _on_claimed(self, claimed: Sequence[Claimed] | None, problem: Exception | None) -> None:
        self._claiming = False
        self._poll_at = time.monotonic() + self.poll_interval * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
        if problem is not None:
            self._hungry = self._clerk.away
            if not self._clerk.away:
                self._say(f"The claim was refused: {problem}")
            return
        found = claimed or []
        self._claimed_once = True
        # There may be more; otherwise the next look is in time.
        self._hungry = self._hungry or self._more
        self._waiting.extend(found)
        if self._stop_at is not None:
            self._release_waiting()

    def _start_waiting(self) -> None:
        for claimed in list(self._waiting):
            handler = self._handlers.of(claimed.task)
            if claimed.lost:
                self._waiting.remove(claimed)
            elif self._floor.can_run(handler):
                self._waiting.remove(claimed)
                task = claimed.task
                again = f", attempt {task.attempt}" if task.attempt > 1 else ""
                self._say(f"{_named(task)} started{again}.")
                self._by_claim[claimed] = self._floor.start(claimed)

    # From the keeper's thread

    def _lost(self, claimed: Claimed) -> None:
        def lost() -> None:
            claimed.lost = True
            job = self._by_claim.get(claimed)
            if job is not None:
                self._say(f"{_named(claimed.task)}: its lease is lost; its handler is stopped.")
                self._floor.stop_job(job, "lost")

        self._inbox.put(lost)

    def _cancelled(self, claimed: Claimed) -> None:
        def cancelled() -> None:
            job = self._by_claim.get(claimed)
            if job is not None:
                self._floor.flag(job, "cancelled")

        self._inbox.put(cancelled)

    # What handlers hand in, and how they end

    def _give(
        self, job: Job, verb: str, arguments: dict[str, Any], then: Callable[[Any, Exception | None], None]
    ) -> None:
        self._clerk.give(lambda: self._books.carry_out(job.claimed, verb, arguments), then, keep=True)

    def _ended(self, job: Job, end: End, child: Child | None) -> None:
        claimed = job.claimed
        self._by_claim.pop(claimed, None)
        if child is not None:
            text, seen = child.output.take()
            if seen and end.verb in ("complete", "fail"):
                end.outcome = {**end.outcome, "output": text, "output_bytes": seen}
        took = time.monotonic() - job.started
        if claimed.lost:
            self._books.forget(claimed)
            self._on_stored(claimed, end, took, "lost", None)
            return
        self._storing += 1

        def stored(became: str | None, problem: Exception | None) -> None:
            self._storing -= 1
            self._on_stored(claimed, end, took, became, problem)

        self._clerk.give(lambda: self._books.store(claimed, end, job.handler), stored, keep=True)

    def _on_stored(
        self, claimed: Claimed, end: End, took: float, became: str | None, problem: Exception | None
    ) -> None:
        if problem is not None:
            self._books.forget(claimed)
            became = "lost"
            self._say(f"{_named(claimed.task)}: its end could not be stored: {problem}")
        self.summary.counts[became or "lost"] += 1
        why = ""
        if became in ("failed", "retried"):
            why = "".join(f": {each}" for key in ("error_type", "output_summary") if (each := end.outcome.get(key)))
        elif became == "paused":
            why = _cause(end.arguments)
        word = {"retried": "failed", "released": "given back"}.get(became or "", became)
        more = {"lost": "; nothing of it was stored", "retried": ", and is tried again"}.get(became or "", "")
        self._say(f"{_named(claimed.task)} {word} after {took:.1f} s{more}{why}")

    # Beside the work

    def _may_look_after(self) -> bool:
        return self._begun and not self._upkeep_under_way and not self._clerk.away

    def _look_after(self) -> None:
        if not self._may_look_after():
            return
        for each in self._upkeep.due():
            self._upkeep_under_way += 1
            self._clerk.give(each, self._on_looked_after)

    def _on_looked_after(self, said: str | None, problem: Exception | None) -> None:
        self._upkeep_under_way -= 1
        if problem is not None and not self._clerk.away:
            self._say(f"Upkeep failed: {problem}")
        if said:
            self._hungry = True
            self._say(said)

    # Stopping

    def _shut_down(self) -> None:
        now = time.monotonic()
        if self._stop_at is None:
            self._stop_at = now + self.shutdown_timeout
            running = len(self._by_claim)
            if self._stops:
                waits = f"; {running} at work have {self.shutdown_timeout:g} s to finish" if running else ""
                self._say(f"Stopping{waits}.")
            for job in self._by_claim.values():
                self._floor.flag(job, "stopping")
            self._release_waiting()
        elif now >= self._stop_at and not self._interrupted:
            self._interrupted = True
            for job in list(self._by_claim.values()):
                self._floor.stop_job(job, "shutdown")

    def _release_waiting(self) -> None:
        while self._waiting:
            claimed = self._waiting.popleft()
            self._storing += 1

            def released(became: str | None, problem: Exception | None) -> None:
                self._storing -= 1

            give_back = partial(self._books.store, claimed, End(verb="release"), None)
            self._clerk.give(give_back, released, keep=True)

    def _has_shut_down(self) -> bool:
        if self._by_claim:
            return False
        if not self._storing and not self._claiming:
            return True
        # What the database does not take now, it takes from the lease that runs out.
        over = self._stop_at is not None and time.monotonic() >= self._stop_at + _STORE_SECONDS
        return over and (self._clerk.away or self._claiming)

    def _finish(self) -> None:
        """Store what is left, as far as the database takes it."""
        if self._stops > 1:
            self.summary.interrupted = self._signal or signal.SIGTERM
            for job in list(self._by_claim.values()):
                job.why = job.why or "shutdown"
                self._floor.kill_job(job)
            self._floor.kill()
            for job in list(self._by_claim.values()):
                self._ended(job, End(verb="release"), None)
        self._floor.retire()
        self._clerk.give(self._upkeep.end, lambda result, problem: None)
        self._clerk.end(_AT_ONCE_SECONDS if self._stops > 1 else _STORE_SECONDS)
        self._inbox.run()

    def _say(self, line: str) -> None:
        self._tell(safe(redaction.redact_text(line)))


def _named(task: Task) -> str:
    return f"{task.action} {task.pk}"


def _cause(pause: Mapping[str, Any]) -> str:
    """Say why work was paused: the event that it waits for, or the reason, and the handler's note."""
    event = pause.get("event")
    cause = f"it waits for the event {event!r}" if event else str(pause.get("reason", "")).replace("_", " ")
    return "".join(f": {each}" for each in (cause, pause.get("note")) if each)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _cpus() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
