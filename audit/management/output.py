"""What commands print: tables that fit the terminal, JSON lines, times and durations, progress.

Every value of a task is somebody's text, so whatever is printed goes through `safe` or `json_line`.
"""

from __future__ import annotations

import json
import shutil
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate, chain, islice, takewhile
from typing import Any, Protocol

from audit.values import moments
from audit.values.names import apart, cut
from audit.values.terminal import safe, safe_json

__all__ = [
    "Column",
    "Progress",
    "Table",
    "age",
    "count",
    "duration",
    "is_narrow",
    "json_line",
    "moment",
    "safe",
    "shorten",
    "shorten_name",
    "table",
    "width_of",
    "wrapped",
]

_MEASURED_ROWS = 500
_WIDE = 150
_PADDED = 64
# How wide a column must be at least to show where names differ.
_APART = 12
_GAP = "  "


def json_line(value: Mapping[str, Any]) -> str:
    """Write one JSON document on one line; what a terminal would obey is escaped, as JSON allows.

    Moments are ISO 8601 in UTC, durations seconds, bytes hexadecimal.
    """
    return safe_json(json.dumps(value, ensure_ascii=False, default=_plain))


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    return str(value)


def moment(value: datetime | None, *, precise: bool = False) -> str:
    """Write a moment in the current time zone: to the second, or precisely with the zone; `-` for none."""
    if value is None:
        return "-"
    local = moments.local(value)
    if precise:
        return f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03d} {local:%Z}"
    return f"{local:%Y-%m-%d %H:%M:%S}"


def duration(value: timedelta | float | None) -> str:
    """Write a span in at most two units: `812 ms`, `4.2 s`, `3 m 12 s`, `2 h 05 m`, `9 d 4 h`; `-` for none."""
    if value is None:
        return "-"
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} m"
    return f"{hours // 24} d {hours % 24} h"


def age(since: datetime | None, now: datetime) -> str:
    """Write how long ago a moment was, or how far ahead it is (`in 5 m 00 s`)."""
    if since is None:
        return "-"
    return f"in {duration(since - now)}" if since > now else duration(now - since)


def count(number: int, one: str = "", many: str = "") -> str:
    """Write a number with its thousands apart, and what is counted behind it: `1 task`, `20 000 tasks`, `2 leaves`."""
    digits = f"{number:,}".replace(",", "\N{NO-BREAK SPACE}")
    if not one:
        return digits
    return f"{digits} {one if number == 1 else many or f'{one}s'}"


def width_of(text: str) -> int:
    """Count the columns a text takes on a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )


def shorten(text: str, width: int) -> str:
    """Cut a text to so many columns, with `…` where something is missing."""
    if width_of(text) <= width:
        return text
    ends = accumulate(map(width_of, text))
    kept = sum(1 for _ in takewhile(lambda end: end < width, ends))
    return f"{text[:kept]}…" if width > 0 else ""


def shorten_name(text: str, width: int) -> str:
    """Cut a name to so many columns in the middle, with `…`: names of one system begin alike."""
    limit = min(len(text), width)
    while limit > 0 and width_of(cut(text, limit)) > width:
        limit -= 1
    return cut(text, limit) if limit > 0 else ""


def wrapped(text: str, width: int) -> Iterator[str]:
    """Break a text at its blanks into lines of at most so many columns; a longer word is broken, too."""
    line = ""
    for word in text.split():
        if line and width_of(line) + 1 + width_of(word) <= width:
            line = f"{line} {word}"
            continue
        if line:
            yield line
        while width_of(word) > width:
            kept = max(1, sum(1 for _ in takewhile(lambda end: end <= width, accumulate(map(width_of, word)))))
            yield word[:kept]
            word = word[kept:]
        line = word
    if line:
        yield line


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table.

    `least` is how many columns of the terminal it may shrink to; none: it keeps its width. `rank` says how early it
    is left out when not even that fits: the highest first, 0 never. A `name` is cut in the middle. `paint` gets the
    padded text and the cell's text and returns what is printed.
    """

    title: str
    least: int | None = None
    rank: int = 0
    right: bool = False
    name: bool = False
    paint: Callable[[str, str], str] | None = None


def terminal_width() -> int | None:
    """Tell how many columns there are (`COLUMNS`, else the terminal's); none when output goes elsewhere."""
    return shutil.get_terminal_size(fallback=(0, 0)).columns or None


def is_narrow() -> bool:
    """Whether a listing writes short ids and moments: on a terminal of less than 150 columns."""
    width = terminal_width()
    return width is not None and width < _WIDE


class Table:
    """The lines of a table whose widths are settled; cells are made `safe`.

    Args:
        columns: what stands in each cell of a row.
        sample: rows to take the widths from.
        width: columns of the terminal to fit into; without it nothing is cut, and cells that are much longer than
            usual do not widen the others' column.
    """

    def __init__(self, columns: Sequence[Column], sample: Iterable[Sequence[object]], width: int | None = None) -> None:
        self._columns = columns
        self._cut = bool(width)
        rows = [_cells(row) for row in sample]
        self._widths = _widths(columns, rows, width)
        self._shown = sorted(self._widths)
        names = [each for each in self._shown if columns[each].name and self._widths[each] >= _APART] if width else []
        self._names = {each: apart([row[each] for row in rows], self._widths[each]) for each in names}

    def head(self) -> Iterator[str]:
        """Yield the titles, and a line below them."""
        titles = {each: shorten(self._columns[each].title, self._widths[each]) for each in self._shown}
        yield _line([_padded(self._columns[each], titles[each], self._widths[each]) for each in self._shown])
        yield _line(["─" * self._widths[each] for each in self._shown])

    def line(self, row: Sequence[object]) -> str:
        """Write a row: one cell for each column; none shows as `-`."""
        texts = _cells(row)
        cells = []
        for each in self._shown:
            column, text, width = self._columns[each], texts[each], self._widths[each]
            cell = _padded(column, self._fitted(each, text) if self._cut else text, width)
            cells.append(column.paint(cell, text) if column.paint else cell)
        return _line(cells)

    def _fitted(self, index: int, text: str) -> str:
        width = self._widths[index]
        if not self._columns[index].name:
            return shorten(text, width)
        short = self._names.get(index, {}).get(text, text)
        return short if width_of(short) <= width else shorten_name(text, width)


def table(columns: Sequence[Column], rows: Iterable[Sequence[object]], *, width: int | None = None) -> Iterator[str]:
    """Yield the lines of a table, its head first; nothing when there are no rows.

    Widths come from the first 500 rows, so that a long listing streams.

    Args:
        columns: as for `Table`.
        rows: one cell for each column; none shows as `-`.
        width: as for `Table`.
    """
    remaining = iter(rows)
    first = list(islice(remaining, _MEASURED_ROWS))
    if not first:
        return
    settled = Table(columns, first, width)
    yield from settled.head()
    yield from map(settled.line, chain(first, remaining))


def _cells(row: Sequence[object]) -> list[str]:
    return ["-" if cell is None else safe(cell) for cell in row]


def _line(cells: Iterable[str]) -> str:
    return _GAP.join(cells).rstrip()


def _padded(column: Column, text: str, width: int) -> str:
    space = " " * (width - width_of(text))
    return space + text if column.right else text + space


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> dict[int, int]:
    """Choose which columns are shown, by index, and how wide."""
    natural = {
        index: max(width_of(column.title), *(width_of(row[index]) for row in rows))
        for index, column in enumerate(columns)
    }
    if width is None:
        return {index: min(widest, max(_PADDED, width_of(columns[index].title))) for index, widest in natural.items()}
    least = {index: min(natural[index], columns[index].least or natural[index]) for index in natural}
    shown = list(natural)
    for index in sorted(shown, key=lambda index: -columns[index].rank):
        if columns[index].rank and _total([least[each] for each in shown]) > width:
            shown.remove(index)
    widths = {index: least[index] for index in shown}
    # What is left over goes to the columns that were cut most, one step at a time, so that all end about equal.
    spare = width - _total(list(widths.values()))
    while spare > 0 and (cut := [each for each in shown if widths[each] < natural[each]]):
        narrowest = min(cut, key=lambda each: widths[each])
        widths[narrowest] += 1
        spare -= 1
    return widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


class _Stream(Protocol):
    def write(self, msg: str = "", style_func: Any = None, ending: str | None = None) -> Any: ...
    def flush(self) -> Any: ...
    def isatty(self) -> bool: ...


class Progress:
    """Shows on stderr how far long work has come: a line that is rewritten on a terminal, else one every ten seconds.

    with Progress(self.stderr, "Imported", total=20_000) as progress:
        progress.advance(500)
    """

    def __init__(self, stream: _Stream, what: str, *, unit: str = "tasks", total: int | None = None) -> None:
        self.done = 0
        self._stream = stream
        self._what = what
        self._unit = unit
        self._total = total
        self._tty = stream.isatty()
        self._every = 0.2 if self._tty else 10.0
        self._began = self._shown_at = time.monotonic()
        self._shown = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._tty and self._shown:
            self._write("\r" + " " * self._shown + "\r", ending="")
            self._stream.flush()

    def advance(self, by: int = 1, note: str = "") -> None:
        """Count what was done, and show it when it is time.

        Args:
            by: how many more.
            note: what it is at, such as a file's name.
        """
        self.done += by
        now = time.monotonic()
        if now - self._shown_at < self._every:
            return
        self._shown_at = now
        of = f" of {count(self._total)}" if self._total else ""
        share = f" ({min(self.done / self._total, 1):.0%})" if self._total else ""
        rate = f", {count(int(self.done / max(now - self._began, 0.001)))} a second"
        line = f"{self._what} {count(self.done)}{of} {self._unit}{share}{rate}{f'  {safe(note)}' if note else ''}"
        if not self._tty:
            self._write(line)
        else:
            line = shorten(line, (terminal_width() or 80) - 1)
            self._write("\r" + line + " " * (self._shown - width_of(line)), ending="")
            self._shown = width_of(line)
        self._stream.flush()

    def _write(self, text: str, ending: str | None = None) -> None:
        self._stream.write(text, lambda shown: shown, ending)  # in no colour: stderr of a command is red
