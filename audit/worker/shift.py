"""One run of a worker, from its opening to its end: the loop that decides what happens next.

Note [Threads of a worker]
    The worker's own thread keeps time and never waits for the database: the clerk does (`clerk`). The keeper of leases
    (`audit.leases.keeper`) prolongs them from a thread and a connection of its own, so that neither blocking work nor a
    busy clerk loses one. The listener (`audit.leases.wakeup`) hears of new work.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from audit import conf
from audit.leases.wakeup import Listener
from audit.status import Status
from audit.worker.attempt import Attempt
from audit.worker.calls import Calls, StopRequests
from audit.worker.children import Child
from audit.worker.clerk import Clerk, is_away
from audit.worker.ending import End
from audit.worker.handlers import Handlers
from audit.worker.intake import Intake
from audit.worker.places import Places
from audit.worker.store import Claimed, Store
from audit.worker.summary import left, listed, named
from audit.worker.upkeep import Upkeep

if TYPE_CHECKING:
    from audit.worker.worker import Worker

__all__ = ["Shift"]

_STORE_SECONDS = 10.0
"""How long a worker that stops waits for the database to take what is left to store."""
_AT_ONCE_SECONDS = 5.0
_LONGEST_RECOVERY_SECONDS = 30.0
_TRIES_TO_BEGIN = 5
_NOT_BEGUN = "The worker stopped before the work began."
_AT_ONCE = "A second signal stopped the worker at once."


class Shift:
    """One run of a worker.

    Args:
        worker: whose options count, and whose summary it writes.
        handlers: what it runs, by action.
        calls: what wakes it; it must be open.
        stop_requests: what it is asked from outside.
        say: takes lines for the person.
    """

    def __init__(
        self,
        worker: Worker,
        handlers: Handlers,
        calls: Calls,
        stop_requests: StopRequests,
        say: Callable[[str], None],
    ) -> None:
        self._worker = worker
        self._handlers = handlers
        self._calls = calls
        self._stop_requests = stop_requests
        self._say = say
        self._by_claim: dict[Claimed, Attempt] = {}
        """What runs."""
        self._storing = 0
        """How many ends are on their way to the database."""
        self._stop_at: float | None = None
        """Until when work may finish, on the monotonic clock, once the worker stops."""
        self._interrupted = False
        """Whether that time is over, and handlers were ended."""
        self._upkeep_under_way = 0
        self._listener: Listener | None = None

    def run(self) -> None:
        """Open, work until it is to stop or until what was asked for is done, and close."""
        self._open()
        try:
            self._work()
        finally:
            self._close()

    # Opening and closing

    def _open(self) -> None:
        self._store = Store(
            self._worker.using, self._worker.name, self._worker.lease, on_lost=self._lost, on_cancel=self._cancelled
        )
        self._upkeep = Upkeep(
            self._worker.using,
            self._worker.name,
            self._handlers,
            self._worker.labels,
            self._worker.concurrency,
            min(self._worker.lease.total_seconds() / 2, _LONGEST_RECOVERY_SECONDS),
            self._store.tokens,
            is_named=self._worker.is_named,
        )
        self._clerk = Clerk(self._worker.using, self._calls.put, self._say)
        self._places = Places(
            self._worker.name,
            self._handlers,
            self._worker.concurrency,
            give=self._give,
            deliver=self._calls.put,
            ended=self._ended,
            say=self._say,
        )
        self._intake = Intake(
            self._worker,
            self._handlers,
            store=self._store,
            upkeep=self._upkeep,
            clerk=self._clerk,
            places=self._places,
            start=self._start,
            unfinished=lambda: len(self._by_claim) + self._storing,
            say=self._say,
        )
        if conf.settings().NOTIFY:
            self._listener = Listener(
                self._worker.using,
                self._handlers,
                partial(self._calls.put, self._intake.hear),
                name=self._worker.name,
                nudged=partial(self._calls.put, self._nudged),
                pause=self._intake.pace.pause,
            )
        if self._worker.is_named:  # no other worker ever has the name of a process
            # A new session holds none of the locks of the one before.
            self._clerk.connected.append(self._upkeep.own_name.hold)
        self._begin = partial(self._clerk.give, self._upkeep.begin, self._on_begun)
        self._tries = 0
        self._begin()

    def _on_begun(self, said: str | None, problem: Exception | None) -> None:
        if problem is not None:
            self._tries += 1
            if self._tries >= _TRIES_TO_BEGIN or not is_away(problem):
                raise problem
            self._begin()
            return
        self._intake.open = True
        places = f"{self._worker.concurrency} at once" if self._worker.concurrency > 1 else "one at a time"
        self._say(f"Worker {self._worker.name} runs {listed(self._handlers)}, {places}.")
        if said:
            self._say(said)

    def _close(self) -> None:
        if self._listener is not None:
            self._listener.end()
        self._places.kill()
        for each in (*self._intake.waiting, *self._by_claim):
            self._store.forget(each)
        self._clerk.end(1.0)

    # The loop

    def _work(self) -> None:
        while True:
            self._calls.run()
            self._clerk.look()
            self._places.look()
            if self._stop_requests.count or self._is_done():
                self._shut_down()
            if self._stop_at is not None and (self._stop_requests.count > 1 or self._has_shut_down()):
                break
            if self._stop_at is None:
                self._places.keep_children()
                self._intake.start_waiting()
                self._intake.claim()
            # A worker that stops beats on: so it hears that its session was cut, and holds its name again.
            self._look_after(stopping=self._stop_at is not None)
            self._wait()
        self._finish()

    def _wait(self) -> None:
        # What cannot be done now must not wake it again and again: whatever makes it possible does.
        moments = [self._places.wakes_at(starting=self._stop_at is None), self._clerk.gives_up_at()]
        if self._stop_at is not None:
            moments.append(time.monotonic() + 1.0 if self._interrupted else self._stop_at)
        elif self._intake.may_claim():
            moments.append(self._intake.poll_at)
        if self._may_look_after():
            moments.append(self._upkeep.wakes_at(stopping=self._stop_at is not None))
        pause = min(moments) - time.monotonic()
        for child in self._calls.wait(self._places.selector, max(min(pause, 60.0), 0.0)):
            self._places.hear(child)

    def _is_done(self) -> bool:
        """Whether what was asked for is done."""
        if self._stop_at is not None or not self._intake.open:
            return False
        idle = not self._by_claim and not self._intake.waiting and not self._intake.under_way and not self._storing
        if self._worker.max_tasks is not None and idle and self._worker.summary.ended >= self._worker.max_tasks:
            return True
        if self._worker.once:
            return idle and self._intake.claimed_once
        return self._worker.drain and idle and self._intake.found_nothing

    # From the listener's and the keeper's thread

    def _nudged(self) -> None:
        """Ask the database at once what is asked of this worker and of its work."""
        self._upkeep.ask_to_beat()
        for claimed in (*self._intake.waiting, *self._by_claim):
            self._store.ask(claimed)

    def _lost(self, claimed: Claimed) -> None:
        def lost() -> None:
            claimed.lost = True
            attempt = self._by_claim.get(claimed)
            if attempt is not None:
                self._say(f"{named(claimed.task)}: its lease is lost; its handler is stopped.")
                self._places.stop_attempt(attempt, "lost")

        self._calls.put(lost)

    def _cancelled(self, claimed: Claimed) -> None:
        def cancelled() -> None:
            attempt = self._by_claim.get(claimed)
            if attempt is not None:
                self._places.flag(attempt, "cancelled")

        self._calls.put(cancelled)

    # What runs, what it hands in, and how it ends

    def _start(self, claimed: Claimed) -> None:
        task = claimed.task
        again = f", attempt {task.attempt}" if task.attempt > 1 else ""
        self._say(f"{named(task)} started{again}.")
        self._by_claim[claimed] = self._places.start(claimed)

    def _give(
        self, attempt: Attempt, verb: str, arguments: dict[str, Any], then: Callable[[Any, Exception | None], None]
    ) -> None:
        self._clerk.give(lambda: self._store.carry_out(attempt.claimed, verb, arguments), then, keep=True)

    def _ended(self, attempt: Attempt, end: End, child: Child | None) -> None:
        claimed = attempt.claimed
        self._by_claim.pop(claimed, None)
        if child is not None:
            text, seen = child.output.take()
            if seen and end.verb in ("complete", "fail"):
                end.outcome = {**end.outcome, "output": text, "output_bytes": seen}
        took = time.monotonic() - attempt.started
        if claimed.lost:
            self._store.forget(claimed)
            self._on_stored(claimed, end, took, "lost", None)
            return
        self._storing += 1

        def stored(became: str | None, problem: Exception | None) -> None:
            self._storing -= 1
            self._on_stored(claimed, end, took, became, problem)

        self._clerk.give(
            lambda: self._store.save_end(claimed, end, attempt.handler),
            stored,
            keep=True,
            together=self._store.save_completed if end.verb == "complete" else None,
            item=(claimed, end),
        )

    def _on_stored(
        self, claimed: Claimed, end: End, took: float, became: str | None, problem: Exception | None
    ) -> None:
        if problem is not None:
            self._store.abandon(claimed)
            became = "lost"
            self._say(f"{named(claimed.task)}: its end could not be stored, and its lease runs out: {problem}")
        self._worker.summary.counts[became or "lost"] += 1
        if self._worker.drain and became != "released":  # what was given back would come again and again
            self._intake.look_anew()
        why = ""
        if became in ("failed", "retried"):
            why = "".join(f": {each}" for key in ("error_type", "output_summary") if (each := end.outcome.get(key)))
        elif became == "paused":
            why = _cause(end.arguments, came=claimed.task.status == Status.APPROVED)
            if end.arguments.get("resume_after") is not None:
                self._upkeep.ask_for_moments()
        word = {"retried": "failed", "released": "given back"}.get(became or "", became)
        more = {"lost": "; nothing of it was stored", "retried": ", and is tried again"}.get(became or "", "")
        self._say(f"{named(claimed.task)} {word} after {took:.1f} s{more}{why}")

    # Beside the work

    def _may_look_after(self) -> bool:
        return self._intake.open and not self._upkeep_under_way and not self._clerk.away

    def _look_after(self, *, stopping: bool) -> None:
        if not self._may_look_after():
            return
        for each in self._upkeep.due(stopping=stopping):
            self._upkeep_under_way += 1
            self._clerk.give(each, self._on_looked_after)

    def _on_looked_after(self, said: str | None, problem: Exception | None) -> None:
        self._upkeep_under_way -= 1
        if problem is not None and not self._clerk.away:
            self._say(f"Upkeep failed: {problem}")
        if said:
            self._intake.look_at_once()
            self._say(said)

    # Stopping

    def _shut_down(self) -> None:
        now = time.monotonic()
        if self._stop_at is None:
            self._stop_at = now + self._worker.shutdown_timeout
            running = len(self._by_claim)
            if self._stop_requests.count:
                tasks = "1 task has" if running == 1 else f"{running} tasks have"
                waits = f"; {tasks} {self._worker.shutdown_timeout:g} s to finish" if running else ""
                self._say(f"Stopping{waits}.")
            for attempt in self._by_claim.values():
                self._places.flag(attempt, "stopping")
        elif now >= self._stop_at and not self._interrupted:
            self._interrupted = True
            for attempt in list(self._by_claim.values()):
                self._places.stop_attempt(attempt, "shutdown")
        # Also what a claim brings that was under way.
        self._release_waiting()

    def _release_waiting(self) -> None:
        while self._intake.waiting:
            claimed = self._intake.waiting.popleft()
            self._storing += 1

            def released(became: str | None, problem: Exception | None, claimed: Claimed = claimed) -> None:
                self._storing -= 1
                if problem is not None:
                    self._store.abandon(claimed)

            not_begun = End(verb="release", arguments={"reason": _NOT_BEGUN})
            give_back = partial(self._store.save_end, claimed, not_begun, None)
            self._clerk.give(give_back, released, keep=True)

    def _has_shut_down(self) -> bool:
        if self._by_claim:
            return False
        if not self._storing and not self._intake.under_way:
            return True
        # What cannot be stored now is lost: the lease runs out, and recovery gives the task on.
        over = self._stop_at is not None and time.monotonic() >= self._stop_at + _STORE_SECONDS
        return over and (self._clerk.away or self._clerk.waits > _STORE_SECONDS or self._intake.under_way)

    def _finish(self) -> None:
        """Store what is left, as far as the database takes it."""
        if self._stop_requests.count > 1:
            self._worker.summary.interrupted = self._stop_requests.signal or signal.SIGTERM
            for attempt in list(self._by_claim.values()):
                attempt.why = attempt.why or "shutdown"
                self._places.kill_attempt(attempt)
            self._places.kill()
            for attempt in list(self._by_claim.values()):
                self._ended(attempt, End(verb="release", arguments={"reason": _AT_ONCE}), None)
        self._places.retire()
        if self._worker.drain:
            look = partial(left, self._worker.using, list(self._handlers))
            self._clerk.give(look, lambda said, problem: self._say(said) if said else None)
        self._clerk.give(self._upkeep.end, lambda result, problem: None)
        self._clerk.end(_AT_ONCE_SECONDS if self._stop_requests.count > 1 else _STORE_SECONDS)
        self._calls.run()


def _cause(pause: Mapping[str, Any], *, came: bool) -> str:
    """Say why work was paused: the event that it waits for, or the reason, and the handler's note.

    Args:
        pause: the arguments of the pause.
        came: whether the event was there already, so that the work goes on.
    """
    event = pause.get("event")
    cause = f"it waits for the event {event!r}" if event else str(pause.get("reason", "")).replace("_", " ")
    if came:
        cause = f"the event {event!r} is there already, and it goes on"
    return "".join(f": {each}" for each in (cause, pause.get("note")) if each)
