"""Which names hold a secret.

Note [Names]
    A name counts by its last words: `DB_PASSWORD`, `awsSecretAccessKey`, `spring.datasource.password`. Case, hyphens,
    underscores, dots and the humps of camelCase make no difference; a number at the end (`password2`) and a word that
    only says which one (`password_hash`, `passwordConfirm`) are passed over. `keyId`, `secretARN`, `nextToken` and
    `passwordPolicy` end in other words and hold none.
"""

import re
from enum import Enum
from functools import lru_cache

from audit.values.redaction.vocabulary import (
    ADDRESS,
    ALONE,
    ENDING,
    GLUED,
    GLUED_TEXT,
    MASK,
    ONLY_WHICH,
    OPAQUE,
    PLAIN_BEFORE,
    TEXT,
)

__all__ = ["MASK", "Kind", "fold", "is_strong", "kind_of", "words"]


class Kind(Enum):
    """What is masked under a name."""

    ALL = "everything but null, true and false"
    TEXT = "text, whatever it says"
    OPAQUE = "text that no person would have written as words"
    ADDRESS = "text that is not a URL; in a URL its password"


# Letters that look like Latin ones, and full-width forms, each for one character.
_LOOKALIKE = str.maketrans(
    dict(zip("аеорсухікмтвнАЕОРСУХІКМТВНѕԁӏοαΟΑΕΚ", "aeopcyxikmtbhAEOPCYXIKMTBHsdloaOAEK", strict=True))
    | {chr(0xFF01 + each): chr(0x21 + each) for each in range(94)}
)
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")


def fold(text: str) -> str:
    """Write look-alike letters as the Latin ones; the length stays."""
    return text if text.isascii() else text.translate(_LOOKALIKE)


_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[^\W_A-Za-z]+")


def words(name: str) -> list[str]:
    """Split a name into its words, in small letters."""
    name = name if name.isascii() else _UNSEEN.sub("", fold(name))
    if name.isascii():
        return [word.lower() for word in _WORD.findall(name)]
    return [word.lower() for word in re.findall(r"[A-Z]?[^\W_A-Z0-9]+|[A-Z]+|[0-9]+", name)]


def _joined(names: frozenset[str]) -> frozenset[str]:
    return frozenset("".join(words(name)) for name in names)


_TABLE: dict[str, Kind] = {}
for _names, _kind in ((ADDRESS, Kind.ADDRESS), (OPAQUE, Kind.OPAQUE), (TEXT, Kind.TEXT), (ENDING, Kind.ALL)):
    _TABLE |= dict.fromkeys(_joined(_names), _kind)
_ALONE = _joined(ALONE)
_LONGEST = 4
_MAX_NAME = 200


@lru_cache(maxsize=8192)
def kind_of(name: str) -> Kind | None:
    """Tell what is masked under a name; None for nothing."""
    split = words(name[-_MAX_NAME:])
    while split and split[-1].isdigit():
        split.pop()
    if "".join(split) in _ALONE:
        return Kind.ALL
    kind = _ends(split)
    while kind is None and len(split) > 1 and split[-1] in ONLY_WHICH:
        split.pop()
        kind = _ends(split)
        if kind in (Kind.OPAQUE, Kind.ADDRESS):
            return None
    return kind


def _ends(split: list[str]) -> Kind | None:
    if not split:
        return None
    for count in range(min(_LONGEST, len(split)), 0, -1):
        kind = _TABLE.get("".join(split[-count:]))
        if kind is not None:
            before = split[-count - 1] if len(split) > count else ""
            return None if before in PLAIN_BEFORE.get(split[-1], ()) else kind
    last = split[-1]
    if GLUED.search(last):
        return Kind.ALL
    if match := GLUED_TEXT.search(last):
        return None if last[: match.start()] in PLAIN_BEFORE.get(match[0], ()) else Kind.TEXT
    return None


def is_strong(name: str) -> bool:
    """Whether a name holds a secret whatever its value looks like."""
    return kind_of(name) in (Kind.ALL, Kind.TEXT)
