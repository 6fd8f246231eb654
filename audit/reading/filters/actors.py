"""The names of actors: those that a pattern fits, and those that look like one that nobody has.

Note [Names without a scan]
    There are few actors beside many tasks. Each column of names is the first of an index, so the next name is one
    descent of its tree, and all of them are as many descents as there are names, however many tasks there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from django.db import connections

from audit.exceptions import InvalidFilter
from audit.reading.filters.values import MOST_VALUES

__all__ = ["MOST_NAMES", "close_to", "is_pattern", "matching", "names_like"]

MOST_NAMES = 5000
"""How many names of each column (requester, decider, last actor) are looked through."""
_LEAST_TEXT = 3
_CLOSE = 5

# The condition `<> ''` is that of an index, and `> ''` enters one behind all the rows without a name.
_COLUMN = """
{column}_names (name, place) AS (
    (SELECT {column}, 1 FROM audit_task WHERE {column} <> '' AND {column} > '' ORDER BY {column} LIMIT 1)
    UNION ALL
    SELECT (SELECT {column} FROM audit_task WHERE {column} <> '' AND {column} > before.name ORDER BY {column} LIMIT 1),
        before.place + 1
    FROM {column}_names AS before WHERE before.name IS NOT NULL AND before.place <= %(most)s
)
"""
_COLUMNS = ("requested_by", "decided_by", "actor")
_NAMES = f"""
WITH RECURSIVE {",".join(_COLUMN.format(column=each) for each in _COLUMNS)},
names (name, place) AS ({" UNION ALL ".join(f"TABLE {each}_names" for each in _COLUMNS)})
(SELECT name FROM names WHERE name ILIKE %(like)s GROUP BY name ORDER BY name LIMIT %(limit)s)
UNION ALL
(SELECT NULL FROM names WHERE name IS NOT NULL AND place > %(most)s LIMIT 1)
"""  # noqa: S608 - names of columns, written above


def is_pattern(name: str) -> bool:
    """Whether a name that somebody looks for stands for several: `*` stands for any characters."""
    return "*" in name


def names_like(using: str, like: str, limit: int) -> tuple[list[str], bool]:
    """Return the names that an ILIKE pattern fits, and whether all names were looked through.

    Args:
        using: the database alias.
        like: the pattern, in SQL.
        limit: how many names at the most.
    """
    with connections[using].cursor() as cursor:
        cursor.execute(_NAMES, {"most": MOST_NAMES, "like": like, "limit": limit})
        found = [name for (name,) in cursor.fetchall()]
    return [name for name in found if name is not None], None not in found


def matching(using: str, names: Sequence[str]) -> tuple[str, ...]:
    """Replace each pattern among names by the names that it fits, in whatever case; one that fits none stays.

    Args:
        using: the database alias; it is asked only if there is a pattern.
        names: names in full, and patterns such as `*bert-jan*`.

    Raises:
        InvalidFilter: a pattern has too few letters, fits too many names, or there are too many to look through.
    """
    found: dict[str, None] = {}
    for name in names:
        several: list[str] = []
        if is_pattern(name):
            if sum(each.isalnum() for each in name) < _LEAST_TEXT:
                raise InvalidFilter("actor", name, f"needs at least {_LEAST_TEXT} letters or digits beside the *")
            like = "%".join(_literal(each) for each in name.split("*"))
            several, complete = names_like(using, like, MOST_VALUES + 1)
            if not complete:
                problem = f"cannot be looked for: there are more than {MOST_NAMES} actors; write the whole name"
                raise InvalidFilter("actor", name, problem)
        found |= dict.fromkeys(several or [name])
        if len(found) > MOST_VALUES:
            raise InvalidFilter("actor", name, f"fits more than {MOST_VALUES} actors; write more of the name")
    return tuple(found)


def close_to(using: str, name: str) -> list[str]:
    """Return a few names that somebody may have meant: those that contain it, then those that are spelled alike.

    Args:
        using: the database alias.
        name: a name in full that no task has.
    """
    known, _complete = names_like(using, "%", MOST_NAMES)
    containing = [each for each in known if name.lower() in each.lower()]
    if containing:
        return [each for each in containing[:_CLOSE] if each != name]
    # The end of an ARN or of a path is how people call it.
    by_end = {_end(each): each for each in reversed(known)}
    alike = get_close_matches(name.lower(), by_end, n=_CLOSE, cutoff=0.7)
    return [by_end[each] for each in alike if by_end[each] != name]


def _literal(text: str) -> str:
    return text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")


def _end(name: str) -> str:
    return name.rpartition("/")[2].lower()
