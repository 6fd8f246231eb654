"""A window on JSON text that may be longer than memory should hold: values are cut out of it one by one."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from audit.exceptions import InvalidValue
from audit.interchange.records import Withheld
from audit.interchange.sources import TooLong
from audit.values import jsontext

__all__ = ["Window", "decoded"]

_SPACE = re.compile(r"[ \t\n\r]*")
# Where another document may begin, after one that is broken: JSON Lines, documents one below the other, log lines.
_NEXT = re.compile(r"[\n\r](?=[\[{]|\d{4}-\d\d-\d\d)")
# The longest literal that a piece of the text may have cut: `Infinity`, `\ud83d\ude00`.
_LITERAL = 16


def _nothing(text: str) -> None:
    """Stand for a number: only where values end is asked here."""


_scan = json.JSONDecoder(parse_int=_nothing, parse_float=_nothing, parse_constant=_nothing).scan_once  # type: ignore[attr-defined]


def decoded(pieces: Iterable[bytes]) -> Iterator[str]:
    """Decode UTF-8, or UTF-16 that begins with its mark, as PowerShell writes it.

    A byte that is not text becomes a lone surrogate, so only the event that holds it is refused.
    """
    remaining = iter(pieces)
    begin = b""
    for piece in remaining:
        begin += piece
        if len(begin) > 1:
            break
    wide = begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    kind, errors = ("utf-16", "surrogatepass") if wide else ("utf-8-sig", "surrogateescape")
    decoder = codecs.getincrementaldecoder(kind)(errors)
    for piece in chain([begin], remaining):
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


class Window:
    """Text that is read as far as it is needed, and forgotten behind `at` or, where a caller keeps it, behind `kept`.

    Args:
        pieces: the text.
        longest: how many characters one value may have.
    """

    def __init__(self, pieces: Iterator[str], longest: int) -> None:
        self.line = 1
        """The line that `at` stands on."""
        self._pieces = pieces
        self._longest = longest
        self._text = ""
        self._at = 0
        self._kept: int | None = None
        self._kept_line = 1

    def keep(self) -> None:
        """Forget nothing from here on, so that `since` can return it."""
        self._kept, self._kept_line = self._at, self.line

    def forget(self) -> None:
        """Keep no longer what `keep` has kept."""
        self._kept = None

    def since(self) -> str:
        """Return the text from `keep` on; it is not kept any longer.

        Raises:
            TooLong: it is longer than allowed.
        """
        assert self._kept is not None  # noqa: S101 - a caller's mistake
        self._check(self._at - self._kept)
        text = self._text[self._kept : self._at]
        self._kept = None
        return text

    def peek(self) -> str:
        """Pass over white space and return the next character, empty at the end."""
        while True:
            self._move(_SPACE.match(self._text, self._at).end())  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, characters: str) -> str:
        """Pass over white space and one of these characters; returns it, or empty if another one stands there."""
        found = self.peek()
        if not found or found not in characters:
            return ""
        self._move(self._at + 1)
        return found

    def match(self, pattern: re.Pattern[str], length: int) -> bool:
        """Pass over a pattern that begins here and has at most `length` characters; whether it does."""
        while len(self._text) - self._at < length and self._more():
            pass
        found = pattern.match(self._text, self._at)
        if found:
            self._move(found.end())
        return bool(found)

    def value(self) -> tuple[Any, str]:
        """Read the value that begins here; returns it and its text.

        A number comes as None, like a value nested deeper than Python reads.

        Raises:
            Withheld: it is not JSON.
            TooLong: it is longer than allowed.
        """
        while True:
            problem, position = "a value is missing", self._at
            try:
                value, end = _scan(self._text, self._at)
            except StopIteration as stop:
                position = stop.value
            except json.JSONDecodeError as error:
                problem, position = error.msg, error.pos
                if problem.startswith("Unterminated string"):
                    position = len(self._text)
            except RecursionError:
                try:
                    value, end = None, jsontext.closing(self._text, self._at)
                except RecursionError:
                    raise self.broken("it is nested too deep") from None
                except InvalidValue:
                    problem, position = "a bracket is never closed", len(self._text)
                else:
                    return self._cut(value, end)
            else:
                if end < len(self._text) or not self._more():
                    return self._cut(value, end)
                continue  # a number may go on
            if position < len(self._text) - _LITERAL or not self._more():
                raise self.broken(problem)

    def broken(self, problem: str) -> Withheld:
        """Make an error that says what is wrong here, and shows nothing of the text."""
        if self.peek() and "\udc80" <= self._text[self._at] <= "\udcff":
            problem = "it is not UTF-8"
        return Withheld(f"line {self.line}", None, f"is not JSON: {problem}")

    def recover(self) -> None:
        """Go to where another document may begin: here, or behind the beginning of what is kept."""
        if self._kept is not None:
            self._at, self.line = self._kept, self._kept_line
            self._kept = None
        elif _NEXT.match(self._text, max(self._at - 1, 0)):
            return
        while not (found := _NEXT.search(self._text, self._at)):
            # The last character may be the line break before it.
            self._move(max(self._at, len(self._text) - _LITERAL))
            if not self._more():
                self._move(len(self._text))
                return
        self._move(found.end())

    def _cut(self, value: Any, end: int) -> tuple[Any, str]:
        text = self._text[self._at : end]
        self._move(end)
        return value, text

    def _check(self, length: int) -> None:
        if length > self._longest:
            problem = "is longer than {} characters; if it is sound, raise {}"
            raise TooLong(problem.format(self._longest, 'AUDIT["IMPORT_MAX_RECORD_BYTES"]'))

    def _move(self, to: int) -> None:
        self.line += self._text.count("\n", self._at, to)
        self._at = to

    def _more(self) -> bool:
        """Read on: as much again as there is, so that a long value is not scanned too often; False at the end."""
        begin = self._at if self._kept is None else self._kept
        self._check(len(self._text) - begin)
        wanted = 2 * (len(self._text) - begin)
        begin = max(begin - 1, 0)  # `recover` looks at the character before
        self._at -= begin
        self._kept = None if self._kept is None else self._kept - begin
        parts = [self._text[begin:]]
        size = before = len(parts[0])
        for piece in self._pieces:
            parts.append(piece)
            size += len(piece)
            if size > before and size >= wanted:
                break
        self._text = "".join(parts)
        return size > before
