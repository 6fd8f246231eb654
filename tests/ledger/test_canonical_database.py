"""What the sealer reads makes the same canonical bytes: every version, any session, any value."""

import contextlib
import json
import random
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import ids
from audit.ledger.binary_rows import pin_encoding
from audit.ledger.tlog.canonical import LOG_V1, TASK_V1, Kind, Uncanonical, row_hash
from audit.ledger.tlog.wire import wire_bytes, wire_hashes
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


@VERSIONS
def test_any_session_reads_the_same_bytes(find: Find, version: str) -> None:
    server = find(version)
    with sealed.connect(server) as connection:
        expected = sealed.canonical_rows(connection)
    tried = 0
    # The newest version with all of them, each other one with a third.
    of = 1 if version == servers.NEWEST else 3
    for chosen in islice(_sessions(), 0, None, of):
        with sealed.connect(server) as connection:
            taken = _set(connection, chosen)
            tried += bool(taken)
            assert sealed.canonical_rows(connection) == expected, taken
    assert tried >= 100 // of, tried


@VERSIONS
def test_every_awkward_row_has_bytes_of_its_own(find: Find, version: str) -> None:
    with sealed.connect(find(version)) as connection:
        made = sealed.canonical_rows(connection)
    for table, all_bytes in made.items():
        # The columns that differ anyhow aside.
        plain = [re.sub(rb"^(id|salt|xid|at|recorded_at) .*\n", b"", data, flags=re.MULTILINE) for data in all_bytes]
        assert len(set(plain)) == len(plain), table


@VERSIONS
def test_the_documents_example_is_what_the_database_gives(find: Find, version: str) -> None:
    with sealed.connect(find(version)) as connection, connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL session_replication_role = replica")  # so that every column is as given
        pin_encoding(connection)
        for form, data, digest in examples():
            row = decoded(form, data)
            salt = row.pop("salt")
            moments = {column.name for column in form.columns if column.kind is Kind.MOMENT}
            for name in moments:
                if row[name] is not None:
                    row[name] = EPOCH + timedelta(microseconds=row[name])
            sealed.insert(connection, form.table, row)
            [(key,)] = sealed.raw(connection).narrow(f"SELECT id FROM {form.table} WHERE id::text = %s", str(row["id"]))
            [[values]] = sealed.raw(connection).sealed(form, [key])
            assert wire_bytes(form, salt, values) == data
            [found] = wire_hashes(form, [salt], [values])
            assert found.hex() == digest


def test_a_row_of_other_columns_has_no_bytes() -> None:
    values = [None] * len(LOG_V1.stored)
    assert wire_bytes(LOG_V1, sealed.SALT, values)
    for wrong in (values[1:], [*values, None]):
        with pytest.raises(Uncanonical, match="the row has not the 17 columns"):
            wire_bytes(LOG_V1, sealed.SALT, wrong)
    with pytest.raises(Uncanonical, match="a column is not of the type this version seals"):
        wire_bytes(LOG_V1, sealed.SALT, [None, None, b"short", *values[3:]])


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
def test_random_values_are_read_alike_in_both_ways(find: Find, version: str) -> None:
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
                assert (row["summary"], row["services_touched"]) == (text, services)
                rows = sealed.stored(connection, LOG_V1, "r.task_id = %s", task["id"])
                assert rows[-1]["detail"] == row["outcome"]
                for form, made in ((TASK_V1, [row]), (LOG_V1, rows)):
                    table = (
                        f"SELECT id FROM {form.table} WHERE {'id' if form is TASK_V1 else 'task_id'} = %s ORDER BY id"
                    )
                    keys = [key for (key,) in sealed.raw(connection).narrow(table, task["id"])]
                    [together] = sealed.raw(connection).sealed(form, keys)
                    read = {values[0]: values for values in together}
                    hashes = wire_hashes(form, [sealed.SALT] * len(keys), [read[key] for key in keys])
                    assert hashes == [row_hash(form, each) for each in made]

        check()


@pytest.mark.parametrize("encoding", ["LATIN1", "EUC_JP", "SQL_ASCII"])
def test_a_database_in_another_encoding_gives_the_same_bytes(find: Find, django_db_blocker: Any, encoding: str) -> None:
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
        [data] = sealed.canonical_rows(connection)["audit_task"]
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
