"""Whether the tables are the tables: no view, no stranger of the same name, no hidden rows, no other columns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from django.db import connections

from audit.inspection.flaws import Flaw, applied_migrations, kept_models, shipped_migrations

__all__ = ["inspect_relations"]

_RELATIONS = """
SELECT c.relname, c.relkind, c.relpersistence, c.relrowsecurity,
    ARRAY(SELECT h.inhrelid::pg_catalog.regclass::text FROM pg_catalog.pg_inherits h WHERE h.inhparent = c.oid)
FROM pg_catalog.pg_class c
WHERE c.oid IN (
    SELECT pg_catalog.to_regclass(pg_catalog.quote_ident(name))::oid FROM pg_catalog.unnest(%s::text[]) AS name)
ORDER BY 1
"""
_COLUMNS = """
SELECT c.relname, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.oid IN (
    SELECT pg_catalog.to_regclass(pg_catalog.quote_ident(name))::oid FROM pg_catalog.unnest(%s::text[]) AS name)
ORDER BY 1, 2
"""
_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "c": "a type"}


def inspect_relations(alias: str) -> list[Flaw]:
    """Compare the tables and columns of a database with the models; arguments and answer as those of `inspect`."""
    connection = connections[alias]
    applied = applied_migrations(alias)
    if not applied.issuperset(shipped_migrations()):
        return []  # an older state has its own tables, which nobody kept
    expected = {
        model._meta.db_table: {
            str(field.column): _type(field.db_type(connection) or "") for field in model._meta.concrete_fields
        }
        for model in kept_models()
    }
    with connection.cursor() as cursor:
        cursor.execute(_RELATIONS, [list(expected)])
        relations = cursor.fetchall()
        cursor.execute(_COLUMNS, [list(expected)])
        columns = cursor.fetchall()
    return [*_tables(expected, relations), *_columns(expected, relations, columns)]


def _type(name: str) -> str:
    return re.sub("^varchar", "character varying", name)


def _tables(expected: dict[str, Any], relations: list[Any]) -> Iterator[Flaw]:
    for table in sorted(expected.keys() - {name for name, *_ in relations}):
        yield Flaw(
            kind="table-missing",
            table=table,
            name=table,
            problem=f"The table {table} is not there, although its migration is recorded as applied.",
            remedy="Look at the search_path of this connection, or restore the table from a backup.",
        )
    for table, kind, persistence, secured, children in relations:
        what = _KINDS.get(kind) or ("a temporary table" if persistence == "t" else "")
        if what or (kind not in "rp"):
            yield Flaw(
                kind="table-replaced",
                table=table,
                name=table,
                problem=f"{table} is {what or 'no table'} now: what is read there need not be what was written.",
                remedy="Find out who put it there and where the table is; look at the search_path of this connection.",
            )
        elif kind == "r" and children:
            yield Flaw(
                kind="table-replaced",
                table=table,
                name=", ".join(children),
                problem=f"{table} shows the rows of {', '.join(children)} as its own (inheritance).",
                remedy=f"ALTER TABLE … NO INHERIT {table};",
            )
        if secured:
            yield Flaw(
                kind="row-security",
                table=table,
                name=table,
                problem=f"Row-level security is on for {table}: readers may not see every row.",
                remedy=f"Find out who enabled it, then ALTER TABLE {table} DISABLE ROW LEVEL SECURITY;",
            )


def _columns(expected: dict[str, dict[str, str]], relations: list[Any], columns: list[Any]) -> Iterator[Flaw]:
    found: dict[str, dict[str, str]] = {table: {} for table, *_ in relations}
    for table, column, kind in columns:
        found[table][column] = kind
    for table, has in found.items():
        wanted = expected[table]
        for column in wanted.keys() | has.keys():
            told = _column(table, column, wanted.get(column), has.get(column))
            if told:
                kind, problem, remedy = told
                yield Flaw(kind=kind, table=table, name=f"{table}.{column}", problem=problem, remedy=remedy)


def _column(table: str, column: str, wanted: str | None, has: str | None) -> tuple[str, str, str] | None:
    if has is None:
        return (
            "column-missing",
            f"{table} has no column {column} any more.",
            "Find out who dropped it; restore the table from a backup beside this one and compare.",
        )
    if wanted is None:
        return (
            "column-unknown",
            f"{table} has a column {column} that no row hash covers.",
            f"Keep such data in a table of its own: ALTER TABLE {table} DROP COLUMN {column};",
        )
    if wanted != has:
        return (
            "column-retyped",
            f"{table}.{column} is {has}; this app made it {wanted}, and values may have changed on the way.",
            "Find out who changed it; restore the table from a backup beside this one and compare.",
        )
    return None
