"""What stands in the database against what should: each difference worded as a flaw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from audit.inspection.catalog import Facts, Key
from audit.inspection.flaws import Flaw, quoted

__all__ = ["compare"]

_TABLES = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
    "c": "a type",
    "p": "a partitioned table",
}
_FIRES = {"O": "only in ordinary sessions", "A": "also in replica sessions", "R": "only in replica sessions"}
_RESTORE = "Find out who changed it, then run the statements of its file in audit/sql/ again."
_BACKUP = "Find out who changed it; restore the table from a backup beside this one and compare."

# Bits of pg_trigger.tgtype
_ROW, _BEFORE = 1, 2


def compare(wanted: Mapping[Key, Facts], found: Mapping[Key, Facts]) -> Iterator[Flaw]:
    """Compare object by object, in the order relations, columns, functions, triggers, constraints, the rest.

    Args:
        wanted: the objects that should stand.
        found: those that do.
    """
    tables = {name for kind, name, _ in wanted if kind == "relation"}
    # What stands on a table that is none is not worth a word each.
    there = {name for name in tables if found.get(("relation", name, name), {}).get("relkind") in ("r", "p")}
    for kind, differ in _KINDS.items():
        keys = {key for key in wanted.keys() | found.keys() if key[0] == kind}
        for _, table, name in sorted(keys):
            if table in there or not table or kind == "relation":
                has, should = found.get((kind, table, name)), wanted.get((kind, table, name))
                if has != should:
                    yield from differ(table, name, should, has)


def _flaw(kind: str, table: str, name: str, problem: str, remedy: str, *, minor: bool = False) -> Flaw:
    return Flaw(kind=kind, table=table, name=name, problem=problem, remedy=remedy, minor=minor)


def _relation(table: str, _: str, wanted: Facts | None, has: Facts | None) -> Iterator[Flaw]:
    if has is None:
        yield _flaw(
            "table-missing",
            table,
            table,
            f"The table {table} does not exist.",
            "Check the search_path of this connection, or restore the table from a backup.",
        )
        return
    if wanted is None:
        return
    what = _TABLES.get(has["relkind"]) or {"t": "a temporary table", "u": "an unlogged table"}.get(has["persistence"])
    if what:
        yield _flaw(
            "table-replaced",
            table,
            table,
            f"{table} is now {what}, so it may show other data than was written.",
            "Find out who put it there and where the table is. Check the search_path of this connection.",
        )
        return
    if has["children"] != wanted["children"]:
        names = ", ".join(has["children"])
        yield _flaw(
            "table-replaced",
            table,
            names,
            f"{table} also shows the rows of {names} (inheritance).",
            f"ALTER TABLE … NO INHERIT {table};",
        )
    if has["parents"] != wanted["parents"]:
        names = ", ".join(has["parents"])
        yield _flaw(
            "table-replaced",
            table,
            names,
            f"{table} is a child of {names} (inheritance). Writing to {names} fires no statement trigger of {table}.",
            f"ALTER TABLE {table} NO INHERIT …; or, if it is a partition, ALTER TABLE … DETACH PARTITION {table};",
        )
    if has["row_security"]:
        yield _flaw(
            "row-security",
            table,
            table,
            f"Row-level security is on for {table}: readers may not see every row.",
            f"Find out who enabled it, then ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, "
            "NO FORCE ROW LEVEL SECURITY;",
        )
    if not has["fires_triggers"]:
        yield _flaw(
            "trigger-disabled",
            table,
            table,
            f"The catalog says that {table} has no triggers, so none of them fires.",
            "Find out who edited pg_class. Restore the database from a backup beside this one, and compare.",
        )
    if has["replica_identity"] != wanted["replica_identity"]:
        yield _flaw(
            "replication",
            table,
            table,
            f"The replica identity of {table} is not its primary key.",
            f"Unless a replica needs this: ALTER TABLE {table} REPLICA IDENTITY DEFAULT;",
            minor=True,
        )


def _column(table: str, name: str, wanted: Facts | None, has: Facts | None) -> Iterator[Flaw]:
    full = f"{table}.{name}"
    if has is None:
        yield _flaw("column-missing", table, full, f"The column {name} of {table} is missing.", _BACKUP)
        return
    if wanted is None:
        yield _flaw(
            "column-unknown",
            table,
            full,
            f"{table} has a column {name} that does not belong to this app, so no seal covers it.",
            f"Keep such data in a table of your own: ALTER TABLE {table} DROP COLUMN {quoted(name)};",
        )
        return
    if _type(has) != _type(wanted):
        yield _flaw(
            "column-retyped",
            table,
            full,
            f"{full} is {_type(has)}; this app made it {_type(wanted)}. Values may have changed with it.",
            _BACKUP,
        )
    if has["default"] != wanted["default"]:
        yield _flaw(
            "column-changed",
            table,
            full,
            f"{full} has {_default(has)}; this app gave it {_default(wanted)}.",
            f"ALTER TABLE {table} ALTER COLUMN {name} "
            + (f"SET DEFAULT {wanted['default']};" if wanted["default"] else "DROP DEFAULT;"),
        )
    for fact in ("identity", "generated", "collation"):
        if has[fact] != wanted[fact]:
            yield _flaw(
                "column-changed",
                table,
                full,
                f"The {fact} of {full} is {has[fact] or 'none'}; this app made it {wanted[fact] or 'none'}.",
                _BACKUP,
            )


def _type(column: Facts) -> str:
    return f"{column['type']}{' NOT NULL' if column['not_null'] else ''}"


def _default(column: Facts) -> str:
    return f"the default {column['default']}" if column["default"] else "no default"


def _function(_: str, name: str, wanted: Facts | None, has: Facts | None) -> Iterator[Flaw]:
    if wanted is None:
        return
    if has is None:
        yield _flaw(
            "function-missing",
            "",
            name,
            f"The function {name}() does not exist.",
            "Find out who dropped it, then run the statements of its file in audit/sql/ again.",
        )
        return
    if any(has[fact] != wanted[fact] for fact in ("body", "language", "returns")):
        yield _flaw(
            "function-changed",
            "",
            name,
            f"The body of {name}() differs from the one that this app installed.",
            _RESTORE,
        )
    if any(has[fact] != wanted[fact] for fact in ("definer", "config", "volatility", "strict", "leakproof")):
        yield _flaw(
            "function-config",
            "",
            name,
            f"{name}() runs as {_config(has)}; this app installed it as {_config(wanted)}.",
            _RESTORE,
        )
    if has["public"] and not wanted["public"]:
        yield _flaw(
            "function-public",
            "",
            name,
            f"Every role may call {name}().",
            f"REVOKE ALL ON FUNCTION {name}() FROM PUBLIC;",
        )
    if has["granted"] != wanted["granted"]:
        roles = ", ".join(has["granted"])
        yield _flaw(
            "function-granted",
            "",
            name,
            f"Roles other than its owner may call {name}(): {roles}.",
            f"REVOKE ALL ON FUNCTION {name}() FROM {roles};",
        )


def _config(function: Facts) -> str:
    rights = "its owner (SECURITY DEFINER)" if function["definer"] else "its caller (SECURITY INVOKER)"
    volatility = {"v": "volatile", "s": "stable", "i": "immutable"}[function["volatility"]]
    marks = [volatility, *(mark for mark in ("strict", "leakproof") if function[mark])]
    return f"{rights}, {', '.join(marks)}, with {', '.join(function['config']) or 'no settings'}"


def _builtin(_: str, name: str, wanted: Facts | None, has: Facts | None) -> Iterator[Flaw]:
    # A newer PostgreSQL may have functions of its own that are not listed, or lack one that is.
    if has is None or (wanted is None and has["own"]):
        return
    yield _flaw(
        "function-changed",
        "",
        name,
        f"pg_catalog.{name} is not PostgreSQL's own. Rules, seals and checks inside this server rely on it.",
        "Find out who replaced or added it. Do not trust what this server computes.",
    )


def _trigger(table: str, name: str, wanted: Facts | None, has: Facts | None) -> Iterator[Flaw]:
    if wanted is None:
        if has is not None:
            yield from _stranger(table, name, has)
        return
    if has is None:
        yield _flaw(
            "trigger-missing",
            table,
            name,
            f"The trigger {name} on {table} does not exist.",
            f"Find out who dropped it, then {_made(table, name, wanted)}",
        )
        return
    where = f"The trigger {name} on {table}"
    if has["enabled"] != wanted["enabled"]:
        remedy = _enabled(table, name, wanted)
        if has["enabled"] == "D":
            yield _flaw("trigger-disabled", table, name, f"{where} is disabled.", remedy)
        else:
            yield _flaw(
                "trigger-mode",
                table,
                name,
                f"{where} fires {_FIRES[has['enabled']]}; it must fire {_FIRES[wanted['enabled']]}.",
                f"{remedy} (ENABLE TRIGGER ALL removes ALWAYS; pg_dump --disable-triggers writes that too.)",
            )
    if has["definition"] != wanted["definition"] or has["function"] != wanted["function"]:
        yield _flaw(
            "trigger-changed",
            table,
            name,
            f"{where} was replaced. It now calls {has['function']}(): {has['definition']}",
            f"Find out who replaced it, then DROP TRIGGER {name} ON {table}; {_made(table, name, wanted)}",
        )


def _made(table: str, name: str, trigger: Facts) -> str:
    # A new one fires in ordinary sessions.
    return f"{trigger['definition']};" + (f" {_enabled(table, name, trigger)}" if trigger["enabled"] != "O" else "")


def _enabled(table: str, name: str, trigger: Facts) -> str:
    return f"ALTER TABLE {table} ENABLE {'ALWAYS ' if trigger['enabled'] == 'A' else ''}TRIGGER {name};"


def _stranger(table: str, name: str, has: Facts) -> Iterator[Flaw]:
    """Word a trigger of somebody else, unless it is disabled or an AFTER ROW trigger of ordinary sessions."""
    if has["enabled"] == "D":
        return
    remedy = f"Make it an AFTER ROW trigger, which cannot change the row, or DROP TRIGGER {quoted(name)} ON {table};"
    if has["tgtype"] & _ROW and has["tgtype"] & _BEFORE:
        yield _flaw(
            "trigger-foreign",
            table,
            name,
            f"The trigger {name} on {table} does not belong to this app, and runs before rows are written. It can "
            "change what was stamped, or keep a row out.",
            remedy,
        )
    elif not has["tgtype"] & _ROW:
        yield _flaw(
            "trigger-beside",
            table,
            name,
            f"The trigger {name} on {table} does not belong to this app, and runs once for each statement, beside the "
            "triggers that log. It can change the settings that they run under.",
            remedy,
        )
    elif has["enabled"] != "O":
        yield _flaw(
            "trigger-beside",
            table,
            name,
            f"The trigger {name} on {table} does not belong to this app, and fires {_FIRES[has['enabled']]}, where the "
            "writing triggers of this app do not.",
            f"ALTER TABLE {table} ENABLE TRIGGER {quoted(name)};",
        )


def _constraint(table: str, name: str, wanted: Facts | None, has: Facts | None) -> Iterator[Flaw]:
    if wanted is None:
        yield _foreign_constraint(table, name)
        return
    check = wanted["contype"] == "c"
    what = f"The {'CHECK' if check else 'foreign key'} {name} of {table}"
    made = f"ALTER TABLE {table} ADD CONSTRAINT {name} {wanted['definition']};"
    if has is None:
        yield _flaw(
            "check-missing" if check else "foreign-key",
            table,
            name,
            f"{what} does not exist.",
            f"Find out who dropped it, then {made}",
        )
        return
    if has["definition"].removesuffix(" NOT VALID") != wanted["definition"]:
        yield _flaw(
            "check-changed" if check else "foreign-key",
            table,
            name,
            f"{what} was replaced. It is now: {' '.join(has['definition'].split())}",
            f"Find out who replaced it, then ALTER TABLE {table} DROP CONSTRAINT {name}; {made}",
        )
    elif has["triggers"] != wanted["triggers"]:
        yield _flaw(
            "foreign-key",
            table,
            name,
            f"{what} has only {has['triggers']} of its {wanted['triggers']} triggers, so it is not enforced.",
            f"Find out who removed them, then ALTER TABLE {table} DROP CONSTRAINT {name}; {made}",
        )
    if not has["valid"]:
        yield _flaw(
            "check-unproven" if check else "foreign-key",
            table,
            name,
            f"{what} is NOT VALID: older rows may break it.",
            f"ALTER TABLE {table} VALIDATE CONSTRAINT {name};",
        )


def _foreign_constraint(table: str, name: str) -> Flaw:
    return _flaw(
        "constraint-foreign",
        table,
        name,
        f"The constraint or unique index {name} of {table} does not belong to this app. It can keep rows out.",
        f"Find out who made it, then ALTER TABLE {table} DROP CONSTRAINT {quoted(name)}; or DROP INDEX {quoted(name)};",
    )


def _index(table: str, name: str, wanted: Facts | None, has: Facts | None) -> Iterator[Flaw]:
    if wanted is None:
        if has is not None and has["unique"]:
            yield _foreign_constraint(table, name)
        return
    unique = wanted["unique"]
    what = f"The {'primary key' if wanted['primary'] else 'unique index' if unique else 'index'} {name} of {table}"
    made = f"{wanted['definition']};"
    if wanted["primary"]:
        made = f"ALTER TABLE {table} ADD PRIMARY KEY ({wanted['definition'].rpartition('(')[2]};"
    lacking = "the table may hold duplicate rows" if unique else "queries that need it read the whole table"
    if has is None:
        yield _flaw(
            "check-missing" if unique else "index",
            table,
            name,
            f"{what} does not exist: {lacking}.",
            f"Find out who dropped it, then {made}",
            minor=not unique,
        )
        return
    if any(has[fact] != wanted[fact] for fact in ("definition", "primary", "unique", "immediate")):
        late = "" if has["immediate"] else " (deferrable)"
        yield _flaw(
            "check-changed" if unique else "index",
            table,
            name,
            f"{what} was replaced. It is now: {has['definition']}{late}",
            f"Find out who replaced it, then drop it and {made}",
            minor=not unique,
        )
    if not has["valid"]:
        yield _flaw(
            "check-unproven" if unique else "index",
            table,
            name,
            f"{what} is not valid: {lacking}.",
            f"REINDEX INDEX {name};",
            minor=not unique,
        )


def _sequence(table: str, name: str, wanted: Facts | None, has: Facts | None) -> Iterator[Flaw]:
    if wanted is None:
        return
    problem = "does not exist" if has is None else "no longer counts up by one"
    yield _flaw("sequence", table, name, f"The sequence {name} of {table} {problem}.", _BACKUP)


def _rule(table: str, name: str, wanted: Any, has: Any) -> Iterator[Flaw]:
    yield _flaw(
        "rule",
        table,
        name,
        f"The rule {name} rewrites statements on {table} before any trigger sees them.",
        f"DROP RULE {quoted(name)} ON {table};",
    )


def _policy(table: str, name: str, wanted: Any, has: Any) -> Iterator[Flaw]:
    yield _flaw(
        "row-security",
        table,
        name,
        f"The policy {name} can hide rows of {table}.",
        f"DROP POLICY {quoted(name)} ON {table};",
    )


_KINDS: dict[str, Callable[[str, str, Facts | None, Facts | None], Iterator[Flaw]]] = {
    "relation": _relation,
    "column": _column,
    "sequence": _sequence,
    "builtin": _builtin,
    "function": _function,
    "trigger": _trigger,
    "constraint": _constraint,
    "index": _index,
    "rule": _rule,
    "policy": _policy,
}
