"""Where tasks are read from: files, directories, standard input, plain or compressed."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from audit.exceptions import AuditError, InvalidValue
from audit.interchange.importing import Read
from audit.interchange.records import TaskRecord, problems

__all__ = ["JSON_LINES", "Source", "find_sources", "read_json_lines"]

JSON_LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
"""The names that are looked for in a directory."""

_OF_CLOUDTRAIL = ("Records", "eventVersion")
# What one JSONB value can hold, and so the largest origin.
_LONGEST_LINE = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file to read, or standard input."""

    name: str
    """As shown to people."""
    path: Path | None
    """None is standard input."""

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open it, decompressed if its name ends in `.gz` or it begins as gzip does."""
        with self._bytes() as file:
            if (self.path and self.path.suffix == ".gz") or file.peek(2)[:2] == b"\x1f\x8b":
                with gzip.open(file) as inside:
                    yield inside  # type: ignore[misc]  # a GzipFile is read like any binary file
            else:
                yield file

    @contextmanager
    def _bytes(self) -> Iterator[BufferedReader]:
        if self.path:
            with self.path.open("rb") as file:
                yield file
        elif sys.stdin:
            yield sys.stdin.buffer  # type: ignore[misc]  # a BufferedReader, in truth
        else:
            raise AuditError("Standard input is closed; there is nothing to read.")


UNREADABLE = (OSError, EOFError, zlib.error)
"""What reading a file raises when the file, or its compression, is damaged."""


def find_sources(paths: Iterable[str], suffixes: Sequence[str]) -> list[Source]:
    """List the files to read, those of directories in the order of their names.

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
            inside = sorted(file for file in path.rglob("*") if file.name.endswith(tuple(suffixes)) and file.is_file())
            if not inside:
                raise AuditError(f"{each} holds no file whose name ends in {', '.join(suffixes)}.")
            found += [Source(name=str(file), path=file) for file in inside]
        elif path.exists():
            found.append(Source(name=each, path=path))
        else:
            raise AuditError(f"{each} does not exist. Give files, directories, or - for standard input.")
    return found


def read_json_lines(source: Source) -> Iterator[Read]:
    """Yield what each line holds, or what is wrong with it; empty lines are passed over."""
    number = 0
    try:
        with source.opened() as file:
            while line := file.readline(_LONGEST_LINE + 1):
                number += 1
                place = f"{source.name}:{number}"
                if len(line) > _LONGEST_LINE:
                    yield Read.bad(place, InvalidValue("line", line[:200], f"is longer than {_LONGEST_LINE} bytes"))
                    while line and not line.endswith(b"\n"):
                        line = file.readline(_LONGEST_LINE)
                    continue
                if line.strip():
                    yield _read(place, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
    except UNREADABLE as error:
        yield Read.bad(source.name, InvalidValue("file", source.name, f"cannot be read after line {number}: {error}"))


def _read(place: str, line: bytes) -> Read:
    try:
        return Read(place=place, record=TaskRecord.of_line(line.decode()))
    except UnicodeDecodeError as error:
        around = line[max(0, error.start - 40) : error.start + 40]
        return Read.bad(place, InvalidValue("line", around, f"is not UTF-8, at byte {error.start}"))
    except InvalidValue as error:
        return Read.bad(place, error)
    except ValidationError as error:
        found = problems(error)
        if any(each.field in _OF_CLOUDTRAIL for each in found):
            problem = "is of AWS CloudTrail, it seems; --format cloudtrail reads that"
            return Read.bad(place, InvalidValue("line", line[:80], problem))
        return Read.bad(place, *found)
