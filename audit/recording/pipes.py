"""Passes on what a command writes as it comes, and keeps the end of it."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
from collections.abc import Mapping
from typing import Any

from audit.process.streams import write_all
from audit.process.tails import MARGIN, tail_text

__all__ = ["Pipes"]

_UNWOKEN_SECONDS = 0.05
_CHUNK = 65536


class Pipes:
    """Reads a child's two pipes, passes on what comes, and keeps the end of each.

    Args:
        process: the child, with both outputs piped.
        out: the file descriptor its standard output goes to.
        err: the file descriptor its standard error goes to.
        limits: bytes of `stdout` and `stderr` that `tail` gives at most; nothing is kept of an output without.
    """

    def __init__(self, process: subprocess.Popen[bytes], out: int, err: int, limits: Mapping[str, int]) -> None:
        self._limits = limits
        self._kept: dict[str, bytearray] = {}
        self._bytes: dict[str, int] = {}
        self.lost: dict[str, str] = {}
        """Which output could not be passed on, and why (the disk is full, it is closed)."""
        self._selector = selectors.DefaultSelector()
        for name, pipe, to in (("stdout", process.stdout, out), ("stderr", process.stderr, err)):
            self._kept[name] = bytearray()
            self._bytes[name] = 0
            self._selector.register(pipe, selectors.EVENT_READ, (name, to))  # type: ignore[arg-type]
        self._open = 2
        # Wakes `pump` when the child ends; where there is none, `pump` returns often instead.
        self._pidfd: int | None = None
        with contextlib.suppress(AttributeError, OSError):
            self._pidfd = os.pidfd_open(process.pid)
            self._selector.register(self._pidfd, selectors.EVENT_READ)

    def __enter__(self) -> Pipes:
        return self

    def __exit__(self, *_: object) -> None:
        for key in list(self._selector.get_map().values()):
            if key.data:
                self._close(key.fileobj)
        self._selector.close()
        if self._pidfd is not None:
            os.close(self._pidfd)

    @property
    def open(self) -> bool:
        """Whether more output may come."""
        return self._open > 0

    def pump(self, timeout: float) -> None:
        """Wait at most so many seconds for output or the child's end, and pass on the output that is there."""
        if self._pidfd is None:
            timeout = min(timeout, _UNWOKEN_SECONDS)
        for key, _ in self._selector.select(timeout):
            if not key.data:
                continue
            name, to = key.data
            data = os.read(key.fd, _CHUNK)
            if not data or not self._passed_on(name, to, data):
                # Ended; or nobody reads any more, which the child learns as it would without us.
                self._close(key.fileobj)
            self._bytes[name] += len(data)
            if limit := self._limits.get(name, 0):
                kept = self._kept[name]
                kept += data
                if len(kept) > 4 * (limit + MARGIN):
                    del kept[: -(limit + MARGIN)]

    def ignore_end(self) -> None:
        """From now on, wait for output only, not for the child's end."""
        if self._pidfd is not None:
            self._selector.unregister(self._pidfd)

    def seen(self, name: str) -> int:
        """How many bytes came."""
        return self._bytes[name]

    def tail(self, name: str) -> str:
        """The end of the output: at most the limit, as UTF-8, with secrets masked and invalid bytes replaced."""
        if not (limit := self._limits.get(name, 0)):
            return ""
        return tail_text(bytes(self._kept[name]), self._bytes[name], limit)

    def _passed_on(self, name: str, to: int, data: bytes) -> bool:
        """Pass output on. Return False if nobody reads it any more."""
        if name in self.lost:
            return True
        try:
            write_all(to, data)
        except BrokenPipeError:
            return False
        except OSError as error:
            # As tee has it: the work goes on and its end is kept, for ending it here would leave it half done.
            self.lost[name] = error.strerror or str(error)
        return True

    def _close(self, pipe: Any) -> None:
        self._open -= 1
        self._selector.unregister(pipe)
        pipe.close()
