"""What children print: passed on to the worker's own standard error, and the end of it kept for the outcome, masked.

What is passed on goes line by line, so that no secret is cut in two; a line without an end waits until it has one,
until the work ends, or until it is long.

A thread drains the pipes whatever the rest of the worker does. Where nobody takes what the worker itself prints, it
waits, and the children that print with it, as they would alone.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Iterator

from audit import conf
from audit.process.streams import write_all
from audit.process.tails import MARGIN, tail_text
from audit.values.redaction import redact_text

__all__ = ["Output"]

_CHUNK = 65536
_LONGEST_TAKE = 64
_LONGEST_LINE = 65536
_TO = 2


class Output:
    """The output of one child: both streams in the order they came."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        self._limit = conf.settings().OUTPUT_TAIL_BYTES
        self._lock = threading.Lock()
        self._kept = bytearray()
        self._seen = 0
        self._to_pass = bytearray()
        self._unended = False
        self._open = True
        self._ended, self._end = os.pipe()
        for each in (self._ended, self._end):
            os.set_blocking(each, False)
        self._thread = threading.Thread(target=self._drain, name="audit-worker-output", daemon=True)

    @contextlib.contextmanager
    def given_away(self) -> Iterator[int]:
        """Give the descriptor to write to, for a child that is started in the block."""
        try:
            yield self._write
        finally:
            os.close(self._write)
        self._thread.start()

    def take(self) -> tuple[str, int]:
        """Return the end of what came since the last time, redacted, and how many bytes there were."""
        with self._lock:
            # What was printed before the child said that it is done stands in the pipe at least.
            for _ in range(_LONGEST_TAKE):
                if not self._pull():
                    break
            kept, seen = bytes(self._kept), self._seen
            self._kept.clear()
            self._seen = 0
            if self._open and self._to_pass:
                # By the thread: whoever calls this must not wait for those who read what the worker prints.
                self._unended = True
                with contextlib.suppress(BlockingIOError):
                    os.write(self._end, b".")
        return (tail_text(kept, seen, self._limit) if seen else ""), seen

    def close(self) -> None:
        """Read no more; the thread ends by itself."""
        if self._open:
            self._open = False
            os.close(self._end)

    def _pull(self) -> bool:
        try:
            data = os.read(self._read, _CHUNK)
        except (BlockingIOError, OSError):
            return False
        if not data:
            self._open = False
            return False
        self._to_pass += data
        self._kept += data
        self._seen += len(data)
        if len(self._kept) > 4 * (self._limit + MARGIN):
            del self._kept[: -(self._limit + MARGIN)]
        return True

    def _drain(self) -> None:
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        poll.register(self._ended, select.POLLIN)
        while self._open:
            poll.poll()
            with self._lock:
                self._pull()
                with contextlib.suppress(BlockingIOError):
                    os.read(self._ended, _CHUNK)
                passing = self._lines(all_of_it=self._unended or not self._open)
                self._unended = False
            self._pass_on(passing)
        with self._lock:
            passing = self._lines(all_of_it=True)
            os.close(self._read)
            os.close(self._ended)
            self._read = self._ended = -1
        self._pass_on(passing)

    def _lines(self, *, all_of_it: bool) -> bytes:
        """Take what may be passed on: whole lines, or all there is."""
        end = len(self._to_pass)
        if not all_of_it:
            end = max(self._to_pass.rfind(b"\n"), self._to_pass.rfind(b"\r")) + 1
            if not end and len(self._to_pass) > _LONGEST_LINE:
                end = len(self._to_pass)
        taken = bytes(self._to_pass[:end])
        del self._to_pass[:end]
        return taken

    def _pass_on(self, data: bytes) -> None:
        if data:
            # What is no text comes out as it went in.
            text = redact_text(data.decode("utf-8", "surrogateescape"))
            with contextlib.suppress(OSError):
                write_all(_TO, text.encode("utf-8", "surrogateescape"))
