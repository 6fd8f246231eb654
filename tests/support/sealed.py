"""Rows that are awkward to write down, and the bytes that stand for them, read in both ways."""

import contextlib
from collections.abc import Iterator
from itertools import chain
from types import SimpleNamespace
from typing import Any

import psycopg
from django.core.management import call_command
from django.db import connections
from django.db.utils import ConnectionHandler

from audit import ids
from audit.ledger.binary_rows import Raw, pin_encoding
from audit.ledger.seal import seal
from audit.ledger.tlog.canonical import LOG_V1, TASK_V1, Form, canonical
from audit.ledger.tlog.wire import wire_bytes
from auditproj.embedded.server import Server
from tests.support import ledger, servers

__all__ = ["FORMS", "SALT", "canonical_rows", "connect", "fill", "insert", "migrate", "raw", "seal_all", "stored"]

FORMS = (TASK_V1, LOG_V1)
SALT = bytes(range(16))

_TEXTS = [
    "",
    " ",
    "-",
    "3:bob",
    "two\nlines\r\nand\ttabs",
    "deploy\ndecided_by 3:bob\nparent -",
    'it\'s "quoted" `so` $$and$$ $function$',
    "back\\slash \\n \\x00 \\u0041 E'\\\\'",
    '{a,b} {"a",b} [1,2] (x) %s %(name)s :name ?',
    "é e\u0301 Å A\u030a ﬁ ß İ ǅ",
    "👩‍🚀🏴󠁧󠁢󠁳󠁣󠁴󠁿 🇩🇪 \U0010ffff \ufffe",
    "\u202eright to left\u202c \u2066isolated\u2069 שלום مرحبا",
    "\x01\x08\x0b\x0c\x1b\x7f\x80\x85\xa0\u2028\u2029\ufeff\u200b",
    "NULL",
    "x" * 9_000,
]
_SERVICES = [
    [],
    [""],
    ["a", "b"],
    ["a,b"],
    ["{a", "b}"],
    ["NULL", "null"],
    ['"', "\\", "'", "\n", " a "],
    ["\x01\x1f\x7f", "\u2028", "é", "👩‍🚀", 'b"]'],
]
_DOCUMENTS = [
    "[]",
    "{}",
    '""',
    '"null"',
    "false",
    "12.50",
    "[1.5, 1.50, 1.500, 0.0, -0.0, -0, 1E2, 1e-7, 100]",
    "[1234567890123456789012.50, 9007199254740993, 0.1234567890123456789012]",
    "[1e400, -1e400, 1e-400, 123e300]",
    '{"b": 1, "a": 2, "aa": 3, "B": 4, "é": 5, "zz": 6, "": 7}',
    '{"a": 1, "a": 2, "a": null}',
    r'"\u00e9\ud83d\ude00\u2028\u0001\b\f\n\r\t\/\\\""',
    '"\x7f\u202e👩‍🚀 e\u0301"',
    '{"a":{"b":[{"c":[[],{},[null,true]]}]}}',
    "[" * 3000 + "]" * 3000,
    "9" * 5000,
    '{"deep": ' * 150 + "12.50" + "}" * 150,
    '"' + "y" * 9_000 + '"',
]
_MOMENTS = [
    "0001-01-02 00:00:00+00",
    "0001-01-02 00:00:00.000001+00",
    "1582-10-15 12:00:00.5+00",
    "1969-12-31 23:59:59.999999+00",
    "1970-01-01 00:00:00+00",
    "1999-12-31 23:59:59.999999-12",
    "2000-01-01 00:00:00+00",
    "2024-02-29 23:59:60+14",
    "2024-10-27 01:30:00.123456 Europe/Berlin",
    "2038-01-19 03:14:08+00",
    "9998-12-31 23:59:59.999999+00",
]


def connect(server: Server, name: str = "audit", **options: Any) -> psycopg.Connection[Any]:
    """A session of its own, autocommit."""
    return psycopg.connect(dbname=name, autocommit=True, **server.connection_parameters(), **options)


def migrate(server: Server, name: str = "audit") -> None:
    """Make the app's tables in a database that has none."""
    alias = "sealed"
    connections.settings[alias] = ConnectionHandler({"default": servers.database_settings(server, name)}).settings[
        "default"
    ]
    try:
        call_command("migrate", "audit", database=alias, verbosity=0)
        connections[alias].close()
    finally:
        with contextlib.suppress(AttributeError):
            del connections[alias]
        del connections.settings[alias]


def _tasks() -> Iterator[dict[str, Any]]:
    plain = {"action": "deploy", "status": "completed"}
    for text in _TEXTS:
        names = ("summary", "requested_by", "decided_by", "correlation_id", "claimed_by", "actor")
        # An index entry holds no more than a page.
        short = text[:500]
        yield plain | dict.fromkeys(names, short) | {"action": text[:100].strip() or "-", "summary": text}
    for services in _SERVICES:
        yield plain | {"services_touched": services, "status": "rejected"}
    for document in _DOCUMENTS:
        names = ("plan", "estimated_resources", "resources_used", "outcome", "suggestions", "origin")
        yield plain | dict.fromkeys(names, document) | {"status": "failed"}
    for moment in _MOMENTS:
        names = (
            *("created_at", "available_at", "decided_at", "started_at", "finished_at"),
            *("lease_expires_at", "cancel_requested_at"),
        )
        yield plain | dict.fromkeys(names, moment)
    yield plain | {
        "priority": 1,
        "attempt": 2**31 - 1,
        "expiries": 2**31 - 1,
        "on_expiry": "fail",
        "parent": "01935a2e-7c00-7abc-8def-0123456789ab",
        "claim_token": "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
    }


def insert(connection: psycopg.Connection[Any], table: str, row: dict[str, Any]) -> None:
    """Insert a row given as columns that PostgreSQL reads as text; `table` is ours."""
    names = ", ".join(row)
    values = ", ".join(["%s"] * len(row))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({values})", list(row.values()))


def fill(connection: psycopg.Connection[Any]) -> None:
    """Write every awkward value into finished tasks and log rows."""
    for row in _tasks():
        insert(connection, "audit_task", {"id": ids.uuid7()} | row)
    last = row_id = ids.uuid7()
    insert(connection, "audit_task", {"id": last, "action": "logged", "status": "executing"})
    for kind, text in zip(["step", "note", "suggestion"] * 9, _TEXTS, strict=False):
        names = dict.fromkeys(("action", "actor"), text[:1000])
        row = {"kind": kind, "output_summary": text, "duration_ms": 2**63 - 1} | names
        insert(connection, "audit_executionlog", {"task_id": row_id, "step_number": -1, "attempt": 0} | row)
    for document in _DOCUMENTS:
        insert(connection, "audit_executionlog", {"task_id": row_id, "kind": "note", "detail": document})
    connection.execute("UPDATE audit_task SET status = 'completed' WHERE id = %s", [last])


def seal_all(server: Server, name: str = "audit") -> None:
    """Seal all that a database holds."""
    with servers.connected(server, name, "sealed") as alias:
        list(seal(alias, [ledger.KEY]))


def stored(connection: psycopg.Connection[Any], form: Form, where: str = "true", *params: Any) -> list[dict[str, Any]]:
    """The rows of a table (called r) that are sealed, as `canonical` takes them, by id; all with the same salt."""
    finished = "r.finished_xid IS NOT NULL" if form is TASK_V1 else "true"
    cursor = connection.execute(
        f"SELECT {form.select('r')} FROM {form.table} AS r WHERE {finished} AND {where} ORDER BY r.id", params
    )
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) | {"salt": SALT} for row in cursor]


def raw(connection: psycopg.Connection[Any]) -> Raw:
    """The sealer's own reader on a session without Django."""
    return Raw(SimpleNamespace(connection=connection, wrap_database_errors=contextlib.nullcontext()))


def canonical_rows(connection: psycopg.Connection[Any]) -> dict[str, list[bytes]]:
    """The canonical bytes of each table's rows, by id, as the sealer makes them; other settings of the session remain.

    Where the session speaks UTF-8 they are made in the other way, too, from texts and numbers, and compared.
    """
    made: dict[str, list[bytes]] = {}
    with connection.transaction():
        readable = connection.info.encoding == "utf-8"
        expected = {form: [canonical(form, row) for row in stored(connection, form)] for form in FORMS if readable}
        pin_encoding(connection)
        for form in FORMS:
            finished = "WHERE finished_xid IS NOT NULL" if form is TASK_V1 else ""
            keys = [key for (key,) in raw(connection).narrow(f"SELECT id FROM {form.table} {finished} ORDER BY id")]
            rows = {
                row[0]: wire_bytes(form, SALT, row) for row in chain.from_iterable(raw(connection).sealed(form, keys))
            }
            made[form.table] = [rows[key] for key in keys]
            assert made[form.table] == expected.get(form, made[form.table])
            assert made[form.table]
    return made
