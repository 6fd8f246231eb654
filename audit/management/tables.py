"""Tables that fit the terminal and stream: widths come from the first rows, and each row is a line of its own.

Most of rich is imported where it is used: every command imports this module, and many print no table.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from audit.values.names import apart, cut
from audit.values.terminal import safe

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["Column", "Table", "is_narrow", "shorten", "shorten_name", "table", "terminal_width", "wrapped"]

_MEASURED_ROWS = 500
_WIDE = 150
# Into a pipe, a cell of more than 32 that is twice as long as usual, or longer than 64, does not widen its column.
_LEAST_PADDED = 32
_PADDED = 64
# How wide a column must be at least to show where names differ.
_APART = 12
_GAP = "  "


def terminal_width() -> int | None:
    """Return how many columns there are (`COLUMNS`, else the terminal's); none when output goes elsewhere."""
    return shutil.get_terminal_size(fallback=(0, 0)).columns or None


def is_narrow() -> bool:
    """Whether a listing writes short ids and moments: on a terminal of less than 150 columns."""
    width = terminal_width()
    return width is not None and width < _WIDE


def shorten(text: str, width: int) -> str:
    """Cut a text to so many columns, with `…` where something is missing."""
    if cell_len(text) <= width:
        return text
    return f"{set_cell_size(text, width - 1)}…" if width > 0 else ""


def shorten_name(text: str, width: int) -> str:
    """Cut a name to so many columns in the middle, with `…`: names of one system begin alike."""
    limit = min(len(text), width)
    while limit > 0 and cell_len(cut(text, limit)) > width:
        limit -= 1
    return cut(text, limit) if limit > 0 else ""


def wrapped(text: str, width: int | None) -> list[str]:
    """Break a text at its blanks to so many columns, at least 16; a longer word is broken, too. None: one line."""
    if width is None:
        return [text]
    from rich.text import Text

    return [line.plain.rstrip() for line in Text(text).wrap(_console(), max(width, 16))] or [""]


@cache
def _console() -> Console:
    """Make what rich measures words by; nothing is written to it."""
    from rich.console import Console

    return Console(file=io.StringIO())


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table.

    `least` is how many columns of the terminal it may shrink to; none: it keeps its width. `rank` says how early it
    is left out when not even that fits: the highest first, 0 never. A `name` is cut in the middle. `paint` returns the
    style of a cell, as rich calls it.
    """

    title: str
    least: int | None = None
    rank: int = 0
    right: bool = False
    name: bool = False
    paint: Callable[[str], str] | None = None


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

    def head(self) -> Iterator[Text]:
        """Yield the titles, and a line below them."""
        yield self._line([column.title for column in self._columns], bold=True)
        yield self._line(["─" * self._widths.get(each, 0) for each in range(len(self._columns))])

    def line(self, row: Sequence[object]) -> Text:
        """Write a row: one cell for each column; none shows as `-`."""
        return self._line(_cells(row), paint=True)

    def _line(self, texts: Sequence[str], *, paint: bool = False, bold: bool = False) -> Text:
        from rich.text import Text

        line = Text(style="bold" if bold else "")
        for each in self._shown:
            column, width = self._columns[each], self._widths[each]
            shown = self._fitted(each, texts[each]) if self._cut else texts[each]
            space = " " * (width - cell_len(shown))
            line.append(
                f"{space}{shown}" if column.right else f"{shown}{space}",
                column.paint(texts[each]) if paint and column.paint else None,
            )
            line.append(_GAP)
        line.rstrip()
        return line

    def _fitted(self, index: int, text: str) -> str:
        width = self._widths[index]
        if not self._columns[index].name:
            return shorten(text, width)
        short = self._names.get(index, {}).get(text, text)
        return short if cell_len(short) <= width else shorten_name(text, width)


def table(columns: Sequence[Column], rows: Iterable[Sequence[object]], *, width: int | None = None) -> Iterator[Text]:
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


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> dict[int, int]:
    """Choose which columns are shown, by index, and how wide."""
    natural = {
        index: max(cell_len(column.title), *(cell_len(row[index]) for row in rows))
        for index, column in enumerate(columns)
    }
    if width is None:
        from statistics import median

        usual = {index: median(cell_len(row[index]) for row in rows) for index in natural}
        most = {index: max(_LEAST_PADDED, 2 * int(usual[index])) for index in natural}
        return {
            index: min(widest, max(min(most[index], _PADDED), cell_len(columns[index].title)))
            for index, widest in natural.items()
        }
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
