"""Sealed rows, read as they are stored and hashed in Python, one at a time in bounded memory.

Values come in PostgreSQL's binary format, untouched: see `audit.ledger.tlog.wire`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql
from psycopg.types.string import ByteaBinaryLoader

from audit.ledger.tlog.canonical import EPOCH_V1, Form
from audit.ledger.tlog.wire import columns

__all__ = ["Raw", "pin_search_path", "snapshot"]

# Rows in memory at once; a row may have megabytes. Older libraries hand over one by one.
_AT_ONCE = 16 if psycopg.capabilities.has_stream_chunked() else 1


class Raw:
    """Reads values in binary, as bytes, through the connection of Django's that holds a snapshot."""

    def __init__(self, wrapper: BaseDatabaseWrapper) -> None:
        connection: psycopg.Connection[Any] = wrapper.connection
        self._errors = wrapper.wrap_database_errors
        self._cursor = psycopg.Cursor(connection)
        # What is not converted cannot be converted wrongly. Of every type, because columns may have been retyped.
        for known in connection.adapters.types:
            for oid in (known.oid, known.array_oid):
                if oid:
                    self._cursor.adapters.register_loader(oid, ByteaBinaryLoader)

    def rows(self, query: str, *parameters: Any) -> Iterator[tuple[Any, ...]]:
        """Stream the rows of a query: each value bytes or None. One query at a time.

        Raises:
            django.db.Error: it fails.
        """
        with self._errors:
            yield from self._cursor.stream(query, parameters, binary=True, size=_AT_ONCE)

    def sealed(self, form: Form, key: str, keys: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """Stream rows of a sealed table by their key: the columns of the form, then the stored hash.

        Args:
            form: the table and its columns.
            key: the key's column.
            keys: which rows; those that are missing are left out.
        """
        stored = "NULL::bytea" if form is EPOCH_V1 else "r.row_hash"
        return self.rows(
            f"SELECT {columns(form, 'r')}, {stored} FROM {form.table} AS r WHERE r.{key} = ANY(%s)",  # noqa: S608 - our own names
            keys,
        )


@contextmanager
def snapshot(using: str) -> Iterator[tuple[Raw, Any]]:
    """One read-only snapshot of the database, and a cursor of Django's in it."""
    with transaction.atomic(using=using, durable=True), connections[using].cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # Rows that a policy hides would look deleted: better an error that says so.
        cursor.execute("SET LOCAL row_security = off")
        cursor.execute("SET LOCAL statement_timeout = 0")
        yield Raw(connections[using]), cursor


def pin_search_path(cursor: Any) -> None:
    """Let names mean, until the transaction ends, what they mean when nobody plays with them.

    `pg_catalog` comes first, so that no operator or function of another schema stands in for its own, and temporary
    tables last. Which of the other schemas has the tables stays as it is.
    """
    cursor.execute("SELECT pg_catalog.current_schemas(false)::text[]")
    (schemas,) = cursor.fetchone()
    kept = [name for name in schemas if name != "pg_catalog" and not name.startswith("pg_temp")]
    path = sql.SQL(", ").join(map(sql.Identifier, ["pg_catalog", *kept, "pg_temp"]))
    cursor.execute(sql.SQL("SET LOCAL search_path = {}").format(path))
