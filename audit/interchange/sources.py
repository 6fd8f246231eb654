"""Where tasks are read from: files, directories, standard input, plain or compressed.

A file is read in pieces, and what comes out of a compressed one is bounded, so a small file cannot fill the memory.
"""

from __future__ import annotations

import gzip
import os
import re
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from pydantic import ValidationError

from audit import conf
from audit.exceptions import AuditError, InvalidValue
from audit.interchange.importing import Read
from audit.interchange.records import TaskRecord, Withheld, problems

__all__ = [
    "JSON_LINES",
    "UNREADABLE",
    "Source",
    "TooLong",
    "find_sources",
    "read_json_lines",
    "unreadable",
    "while_hopeful",
]

JSON_LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
"""The names that are looked for in a directory."""

_OF_CLOUDTRAIL = {"Records", "eventVersion"}
_PIECE = 256 * 1024
_BLANK = re.compile(rb"\s*")
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_HOPELESS = 100_000
_LINK = "a symbolic link, which is not followed"


class TooLong(Exception):
    """A file or a record is larger than a setting allows; the message names both."""


UNREADABLE = (OSError, EOFError, zlib.error, TooLong)
"""What reading a file raises when the file, or its compression, is damaged or too large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file to read, or standard input."""

    name: str
    """As shown to people."""
    path: Path | None
    """None is standard input."""
    found: bool = False
    """Whether a directory held it, rather than that somebody named it."""
    passed_over: str = ""
    """Why it is not read at all; empty for one that is."""

    def pieces(self) -> Iterator[bytes]:
        """Yield its bytes in order, decompressed if it begins as gzip does. What was read before an error is yielded.

        Raises:
            TooLong: more than `AUDIT["IMPORT_MAX_BYTES"]` come out of it.
            OSError: it cannot be read, or is not compressed as gzip does it.
            EOFError, zlib.error: its compression is damaged.
            AuditError: it is standard input, and closed.
        """
        with self._bytes() as file:
            if file.peek(2)[:2] != _GZIP:
                while piece := file.read1(_PIECE):
                    yield piece
                return
            limit, size = conf.settings().IMPORT_MAX_BYTES, 0
            with gzip.open(file) as inside:
                while piece := inside.read1(_PIECE):
                    size += len(piece)
                    if size > limit:
                        problem = "more than the {} bytes that may come out of one compressed file; {}"
                        raise TooLong(problem.format(limit, 'if it is sound, raise AUDIT["IMPORT_MAX_BYTES"]'))
                    yield piece

    @contextmanager
    def _bytes(self) -> Iterator[BufferedReader]:
        if self.found and self.path:
            # What was a file when the directory was listed may have been exchanged since.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor is not a path
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise OSError("it is not a regular file")
                yield file
        elif self.path:
            with self.path.open("rb") as file:
                yield file
        elif sys.stdin:
            yield sys.stdin.buffer  # type: ignore[misc]  # a BufferedReader, in truth
        else:
            raise AuditError("Standard input is closed. There is nothing to read.")


def unreadable(source: Source, error: Exception, after: str = "") -> Read:
    """Say that a file, or the rest of it, cannot be read.

    Args:
        source: the file.
        error: one of `UNREADABLE`.
        after: how far it was read, in words; empty for not at all.
    """
    problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, gzip.BadGzipFile) and "Not a gzipped file" in problem:
        problem = "what follows the compressed data is not gzip"
    where = f" after {after}" if after else ""
    return Read.bad(source.name, Withheld("file", None, f"cannot be read{where}: {problem}"))


def find_sources(paths: Iterable[str], suffixes: Sequence[str]) -> list[Source]:
    """List the files to read, those of directories in the order of their names.

    Symbolic links, pipes and devices inside a directory are not followed; they come as sources that are passed over.

    Args:
        paths: files, directories (searched to any depth for names that end in one of `suffixes`), `-` for standard
            input.
        suffixes: such as `JSON_LINES`.

    Raises:
        AuditError: a path does not exist, or a directory holds nothing to read; names it.
    """
    found = []
    for each in paths:
        path = Path(each)
        if each == "-":
            found.append(Source(name="standard input", path=None))
        elif path.is_dir():
            inside = sorted(_inside(path, tuple(suffixes)), key=lambda source: source.path or path)
            if not inside:
                raise AuditError(f"{each} contains no file whose name ends in {', '.join(suffixes)}.")
            found += inside
        elif path.exists():
            found.append(Source(name=each, path=path))
        else:
            raise AuditError(f"{each} does not exist. Give files, directories, or - for standard input.")
    return found


def _inside(directory: Path, suffixes: tuple[str, ...]) -> Iterator[Source]:
    unlisted: list[OSError] = []
    for folder, folders, files in os.walk(directory, onerror=unlisted.append, followlinks=False):
        for name in folders:
            path = Path(folder, name)
            if path.is_symlink():
                yield Source(name=str(path), path=path, found=True, passed_over=_LINK)
        for name in files:
            path = Path(folder, name)
            if not name.endswith(suffixes):
                continue
            try:
                mode = path.lstat().st_mode
            except OSError as error:
                unlisted.append(error)
                continue
            passed_over = "" if stat.S_ISREG(mode) else _LINK if stat.S_ISLNK(mode) else "no regular file"
            yield Source(name=str(path), path=path, found=True, passed_over=passed_over)
    for each in unlisted:
        # Read like a file, it says why it cannot be.
        yield Source(name=str(each.filename), path=Path(each.filename))


def while_hopeful(source: Source, reads: Iterable[Read]) -> Iterator[Read]:
    """Yield what is read from a file, and leave the rest of it after a hundred thousand refusals in a row."""
    bad = 0
    for read in reads:
        yield read
        bad = bad + 1 if read.problems else 0
        if bad == _HOPELESS:
            problem = f"does not seem to hold tasks: {bad} records in a row were refused, and the rest is not read"
            yield Read.bad(source.name, Withheld("file", None, problem))
            return


def read_json_lines(source: Source) -> Iterator[Read]:
    """Yield what each line holds, or what is wrong with it; empty lines are passed over."""
    return while_hopeful(source, _records(source))


def _records(source: Source) -> Iterator[Read]:
    longest = conf.settings().IMPORT_MAX_RECORD_BYTES
    number = 0
    try:
        for number, line in _lines(source.pieces(), longest):
            place = f"{source.name}:{number}"
            if line is None:
                problem = f'is longer than {longest} bytes; if it is sound, raise AUDIT["IMPORT_MAX_RECORD_BYTES"]'
                yield Read.bad(place, Withheld("line", None, problem))
            elif line := line.removeprefix(_BOM) if number == 1 else line:
                yield _read(place, line)
    except UNREADABLE as error:
        yield unreadable(source, error, f"line {number}" if number else "")


def _lines(pieces: Iterable[bytes], longest: int) -> Iterator[tuple[int, bytes | None]]:
    """Yield the number and the text of each line that is not blank; None for one that is too long."""
    number, size = 0, 0
    parts: list[bytes] = []
    for piece in pieces:
        start = 0
        while start < len(piece):
            if not size:
                # Blank lines are passed over at once: a small compressed file holds millions.
                begin = _BLANK.match(piece, start).end()  # type: ignore[union-attr]
                number += piece.count(b"\n", start, begin)
                start = begin
                if start == len(piece):
                    break
            newline = piece.find(b"\n", start)
            end = newline + 1 or len(piece)
            size += end - start
            if size <= longest:
                parts.append(piece[start:end])
            else:
                parts.clear()
            if newline >= 0:
                number += 1
                yield number, b"".join(parts).strip() if size <= longest else None
                parts.clear()
                size = 0
            start = end
    if size:
        yield number + 1, b"".join(parts).strip() if size <= longest else None


def _read(place: str, line: bytes) -> Read:
    try:
        return Read(place=place, record=TaskRecord.of_line(line.decode()))
    except UnicodeDecodeError as error:
        return Read.bad(place, Withheld("line", None, f"is not UTF-8, at byte {error.start}"))
    except InvalidValue as error:
        return Read.bad(place, error)
    except ValidationError as error:
        found = problems(error)
        if any(each.field in _OF_CLOUDTRAIL for each in found):
            problem = "seems to be of AWS CloudTrail; use --format cloudtrail"
            return Read.bad(place, Withheld("line", None, problem))
        return Read.bad(place, *found)
