"""A session whose settings do not colour what the catalog says."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import connections, transaction

from audit.inspection.flaws import quoted

__all__ = ["Place", "plainly"]

_SETTINGS = {"TimeZone": "UTC", "DateStyle": "ISO, YMD", "quote_all_identifiers": "off", "bytea_output": "hex"}
_CHANGE = """
SELECT pg_catalog.set_config(name, value, true)
FROM ROWS FROM (pg_catalog.unnest(%s::text[]), pg_catalog.unnest(%s::text[])) AS setting (name, value)
"""
_TABLES = """
SELECT c.relname, c.oid, n.nspname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.oid OPERATOR(pg_catalog.=) ANY (ARRAY(
    SELECT pg_catalog.to_regclass(pg_catalog.quote_ident(name))::pg_catalog.oid
    FROM pg_catalog.unnest(%s::text[]) AS name))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a session finds tables."""

    path: list[str]
    """The schemas that it searches, in order."""
    tables: dict[str, tuple[int, str]]
    """Object id and schema of each table that it finds, by name."""
    schema: str
    """Where most of them are; empty when there are none."""


@contextmanager
def plainly(alias: str, tables: Sequence[str]) -> Iterator[Place]:
    """Let definitions be worded alike whatever the session's settings are, which are put back at the end.

    Inside, names of the tables' own schema and of PostgreSQL stand without it, all others with theirs.

    Args:
        alias: the database whose session it is.
        tables: names of tables, to be looked for as the session is set.
    """
    names = [*_SETTINGS, "search_path"]
    # In a transaction, so that behind a pooler no setting stays with a session that others use.
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_catalog.current_setting(name) FROM pg_catalog.unnest(%s::text[]) AS name", [names])
        before = [value for (value,) in cursor.fetchall()]
        cursor.execute("SELECT pg_catalog.current_schemas(true)::text[]")
        (path,) = cursor.fetchone()
        cursor.execute(_TABLES, [list(tables)])
        found = {name: (oid, schema) for name, oid, schema in cursor.fetchall()}
        places = Counter(schema for _, schema in found.values())
        usual = max(places, key=lambda schema: places[schema], default="")
        searched = ", ".join(["pg_catalog", *([quoted(usual)] if usual else []), "pg_temp"])
        cursor.execute(_CHANGE, [names, [*_SETTINGS.values(), searched]])
        yield Place(path=path, tables=found, schema=usual)
        cursor.execute(_CHANGE, [names, before])
