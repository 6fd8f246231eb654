"""PostgreSQL and Python write the same canonical bytes: every version, any session, any value."""

import contextlib
import json
import random
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import ids
from audit.ledger.rows import Raw
from audit.ledger.tlog.canonical import LOG_V1, TASK_V1, Form, Kind, canonical, row_hash
from audit.ledger.tlog.wire import wire_bytes, wire_hash
from auditproj.embedded.server import Server
from tests.ledger.test_canonical import decoded, examples
from tests.support import sealed, servers

Find = Callable[[str], Server]
Settings = dict[str, str]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST, LATEST = datetime(1, 1, 2), datetime(9998, 12, 31)  # noqa: DTZ001

VERSIONS = pytest.mark.parametrize("version", servers.parameters())


@pytest.fixture(scope="module")
def find(django_db_blocker: Any) -> Iterator[Find]:
    """A server of the version asked for, migrated and filled, the same for every test of the module."""
    with contextlib.ExitStack() as stack:
        made: dict[str, Server] = {}

        def server(version: str) -> Server:
            if version not in made:
                made[version] = stack.enter_context(servers.throwaway(servers.binaries(version)))
                with django_db_blocker.unblock():
                    sealed.migrate(made[version])
                with sealed.connect(made[version]) as connection:
                    sealed.fill(connection)
                    connection.execute("CREATE ROLE writer")
                    connection.execute("GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO writer")
            return made[version]

        yield server


def _zones() -> list[str]:
    return [
        *("UTC", "Europe/London", "Europe/Berlin", "Europe/Moscow", "Europe/Dublin", "Africa/Monrovia", "Asia/Tehran"),
        *("Asia/Kolkata", "Asia/Kathmandu", "Asia/Tokyo", "Asia/Pyongyang", "Australia/Lord_Howe", "Pacific/Apia"),
        *("Pacific/Kiritimati", "Pacific/Chatham", "Pacific/Marquesas", "America/St_Johns", "America/New_York"),
        *("America/Caracas", "America/Sao_Paulo", "America/Los_Angeles", "Antarctica/Troll", "Etc/GMT+12"),
        *("Etc/GMT-14", "EST5EDT", "<+1559>-15:59:59", "<-1559>15:59:59", "-3.5", "posix/Europe/Paris"),
    ]


_CHOICES: dict[str, list[str]] = {
    "TimeZone": _zones(),
    "DateStyle": [
        f"{style}, {order}" for style in ("ISO", "SQL", "Postgres", "German") for order in ("DMY", "MDY", "YMD")
    ],
    "IntervalStyle": ["postgres", "postgres_verbose", "sql_standard", "iso_8601"],
    "extra_float_digits": ["-15", "-1", "0", "1", "3"],
    "bytea_output": ["hex", "escape"],
    **{f"lc_{name}": ["C", "POSIX", "C.UTF-8"] for name in ("messages", "monetary", "numeric", "time")},
    "client_encoding": ["UTF8", "SQL_ASCII", "LATIN1", "WIN1252", "EUC_JP", "SJIS", "KOI8R", "GB18030"],
    "standard_conforming_strings": ["on", "off"],
    "escape_string_warning": ["on", "off"],
    "backslash_quote": ["on", "off", "safe_encoding"],
    "quote_all_identifiers": ["on", "off"],
    "array_nulls": ["on", "off"],
    "transform_null_equals": ["on", "off"],
    "xmloption": ["content", "document"],
    "xmlbinary": ["base64", "hex"],
    "timezone_abbreviations": ["Default", "Australia", "India"],
    "search_path": ["public", "pg_temp, public", "public, pg_catalog"],
    "default_text_search_config": ["pg_catalog.simple", "pg_catalog.german"],
    "default_toast_compression": ["pglz", "lz4"],
    "plan_cache_mode": ["force_generic_plan", "force_custom_plan"],
    "plpgsql.variable_conflict": ["error", "use_variable", "use_column"],
    "plpgsql.extra_errors": ["all", "none"],
    "jit_above_cost": ["0"],
    "jit": ["on"],
    "default_transaction_isolation": ["serializable", "repeatable read"],
    "row_security": ["off"],
    "check_function_bodies": ["off"],
    "gin_fuzzy_search_limit": ["1"],
    "debug_parallel_query": ["on", "regress"],
    "force_parallel_mode": ["on"],
    "work_mem": ["64kB"],
    "enable_seqscan": ["off"],
    "icu_validation_level": ["error"],
    "createrole_self_grant": ["set"],
    "application_name": ["'; --"],
    "role": ["writer"],
    "synchronous_commit": ["off"],
    "statement_timeout": ["1h"],
    "geqo": ["off"],
}


def _sessions() -> Iterator[Settings]:
    """One setting at a time, each value of it, then mixtures."""
    for name, values in _CHOICES.items():
        yield from ({name: value} for value in values)
    chance = random.Random(7)
    for _ in range(20):
        yield {name: chance.choice(_CHOICES[name]) for name in chance.sample(sorted(_CHOICES), 12)}


def _set(connection: psycopg.Connection[Any], chosen: Settings) -> Settings:
    """Put the settings into force; those that this version, build and machine know."""
    taken = {}
    for name, value in chosen.items():
        with contextlib.suppress(psycopg.Error):
            connection.execute("SELECT set_config(%s, %s, false)", [name, value])
            taken[name] = value
    return taken


def _copies(form: Form) -> str:
    """SQL that writes the awkward rows again, without a word from the client."""
    made = {"recorded_at", "at", "db_role", "row_version", "salt", "finished_xid", "xid", "id"}
    names = [column.name for column in form.columns if column.name not in made]
    picked = ", ".join(names)
    if form is TASK_V1:
        fresh = "overlay(id::text placing lpad(to_hex((random() * 1e9)::bigint), 8, '0') from 29)::uuid"
        return (
            f"INSERT INTO audit_task (id, {picked}) SELECT {fresh}, {picked} FROM audit_task"
            " WHERE status IN ('completed', 'failed', 'rejected')"
        )
    return (
        f"INSERT INTO audit_executionlog ({picked}) SELECT {picked} FROM audit_executionlog WHERE kind <> 'transition'"
    )


@VERSIONS
def test_any_session_writes_and_reads_the_same_bytes(find: Find, version: str) -> None:
    server = find(version)
    with sealed.connect(server) as connection:
        expected = sealed.verify(connection)
        expressions = {form.table: sealed.canonical_sql(connection, form) for form in sealed.FORMS}
    tried = 0
    for chosen in _sessions():
        # A new session, because a function is compiled under the settings of its first call.
        with sealed.connect(server) as connection:
            taken = _set(connection, chosen)
            tried += bool(taken)
            for table, expression in expressions.items():
                sql = f"SELECT {expression} FROM {table} AS r WHERE row_hash IS NOT NULL ORDER BY id"
                assert [data for (data,) in _binary(connection, sql)] == expected[table], taken
            if taken.get("client_encoding", "UTF8") == "UTF8":
                assert sealed.verify(connection) == expected, taken
            connection.autocommit = False
            for form in sealed.FORMS:
                assert connection.execute(_copies(form)).rowcount > 30
            connection.execute("SET LOCAL client_encoding = 'UTF8'")
            written = sealed.verify(connection)
            assert all(len(written[table]) > 1.5 * len(expected[table]) for table in written), taken
            connection.rollback()
    assert tried >= 100, tried
    with sealed.connect(server) as connection:
        assert sealed.verify(connection) == expected


def _binary(connection: psycopg.Connection[Any], sql: str) -> list[tuple[Any, ...]]:
    return connection.cursor(binary=True).execute(sql).fetchall()


@VERSIONS
def test_every_awkward_row_has_bytes_of_its_own(find: Find, version: str) -> None:
    with sealed.connect(find(version)) as connection:
        told = sealed.verify(connection)
    for table, all_bytes in told.items():
        # The columns that differ anyhow aside.
        plain = [re.sub(rb"^(id|salt|xid|at|recorded_at) .*\n", b"", data, flags=re.MULTILINE) for data in all_bytes]
        assert len(set(plain)) == len(plain), table


@VERSIONS
def test_the_documents_example_is_what_the_database_says(find: Find, version: str) -> None:
    """A session that brings hashes along has them checked: that of the document is accepted."""
    with sealed.connect(find(version)) as connection, connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL session_replication_role = replica")
        for form, data, digest in examples():
            _bring(connection, form, decoded(form, data), bytes.fromhex(digest))
        told = sealed.verify(connection)
        assert all(data in told[form.table] for form, data, _ in examples())


@VERSIONS
@pytest.mark.parametrize("form", sealed.FORMS, ids=lambda form: form.table)
def test_a_hash_that_does_not_fit_is_refused_whichever_column_was_changed(find: Find, version: str, form: Form) -> None:
    other: dict[Kind, Any] = {
        Kind.TEXT: "paused",
        Kind.INTEGER: 2000,
        Kind.XID: "1",
        Kind.IDENTIFIER: "01935a2e-7c00-7abc-8def-000000000000",
        Kind.MOMENT: 1,
        Kind.NAMES: ["other"],
        Kind.DOCUMENT: "[]",
        Kind.BYTES: bytes(16),
    }
    [(data, digest)] = [(data, digest) for example, data, digest in examples() if example is form]
    with sealed.connect(find(version)) as connection:
        for column in form.columns:
            value = "rejected" if column.name in {"status", "to_status"} else other[column.kind]
            row = decoded(form, data) | {column.name: value}
            with connection.transaction(force_rollback=True):
                connection.execute("SET LOCAL session_replication_role = replica")
                with pytest.raises(psycopg.errors.RestrictViolation, match="the row hash that comes with the row"):
                    _bring(connection, form, row, bytes.fromhex(digest))
            with connection.transaction(force_rollback=True), contextlib.suppress(psycopg.errors.IntegrityError):
                connection.execute("SET LOCAL session_replication_role = replica")
                _bring(connection, form, row, row_hash(form, row))


def _bring(connection: psycopg.Connection[Any], form: Form, row: dict[str, Any], digest: bytes) -> None:
    """Insert a row with every column as given, its hash included."""
    moments = {column.name for column in form.columns if column.kind is Kind.MOMENT}
    for name in moments:
        if row[name] is not None:
            row = row | {name: EPOCH + timedelta(microseconds=row[name])}
    sealed.insert(connection, form.table, row | {"row_hash": digest})


_CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from("\n\\\"'{},:- \t\x7f")
_TEXT = st.text(_CHARACTERS, max_size=30)
_NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
_DOCUMENTS = st.recursive(
    st.sampled_from(["null", "true", "false"])
    | _NUMBERS
    | _TEXT.map(json.dumps)
    | _TEXT.map(lambda text: json.dumps(text, ensure_ascii=False)),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(st.tuples(_TEXT.map(json.dumps), inner), max_size=4).map(
            lambda items: "{" + ",".join(f"{key}:{value}" for key, value in items) + "}"
        )
    ),
    max_leaves=12,
).filter(lambda document: document != "null")


@VERSIONS
def test_random_values_are_sealed_alike(find: Find, version: str) -> None:
    with sealed.connect(find(version)) as connection:

        @settings(max_examples=150, deadline=None, database=None)
        @given(_TEXT, st.lists(_TEXT, max_size=4), _DOCUMENTS, st.datetimes(EARLIEST, LATEST))
        def check(text: str, services: list[str], document: str, moment: datetime) -> None:
            with connection.transaction(force_rollback=True):
                task = {"id": ids.uuid7(), "action": "fuzz", "status": "completed", "summary": text}
                values = {"services_touched": services, "outcome": document, "created_at": moment.replace(tzinfo=UTC)}
                sealed.insert(connection, "audit_task", task | values)
                log = {"task_id": task["id"], "kind": "note", "output_summary": text, "detail": document}
                sealed.insert(connection, "audit_executionlog", log)
                [row] = sealed.stored(connection, TASK_V1, "r.id = %s", task["id"])
                assert row_hash(TASK_V1, row) == row["row_hash"]
                assert (row["summary"], row["services_touched"]) == (text, services)
                rows = sealed.stored(connection, LOG_V1, "r.task_id = %s", task["id"])
                assert [row_hash(LOG_V1, row) for row in rows] == [row["row_hash"] for row in rows]
                assert rows[-1]["detail"] == row["outcome"]

        check()


@pytest.mark.parametrize("encoding", ["LATIN1", "EUC_JP", "SQL_ASCII"])
def test_a_database_in_another_encoding_seals_the_same_bytes(find: Find, django_db_blocker: Any, encoding: str) -> None:
    server = find("18-wheel")
    name = f"audit_{encoding.lower()}"
    with sealed.connect(server) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    with django_db_blocker.unblock():
        sealed.migrate(server, name)
    text = {"LATIN1": "Zoë\n'ÿ'", "EUC_JP": "鍵の交換", "SQL_ASCII": "Zoë 鍵 👩‍🚀"}[encoding]
    document = json.dumps({text: [text, 12.5]}, ensure_ascii=False)
    with sealed.connect(server, name, client_encoding="UTF8") as connection:
        row = {"id": ids.uuid7(), "action": "deploy", "status": "completed", "summary": text}
        sealed.insert(connection, "audit_task", row | {"outcome": document, "services_touched": [text]})
        [data] = sealed.verify(connection)["audit_task"]
    assert f"summary {len(text.encode())}:{text}\n".encode() in data
    assert f"outcome {len(document.encode())}:{document}\n".encode() in data


@VERSIONS
@pytest.mark.parametrize(
    "moment", ["infinity", "-infinity", "20000-01-01", "294276-12-31 23:59:59+00", "0044-03-15 BC"]
)
def test_a_moment_nobody_could_read_meets_its_check(find: Find, version: str, moment: str) -> None:
    """And no error of the arithmetic before that, which Django would not call an IntegrityError."""
    row = {"id": ids.uuid7(), "action": "deploy", "status": "completed", "created_at": moment}
    with sealed.connect(find(version)) as connection, pytest.raises(psycopg.errors.CheckViolation):
        sealed.insert(connection, "audit_task", row)


def test_a_large_outcome_is_not_copied_once_a_column(find: Find) -> None:
    """Peak memory of the server for 20 MB of outcome; joined with || it was 1.6 GB."""
    with sealed.connect(find("18-wheel")) as connection:
        status = Path(f"/proc/{connection.info.backend_pid}/status")
        if not status.exists():
            pytest.skip("no /proc to read the memory of the server's process from")
        with connection.transaction(force_rollback=True):
            row = {"id": ids.uuid7(), "action": "large", "status": "completed"}
            sealed.insert(connection, "audit_task", row | {"outcome": '"' + "x" * 20_000_000 + '"'})
        [peak_kb] = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
    assert int(peak_kb) < 600_000


@VERSIONS
def test_the_binary_format_makes_the_same_bytes(find: Find, version: str) -> None:
    with sealed.connect(find(version)) as connection:
        raw = Raw(SimpleNamespace(connection=connection, wrap_database_errors=contextlib.nullcontext()))
        # Whatever the session is set to.
        connection.execute("SET TimeZone = 'Asia/Kathmandu'")
        connection.execute("SET client_encoding = 'UTF8'")
        for form in (TASK_V1, LOG_V1):
            rows = {row["row_hash"]: row for row in sealed.stored(connection, form)}
            keys = [row["id"] for row in rows.values()]
            seen = 0
            for *values, stored in raw.sealed(form, "id", keys):
                assert wire_bytes(form, values) == canonical(form, rows[stored])
                assert wire_hash(form, values) == stored
                seen += 1
            assert seen == len(rows) > 20
