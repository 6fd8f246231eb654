"""Waiting between two looks, until a signal asks for the end or nobody reads the output any more."""

from __future__ import annotations

import os
import select
import signal
import stat
from types import FrameType
from typing import Any

__all__ = ["Waiting"]


class Waiting:
    """Takes SIGINT and SIGTERM for the wish to end in good order; a second one ends at once, as ever.

    with Waiting(self.stdout) as waiting:
        while waiting.wait(1.0):
            ...

    Args:
        stream: where the output goes. The end of a pipe's or a terminal's reader ends the waiting, too: whoever has
            nothing to write would never notice (`| head`).
    """

    def __init__(self, stream: Any) -> None:
        self.ended = False
        """Whether the end was asked for."""
        self._output = _watched(stream)
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Waiting:
        self._woken, self._wake = os.pipe()
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._handlers[number] = signal.signal(number, self._end)
            except ValueError:  # not in the main thread: signals are somebody else's
                break
        return self

    def __exit__(self, *exc: object) -> None:
        self._restore()
        os.close(self._woken)
        os.close(self._wake)

    def wait(self, seconds: float) -> bool:
        """Wait so long; returns whether to go on."""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        if self._output is not None:
            poll.register(self._output, 0)
        if poll.poll(seconds * 1000):
            self.ended = True
        return not self.ended

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.ended = True
        self._restore()
        os.write(self._wake, b".")

    def _restore(self) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())


def _watched(stream: Any) -> int | None:
    """The descriptor of a stream that somebody reads; None for files and what is no descriptor at all."""
    try:
        number: int = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None
    mode = os.fstat(number).st_mode
    return number if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(number) else None
