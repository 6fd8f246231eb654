"""What other threads and signals want of a worker, and what wakes it."""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

__all__ = ["Calls", "StopRequests"]


class Calls:
    """A queue of calls, and a pipe that wakes whoever waits; open as long as its block lasts."""

    def __init__(self) -> None:
        self._queue: deque[Callable[[], None]] = deque()
        self._wake: socket.socket | None = None
        self._is_woken = False
        """Whether something stands in the pipe, or is about to."""
        self._selector: selectors.BaseSelector | None = None

    def __enter__(self) -> Self:
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        self._is_woken, self._selector = False, None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self._wake, self._woken):
            if each is not None:
                each.close()

    def put(self, call: Callable[[], None]) -> None:
        """Have something called in the worker's thread; from any thread."""
        self._queue.append(call)
        self.wake()

    def wake(self) -> None:
        """Wake whoever waits; from any thread, and from a signal handler."""
        if self._wake is not None and not self._is_woken:
            self._is_woken = True
            with contextlib.suppress(OSError):  # full, and it wakes anyway; or closed
                self._wake.send(b".")

    def run(self) -> None:
        """Call what was put here."""
        while self._queue:
            self._queue.popleft()()

    def wait(self, selector: selectors.BaseSelector, seconds: float) -> list[Any]:
        """Wait so long, or until something happens; returns what the selector has for the descriptors that are ready.

        Args:
            selector: with the descriptors to look at beside the pipe.
            seconds: how long at most.
        """
        if self._selector is not selector:
            selector.register(self._woken, selectors.EVENT_READ)
            self._selector = selector
        ready = [key.data for key, _ in selector.select(0.0 if self._queue else seconds)]
        if None in ready:
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(4096)
            # Whatever was put here until this line, and woke nobody, is called next.
            self._is_woken = False
        return [each for each in ready if each is not None]


@dataclass(slots=True)
class StopRequests:
    """What a worker was asked from outside, meanwhile or before."""

    count: int = 0
    """How often it was asked to stop."""
    signal: int = 0
    """The last signal that did."""
