"""Speaks with the database for a worker, in one thread and on one connection of its own.

Note [Requests]
    What the worker wants of the database is a request; one is carried out after the other. While the database is away,
    a request that must be done (`keep`) waits until it is back; any other comes back with the error, and whoever gave
    it tries again in time. Requests that can be done together, and stand together in the queue, are done by one call.
    The worker itself never waits for the database: it goes on to keep time, to hear signals and
    to watch its children.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import Error, InterfaceError, OperationalError, connections

from audit.statements.answers import end_wait
from audit.statements.connections import is_direct, own
from audit.statements.rows import run
from audit.values import moments
from audit.values.backoff import backoff

__all__ = ["ANSWER_SECONDS", "Clerk", "is_away"]

logger = logging.getLogger("audit")

ANSWER_SECONDS = 60.0
"""How long a request may wait for the database; then it counts as away. Much longer than any request takes."""
_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 5.0  # shorter than `own_name.QUIET_SECONDS`
_BOUND_IDLE = (
    "SELECT set_config('idle_in_transaction_session_timeout', %s, false)"
    " WHERE current_setting('idle_in_transaction_session_timeout') = '0'"
)
_READ_ONLY = "25006"  # after a fail-over the address may still lead to the one that is a standby now


Together = Callable[[list[Any]], list[tuple[Any, Exception | None]]]
"""Does many requests; returns the result and the problem of each. Raises what shows that the database is away."""
_MOST_TOGETHER = 100


@dataclass(slots=True, kw_only=True)
class _Request:
    do: Callable[[], Any]
    then: Callable[[Any, Exception | None], None]
    keep: bool
    together: Together | None = None
    item: Any = None


# While it is away nobody gives it requests, and a worker whose places are all taken has none for long.
_COME_BACK = _Request(do=lambda: None, then=lambda result, problem: None, keep=False)


class Clerk:
    """The thread; started at once.

    Args:
        using: the alias of the database.
        deliver: takes what is to be called in the worker's own thread.
        say: takes lines for the person.
    """

    def __init__(self, using: str, deliver: Callable[[Callable[[], None]], None], say: Callable[[str], None]) -> None:
        self._using = using
        self._deliver = deliver
        self._say = say
        self._changed = threading.Condition()
        self._requests: deque[_Request] = deque()
        self._ends = False
        self._tried = 0
        self._greeted: Any = None
        self._began: float | None = None
        self._given_up = -math.inf
        """When a wait was last ended, on the monotonic clock."""
        self.connected: list[Callable[[], object]] = []
        """Called in the clerk's thread after each new connection, the first included."""
        self._thread = threading.Thread(target=self._run, name="audit-worker-clerk", daemon=True)
        self._connect = own(using)
        self._thread.start()

    @property
    def away(self) -> bool:
        """Whether the database could not be reached the last time."""
        return self._tried > 0

    @property
    def waits(self) -> float:
        """For how many seconds the database has not answered the request that is under way; 0 without one."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    def gives_up_at(self) -> float:
        """When to `look`, on the monotonic clock, so that no wait lasts too long."""
        began = self._began
        # The request may connect anew, and wait there.
        return math.inf if began is None else max(began, self._given_up) + ANSWER_SECONDS

    def look(self) -> None:
        """End a wait for an answer that has lasted too long; called in the worker's thread."""
        began = self._began
        if began is not None and time.monotonic() >= self.gives_up_at():
            self._given_up = time.monotonic()
            end_wait(self._connection.connection, lambda: self._began == began)

    def give(
        self,
        do: Callable[[], Any],
        then: Callable[[Any, Exception | None], None],
        *,
        keep: bool = False,
        together: Together | None = None,
        item: Any = None,
    ) -> None:
        """Have a request done.

        Args:
            do: called in the clerk's thread, where `using` is its own connection.
            then: called in the worker's thread with what `do` returned, or raised.
            keep: whether to repeat it while the database is away; it must be one that may be repeated.
            together: does several of these at once, by their items; each must have the same `keep`.
            item: what `together` is given of this one.
        """
        with self._changed:
            self._requests.append(_Request(do=do, then=then, keep=keep, together=together, item=item))
            self._changed.notify()

    def end(self, seconds: float) -> bool:
        """Finish what was given and end; returns whether that was done in so many seconds."""
        with self._changed:
            self._ends = True
            self._changed.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        connections[self._using] = self._connection = self._connect()
        try:
            with moments.aware(self._using):
                while requests := self._next():
                    self._carry_out(requests)
        finally:
            self._connection.close()

    def _next(self) -> list[_Request]:
        """Wait for what is to be done next; nothing at the end."""
        with self._changed:
            while not self._requests:
                if self._ends:
                    return []
                if self._tried:
                    return [_COME_BACK]
                self._changed.wait()
            taken = [self._requests.popleft()]
            together = taken[0].together
            while together is not None and self._requests and len(taken) < _MOST_TOGETHER:
                if self._requests[0].together != together:
                    break
                taken.append(self._requests.popleft())
            return taken

    def _carry_out(self, requests: list[_Request]) -> None:
        first, problem = requests[0], None
        answers: list[tuple[Any, Exception | None]] = []
        try:
            self._began = time.monotonic()
            self._greet()
            if len(requests) > 1 and first.together is not None:
                answers = first.together([each.item for each in requests])
            else:
                answers = [(first.do(), None)]
        except Exception as error:  # noqa: BLE001 - whoever gave it is told
            problem = error
        finally:
            self._began = None
        if problem is not None and is_away(problem):
            self._connection.close()
            self._wait(problem)
            if first.keep:
                with self._changed:
                    self._requests.extendleft(reversed(requests))
                return
        elif self._tried:
            self._tried = 0
            self._say("The database is back.")
        if problem is not None:
            answers = [(None, problem)] * len(requests)

        def deliver() -> None:
            for request, answer in zip(requests, answers, strict=True):
                request.then(*answer)

        self._deliver(deliver)

    def _greet(self) -> None:
        # A request may have opened the session by itself (Note [Connections that died]), so its age says nothing.
        self._connection.ensure_connection()
        if self._connection.connection is not self._greeted:
            if is_direct(self._using):
                # Where the network fails in the middle of a transaction, the server keeps its locks for whoever does
                # not come back; among them may be the one of all resumers. A pooler would lend the setting on.
                run(self._using, _BOUND_IDLE, [f"{ANSWER_SECONDS * 1000:.0f}"])
            for each in self.connected:
                each()
            self._greeted = self._connection.connection

    def _wait(self, problem: Exception) -> None:
        if not self._tried:
            self._say(f"The database is away; trying again. ({' '.join(str(problem).split())[:300]})")
        seconds = backoff(_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS, self._tried)
        self._tried += 1
        with self._changed:
            self._changed.wait_for(lambda: False, seconds)


def is_away(problem: Exception) -> bool:
    """Whether an error means that the database is away, overloaded or read-only, and not that it refused something."""
    if isinstance(problem, OperationalError | InterfaceError):
        return True
    return isinstance(problem, Error) and getattr(problem.__cause__, "sqlstate", None) == _READ_ONLY
