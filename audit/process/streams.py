"""The standard streams of a command: full, closed, of another encoding, or left by whoever read them."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from codecs import lookup
from collections.abc import Callable, Iterator
from typing import Any

from django.core.management.base import OutputWrapper

from audit.values.terminal import safe

__all__ = [
    "Notes",
    "OutputLost",
    "discard",
    "encodable",
    "in_utf8",
    "json_for",
    "open_missing",
    "printing",
    "read_by_others",
    "say",
    "standard",
    "write_all",
]

_PLAINER = str.maketrans({"─": "-", "█": "#", "▏": "#", "…": "...", "→": "->", "\N{NO-BREAK SPACE}": " "})


class OutputLost(Exception):
    """What was to be printed cannot be: `problem` says why (the disk is full, the stream is closed)."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class Notes(OutputWrapper):
    """Standard error: what cannot be written there is no reason to fail, for the exit code says it as well."""

    above: Callable[[str], object] | None = None
    """Writes a note above what is being drawn at the end of the terminal."""

    def write(self, msg: str = "", style_func: Any = None, ending: str | None = None) -> None:  # type: ignore[override]
        """Write, if it can be written."""
        if self.above:
            self.above(msg)
            return
        try:
            super().write(encodable(msg, self), style_func, ending)
            self.flush()
        except OSError:
            discard(self)


def open_missing() -> None:
    """Put `/dev/null` where standard input, output or error are closed, so that nothing else gets their numbers.

    Whatever is opened next would be number 1, and be written to by what means standard output. Writing to an output
    that was closed stays an error.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest number that is free, which is this one


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Tell what cannot be printed from other errors of the system.

    Raises:
        BrokenPipeError: nobody reads it any more.
        OutputLost: it cannot be written.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(error.strerror or str(error)) from error


def standard(stream: OutputWrapper, number: int) -> OutputWrapper:
    """Return the stream, or where Python has none, for it began closed, one on its descriptor."""
    if stream._out is not None:
        return stream
    return OutputWrapper(os.fdopen(number, "w", encoding="utf-8", closefd=False))


def in_utf8(stream: OutputWrapper) -> None:
    """Let a stream write UTF-8 from now on, whatever the locale: for files that other programs read."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(encoding="utf-8")


def encodable(text: str, stream: OutputWrapper) -> str:
    """Escape what the stream's encoding cannot write."""
    encoding = _encoding(stream)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAINER).encode(encoding, "backslashreplace").decode(encoding)
    return text


def json_for(text: str, stream: OutputWrapper) -> str:
    """Escape in JSON what is not ASCII where the stream does not write UTF-8, which JSON is read as."""
    if text.isascii() or lookup(_encoding(stream)).name == "utf-8":
        return text
    return "".join(each if each.isascii() else json.dumps(each)[1:-1] for each in text)


def _encoding(stream: OutputWrapper) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def discard(stream: OutputWrapper) -> None:
    """Let what is still kept for a stream go nowhere: the interpreter flushes it once more at its end."""
    try:
        fileno = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, fileno)
    os.close(nowhere)


def read_by_others(stream: Any) -> int | None:
    """Return the descriptor of a stream whose reader may leave; None for files and what has no descriptor."""
    try:
        number: int = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None
    mode = os.fstat(number).st_mode
    return number if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(number) else None


def write_all(number: int, data: bytes) -> None:
    """Write to a descriptor, also to one that does not block and is full for now.

    Raises:
        BrokenPipeError: nobody reads it any more.
        OSError: it cannot be written.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(number, view) :]
        except BlockingIOError:
            time.sleep(0.01)


def say(number: int, text: str) -> None:
    """Write a line for the person to a descriptor, if it can be written."""
    with contextlib.suppress(OSError):
        write_all(number, f"{safe(text)}\n".encode(errors="backslashreplace"))
