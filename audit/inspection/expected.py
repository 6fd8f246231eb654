"""What should stand in a database: one line an object, in `expected.jsonl`.

`python -m tests.support.expected_state` writes the file from the catalogs of a database that was just migrated, and a
test compares the two. `since` names the migration after which an object stands as described. A function's body is the
SHA-256 of what stands between its dollar quotes in `audit/sql/`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from audit.inspection.catalog import Facts, Key

__all__ = ["FILE", "Expected", "expected", "written"]

FILE = "expected.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """How an object should be."""

    facts: Facts
    since: str
    """The migration that left it so; empty for what PostgreSQL brings itself."""


@cache
def expected() -> dict[Key, Expected]:
    """Read the file."""
    text = files(__package__).joinpath(FILE).read_text(encoding="utf-8")
    found = {}
    for line in text.splitlines():
        facts = json.loads(line)
        key = facts.pop("kind"), facts.pop("table"), facts.pop("name")
        found[key] = Expected(since=facts.pop("since"), facts=facts)
    return found


def written(objects: dict[Key, Expected]) -> str:
    """Write the file's text."""
    lines = []
    for (kind, table, name), each in sorted(objects.items(), key=lambda item: item[0]):
        line = {"kind": kind, "table": table, "name": name, "since": each.since, **each.facts}
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    return "".join(lines)
