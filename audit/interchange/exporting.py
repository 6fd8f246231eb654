"""Writes tasks, log rows or pause entries as JSON Lines or CSV, with bounded memory, from one snapshot."""

from __future__ import annotations

import csv
import io
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO
from unicodedata import category

from audit.interchange import lines as exports

if TYPE_CHECKING:
    from audit.interchange.lines import Exportable

__all__ = ["csv_lines", "json_lines", "whole_file"]

# What a spreadsheet may skip before it looks for a formula: blanks of all kinds, controls and invisible characters. Of
# the signs it knows some by their full-width forms, too.
_SKIPPED = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})
_SIGNS = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")
_BOM = "\ufeff"


def json_lines(queryset: Exportable) -> Iterator[str]:
    """Yield each row as one line, in the order of their ids; tasks as `audit_import` reads them.

    One statement reads everything, so the lines are of one moment. It runs in a transaction that lasts while the
    lines are taken; do not write through the same connection meanwhile.

    Args:
        queryset: which tasks, log rows or pause entries; its own order does not matter.

    Yields:
        Lines that end in a line feed. The same rows give the same bytes.
    """
    for line in exports.lines(queryset):
        yield f"{line}\n"


def csv_lines(queryset: Exportable, *, bom: bool = False) -> Iterator[str]:
    """Yield a header and each row as one of CSV, for spreadsheets; a task's log and origin are not in it.

    A cell of text that a spreadsheet would take for a formula, or that begins with a control character, gets an
    apostrophe in front. Otherwise as `json_lines`.

    Args:
        queryset: as for `json_lines`.
        bom: whether the header begins with a byte order mark, by which Excel knows that the file is UTF-8.
    """
    yield (_BOM if bom else "") + _row(exports.columns(queryset))
    for cells in exports.cells(queryset):
        yield _row(["" if cell is None else _as_text(cell) for cell in cells])


def _as_text(cell: str) -> str:
    first = cell[:1]
    if first.isalnum() or first in ("", "{", "["):
        return cell
    begin = next((each for each in cell if category(each) not in _SKIPPED), "")
    return f"'{cell}" if (begin and begin in _SIGNS) or category(first) == "Cc" else cell


def _row(cells: list[str]) -> str:
    line = io.StringIO()
    # Python quotes a cell for the signs in the end of a line: without its CR, a CR in a cell would begin a new row.
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return f"{line.getvalue()[:-2]}\n"


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Open a file that takes its name when it is complete; on any exception it is gone, and what was there stays.

    A file that is replaced keeps its permissions, and its owner and group where this process may give them. What is no
    regular file (a pipe, /dev/stdout) is written as it comes.

    Raises:
        OSError: it cannot be written.
    """
    path = path.resolve()
    before = path.stat() if path.exists() else None
    if before and not stat.S_ISREG(before.st_mode):
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    # By chance, not by process number: writers in two containers may have the same.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    # Never readable by more than the file that it replaces, not even while it is written.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if before else 0o666)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
            if before:
                _give(descriptor, before)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _give(descriptor: int, before: os.stat_result) -> None:
    """Give a file the owner, group and permissions of another; without its group, nobody gets what the group had."""
    mode = stat.S_IMODE(before.st_mode) & 0o777
    for uid, gid in ((-1, before.st_gid), (before.st_uid, -1)):  # one by one: either may be refused
        with suppress(PermissionError):
            os.fchown(descriptor, uid, gid)
    if os.fstat(descriptor).st_gid != before.st_gid:
        mode &= 0o707
    os.fchmod(descriptor, mode)
