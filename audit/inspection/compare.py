"""What stands in the database against what should: each difference worded as a flaw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from audit.inspection import programs, tables
from audit.inspection.catalog import Facts, Key
from audit.inspection.flaws import Flaw

__all__ = ["compare"]

_KINDS: dict[str, Callable[[str, str, Facts | None, Facts | None], Iterator[Flaw]]] = {
    "relation": tables.relation,
    "column": tables.column,
    "sequence": tables.sequence,
    "builtin": programs.builtin,
    "function": programs.function,
    "trigger": programs.trigger,
    "constraint": tables.constraint,
    "index": tables.index,
    "rule": programs.rule,
    "policy": programs.policy,
}


def compare(wanted: Mapping[Key, Facts], found: Mapping[Key, Facts]) -> Iterator[Flaw]:
    """Compare object by object, in the order relations, columns, functions, triggers, constraints, the rest.

    Args:
        wanted: the objects that should stand.
        found: those that do.
    """
    names = {name for kind, name, _ in wanted if kind == "relation"}
    # What stands on a table that is none is not worth a word each.
    there = {name for name in names if found.get(("relation", name, name), {}).get("relkind") in ("r", "p")}
    for kind, differ in _KINDS.items():
        keys = {key for key in wanted.keys() | found.keys() if key[0] == kind}
        for _, table, name in sorted(keys):
            if table in there or not table or kind == "relation":
                has, should = found.get((kind, table, name)), wanted.get((kind, table, name))
                if has != should:
                    yield from differ(table, name, should, has)
