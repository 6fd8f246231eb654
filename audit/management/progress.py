"""How far long work has come, on standard error."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, Protocol

from audit.management.output import count, safe
from audit.management.tables import terminal_width
from audit.process.streams import Notes, encodable

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

__all__ = ["Progress"]


class _Stream(Protocol):
    def write(self, msg: str = "", style_func: Any = None, ending: str | None = None) -> Any: ...
    def flush(self) -> Any: ...
    def isatty(self) -> bool: ...


class Progress:
    """Shows on stderr how far long work has come: a bar on a terminal, else a line every ten seconds.

    Work that is done at once shows nothing. Notes that are written meanwhile appear above the bar.

    Its unit is counted as `count` does: one of it, and many when `s` does not do.

    with Progress(self.stderr, "Imported", total=20_000) as progress:
        progress.advance(500)
    """

    def __init__(
        self, stream: _Stream, what: str, *, unit: str = "task", many: str = "", total: int | None = None
    ) -> None:
        self.done = 0
        self._stream = stream
        self._what = what
        self._unit = unit, many
        self._total = total
        self._bar: Bar | None = None
        self._tty = stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
        self._every = 0.2 if self._tty else 10.0
        self._began = self._shown_at = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            if isinstance(self._stream, Notes):
                self._stream.above = None

    def advance(self, by: int = 1, note: str = "", *, total: int | None = None) -> None:
        """Count what was done, and show it when it is time.

        Args:
            by: how many more.
            note: what it is at, such as a file's name.
            total: how many there are, when that is known only now.
        """
        self.done += by
        self._total = total or self._total
        now = time.monotonic()
        if now - self._shown_at < self._every:
            return
        self._shown_at = now
        done = (
            f"{count(self.done)} of {count(self._total, *self._unit)}" if self._total else count(self.done, *self._unit)
        )
        share = f" ({min(self.done / self._total, 1):.0%})" if self._total else ""
        rate = f", {count(int(self.done / max(now - self._began, 0.001)))} a second"
        line = f"{self._what} {done}{share}{rate}{f'  {safe(note)}' if note else ''}"
        if self._tty:
            self._draw(line)
        else:
            self._write(line)
            self._stream.flush()

    def _draw(self, line: str) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar
            from rich.table import Column
            from rich.text import Text

            console = Console(
                file=_Raw(self._stream),  # type: ignore[arg-type]  # what rich needs of a file
                force_terminal=True,
                width=terminal_width() or 80,
                highlight=False,
                markup=False,
                emoji=False,
            )
            whole = Column(no_wrap=True, overflow="ellipsis")
            columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False, table_column=whole)]
            if self._total:
                columns += [BarColumn(bar_width=20), TimeRemainingColumn()]
            self._bar = Bar(
                *columns,
                console=console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._bar.add_task(line, total=self._total)
            self._bar.start()
            if isinstance(self._stream, Notes):
                self._stream.above = lambda text: console.print(Text(text), soft_wrap=True)
        self._bar.update(self._bar.task_ids[0], description=line, completed=self.done, total=self._total, refresh=True)

    def _write(self, text: str, ending: str | None = None) -> None:
        self._stream.write(text, lambda shown: shown, ending)  # in no colour: stderr of a command is red


class _Raw:
    """What rich writes to: the stream without Django's colour and line ends. A failing write is not an error."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream._out.write(encodable(text, self._stream))

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()
