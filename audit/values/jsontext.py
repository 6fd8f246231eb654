"""JSON as the text it is: PostgreSQL keeps `12.50` and 5 000 digits, Python's reader does not.

A document that only passes through is therefore cut out of the text around it and handed on unread.
"""

import json
import re
from collections.abc import Callable, Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]  # the stubs lack it
from typing import Any, NoReturn

from audit.exceptions import InvalidValue
from audit.values.validation import JSONText

__all__ = ["check_escapes", "closing", "edited", "elements", "members", "spliced"]


def members(text: str, field: str = "line") -> Iterator[tuple[str, Any, JSONText]]:
    """Cut a JSON object into its members.

    Args:
        text: holds the object, and white space around it.
        field: what to call the text in errors.

    Yields:
        Key, value and the value's own text. Numbers come as their text too (see the third item to distinguish them from
        strings), a value nested deeper than Python reads as None.

    Raises:
        InvalidValue: not JSON, not an object, or a key that occurs twice; says where.
    """
    yield from _parts(text, field, "{", "}")


def elements(text: str, field: str = "line") -> Iterator[tuple[Any, JSONText]]:
    """Cut a JSON array into its elements; arguments, values and errors as in `members`."""
    for _, value, cut in _parts(text, field, "[", "]"):
        yield value, cut


def spliced(**parts: str) -> JSONText:
    """Write an object from values that are JSON texts already."""
    return JSONText("{" + ",".join(f"{json.dumps(key)}:{text}" for key, text in parts.items()) + "}")


def check_escapes(field: str, text: str) -> None:
    """Check what JSON allows and PostgreSQL does not: NUL characters and lone surrogates, written as escapes.

    Raises:
        InvalidValue: there is one; shows the text around it.
    """
    if "\\u" not in text:
        return
    for escape in _ESCAPE.finditer(text):
        found = escape[0].lower()
        if found == "\\u0000":
            problem = "contains a NUL character, which PostgreSQL cannot store"
        elif len(found) == 6 and found[2] == "d" and found[3] in "89abcdef":
            problem = "contains a lone surrogate"
        else:
            continue
        around = text[max(0, escape.start() - 40) : escape.end() + 40]
        raise InvalidValue(field, around, f"{problem}, at character {escape.start()}")


def edited(text: str, change: Callable[[Any], Any]) -> JSONText:
    """Read a document, change it, and write it with the numbers it had.

    Args:
        text: a JSON document.
        change: takes and returns JSON values; numbers are floats that must be handed back as they came.

    Raises:
        InvalidValue: nested deeper than Python reads.
    """
    try:
        return JSONText(_written(change(_NUMBERS.decode(text))))
    except RecursionError:
        raise InvalidValue("document", text, "is nested too deep to be changed") from None


class _Number(float):
    """A number that remembers how it was written."""

    text: str

    def __new__(cls, text: str) -> "_Number":
        number = super().__new__(cls, text)
        number.text = text
        return number


class _Constant(Exception):
    """NaN or an infinity."""


def _no_constant(name: str) -> NoReturn:
    raise _Constant(name)


_SCANNER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_constant)
_NUMBERS = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_no_constant)
_DEEPEST = 100_000
_SPACE = re.compile(r"[ \t\n\r]*")
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
_PLAIN_KEY = re.compile(r'"([^"\\\x00-\x1f]*)"[ \t\n\r]*:[ \t\n\r]*')
_STRUCTURE = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]')
# How any value of JSON begins.
_IS_JSON = re.compile(r'["\[{\-0-9]|(?:true|false|null)\b|\Z')
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", re.DOTALL)


def _parts(text: str, field: str, opening: str, closing: str) -> Iterator[tuple[str, Any, JSONText]]:
    position = _after_space(text, 0)
    if text[position : position + 1] != opening:
        kind = "an object" if opening == "{" else "a list"
        problem = f"must be {kind}" if _IS_JSON.match(text, position) else f"is not JSON; it must be {kind}"
        raise InvalidValue(field, text[position : position + 200], problem)
    position = _after_space(text, position + 1)
    seen = set()
    key = ""
    while text[position : position + 1] != closing:
        if opening == "{":
            key, position = _key(text, position, field)
            if key in seen:
                raise InvalidValue(key, key, "is a key that occurs twice")
            seen.add(key)
        value, end = _scanned(text, position, key or field)
        yield key, value, JSONText(text[position:end])
        follows = _COMMA.match(text, end)
        if follows:
            position = follows.end()
            if text[position : position + 1] == closing:
                raise _broken(field, text, position, "a value is missing")
        else:
            position = _after_space(text, end)
            if text[position : position + 1] != closing:
                raise _broken(field, text, position, f"',' or {closing!r} is missing")
    if (end := _after_space(text, position + 1)) != len(text):
        raise _broken(field, text, end, "something follows the end")


def _key(text: str, position: int, field: str) -> tuple[str, int]:
    """Read a key and the colon after it; returns where the value begins."""
    if plain := _PLAIN_KEY.match(text, position):
        return plain[1], plain.end()
    if text[position : position + 1] != '"':
        raise _broken(field, text, position, "a key in double quotes is missing")
    try:
        key, end = scanstring(text, position + 1)
    except json.JSONDecodeError as error:
        raise _broken(field, text, error.pos, error.msg) from None
    end = _after_space(text, end)
    if text[end : end + 1] != ":":
        raise _broken(field, text, end, "':' is missing")
    return key, _after_space(text, end + 1)


def _scanned(text: str, position: int, field: str) -> tuple[Any, int]:
    try:
        return _SCANNER.scan_once(text, position)  # type: ignore[attr-defined, no-any-return]  # the stubs lack it
    except StopIteration as stop:
        raise _broken(field, text, stop.value, "a value is missing") from None
    except json.JSONDecodeError as error:
        raise _broken(field, text, error.pos, error.msg) from None
    except _Constant as constant:
        raise InvalidValue(field, str(constant), "is NaN or infinite, which JSON cannot express") from None
    except RecursionError:
        # PostgreSQL reads deeper than Python; it is left to judge what is inside.
        try:
            return None, closing(text, position, field)
        except RecursionError:
            raise InvalidValue(field, "…", f"is nested deeper than {_DEEPEST} levels") from None


def closing(text: str, position: int, field: str = "line") -> int:
    """Find where a list or an object ends, however deep it is nested; what is inside is not checked.

    Args:
        text: holds the value.
        position: where the value begins.
        field: what to call the text in errors.

    Returns:
        The position behind its last bracket.

    Raises:
        InvalidValue: the text ends before it.
        RecursionError: it is nested deeper than any database could take.
    """
    depth = 0
    for token in _STRUCTURE.finditer(text, position):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > _DEEPEST:
            raise RecursionError
        if depth == 0:
            return token.end()
    raise _broken(field, text, len(text), "a bracket is never closed")


def _after_space(text: str, position: int) -> int:
    return _SPACE.match(text, position).end()  # type: ignore[union-attr]


def _broken(field: str, text: str, position: int, problem: str) -> InvalidValue:
    around = text[max(0, position - 40) : position + 40]
    return InvalidValue(field, around, f"is not JSON: {problem}, at character {position}")


def _written(value: Any) -> str:
    if isinstance(value, _Number):
        return value.text
    if isinstance(value, dict):
        return (
            "{"
            + ",".join(f"{json.dumps(key, ensure_ascii=False)}:{_written(each)}" for key, each in value.items())
            + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_written, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
