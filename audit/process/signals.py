"""Signals that let a command put away what it has begun, and end it as ever."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Terminated", "terminable"]


class Terminated(KeyboardInterrupt):
    """A signal asked for the end: `number`. Whoever handles Ctrl-C, as a driver that waits does, handles it alike."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


_ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the block, so that no unfinished file stays behind; then they end the process.

    One that somebody else handles or ignores is left alone, and both are in another thread than the main one.
    """
    here = threading.current_thread() is threading.main_thread()
    ours = [each for each in _ENDING if here and signal.getsignal(each) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _unwind)
    try:
        yield
    except Terminated as ended:
        signal.signal(ended.number, signal.SIG_DFL)
        signal.raise_signal(ended.number)
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _unwind(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)
