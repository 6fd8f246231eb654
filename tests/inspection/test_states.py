"""What stands decides, not what is recorded: tables alone, half a migration, another schema, the unreleased past."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.checks import WARNING
from django.core.management import CommandError, call_command
from django.db import connection, connections

from audit import inspection
from audit.checks import check_database
from audit.inspection.expected import expected
from audit.inspection.flaws import kept_models
from audit.inspection.recorded_migrations import shipped_migrations
from tests.support.databases import temporary_database
from tests.support.servers import connected, dump, restore

_GUARD = "audit_task_10_write"
_TABLES = sorted(model._meta.db_table for model in kept_models())
_EMPTY = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def _run(*statements: str, alias: str = "default") -> None:
    with connections[alias].cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _kinds(alias: str = "default") -> Counter[str]:
    return Counter(flaw.kind for flaw in inspection.inspect(alias))


@_EMPTY
def test_nothing_is_expected_before_anything_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    with temporary_database("nothing") as alias:
        assert inspection.inspect(alias) == []
        call_command("migrate", "contenttypes", database=alias, verbosity=0)
        assert inspection.inspect(alias) == []
        [flaw] = inspection.inspect(alias, minor=True)
        assert (flaw.kind, flaw.minor) == ("unfinished", True)
        [message] = check_database(None, databases=[alias])
        assert (message.id, message.level) == ("audit.W011", WARNING)
        monkeypatch.setattr("sys.argv", ["manage.py", "migrate"])  # which runs this check before it mends that
        assert check_database(None, databases=[alias]) == []


@_EMPTY
def test_migrations_that_were_only_recorded() -> None:
    with temporary_database("fake") as alias:
        call_command("migrate", "auth", database=alias, verbosity=0)
        call_command("migrate", "audit", fake=True, database=alias, verbosity=0)
        flaws = inspection.inspect(alias)
        assert sorted(flaw.name for flaw in flaws if flaw.kind == "table-missing") == _TABLES
        assert {flaw.kind for flaw in flaws} == {"table-missing", "function-missing"}
        # Recorded half way.
        _run("DELETE FROM django_migrations WHERE app = 'audit' AND name <> '0001_tables'", alias=alias)
        assert {flaw.table for flaw in inspection.inspect(alias)} == {
            "audit_task",
            "audit_executionlog",
            "audit_pause_queue",
            "audit_event",
        }


@pytest.mark.django_db
def test_what_is_not_recorded_is_missed_nevertheless() -> None:
    for name in reversed(shipped_migrations()):
        _run(f"DELETE FROM django_migrations WHERE app = 'audit' AND name = '{name}'")
        assert inspection.inspect("default", minor=True) == []
    _run(f"DROP TRIGGER {_GUARD} ON audit_task")
    [flaw] = inspection.inspect("default")
    assert (flaw.kind, flaw.name) == ("trigger-missing", _GUARD)
    [message] = check_database(None, databases=["default"])
    assert message.id == "audit.E011"


@pytest.mark.django_db
@pytest.mark.parametrize("name", shipped_migrations())
def test_removing_the_record_of_one_migration_excuses_nothing(name: str) -> None:
    _run(
        f"DELETE FROM django_migrations WHERE app = 'audit' AND name = '{name}'",
        "DROP TRIGGER audit_ledger_leaf_10_guard ON audit_ledger_leaf",
        f"DROP TRIGGER {_GUARD} ON audit_task",
    )
    assert _kinds() == {"trigger-missing": 2}


@pytest.mark.django_db
@pytest.mark.parametrize("record", ["kept", "empty", "lost", "secret"])
def test_a_dump_of_the_tables_alone(record: str) -> None:
    # As pg_dump -t 'audit_*' leaves them: without functions, triggers of this app and rows of django_migrations.
    _run(
        'CREATE SCHEMA "Restored Here"',
        'SET LOCAL search_path = "Restored Here", public',
        *(f'CREATE TABLE "Restored Here".{table} (LIKE public.{table} INCLUDING ALL)' for table in _TABLES),
    )
    if record == "empty":
        _run("DELETE FROM django_migrations WHERE app = 'audit'")
    elif record == "lost":
        _run("DROP TABLE django_migrations")
    elif record == "secret":
        _run("CREATE ROLE checker", 'GRANT USAGE ON SCHEMA "Restored Here" TO checker', "SET LOCAL ROLE checker")
    objects = Counter(kind for kind, _, _ in expected())
    foreign = [each for each in expected().values() if "FOREIGN KEY" in each.facts.get("definition", "")]
    found = _kinds()
    assert found["trigger-missing"] == objects["trigger"]
    assert found["function-missing"] == objects["function"]
    assert found["foreign-key"] == len(foreign)


@pytest.fixture
def dumped(throwaway_server: Any, django_db_blocker: Any) -> Iterator[Any]:
    """A migrated database on a server of its own, and two empty ones beside it."""
    server = throwaway_server()
    with django_db_blocker.unblock():
        with connected(server, "postgres", "dumped") as alias:
            for name in ("whole", "part"):
                _run(f"CREATE DATABASE {name}", alias=alias)
        with connected(server, "audit", "dumped") as alias:
            call_command("migrate", database=alias, verbosity=0)
        yield server


@pytest.mark.slow
def test_what_pg_dump_restores(dumped: Any) -> None:
    assert restore(dumped, "whole", dump(dumped)) == ""
    with connected(dumped, "whole", "dumped") as alias:
        assert inspection.inspect(alias, minor=True) == []
    tables = "--table=audit_*"
    assert "does not exist" in restore(dumped, "part", dump(dumped, tables))  # triggers, without their functions
    assert restore(dumped, "part", dump(dumped, tables, "--section=pre-data")) == ""
    with connected(dumped, "part", "dumped") as alias:
        objects = Counter(kind for kind, _, _ in expected())
        found = _kinds(alias)
        assert found["trigger-missing"] == objects["trigger"]
        assert found["function-missing"] == objects["function"]


@pytest.mark.django_db
def test_one_thing_of_a_name_is_enough_to_miss_the_rest() -> None:
    _run(
        "CREATE SCHEMA lone",
        "CREATE VIEW lone.audit_task AS SELECT 1 AS id",
        "SET LOCAL search_path = lone",
    )
    found = _kinds()
    assert found["table-replaced"] == 1
    assert found["table-missing"] == len(_TABLES) - 1


@_EMPTY
def test_in_a_schema_of_its_own_a_sound_database_is_sound() -> None:
    with temporary_database("tenant") as alias:
        _run('CREATE SCHEMA "My Tenant"', alias=alias)
        _run(
            f"""ALTER DATABASE "{connections[alias].settings_dict["NAME"]}" SET search_path = "My Tenant", public""",
            alias=alias,
        )
        connections[alias].close()
        call_command("migrate", "audit", database=alias, verbosity=0)
        assert inspection.inspect(alias, minor=True) == []
        with connections[alias].cursor() as cursor:
            cursor.execute("SHOW search_path")
            assert cursor.fetchone() == ('"My Tenant", public',)
        _run("ALTER FUNCTION audit_task_log_v1() SET SCHEMA public", alias=alias)
        assert _kinds(alias) == {"function-missing": 1, "trigger-changed": 3}


@pytest.mark.django_db
def test_the_session_is_left_as_it_was() -> None:
    _run("SET LOCAL TimeZone = 'Asia/Kolkata'", "SET LOCAL search_path = public, pg_temp")
    inspection.inspect("default")
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('TimeZone'), current_setting('search_path')")
        assert cursor.fetchone() == ("Asia/Kolkata", "public, pg_temp")


@pytest.mark.django_db
def test_a_role_without_any_right_can_inspect() -> None:
    _run("CREATE ROLE nobody_special", "SET LOCAL ROLE nobody_special")
    assert inspection.inspect("default", minor=True) == []


_UNRECORDED = "DELETE FROM django_migrations WHERE app = 'audit'"
_PAST = [
    # A column of then.
    [_UNRECORDED, "ALTER TABLE audit_task ADD COLUMN row_hash bytea"],
    # Or a record of then, beside tables.
    [_UNRECORDED, "INSERT INTO django_migrations (app, name, applied) VALUES ('audit', '0001_initial', now())"],
]


@pytest.fixture
def signals() -> Iterator[None]:
    """Put back the handlers that the demo sets."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.django_db
@pytest.mark.parametrize("statements", _PAST, ids=["column", "record"])
def test_the_unreleased_past_is_named_in_one_line(statements: list[str], signals: None) -> None:
    _run(*statements)
    [message] = check_database(None, databases=["default"])
    assert message.id == "audit.E037"
    assert "before the first release" in message.msg
    assert "new, empty database" in message.hint
    for command in (["migrate"], ["migrate", "audit"]):
        with pytest.raises(CommandError) as refused:
            call_command(*command, verbosity=0)
        assert "before the first release" in str(refused.value)
        assert "new, empty database" in str(refused.value)
        assert "\n" not in str(refused.value)
    with pytest.raises(CommandError) as refused:
        call_command("demo", no_serve=True)
    assert "before the first release" in str(refused.value)
    assert "To start afresh, " in str(refused.value)
    assert "\n" not in str(refused.value)


@_EMPTY
def test_a_record_of_the_past_without_its_tables_is_no_hindrance() -> None:
    with temporary_database("past") as alias:
        call_command("migrate", "contenttypes", database=alias, verbosity=0)
        _run("INSERT INTO django_migrations (app, name, applied) VALUES ('audit', '0001_initial', now())", alias=alias)
        call_command("migrate", database=alias, verbosity=0)
        assert inspection.inspect(alias, minor=True) == []


@pytest.mark.django_db
def test_a_newer_version_is_not_the_past() -> None:
    _run("INSERT INTO django_migrations (app, name, applied) VALUES ('audit', '9999_later', now())")
    assert inspection.inspect("default", minor=True) == []


@pytest.mark.django_db
def test_other_apps_migrate_beside_the_past() -> None:
    _run(*_PAST[0])
    written: Any = call_command("migrate", "contenttypes", verbosity=0)
    assert written is None
