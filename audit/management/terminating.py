"""SIGTERM that lets a command put away what it has begun, and ends it as ever."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Terminated", "terminable"]


class Terminated(KeyboardInterrupt):
    """SIGTERM came. Whoever handles Ctrl-C (a driver that waits for the server) handles it alike."""


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM unwind the block, so that no unfinished file stays behind; then it ends the process.

    Where somebody else handles or ignores it, or in another thread than the main one, nothing is changed.
    """
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _unwind)
    try:
        yield
    except Terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _unwind(number: int, frame: FrameType | None) -> None:
    raise Terminated
