"""Signals of commands and workers: one way to handle them, to unwind at one, and to stop in good order.

Whatever is installed here is installed in the main thread alone, the only one where Python can; leaves a signal that
was ignored when the process began ignored, as nohup wants it; and gives back what was there before.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["SignalHandlers", "StopRequest", "Terminated", "terminable"]

_LONGEST_POLL_MS = 2**31 - 1


class SignalHandlers:
    """Handles signals while a block lasts.

    Args:
        numbers: the signals.
        handler: called as `signal.signal` says.
        only_default: leave a signal alone that anybody else handles, not only one that is ignored.
    """

    def __init__(
        self, numbers: Iterable[int], handler: Callable[[int, FrameType | None], None], *, only_default: bool = False
    ) -> None:
        self._numbers = tuple(numbers)
        self._handler = handler
        self._only_default = only_default
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in self._numbers:
                before = signal.getsignal(number)
                # None: a handler that is not Python's, which could not be given back.
                if before in (signal.SIG_IGN, None) or (self._only_default and before != signal.SIG_DFL):
                    continue
                self._before[number] = before
                signal.signal(number, self._handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()

    def restore(self) -> None:
        """Give back what was there before; a handler may do so itself, so that the next signal acts as ever."""
        while self._before:
            signal.signal(*self._before.popitem())


class StopRequest:
    """Takes SIGINT and SIGTERM as the request to stop in good order; a second one acts at once, as ever.

    with StopRequest() as stop:
        while stop.wait(1.0):
            ...

    Args:
        reader: the descriptor of an output whose reader may leave (`streams.read_by_others`), which is a request
            to stop, too: whoever has nothing to write would never notice (`| head`).
    """

    def __init__(self, reader: int | None = None) -> None:
        self.requested = False
        """Whether the end was asked for."""
        self._reader = reader
        self._handlers = SignalHandlers((signal.SIGINT, signal.SIGTERM), self._receive)
        self._wake: int | None = None

    def __enter__(self) -> Self:
        self._woken, self._wake = os.pipe()
        self._handlers.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handlers.restore()
        wake, self._wake = self._wake, None
        if wake is not None:
            os.close(wake)
            os.close(self._woken)

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until the request; returns whether to go on."""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        if self._reader is not None:
            poll.register(self._reader, 0)
        if poll.poll(min(seconds * 1000, _LONGEST_POLL_MS)):
            self.requested = True
        return not self.requested

    def request(self) -> None:
        """Ask for the end, as a signal does."""
        if not self.requested:
            self.requested = True
            if self._wake is not None:
                os.write(self._wake, b".")

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._handlers.restore()
        self.request()


class Terminated(KeyboardInterrupt):
    """A signal asked for the end: `number`. Whoever handles Ctrl-C, as a driver that waits does, handles it alike."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the block, so that no unfinished file stays behind; then they end the process.

    One that somebody else handles is left alone.
    """
    try:
        with SignalHandlers((signal.SIGTERM, signal.SIGHUP), _unwind, only_default=True):
            yield
    except Terminated as ended:
        signal.signal(ended.number, signal.SIG_DFL)
        signal.raise_signal(ended.number)


def _unwind(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)
