"""What PostgreSQL says of the CHECKs and unique indexes that the newest migration leaves, and of functions of its own.

`installed.tsv` has one a line: table, name, and how the catalog words it, which is the same from PostgreSQL 14 on
whichever Django made it. A test compares it with a database that was just migrated.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

__all__ = ["builtins", "checks", "keys", "worded"]

_CHECK = "CHECK "
_SERVER = "pg_catalog"


@cache
def _lines() -> dict[tuple[str, str], str]:
    text = files(__package__).joinpath("installed.tsv").read_text(encoding="utf-8")
    return {(table, name): words for table, name, words in (line.split("\t") for line in text.splitlines())}


@cache
def checks() -> dict[tuple[str, str], str]:
    """Every CHECK by table and name, as `worded` leaves it."""
    return {key: words for key, words in _lines().items() if words.startswith(_CHECK)}


@cache
def keys() -> dict[tuple[str, str], str]:
    """Every unique index by table and name: what follows USING in its definition. `<table>_pkey` is the primary key."""
    return {key: words for key, words in _lines().items() if not words.startswith(_CHECK) and key[0] != _SERVER}


@cache
def builtins() -> dict[str, str]:
    """The symbol in the server of each built-in function that seals, sealer or verifier rely on, by its signature."""
    return {name: words for (table, name), words in _lines().items() if table == _SERVER}


def worded(definition: str) -> str:
    """Write the answer of `pg_get_constraintdef` on one line, without whether older rows keep it."""
    return " ".join(definition.split()).removesuffix(" NOT VALID")
