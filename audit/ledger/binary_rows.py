"""Sealed rows, read as they are stored to be hashed in Python, one at a time in bounded memory.

Values come in PostgreSQL's binary format, untouched: see `audit.ledger.tlog.wire`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from struct import pack
from typing import Any

import psycopg
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import postgres, sql
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.string import ByteaBinaryLoader

from audit.ledger.tlog.canonical import Form
from audit.ledger.tlog.wire import columns

__all__ = ["Raw", "number", "pin_encoding", "pin_search_path", "snapshot"]

# How many rows are hashed together at most, and how many bytes of them until the last one.
_TOGETHER = 128
_TOGETHER_BYTES = 1_000_000
# Rows in memory at once; a row may have megabytes. Older libraries hand over one by one.
_AT_ONCE = 16 if psycopg.capabilities.has_stream_chunked() else 1


class Raw:
    """Reads and writes values in binary, as bytes, through the connection of Django's that is in a transaction."""

    def __init__(self, wrapper: BaseDatabaseWrapper) -> None:
        connection: psycopg.Connection[Any] = wrapper.connection
        self._errors = wrapper.wrap_database_errors
        self._cursor = psycopg.Cursor(connection)
        self._cursor.adapters.register_dumper(_Binary, _BinaryDumper)
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

    def narrow(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Read all rows of a query at once: for ids, hashes and the like, which are short whatever is stored.

        Raises:
            django.db.Error: it fails.
        """
        with self._errors:
            return self._cursor.execute(query, parameters, binary=True).fetchall()

    def execute(self, statement: str, *parameters: Any) -> None:
        """Run a statement that returns nothing. Bytes of a parameter `%b` go as they are, not as text.

        Raises:
            django.db.Error: it fails.
        """
        with self._errors:
            self._cursor.execute(statement, parameters)

    def load(self, statement: str, pieces: Iterable[bytes]) -> None:
        """Write rows with a COPY FROM STDIN.

        Raises:
            django.db.Error: it fails.
        """
        with self._errors, self._cursor.copy(statement) as copy:
            copy.write(b"".join(pieces))

    def sealed(self, form: Form, keys: Iterable[bytes]) -> Iterator[list[tuple[Any, ...]]]:
        """Stream rows of a sealed table, some at a time: the stored columns of the form, the first of which is the key.

        Args:
            form: the table and its columns.
            keys: which rows, one or more, by their keys as this class reads them; those that are missing are left out.
        """
        kind, array = _array(list(keys))
        # Of an array that it knows the planner looks at every element.
        wanted = f"r.{form.columns[0].name} = ANY((SELECT %b::{kind}[])::{kind}[])"
        query = f"SELECT {columns(form, 'r')} FROM {form.table} AS r WHERE {wanted}"  # noqa: S608 - our own names
        together: list[tuple[Any, ...]] = []
        size = 0
        with self._errors:
            for row in self._cursor.stream(query, [array], binary=True, size=_AT_ONCE):
                together.append(row)
                size += sum(map(len, filter(None, row)))
                if size > _TOGETHER_BYTES or len(together) == _TOGETHER:
                    yield together
                    together, size = [], 0
        if together:
            yield together


def number(value: bytes) -> int:
    """Read a whole number as PostgreSQL sends it."""
    return int.from_bytes(value, "big", signed=True)


class _Binary(bytes):
    """A parameter in PostgreSQL's binary format, of the type that the statement says."""


class _BinaryDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: _Binary) -> bytes:
        return obj


_KEYS = {4: "integer", 8: "bigint", 16: "uuid"}


def _array(keys: list[bytes]) -> tuple[str, _Binary]:
    """The type of keys, and an array of them."""
    kind = _KEYS[len(keys[0])]
    size = pack("!i", len(keys[0]))
    return kind, _Binary(pack("!5i", 1, 0, postgres.types[kind].oid, len(keys), 1) + size + size.join(keys))


def pin_encoding(cursor: Any) -> None:
    """Let texts come in UTF-8 until the transaction ends, whatever the session is set to."""
    cursor.execute("SET LOCAL client_encoding = 'UTF8'")


@contextmanager
def snapshot(using: str) -> Iterator[tuple[Raw, Any]]:
    """One read-only snapshot of the database, and a cursor of Django's in it."""
    with transaction.atomic(using=using, durable=True), connections[using].cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # Rows that a policy hides would look deleted: better an error that says so.
        cursor.execute("SET LOCAL row_security = off")
        cursor.execute("SET LOCAL statement_timeout = 0")
        pin_encoding(cursor)
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
