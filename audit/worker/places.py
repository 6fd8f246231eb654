"""Where handlers run: starts them, watches them, ends those whose time is over, and replaces children.

All of it happens in the worker's own thread, and nothing of it waits.
"""

from __future__ import annotations

import copy
import selectors
import time
from collections.abc import Callable
from typing import Any

from audit import conf
from audit.exceptions import AuditError
from audit.worker.attempt import Attempt, Give, died, end_to_store, taken_apart
from audit.worker.children import Child, Death
from audit.worker.ending import End
from audit.worker.handlers import Handler, Handlers
from audit.worker.in_process import EventLoop, InProcessChannel, Threads
from audit.worker.run import Run
from audit.worker.store import Claimed

__all__ = ["Places"]

KILL_AFTER_SECONDS = 5.0
"""How long a handler that is ended has to end in good order."""
_SAMPLE_SECONDS = 1.0
_IDLE_SECONDS = 5.0
"""Seconds between two looks at idle children. The end of one shows on its connection at once."""
_START_AGAIN_SECONDS = (0.0, 1.0, 2.0, 5.0)


class Places:
    """The places where handlers run.

    Args:
        worker: its name.
        handlers: what may run, by action.
        concurrency: how many at once.
        give: has a verb of a run carried out; called in any thread.
        deliver: takes what is to be called in the worker's own thread.
        ended: called with an attempt, its end, and the child whose output belongs to it.
        say: takes lines for the person.
    """

    def __init__(
        self,
        worker: str,
        handlers: Handlers,
        concurrency: int,
        *,
        give: Give,
        deliver: Callable[[Callable[[], None]], None],
        ended: Callable[[Attempt, End, Child | None], None],
        say: Callable[[str], None],
    ) -> None:
        self._worker = worker
        self._handlers = handlers
        self._give = give
        self._deliver = deliver
        self._ended = ended
        self._say = say
        self._concurrency = concurrency
        self._wanted = concurrency if any(handler.isolation == "process" for handler in handlers.values()) else 0
        self.attempts: list[Attempt] = []
        self.children: list[Child] = []
        self._busy: dict[Child, Attempt] = {}
        self.selector = selectors.DefaultSelector()
        self._failed_starts = 0
        self._start_at = 0.0
        self._sample_at = 0.0
        self._loop: EventLoop | None = None
        self._threads: Threads | None = None

    @property
    def free(self) -> int:
        """How many more can run now."""
        free = self._concurrency - len(self.attempts)
        return min(free, len(self._idle())) if self._wanted else free

    def _idle(self) -> list[Child]:
        return [child for child in self.children if child.ready and not child.retired and child not in self._busy]

    @property
    def is_starting(self) -> bool:
        """Whether a place is not ready yet, because its child is still starting."""
        return self._missing() > 0 or any(not each.ready and not each.retired for each in self.children)

    def can_run(self, handler: Handler) -> bool:
        """Whether there is a place for a task of this handler now."""
        if len(self.attempts) >= self._concurrency:
            return False
        return handler.isolation != "process" or bool(self._idle())

    def _changes(self) -> bool:
        """Whether a child works, starts or ends."""
        return bool(self._busy) or any(child.retired or not child.ready for child in self.children)

    def _watch(self) -> None:
        self._sample_at = min(self._sample_at, time.monotonic() + _SAMPLE_SECONDS)

    def _missing(self) -> int:
        return self._wanted - sum(not child.retired for child in self.children)

    # Starting

    def keep_children(self) -> None:
        """Start the children that are missing.

        Raises:
            AuditError: several in a row ended before they were ready.
        """
        if time.monotonic() < self._start_at:
            return
        while self._missing() > 0:
            child = Child(self._worker)
            self.children.append(child)
            self.selector.register(child.connection, selectors.EVENT_READ, child)
            self._watch()

    def start(self, claimed: Claimed) -> Attempt:
        """Run a task's handler; there must be a place."""
        handler = self._handlers.of(claimed.task)
        attempt = Attempt(claimed=claimed, handler=handler)
        attempt.flags.cancelled = claimed.task.cancel_requested_at is not None
        if handler.timeout is not None:
            attempt.deadline = attempt.started + handler.timeout
        self.attempts.append(attempt)
        if handler.isolation == "process":
            self._start_in_child(attempt)
        else:
            self._start_in_process(attempt)
        return attempt

    def _start_in_child(self, attempt: Attempt) -> None:
        child = self._idle()[0]
        attempt.child = child
        self._busy[child] = attempt
        self._watch()
        try:
            child.run(attempt.claimed.task.action, attempt.claimed.task)
        except OSError:
            child.kill()  # its death ends the attempt
        if attempt.flags.cancelled:
            child.tell("flag", "cancelled")

    def _start_in_process(self, attempt: Attempt) -> None:
        def give(verb: str, arguments: dict[str, Any], then: Callable[[Any, Exception | None], None]) -> None:
            self._give(attempt, verb, arguments, then)

        def ended(end: End) -> None:
            self._deliver(lambda: self._end(attempt, end))

        channel = InProcessChannel(give)
        channel.flags = attempt.flags
        run = Run(copy.copy(attempt.claimed.task), channel)
        if attempt.handler.isolation == "async":
            self._loop = self._loop or EventLoop(self._worker)
            attempt.stop = self._loop.start(attempt.handler, run, ended)
        else:
            self._threads = self._threads or Threads(self._worker)
            attempt.stop = self._threads.start(attempt.handler, run, ended)

    # Watching

    def wakes_at(self, *, starting: bool) -> float:
        """The moment at which it must look again, on the monotonic clock; `starting` says whether children start."""
        moments = [
            each for attempt in self.attempts for each in (attempt.deadline, attempt.kill_at) if each is not None
        ]
        if self.children:
            moments.append(self._sample_at)
        if starting and self._missing() > 0:
            moments.append(self._start_at)
        return min(moments, default=float("inf"))

    def hear(self, child: Child) -> None:
        """Take what a child says."""
        for message in child.reader.read():
            match message:
                case ("ready", cpu):
                    child.ready, child.cpu = True, cpu
                    self._failed_starts = 0
                case ("ask", verb, arguments):
                    self._answer(child, verb, arguments)
                case ("ended", end, resident, cpu):
                    child.resident, child.cpu = resident, cpu
                    self._end_in_child(child, end)
        if child.reader.ended:
            self.selector.unregister(child.connection)
            if not child.retired:
                child.kill()  # it may only have closed what leads here
            self._lose_if_gone(child)

    def _answer(self, child: Child, verb: str, arguments: dict[str, Any]) -> None:
        attempt = self._busy.get(child)
        if attempt is None:
            return

        def then(result: Any, problem: Exception | None) -> None:
            if self._busy.get(child) is attempt:
                child.tell("answer", result, taken_apart(problem))

        self._give(attempt, verb, arguments, lambda result, problem: self._deliver(lambda: then(result, problem)))

    def look(self) -> None:
        """Reap children that ended, and end what has run out of time."""
        now = time.monotonic()
        if now >= self._sample_at:
            self._sample_at = now + (_SAMPLE_SECONDS if self._changes() else _IDLE_SECONDS)
            for child in self._busy:
                child.sample()
            for child in list(self.children):
                if child.retired_at is not None and now - child.retired_at > KILL_AFTER_SECONDS:
                    child.kill()
                self._lose_if_gone(child)
        for attempt in list(self.attempts):
            if attempt.deadline is not None and now >= attempt.deadline and not attempt.why:
                self.stop_attempt(attempt, "timeout")
            if attempt.kill_at is not None and now >= attempt.kill_at:
                attempt.kill_at = None
                self.kill_attempt(attempt)

    def stop_attempt(self, attempt: Attempt, why: str) -> None:
        """End an attempt in good order, and if that takes too long, at once.

        Args:
            attempt: which.
            why: `timeout`, `shutdown` or `lost`.
        """
        if attempt.why or attempt.ended:
            return
        attempt.why = why
        attempt.deadline = None
        attempt.kill_at = time.monotonic() + KILL_AFTER_SECONDS
        name = {"timeout": "timed_out", "lost": "lost"}.get(why, "stopping")
        self.flag(attempt, name)
        if attempt.child is not None:
            attempt.child.stop()
        else:
            attempt.stop()

    def flag(self, attempt: Attempt, name: str) -> None:
        """Let a handler know why it should stop."""
        if not getattr(attempt.flags, name):
            setattr(attempt.flags, name, True)
            if attempt.child is not None:
                attempt.child.tell("flag", name)

    def kill_attempt(self, attempt: Attempt) -> None:
        """End an attempt at once: its process with all it started; in the worker itself it is left to itself."""
        attempt.killed = True
        if attempt.child is not None:
            attempt.child.kill()
        elif not attempt.ended:
            self._end(attempt, End(verb="stopped"))

    def retire(self) -> None:
        """Let every child end in good order."""
        self._wanted = 0
        for child in self.children:
            child.retire()
        self._watch()

    def kill(self) -> None:
        """End every child at once, and wait for them, which takes no longer than the kernel does."""
        for child in self.children:
            child.kill()
        for child in list(self.children):
            while child.reap() is None and not child.gone:
                time.sleep(0.005)
            child.close()
        self.children.clear()
        self.selector.close()

    # Ends

    def _end_in_child(self, child: Child, end: End) -> None:
        attempt = self._busy.get(child)
        if attempt is not None:
            end.resources = child.measured(end.resources)
            self._end(attempt, end)
        settings = conf.settings()
        if (
            end.verb == "stopped"  # it was left somewhere in the middle
            or child.tasks >= settings.WORKER_CHILD_TASKS
            or child.resident > settings.WORKER_CHILD_BYTES
        ):
            child.retire()
            self._watch()

    def _lose_if_gone(self, child: Child) -> None:
        if child not in self.children or (death := child.reap()) is None:
            return
        for message in child.reader.read():  # what it said last
            if message[0] == "ended" and child in self._busy:
                self._end(self._busy[child], message[1])
        self.children.remove(child)
        if not child.reader.ended:
            self.selector.unregister(child.connection)
        attempt = self._busy.get(child)
        if attempt is not None:
            self._end(attempt, died(attempt, death))
        elif not child.tasks and not child.ready and self._wanted:
            self._count_failed_start(child, death)
        child.close()

    def _count_failed_start(self, child: Child, death: Death) -> None:
        said, _ = child.output.take()
        self._failed_starts += 1
        reason = said.strip().splitlines()[-1] if said.strip() else death.describe()[1]
        if self._failed_starts >= len(_START_AGAIN_SECONDS):
            raise AuditError(f"Child processes do not start ({self._failed_starts} times): {reason}")
        wait = _START_AGAIN_SECONDS[self._failed_starts]
        self._start_at = time.monotonic() + wait
        self._say(f"A child process did not start; again in {wait:g} s. {reason}")

    def _end(self, attempt: Attempt, end: End) -> None:
        if attempt in self.attempts and attempt.ended:
            # Stored already; the thread or coroutine has come to its end at last.
            self.attempts.remove(attempt)
            return
        if attempt.ended:
            return
        attempt.ended = True
        attempt.kill_at = attempt.deadline = None
        if attempt.child is not None or not attempt.killed:
            self.attempts.remove(attempt)
        if attempt.child is not None:
            self._busy.pop(attempt.child, None)
        self._ended(attempt, end_to_store(attempt, end), attempt.child)
