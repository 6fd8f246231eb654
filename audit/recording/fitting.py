"""Makes a document that can be stored of whatever Python code hands over as the result of its work.

The work is done by then, and nobody can ask again. So nothing is refused: what JSON has no form for is written as
Django's JSON encoder writes it, else as text, and what does not fit is cut. Every change is named by its path.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

import audit.values.redaction.documents  # noqa: F401 - a block that failed for want of files could not import it
from audit import conf
from audit.exceptions import InvalidValue
from audit.values import redaction, validation
from audit.values.validation import storable_text

__all__ = ["fitted"]

_MAX_CHANGES = 100
_MAX_PATH = 200
# Characters that each text may keep, as parts of the room: tried in this order until the document fits.
_TEXT_PARTS = (4, 12, 64, 512, 4096)

_default = DjangoJSONEncoder().default


def fitted(
    field: str, value: Any, compose: Callable[[Any], Any] = lambda document: document, *, redacted: bool = True
) -> tuple[Any, list[str]]:
    """Return a document that `validation.document` takes, and what was changed to make it one.

    Args:
        field: the name of the document, where the paths of changes begin.
        value: any object.
        compose: makes what is stored of the document, before its size is judged for good.
        redacted: whether its secrets are masked.

    Returns:
        The document; and a line for each change, such as `outcome.at: a datetime, stored as text`, at most a hundred.
    """
    changes: list[str] = []
    # Twice the room at first: half of a secret, at the cut, is not recognised.
    document = _made(field, value, 2 * conf.settings().MAX_JSON_BYTES, changes)
    if redacted:
        document = redaction.redact(document)
        changes = [redaction.redact_text(change) for change in changes]
    document = _made(field, compose(document), conf.settings().MAX_JSON_BYTES, changes)
    if len(changes) > _MAX_CHANGES:
        changes[_MAX_CHANGES:] = ["and more"]
    return document, changes


def _made(field: str, value: Any, room: int, changes: list[str]) -> Any:
    if isinstance(value, validation.JSONText):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = str(value)
    try:
        validation.document(field, value)
        return value  # as nearly every document
    except InvalidValue:
        pass
    for limit in (None, *(max(room // part, 100) for part in _TEXT_PARTS)):
        maker = _Maker(room, limit)
        made = maker.make(field, value, 0)
        if not maker.is_full:
            break
    changes += maker.changes
    return made


class _Maker:
    """Makes one document of at most so many bytes; texts are cut at a limit, and what finds no room is left out."""

    def __init__(self, room: int, text_limit: int | None) -> None:
        self.changes: list[str] = []
        self.is_full = False
        self._has_left_out = False
        # A little is kept for the notes of what was left out.
        self._room = room - min(1_000, room // 4)
        self._text_limit = text_limit
        self._open: set[int] = set()

    def make(self, path: str, value: Any, depth: int) -> Any:
        try:
            return self._make(path, value, depth)
        except Exception as error:  # noqa: BLE001 - its own code fails: __str__, __iter__, keys that change meanwhile
            self._note(path, value, f"could not be written: {type(error).__name__}")
            return self._text(path, f"({type(value).__name__}, which could not be written)")

    def _make(self, path: str, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            self._take(5)
            return value
        if isinstance(value, enum.Enum) and not isinstance(value, str | int | float):
            self._note(path, value, "stored as its value")
            return self.make(path, value.value, depth)
        if isinstance(value, str):
            return self._text(path, str.__str__(value))
        if isinstance(value, int):
            return self._integer(path, value)
        if isinstance(value, float):
            return self._float(path, value)
        members = self._members(path, value)
        if members is not None:
            return self._container(path, value, depth, members)
        return self._text(path, self._as_text(path, value))

    def _members(self, path: str, value: Any) -> Iterator[tuple[Any, Any]] | Iterator[Any] | None:
        """Return what a container holds, pairs or values; None for anything else."""
        if isinstance(value, Mapping):
            if not isinstance(value, dict):
                self._note(path, value, "stored as an object")
            return iter(list(value.items()))
        if isinstance(value, list | tuple):
            return iter(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            self._note(path, value, "stored as an object")
            return ((each.name, getattr(value, each.name)) for each in dataclasses.fields(value))
        if isinstance(value, bytes | bytearray | memoryview):
            return None
        if isinstance(value, Set):
            self._note(path, value, "stored as a list")
            return iter(_in_order(value))
        if isinstance(value, Sequence):
            self._note(path, value, "stored as a list")
            return iter(value)
        return None

    def _container(self, path: str, value: Any, depth: int, members: Iterator[Any]) -> Any:
        if id(value) in self._open:
            self._note(path, value, "left out: it holds itself")
            return self._text(path, "(holds itself)")
        if depth >= validation.MAX_DEPTH:
            self._note(path, value, f"left out: deeper than {validation.MAX_DEPTH} levels")
            return self._text(path, "(nested too deep)")
        self._open.add(id(value))
        try:
            self._take(2)
            if isinstance(value, Mapping) or dataclasses.is_dataclass(value):
                return self._object(path, value, depth, members)
            made = []
            for index, inner in enumerate(members):
                if self._room < 8:
                    self._left_out(f"{path}[{index}]")
                    break
                self._take(2)
                made.append(self.make(f"{path}[{index}]", inner, depth + 1))
            return made
        finally:
            self._open.discard(id(value))

    def _object(self, path: str, value: Any, depth: int, members: Iterator[tuple[Any, Any]]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        taken = {key for key in value if isinstance(key, str)} if isinstance(value, Mapping) else set()
        for key, inner in members:
            if self._room < 16:
                self._left_out(f"{path}.{_shown(key)}")
                break
            name = self._key(path, key, made, taken)
            self._take(4)
            made[name] = self.make(f"{path}.{name}"[:_MAX_PATH], inner, depth + 1)
        return made

    def _key(self, path: str, key: Any, made: dict[str, Any], taken: set[str]) -> str:
        """Make a key of an object; two keys stay two."""
        name = str.__str__(key) if isinstance(key, str) else _key_text(key)
        fit = self._cut(storable_text(name))
        unique, number = fit, 2
        while unique in made or (unique != key and unique in taken):
            unique, number = f"{fit} ({number})", number + 1
        if unique != key:
            self._note(f"{path}.{unique}", key, "as a key, stored as text" if fit == name else "as a key, changed")
        self._take(_size(unique))
        return unique

    def _text(self, path: str, text: str) -> str:
        sound = storable_text(text)
        if sound != text:
            self._note(path, text, "characters that PostgreSQL cannot store were escaped")
        made = self._cut(sound)
        if made != sound:
            self._note(path, text, f"cut, of {len(sound)} characters")
        self._take(_size(made))
        return made

    def _cut(self, text: str) -> str:
        """Cut a text to the limit, or to the room that is left."""
        if self._text_limit is not None and len(text) > self._text_limit:
            text = f"{text[: self._text_limit]}…"
        if len(text) > self._room // 6 and _size(text) > self._room:
            self.is_full = True
            text = f"{text[: max(self._room, 0) // 6]}…"
        return text

    def _integer(self, path: str, value: int) -> Any:
        number = int.__int__(value)
        digits = number.bit_length() // 3 + 2
        if -validation.MAX_INTEGER < number < validation.MAX_INTEGER and digits <= max(self._room, 100):
            self._take(digits)
            return number
        self._note(path, value, "too many digits, stored as hexadecimal text")
        return self._text(path, hex(number))

    def _float(self, path: str, value: float) -> Any:
        number = float.__float__(value)
        if number - number == 0:
            self._take(25)
            return number
        self._note(path, value, "a number JSON does not have, stored as text")
        return self._text(path, str(number))

    def _as_text(self, path: str, value: Any) -> str:
        try:
            text = _default(value)
        except (TypeError, ValueError):
            text = None
        if text is None and isinstance(value, bytes | bytearray | memoryview):
            raw = bytes(value)
            try:
                text = raw.decode()
            except UnicodeDecodeError:
                text = repr(raw)
        if text is None:
            text = _written(value)
        self._note(path, value, "stored as text")
        return str(text)

    def _take(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            self.is_full = True

    def _left_out(self, path: str) -> None:
        if not self._has_left_out:  # the first says it all
            self.changes.insert(0, storable_text(f"{path[:_MAX_PATH]}: left out, and what follows: too large"))
        self.is_full = self._has_left_out = True

    def _note(self, path: str, value: Any, what: str) -> None:
        if len(self.changes) <= _MAX_CHANGES:
            self.changes.append(storable_text(f"{path[:_MAX_PATH]}: {type(value).__name__}, {what}"))


def _size(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def _in_order(values: Set[Any]) -> list[Any]:
    """Sort a set, so that the same set is the same list."""
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=lambda each: (type(each).__name__, repr(each)))


def _key_text(key: Any) -> str:
    """Write a key as `json` does where it can: 1, true, null."""
    if key is None or isinstance(key, bool | float):
        return json.dumps(key)
    if isinstance(key, int):
        return hex(key) if abs(key) >= validation.MAX_INTEGER else str(int.__int__(key))
    try:
        return str(_default(key))
    except (TypeError, ValueError):
        return key.decode() if isinstance(key, bytes) and key.isascii() else _written(key)


def _written(value: Any) -> str:
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    kind: Any = type(value)
    # A class that says nothing itself is better shown by its representation.
    return repr(value) if isinstance(value, BaseException) or kind.__str__ is object.__str__ else str(value)


def _shown(key: Any) -> str:
    try:
        return str(key)[:_MAX_PATH]
    except Exception:  # noqa: BLE001 - anything's own __str__
        return f"({type(key).__name__})"
