"""Flaws of what holds the rows: tables, columns, constraints, indexes, sequences."""

from __future__ import annotations

from collections.abc import Iterator

from audit.inspection.catalog import Facts
from audit.inspection.flaws import Flaw, flaw, quoted

__all__ = ["column", "constraint", "index", "relation", "sequence"]

_TABLES = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
    "c": "a type",
    "p": "a partitioned table",
}
_BACKUP = "Find out who changed it; restore the table from a backup beside this one and compare."


def relation(table: str, _: str, wanted: Facts | None, has: Facts | None) -> Iterator[Flaw]:
    """Word what differs of a table."""
    if has is None:
        yield flaw(
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
        yield flaw(
            "table-replaced",
            table,
            table,
            f"{table} is now {what}, so it may show other data than was written.",
            "Find out who put it there and where the table is. Check the search_path of this connection.",
        )
        return
    if has["children"] != wanted["children"]:
        names = ", ".join(has["children"])
        yield flaw(
            "table-replaced",
            table,
            names,
            f"{table} also shows the rows of {names} (inheritance).",
            f"ALTER TABLE … NO INHERIT {table};",
        )
    if has["parents"] != wanted["parents"]:
        names = ", ".join(has["parents"])
        yield flaw(
            "table-replaced",
            table,
            names,
            f"{table} is a child of {names} (inheritance). Writing to {names} fires no statement trigger of {table}.",
            f"ALTER TABLE {table} NO INHERIT …; or, if it is a partition, ALTER TABLE … DETACH PARTITION {table};",
        )
    if has["row_security"]:
        yield flaw(
            "row-security",
            table,
            table,
            f"Row-level security is on for {table}: readers may not see every row.",
            f"Find out who enabled it, then ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, "
            "NO FORCE ROW LEVEL SECURITY;",
        )
    if not has["fires_triggers"]:
        yield flaw(
            "trigger-disabled",
            table,
            table,
            f"The catalog says that {table} has no triggers, so none of them fires.",
            "Find out who edited pg_class. Restore the database from a backup beside this one, and compare.",
        )
    if has["replica_identity"] != wanted["replica_identity"]:
        yield flaw(
            "replication",
            table,
            table,
            f"The replica identity of {table} is not its primary key.",
            f"Unless a replica needs this: ALTER TABLE {table} REPLICA IDENTITY DEFAULT;",
            minor=True,
        )


def column(table: str, name: str, wanted: Facts | None, has: Facts | None) -> Iterator[Flaw]:
    """Word what differs of a column."""
    full = f"{table}.{name}"
    if has is None:
        yield flaw("column-missing", table, full, f"The column {name} of {table} is missing.", _BACKUP)
        return
    if wanted is None:
        yield flaw(
            "column-unknown",
            table,
            full,
            f"{table} has a column {name} that does not belong to this app, so no seal covers it.",
            f"Keep such data in a table of your own: ALTER TABLE {table} DROP COLUMN {quoted(name)};",
        )
        return
    if _type(has) != _type(wanted):
        yield flaw(
            "column-retyped",
            table,
            full,
            f"{full} is {_type(has)}; this app made it {_type(wanted)}. Values may have changed with it.",
            _BACKUP,
        )
    if has["default"] != wanted["default"]:
        yield flaw(
            "column-changed",
            table,
            full,
            f"{full} has {_default(has)}; this app gave it {_default(wanted)}.",
            f"ALTER TABLE {table} ALTER COLUMN {name} "
            + (f"SET DEFAULT {wanted['default']};" if wanted["default"] else "DROP DEFAULT;"),
        )
    for fact in ("identity", "generated", "collation"):
        if has[fact] != wanted[fact]:
            yield flaw(
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


def constraint(table: str, name: str, wanted: Facts | None, has: Facts | None) -> Iterator[Flaw]:
    """Word what differs of a constraint."""
    if wanted is None:
        yield _foreign_constraint(table, name)
        return
    check = wanted["contype"] == "c"
    what = f"The {'CHECK' if check else 'foreign key'} {name} of {table}"
    made = f"ALTER TABLE {table} ADD CONSTRAINT {name} {wanted['definition']};"
    if has is None:
        yield flaw(
            "check-missing" if check else "foreign-key",
            table,
            name,
            f"{what} does not exist.",
            f"Find out who dropped it, then {made}",
        )
        return
    if has["definition"].removesuffix(" NOT VALID") != wanted["definition"]:
        yield flaw(
            "check-changed" if check else "foreign-key",
            table,
            name,
            f"{what} was replaced. It is now: {' '.join(has['definition'].split())}",
            f"Find out who replaced it, then ALTER TABLE {table} DROP CONSTRAINT {name}; {made}",
        )
    elif has["triggers"] != wanted["triggers"]:
        yield flaw(
            "foreign-key",
            table,
            name,
            f"{what} has only {has['triggers']} of its {wanted['triggers']} triggers, so it is not enforced.",
            f"Find out who removed them, then ALTER TABLE {table} DROP CONSTRAINT {name}; {made}",
        )
    if not has["valid"]:
        yield flaw(
            "check-unproven" if check else "foreign-key",
            table,
            name,
            f"{what} is NOT VALID: older rows may break it.",
            f"ALTER TABLE {table} VALIDATE CONSTRAINT {name};",
        )


def _foreign_constraint(table: str, name: str) -> Flaw:
    return flaw(
        "constraint-foreign",
        table,
        name,
        f"The constraint or unique index {name} of {table} does not belong to this app. It can keep rows out.",
        f"Find out who made it, then ALTER TABLE {table} DROP CONSTRAINT {quoted(name)}; or DROP INDEX {quoted(name)};",
    )


def index(table: str, name: str, wanted: Facts | None, has: Facts | None) -> Iterator[Flaw]:
    """Word what differs of an index."""
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
        yield flaw(
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
        yield flaw(
            "check-changed" if unique else "index",
            table,
            name,
            f"{what} was replaced. It is now: {has['definition']}{late}",
            f"Find out who replaced it, then drop it and {made}",
            minor=not unique,
        )
    if not has["valid"]:
        yield flaw(
            "check-unproven" if unique else "index",
            table,
            name,
            f"{what} is not valid: {lacking}.",
            f"REINDEX INDEX {name};",
            minor=not unique,
        )


def sequence(table: str, name: str, wanted: Facts | None, has: Facts | None) -> Iterator[Flaw]:
    """Word what differs of a sequence."""
    if wanted is None:
        return
    problem = "does not exist" if has is None else "no longer counts up by one"
    yield flaw("sequence", table, name, f"The sequence {name} of {table} {problem}.", _BACKUP)
