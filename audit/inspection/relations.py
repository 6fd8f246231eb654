"""Whether the tables are the tables: no view, no stranger of the same name, no hidden rows, no other columns."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from django.db import connections

from audit.inspection import installed
from audit.inspection.flaws import Flaw, applied_migrations, kept_models, shipped_migrations

__all__ = ["inspect_relations"]

_RELATIONS = """
SELECT c.relname, c.relkind, c.relpersistence, c.relrowsecurity,
    ARRAY(SELECT h.inhrelid::pg_catalog.regclass::text FROM pg_catalog.pg_inherits h WHERE h.inhparent = c.oid),
    c.relnamespace::pg_catalog.regnamespace::text
FROM pg_catalog.pg_class c
WHERE c.oid IN (
    SELECT pg_catalog.to_regclass(pg_catalog.quote_ident(name))::oid FROM pg_catalog.unnest(%s::text[]) AS name)
ORDER BY 1
"""
# From PostgreSQL 18 on a NOT NULL may be one that older rows need not keep (NOT VALID).
_COLUMNS = """
SELECT c.relname, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) || CASE
    WHEN a.attnotnull AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_constraint n
        WHERE n.conrelid = a.attrelid AND n.contype = 'n' AND n.conkey = ARRAY[a.attnum] AND NOT n.convalidated)
    THEN ' NOT NULL' ELSE '' END
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.oid IN (
    SELECT pg_catalog.to_regclass(pg_catalog.quote_ident(name))::oid FROM pg_catalog.unnest(%s::text[]) AS name)
ORDER BY 1, 2
"""
_KEYS = """
SELECT c.relname, CASE WHEN i.indisprimary THEN c.relname || '_pkey' ELSE x.relname END,
    pg_catalog.split_part(pg_catalog.pg_get_indexdef(x.oid), ' USING ', 2)
        || CASE WHEN i.indimmediate THEN '' ELSE ' DEFERRABLE' END
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
    JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
WHERE i.indisunique AND i.indisvalid AND c.oid IN (
    SELECT pg_catalog.to_regclass(pg_catalog.quote_ident(name))::oid FROM pg_catalog.unnest(%s::text[]) AS name)
"""
# PostgreSQL's own are in C, and those that are not in this list may well be SQL.
_FUNCTIONS = """
SELECT p.oid::pg_catalog.regprocedure::text FROM pg_catalog.pg_proc p
WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND p.proname = ANY(%s)
    AND (p.oid >= 16384 OR p.prolang <> (SELECT l.oid FROM pg_catalog.pg_language l WHERE l.lanname = 'internal')
        OR p.prosrc <> (%s::jsonb ->> (p.proname || '(' || pg_catalog.oidvectortypes(p.proargtypes) || ')')))
ORDER BY 1
"""
_RELIED_ON = (
    # Of the seals
    *("sha256", "convert_to", "concat_ws", "decode", "encode", "octet_length", "to_json", "extract", "uuid_send"),
    *("gen_random_uuid", "current_setting", "set_config", "clock_timestamp", "array_position", "cardinality"),
    # Of the sealer and the verifier
    *("pg_current_xact_id", "pg_current_snapshot", "pg_snapshot_xmin", "pg_snapshot_xmax", "pg_control_system"),
    *("pg_try_advisory_xact_lock", "xid8lt", "xid8le", "xid8gt", "xid8ge", "xid8eq", "xid8ne", "uuid_eq", "int8eq"),
)
_KINDS = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
    "c": "a type",
    "p": "a partitioned table",
}


def inspect_relations(alias: str) -> list[Flaw]:
    """Compare the tables and columns of a database with the models; arguments and answer as those of `inspect`."""
    connection = connections[alias]
    applied = applied_migrations(alias)
    if not applied.issuperset(shipped_migrations()):
        return []  # an older state has its own tables, which nobody kept
    expected = {
        model._meta.db_table: {
            str(field.column): _type(field.db_type(connection) or "") + ("" if field.null else " NOT NULL")
            for field in model._meta.concrete_fields
        }
        for model in kept_models()
    }
    with connection.cursor() as cursor:
        cursor.execute(_RELATIONS, [list(expected)])
        relations = cursor.fetchall()
        cursor.execute(_COLUMNS, [list(expected)])
        columns = cursor.fetchall()
        cursor.execute(_KEYS, [list(expected)])
        keys = {(table, name): words for table, name, words in cursor.fetchall()}
        cursor.execute(_FUNCTIONS, [list(_RELIED_ON), json.dumps(installed.builtins())])
        functions = [name for (name,) in cursor.fetchall()]
        cursor.execute("SELECT pg_catalog.current_schemas(true)::text[]")
        (path,) = cursor.fetchone()
    return [
        *_path(path),
        *_tables(expected, relations),
        *_schemas(relations),
        *_columns(expected, relations, columns),
        *_functions(functions),
        *_keys(relations, keys),
    ]


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
    for table, kind, persistence, secured, children, _ in relations:
        what = _KINDS.get(kind) or {"t": "a temporary table", "u": "an unlogged table"}.get(persistence, "")
        if what or kind != "r":
            yield Flaw(
                kind="table-replaced",
                table=table,
                name=table,
                problem=f"{table} is {what or 'no table'} now: what is read there need not be what was written.",
                remedy="Find out who put it there and where the table is; look at the search_path of this connection.",
            )
        elif children:
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


def _path(schemas: list[str]) -> Iterator[Flaw]:
    before = [name for name in schemas[: schemas.index("pg_catalog")] if not name.startswith("pg_temp")]
    if before:
        yield Flaw(
            kind="table-replaced",
            table="",
            name=before[0],
            problem=f"The search_path puts {', '.join(before)} before pg_catalog: functions and operators of "
            "PostgreSQL may be others there.",
            remedy="Take pg_catalog out of search_path, where it comes first by itself (ALTER ROLE or ALTER DATABASE).",
        )


def _schemas(relations: list[Any]) -> Iterator[Flaw]:
    """Find tables that stand in front of the true ones: all of them are made in one schema."""
    places = Counter(schema for *_, schema in relations)
    usual = max(places, key=lambda schema: places[schema], default="")
    for table, *_, schema in relations:
        if schema != usual:
            yield Flaw(
                kind="table-replaced",
                table=table,
                name=table,
                problem=f"{table} is found in the schema {schema}, and the tables beside it in {usual}.",
                remedy="Find out who put it there; look at the search_path of this connection.",
            )


def _functions(replaced: list[str]) -> Iterator[Flaw]:
    for name in replaced:
        yield Flaw(
            kind="function-changed",
            table="",
            name=name,
            problem=f"pg_catalog.{name} is not PostgreSQL's own: seals and checks inside this server rely on it.",
            remedy="Find out who replaced or added it; what this server computes is not to be trusted.",
        )


def _keys(relations: list[Any], found: dict[tuple[str, str], str]) -> Iterator[Flaw]:
    there = {table for table, *_ in relations}
    for (table, name), wanted in installed.keys().items():
        has = found.get((table, name))
        if table not in there or has == wanted:
            continue
        what = "primary key" if name == f"{table}_pkey" else f"unique index {name}"
        yield Flaw(
            kind="check-missing" if has is None else "check-changed",
            table=table,
            name=name,
            problem=f"{table} has no {what} any more: rows may stand in it twice."
            if has is None
            else f"The {what} of {table} is another one now: {has}",
            remedy="Find out who changed it, and make it again as the migrations do (manage.py sqlmigrate).",
        )


def _columns(expected: dict[str, dict[str, str]], relations: list[Any], columns: list[Any]) -> Iterator[Flaw]:
    found: dict[str, dict[str, str]] = {table: {} for table, *_ in relations}
    for table, column, kind in columns:
        found[table][column] = kind
    tables = {table for table, kind, *_ in relations if kind in "rp"}
    for table, has in found.items():
        wanted = expected[table]
        if table not in tables:  # a view's columns know no NOT NULL
            wanted = {column: kind.removesuffix(" NOT NULL") for column, kind in wanted.items()}
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
