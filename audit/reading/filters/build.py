"""Builds a filter from what people type: search text, URL keys, options."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from audit.exceptions import InvalidFilter
from audit.reading.filters.conditions import CONDITIONS, looks_like_condition, suggestion
from audit.reading.filters.values import BY_NAME, MOST_VALUES, PATH, Key, document, search_word

__all__ = ["Build", "Problems", "quoted"]

Problems = list[InvalidFilter]

_TOKEN = re.compile(
    r"""(?:(?P<key>[A-Za-z][A-Za-z0-9_.-]*):)?(?:"(?P<quoted>(?:[^"\\]|\\.)*)"(?=\s|$)|(?P<bare>\S+))""",
    re.DOTALL,
)
_SHOWN = 100
# UUIDv7 begins with 0 until the year 2527; shorter beginnings take `id:`.
_LIKE_ID = re.compile(r"0[0-9a-f]{7}(?:-?[0-9a-f]{1,4}){0,6}", re.IGNORECASE)


def quoted(value: str, *, word: bool = False) -> str:
    """Quote what would otherwise read as something else: spaces, quotes, and words like ids or tokens."""
    plain = not re.search(r'[\s"\\]', value)
    if word and plain:
        plain = ":" not in value and not _LIKE_ID.fullmatch(value)
    return value if plain else '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def _unknown(key: str, value: str) -> str:
    """Say what is wrong with a condition that there is none of; nothing for words that merely have a colon."""
    close = suggestion(key, value)
    if not close and not looks_like_condition(key, value):
        return ""
    meant = f"Did you mean `{close}:{quoted(value[:_SHOWN])}`?" if close else f"There are {', '.join(CONDITIONS)}."
    return f'has the unknown condition `{key}`. {meant} To search for these characters, put "…" around them.'


class Build:
    """Collects conditions one by one, so that one bad value need not spoil the others."""

    def __init__(self, problems: Problems | None) -> None:
        self._problems = problems
        self._values: dict[str, Any] = {}

    def done(self) -> dict[str, Any]:
        """Return the keywords of a `TaskFilter`."""
        given = {name: tuple(value) if isinstance(value, dict) else value for name, value in self._values.items()}
        return given | {"since": None, "all_time": True} if given.get("since") == "all" else given

    def add(self, name: str, value: object) -> None:
        """Take one value of a URL key."""
        try:
            if name in BY_NAME:
                self._add(BY_NAME[name], value)
            else:
                self._many("documents", [document(name, value)])
        except InvalidFilter as error:
            self._refuse(error)

    def text(self, text: str) -> None:
        """Take everything in a search text."""
        for token in _TOKEN.finditer(text):
            name = (token["key"] or "").lower().replace("-", "_")
            quoted, bare = token["quoted"], token["bare"]
            value = re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL) if bare is None else bare
            if name in BY_NAME or PATH.fullmatch(token["key"] or ""):
                self._token(name if name in BY_NAME else token["key"], value, token)
            elif token["key"] and (problem := _unknown(token["key"], value)):
                self._refuse(InvalidFilter("search", token[0], problem))
            elif bare is not None and not token["key"] and _LIKE_ID.fullmatch(bare):
                self._bare_id(bare)
            else:
                self._word(token[0] if token["key"] else value, token)

    def _token(self, name: str, value: str, token: re.Match[str]) -> None:
        if token["bare"] is not None and value.startswith('"'):
            self._refuse(InvalidFilter("search", token[0], "opens a quote that is never closed"))
        else:
            self.add(name, value)

    def _word(self, value: str, token: re.Match[str]) -> None:
        try:
            if token["bare"] is not None and value.startswith('"'):
                raise InvalidFilter("search", token[0], "opens a quote that is never closed")
            if token["bare"] is not None and value.removesuffix(":").replace("-", "_") in BY_NAME and ":" in value:
                raise InvalidFilter("search", token[0], "needs a value right after the colon")
            self._many("words", [search_word("search", value)])
        except InvalidFilter as error:
            self._refuse(error)

    def _bare_id(self, value: str) -> None:
        digits = value.replace("-", "")
        if len(digits) > 32 or (len(digits) > 12 and digits[12] != "7"):
            self._many("words", [value])  # somebody else's id: a trace or request id perhaps
        else:
            self.add("id", value)

    def _add(self, key: Key, value: object) -> None:
        every = key.name == "since" and isinstance(value, str) and value.lower() == "all"
        read: Sequence[Any] = ("all",) if every else key.read(key.name, value)
        if key.many:
            self._many(key.field, read)
        elif self._values.setdefault(key.field, read[0]) != read[0]:
            raise InvalidFilter(key.name, value, "is given twice; choose one of them")

    def _many(self, field: str, read: Iterable[Any]) -> None:
        values = self._values.setdefault(field, {})
        for value in read:
            if len(values) >= MOST_VALUES and value not in values:
                raise InvalidFilter(field, value, f"is one too many; at most {MOST_VALUES} are taken")
            values[value] = None

    def _refuse(self, error: InvalidFilter) -> None:
        if self._problems is None:
            raise error
        self._problems.append(error)
