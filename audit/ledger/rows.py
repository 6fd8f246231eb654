"""Sealed rows, read as they are stored and hashed in Python, one at a time in bounded memory.

Values come in PostgreSQL's binary format, untouched: see `audit.ledger.wire`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import psycopg
from django.db import connections, transaction
from psycopg.types.string import ByteaBinaryLoader

from audit.ledger.canonical import Form
from audit.ledger.wire import columns

__all__ = ["Raw", "snapshot"]

# Every type that a sealed column has, and those of the leaves: what is not converted cannot be converted wrongly.
_TYPES = ("text", "varchar", "int2", "int4", "int8", "uuid", "timestamptz", "jsonb", "bytea", "xid8", "bool", "name")
_ARRAYS = ("text",)
# Rows in memory at once; a row may have megabytes. Older libraries hand over one by one.
_AT_ONCE = 16 if psycopg.capabilities.has_stream_chunked() else 1


class Raw:
    """Reads values in binary, as bytes, through the connection of Django's that holds a snapshot."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def rows(self, query: str, *parameters: Any) -> Iterator[tuple[Any, ...]]:
        """Stream the rows of a query: each value bytes or None."""
        with closing(psycopg.Cursor(self._connection)) as cursor:
            types = self._connection.adapters.types
            for name in _TYPES:
                cursor.adapters.register_loader(types[name].oid, ByteaBinaryLoader)
            for name in _ARRAYS:
                cursor.adapters.register_loader(types[name].array_oid, ByteaBinaryLoader)
            yield from cursor.stream(query, parameters, binary=True, size=_AT_ONCE)

    def sealed(self, form: Form, key: str, keys: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """Stream rows of a sealed table by their key: the columns of the form, then the stored hash.

        Args:
            form: the table and its columns.
            key: the key's column.
            keys: which rows; those that are missing are left out.
        """
        stored = "NULL::bytea" if form.table == "audit_ledger_epoch" else "r.row_hash"
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
        yield Raw(connections[using].connection), cursor
