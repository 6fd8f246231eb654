"""The migrations: forwards and backwards, and SQL files that never change once they are released."""

import hashlib
import pkgutil
from importlib import import_module
from importlib.resources import files
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.db.migrations import RunSQL
from django.db.migrations.executor import MigrationExecutor

from audit import inspection, migrations
from audit.models import Task
from audit.sql import read
from tests.support.databases import temporary_database

NAMES = sorted(module.name for module in pkgutil.iter_modules(migrations.__path__))
FILES = sorted(each.name.removesuffix(".sql") for each in files("audit.sql").iterdir() if each.name.endswith(".sql"))
# What databases out there ran. New files are added by:
# (cd audit/sql && sha256sum *.sql) > tests/support/released_sql.sha256
PINS = Path(__file__).parent.parent / "support" / "released_sql.sha256"

_SCHEMA = """
SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN '!' END
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relname LIKE 'audit%' AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT 'options', relname, relkind::text, reloptions::text FROM pg_class
WHERE relname LIKE 'audit%' AND relkind <> 'i'
UNION ALL SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE tablename LIKE 'audit%'
UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname, tgenabled::text || pg_get_triggerdef(oid) FROM pg_trigger
WHERE tgrelid::regclass::text LIKE 'audit%' AND NOT tgisinternal
UNION ALL SELECT 'function', proname, proacl::text, pg_get_functiondef(oid) FROM pg_proc
WHERE proname LIKE 'audit%'
UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid::regclass::text LIKE 'audit%'
"""


def _schema(alias: str) -> set[tuple[str, ...]]:
    with connections[alias].cursor() as cursor:
        cursor.execute(_SCHEMA)
        return set(cursor.fetchall())


def _migrate(alias: str, *target: str) -> None:
    call_command("migrate", *target, database=alias, verbosity=0)


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_zero_to_latest_and_back_twice():
    with temporary_database("migrations") as alias:
        _migrate(alias)
        latest = _schema(alias)
        assert {kind for kind, *_ in latest} == {"column", "options", "index", "trigger", "function", "constraint"}
        assert latest == _schema("default")
        task = Task.objects.using(alias).request("deploy", actor="alice")
        task.reject(actor="bob")
        _migrate(alias, "audit", "zero")
        assert _schema(alias) == set()
        for name in NAMES:
            _migrate(alias, "audit", name)
            # Half way up, nothing that is still to come is missed; that it is still to come is said.
            assert inspection.inspect(alias) == []
            assert bool(inspection.inspect(alias, minor=True)) == (name != NAMES[-1])
        assert _schema(alias) == latest
        for name in reversed(NAMES):
            _migrate(alias, "audit", name)
            assert inspection.inspect(alias) == []
        _migrate(alias, "audit", "zero")
        assert _schema(alias) == set()


@pytest.mark.django_db
def test_no_migration_is_missing():
    output = StringIO()
    call_command("makemigrations", "audit", check=True, dry_run=True, stdout=output)
    assert "No changes" in output.getvalue()
    assert MigrationExecutor(connection).loader.detect_conflicts() == {}


def _operations() -> list[RunSQL]:
    return [
        operation
        for name in NAMES
        for operation in import_module(f"audit.migrations.{name}").Migration.operations
        if isinstance(operation, RunSQL)
    ]


def test_every_sql_migration_has_a_reverse():
    assert _operations()
    for operation in _operations():
        assert isinstance(operation.sql, list)
        assert isinstance(operation.reverse_sql, list)
        assert operation.sql
        assert operation.reverse_sql


def test_every_file_is_run_by_one_migration():
    run = [(operation.sql, operation.reverse_sql) for operation in _operations()]
    # What a newer version takes the place of is removed with the statements of its own file.
    removed = [(back, forth) for forth, back in run if (back, forth) in run]
    for name in FILES:
        assert run.count(read(name)) == 1, name
    assert len(run) == len(FILES) + len(removed) / 2


@pytest.mark.django_db
@pytest.mark.parametrize("name", FILES)
def test_one_statement_an_item(name):
    """Only one statement can be prepared at a time, so the server itself tells."""
    connection.ensure_connection()
    pgconn = connection.connection.pgconn
    for statements in read(name):
        for statement in statements:
            answer = pgconn.prepare(b"", statement.encode())
            assert answer.error_message == b"", statement


def _pinned() -> dict[str, str]:
    return {name: digest for digest, name in (line.split() for line in PINS.read_text().splitlines())}


def test_released_sql_is_never_edited():
    found = {
        f"{name}.sql": hashlib.sha256(files("audit.sql").joinpath(f"{name}.sql").read_bytes()).hexdigest()
        for name in FILES
    }
    assert found == _pinned(), "write a new file of the next version, and a migration that installs it"


@pytest.mark.parametrize(
    "text", ["-- forwards\nSELECT 1\n", "-- backwards\nSELECT 1\n", "SELECT 0\n-- forwards\nSELECT 1\n-- backwards\n"]
)
def test_a_file_without_its_sections_is_refused(text, tmp_path, monkeypatch):
    (tmp_path / "broken_v1.sql").write_text(text)
    monkeypatch.setattr("audit.sql.files", lambda package: tmp_path)
    with pytest.raises(ValueError, match=r"broken_v1.sql needs"):
        read("broken_v1")
