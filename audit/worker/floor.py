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
from audit.worker.books import Claimed
from audit.worker.children import Child, Death
from audit.worker.ending import End
from audit.worker.handlers import Handler, Handlers
from audit.worker.inside import EventLoop, InsideDesk, Threads
from audit.worker.job import Give, Job, died, judged, taken_apart
from audit.worker.run import Run

__all__ = ["Floor"]

KILL_AFTER_SECONDS = 5.0
"""How long a handler that is ended has to end in good order."""
_SAMPLE_SECONDS = 1.0
_START_AGAIN_SECONDS = (0.0, 1.0, 2.0, 5.0)


class Floor:
    """The places where handlers run.

    Args:
        worker: its name.
        handlers: what may run, by action.
        places: how many at once.
        give: has a verb of a run carried out; called in any thread.
        deliver: takes what is to be called in the worker's own thread.
        ended: called with a job, its end, and the child whose output belongs to it.
        say: takes lines for the person.
    """

    def __init__(
        self,
        worker: str,
        handlers: Handlers,
        places: int,
        *,
        give: Give,
        deliver: Callable[[Callable[[], None]], None],
        ended: Callable[[Job, End, Child | None], None],
        say: Callable[[str], None],
    ) -> None:
        self._worker = worker
        self._handlers = handlers
        self._give = give
        self._deliver = deliver
        self._ended = ended
        self._say = say
        self._places = places
        self._wanted = places if any(each.isolation == "process" for each in handlers.values()) else 0
        self.jobs: list[Job] = []
        self.children: list[Child] = []
        self._busy: dict[Child, Job] = {}
        self.selector = selectors.DefaultSelector()
        self._failed_starts = 0
        self._start_at = 0.0
        self._sample_at = 0.0
        self._loop: EventLoop | None = None
        self._threads: Threads | None = None

    @property
    def free(self) -> int:
        """How many more can run now."""
        free = self._places - len(self.jobs)
        return min(free, len(self._idle())) if self._wanted else free

    def _idle(self) -> list[Child]:
        return [each for each in self.children if each.ready and not each.retired and each not in self._busy]

    @property
    def is_starting(self) -> bool:
        """Whether a place is not ready yet, because its child is still starting."""
        return self._missing() > 0 or any(not each.ready and not each.retired for each in self.children)

    def can_run(self, handler: Handler) -> bool:
        """Whether there is a place for a task of this handler now."""
        if len(self.jobs) >= self._places:
            return False
        return handler.isolation != "process" or bool(self._idle())

    def _missing(self) -> int:
        return self._wanted - sum(not each.retired for each in self.children)

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

    def start(self, claimed: Claimed) -> Job:
        """Run a task's handler; there must be a place."""
        handler = self._handlers.of(claimed.task)
        job = Job(claimed=claimed, handler=handler)
        job.flags.cancelled = claimed.task.cancel_requested_at is not None
        if handler.timeout is not None:
            job.deadline = job.started + handler.timeout
        self.jobs.append(job)
        if handler.isolation == "process":
            self._start_in_child(job)
        else:
            self._start_inside(job)
        return job

    def _start_in_child(self, job: Job) -> None:
        child = self._idle()[0]
        job.child = child
        self._busy[child] = job
        try:
            child.run(job.claimed.task.action, job.claimed.task)
        except OSError:
            child.kill()  # its death ends the job
        if job.flags.cancelled:
            child.tell("flag", "cancelled")

    def _start_inside(self, job: Job) -> None:
        def give(verb: str, arguments: dict[str, Any], then: Callable[[Any, Exception | None], None]) -> None:
            self._give(job, verb, arguments, then)

        def ended(end: End) -> None:
            self._deliver(lambda: self._end(job, end))

        desk = InsideDesk(give)
        desk.flags = job.flags
        run = Run(copy.copy(job.claimed.task), desk)
        if job.handler.isolation == "async":
            self._loop = self._loop or EventLoop(self._worker)
            job.stop = self._loop.start(job.handler, run, ended)
        else:
            self._threads = self._threads or Threads(self._worker)
            job.stop = self._threads.start(job.handler, run, ended)

    # Watching

    def wakes_at(self, *, starting: bool) -> float:
        """The moment at which it must look again, on the monotonic clock; `starting` says whether children start."""
        moments = [each for job in self.jobs for each in (job.deadline, job.kill_at) if each is not None]
        if self.children:
            moments.append(self._sample_at)
        if starting and self._missing() > 0:
            moments.append(self._start_at)
        return min(moments, default=float("inf"))

    def hear(self, child: Child) -> None:
        """Take what a child says."""
        for message in child.reader.read():
            match message:
                case ("ready",):
                    child.ready = True
                    self._failed_starts = 0
                case ("ask", verb, arguments):
                    self._answer(child, verb, arguments)
                case ("ended", end, resident):
                    child.resident = resident
                    self._end_in_child(child, end)
        if child.reader.ended:
            self.selector.unregister(child.connection)
            if not child.retired:
                child.kill()  # it may only have closed what leads here
            self._lose_if_gone(child)

    def _answer(self, child: Child, verb: str, arguments: dict[str, Any]) -> None:
        job = self._busy.get(child)
        if job is None:
            return

        def then(result: Any, problem: Exception | None) -> None:
            if self._busy.get(child) is job:
                child.tell("answer", result, taken_apart(problem))

        self._give(job, verb, arguments, lambda result, problem: self._deliver(lambda: then(result, problem)))

    def look(self) -> None:
        """Reap children that ended, and end what has run out of time."""
        now = time.monotonic()
        if now >= self._sample_at:
            self._sample_at = now + _SAMPLE_SECONDS
            for child in self._busy:
                child.sample()
            for child in list(self.children):
                if child.retired_at is not None and now - child.retired_at > KILL_AFTER_SECONDS:
                    child.kill()
                self._lose_if_gone(child)
        for job in list(self.jobs):
            if job.deadline is not None and now >= job.deadline and not job.why:
                self.stop_job(job, "timeout")
            if job.kill_at is not None and now >= job.kill_at:
                job.kill_at = None
                self.kill_job(job)

    def stop_job(self, job: Job, why: str) -> None:
        """End a job in good order, and if that takes too long, at once.

        Args:
            job: which.
            why: `timeout`, `shutdown` or `lost`.
        """
        if job.why or job.ended:
            return
        job.why = why
        job.deadline = None
        job.kill_at = time.monotonic() + KILL_AFTER_SECONDS
        name = {"timeout": "timed_out", "lost": "lost"}.get(why, "stopping")
        self.flag(job, name)
        if job.child is not None:
            job.child.stop()
        else:
            job.stop()

    def flag(self, job: Job, name: str) -> None:
        """Let a handler know why it should stop."""
        if not getattr(job.flags, name):
            setattr(job.flags, name, True)
            if job.child is not None:
                job.child.tell("flag", name)

    def kill_job(self, job: Job) -> None:
        """End a job at once: its process with all it started; one that runs in the worker itself is left to itself."""
        job.killed = True
        if job.child is not None:
            job.child.kill()
        elif not job.ended:
            self._end(job, End(verb="stopped"))

    def retire(self) -> None:
        """Let every child end in good order."""
        self._wanted = 0
        for child in self.children:
            child.retire()

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
        job = self._busy.get(child)
        if job is not None:
            end.resources = child.measured(end.resources)
            self._end(job, end)
        settings = conf.settings()
        if (
            end.verb == "stopped"  # it was left somewhere in the middle
            or child.tasks >= settings.WORKER_CHILD_TASKS
            or child.resident > settings.WORKER_CHILD_BYTES
        ):
            child.retire()

    def _lose_if_gone(self, child: Child) -> None:
        if child not in self.children or (death := child.reap()) is None:
            return
        for message in child.reader.read():  # what it said last
            if message[0] == "ended" and child in self._busy:
                self._end(self._busy[child], message[1])
        self.children.remove(child)
        if not child.reader.ended:
            self.selector.unregister(child.connection)
        job = self._busy.get(child)
        if job is not None:
            self._end(job, died(job, death))
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

    def _end(self, job: Job, end: End) -> None:
        if job in self.jobs and job.ended:
            # Stored already; the thread or coroutine has come to its end at last.
            self.jobs.remove(job)
            return
        if job.ended:
            return
        job.ended = True
        job.kill_at = job.deadline = None
        if job.child is not None or not job.killed:
            self.jobs.remove(job)
        if job.child is not None:
            self._busy.pop(job.child, None)
        self._ended(job, judged(job, end), job.child)
