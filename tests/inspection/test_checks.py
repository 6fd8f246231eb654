"""The system checks apart from those of flaws: when they run, and what they say of settings, server and sealer."""

from collections.abc import Iterator

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection, connections
from django.test import override_settings
from django.utils import timezone

from audit import checks, inspection
from audit.checks import running
from audit.ledger.tlog import keys
from audit.models import LedgerHead, Task
from tests.support.databases import temporary_database
from tests.support.ledger import VKEY

pytestmark = pytest.mark.django_db


_GUARD = "audit_task_10_write"


def _run(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _found(alias: str = "default") -> dict[str, list[str]]:
    """What the database check says: the objects concerned by id."""
    found: dict[str, list[str]] = {}
    for message in checks.check_database(None, databases=[alias]):
        assert message.hint
        found.setdefault(message.id, []).append(message.obj)
    return found


def test_a_sound_database_has_no_flaw():
    assert inspection.inspect("default") == []
    assert checks.check_settings(None) == []
    assert run_checks(databases=["default"]) == []


@pytest.mark.parametrize(
    ("setting", "value"),
    [("quote_all_identifiers", "on"), ("TimeZone", "Asia/Kolkata"), ("DateStyle", "SQL, DMY")],
)
def test_a_sound_database_has_no_flaw_whatever_the_session_says(setting, value):
    _run(f"SET LOCAL {setting} = '{value}'")
    assert inspection.inspect("default") == []
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting(%s)", [setting])
        assert cursor.fetchone() == (value,)


def test_the_database_is_only_asked_when_it_is_named():
    _run(f"DROP TRIGGER {_GUARD} ON audit_task")
    assert checks.check_database(None, databases=None) == []
    assert checks.check_database(None) == []
    assert [each.id for each in run_checks()] == []
    assert [each.id for each in run_checks(databases=["default"])] == ["audit.E011"]


@pytest.mark.parametrize(
    ("expected", "statements"),
    [
        ("audit.E010", ["ALTER TABLE audit_ledger_leaf RENAME TO elsewhere"]),
        ("audit.E025", ["ALTER TABLE audit_ledger_head DROP COLUMN low_xid CASCADE"]),
    ],
    ids=["no table of leaves", "no column of the head"],
)
def test_a_backlog_that_cannot_be_counted_does_not_hide_why(expected: str, statements: list[str]) -> None:
    LedgerHead.objects.update_or_create(id=1, defaults={"sealed_at": timezone.now(), "size": 0, "low_xid": 0})
    _run(*statements)
    assert expected in _found()
    assert "audit.W002" not in _found()


def test_a_backlog_that_may_not_be_counted_is_reported() -> None:
    LedgerHead.objects.update_or_create(id=1, defaults={"sealed_at": timezone.now(), "size": 0, "low_xid": 0})
    _run(
        "CREATE ROLE audit_checker",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO audit_checker",
        "REVOKE SELECT ON audit_ledger_leaf FROM audit_checker",
        "SET LOCAL ROLE audit_checker",
    )
    [message] = checks.check_database(None, databases=["default"])
    assert message.id == "audit.W002"
    assert "role audit_checker lacks SELECT on table audit_ledger_leaf." in message.msg


def test_a_sealer_that_is_behind(settings) -> None:
    settings.AUDIT = {"LEDGER_MAX_AGE_SECONDS": 3600, "LEDGER_VERIFIERS": [VKEY]}
    now = timezone.now()
    LedgerHead.objects.update_or_create(id=1, defaults={"sealed_at": now, "size": 0, "low_xid": 0})
    Task.objects.bulk_record([{"action": "x", "status": "completed"}])
    assert _found() == {}
    settings.AUDIT = {"LEDGER_MAX_AGE_SECONDS": 1, "LEDGER_VERIFIERS": [VKEY]}
    _run("SELECT pg_sleep(1.1)")
    [message] = checks.check_database(None, databases=["default"])
    assert message.id == "audit.W002"
    assert "2 finished rows of 'default' are not sealed" in message.msg
    assert message.hint


def test_seals_that_no_key_of_the_settings_checks(settings) -> None:
    settings.AUDIT = {}
    LedgerHead.objects.update_or_create(id=1, defaults={"sealed_at": None, "size": 0, "low_xid": 0})
    assert _found() == {}
    LedgerHead.objects.update_or_create(id=1, defaults={"sealed_at": timezone.now(), "size": 0, "low_xid": 0})
    [message] = checks.check_database(None, databases=["default"])
    assert message.id == "audit.W020"
    settings.AUDIT = {"LEDGER_VERIFIERS": [VKEY]}
    assert _found() == {}


def test_an_example_copied_from_the_documentation_is_no_key(settings) -> None:
    settings.AUDIT = {"LEDGER_VERIFIERS": [VKEY, "example.org/audit+…"]}
    [message] = checks.check_settings(None)
    assert message.id == "audit.E004"
    assert message.msg.startswith("AUDIT['LEDGER_VERIFIERS'][1]: This is not a verifier key")
    settings.AUDIT = {"LEDGER_VERIFIERS": [VKEY]}
    assert checks.check_settings(None) == []


def test_in_deployment_the_application_does_not_own_the_tables() -> None:
    assert [each.id for each in run_checks(databases=["default"])] == []
    assert [each.id for each in run_checks(databases=["default"], include_deployment_checks=True)].count(
        "audit.W021"
    ) == 1
    _run("CREATE ROLE audit_plain", "SET LOCAL ROLE audit_plain")
    assert checks.check_deployment(None, databases=["default"]) == []


_OWNED = """
SELECT 'ALTER TABLE ' || oid::regclass || ' OWNER TO ' FROM pg_class
WHERE relkind = 'r' AND relname LIKE 'audit\\_%' AND relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'ALTER FUNCTION ' || oid::regprocedure || ' OWNER TO ' FROM pg_proc
WHERE proname LIKE 'audit\\_%' AND pronamespace = 'public'::regnamespace
"""


def _moved(owner: str, kind: str = "ALTER") -> None:
    """Give everything of the app, or its tables or functions, another owner."""
    with connection.cursor() as cursor:
        cursor.execute(_OWNED)
        _run(*(f"{command}{owner}" for (command,) in cursor.fetchall() if command.startswith(kind)))


@pytest.mark.parametrize("way", ["ALTER", "REASSIGN"])
def test_an_owner_of_everything_is_no_flaw_and_a_warning_to_who_connects_as_it(way) -> None:
    """Nothing in the database says who the owner should be, so only who connects as the owner is warned."""
    _run(
        "SET CONSTRAINTS ALL IMMEDIATE",
        "CREATE ROLE audit_installer",
        "CREATE ROLE audit_app LOGIN",
        "CREATE ROLE audit_other LOGIN",
        "GRANT USAGE, CREATE ON SCHEMA public TO audit_installer, audit_app",
    )
    _moved("audit_installer")
    _run("SET LOCAL SESSION AUTHORIZATION audit_app")
    assert checks.check_deployment(None, databases=["default"]) == []
    _run("RESET SESSION AUTHORIZATION")
    if way == "ALTER":
        _moved("audit_app")
    else:
        _run("REASSIGN OWNED BY audit_installer TO audit_app")
    assert inspection.inspect("default") == []
    _run("SET LOCAL SESSION AUTHORIZATION audit_other")
    assert checks.check_deployment(None, databases=["default"]) == []
    _run("SET LOCAL SESSION AUTHORIZATION audit_app")
    assert _found() == {}
    [message] = checks.check_deployment(None, databases=["default"])
    assert message.id == "audit.W021"
    assert "connects to 'default' as the role 'audit_app', which owns the audit tables" in message.msg
    _run(f"ALTER TABLE audit_task DISABLE TRIGGER {_GUARD}")  # what the warning is about
    assert _found().keys() == {"audit.E012"}


@pytest.mark.parametrize("kind", ["ALTER TABLE", "ALTER FUNCTION"])
def test_an_owner_of_a_part_is_a_flaw_whoever_looks(kind) -> None:
    _run("SET CONSTRAINTS ALL IMMEDIATE", "CREATE ROLE audit_app LOGIN")
    _run("GRANT USAGE, CREATE ON SCHEMA public TO audit_app")
    _moved("audit_app", kind)
    flaws = inspection.inspect("default")
    assert {each.kind for each in flaws} == {"owner"}
    assert _found().keys() == {"audit.E033"}
    _run(*(each.remedy for each in flaws))
    assert inspection.inspect("default") == []


def test_rows_that_come_while_it_looks_are_no_sequence_that_is_behind() -> None:
    Task.objects.request("deploy", actor="alice")
    busy: list[str] = []

    def insert(execute, sql, params, many, context):
        if not busy:
            busy.append(sql)
            Task.objects.request("deploy", actor="alice")
            busy.clear()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(insert):
        assert running.check_sequences("default") == []


@pytest.mark.parametrize("variable", [keys.KEY_VARIABLE, keys.FILE_VARIABLE])
def test_the_signing_key_belongs_to_the_sealer_alone(monkeypatch, variable: str) -> None:
    monkeypatch.setenv(variable, "secret")
    [message] = checks.check_settings(None)
    assert message.id == "audit.W003"
    assert "secret" not in message.msg + str(message.hint)


@pytest.mark.parametrize("given", ["PRIVATE+KEY+x", ["fine", b"PRIVATE+KEY+x"], {"PRIVATE+KEY+x": 1}])
def test_a_key_in_the_wrong_place_is_not_shown(settings, given) -> None:
    settings.AUDIT = {"LEDGER_VERIFIERS": given}
    [message] = checks.check_settings(None)
    assert message.id == "audit.E004"
    assert "AUDIT['LEDGER_VERIFIERS'] must be list[str], not" in message.msg
    assert "PRIVATE" not in message.msg


class _ElsewhereRouter:
    def allow_migrate(self, db, app_label, **hints):
        return None if app_label != "audit" else db == "other"


def test_a_database_that_the_router_gives_no_audit_tables_is_left_alone():
    _run(f"DROP TRIGGER {_GUARD} ON audit_task")
    with override_settings(DATABASE_ROUTERS=[_ElsewhereRouter()]):
        assert _found() == {}


class _ToSqliteRouter:
    def db_for_write(self, model, **hints):
        return "lite" if model._meta.app_label == "audit" else None


@pytest.fixture
def lite() -> Iterator[str]:
    """An alias that is not PostgreSQL. Nothing connects to it."""
    connections.settings["lite"] = connections.settings["default"] | {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",
    }
    yield "lite"
    del connections["lite"]
    del connections.settings["lite"]


def test_not_postgresql(lite):
    assert [each.id for each in checks.check_database(None, databases=[lite])] == ["audit.E001"]
    with override_settings(DATABASE_ROUTERS=[_ToSqliteRouter()]):
        [message] = checks.check_settings(None)
        assert message.id == "audit.E001"
        assert "'lite'" in message.msg
        assert "sqlite" in message.msg
        assert message.hint
        # Once is enough.
        assert checks.check_database(None, databases=[lite]) == []


def test_too_old_a_server(monkeypatch):
    monkeypatch.setattr("audit.checks.database.MINIMUM_SERVER", 99)
    [message] = checks.check_database(None, databases=["default"])
    assert message.id == "audit.E002"
    assert "at least 99" in message.msg


def test_the_postgres_app_is_missing(settings):
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django.contrib.postgres"]
    assert [each.id for each in checks.check_settings(None)] == ["audit.E003"]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"LEASE": 60}, "'LEASE'"),
        ({"LEASE_SECONDS": "60"}, "'60'"),
        ([], "list"),
        ({"MAX_EXPIRIES": 0}, "0"),
        ({"REDACT_PATTERNS": ["("]}, "is not a regular expression"),
    ],
)
def test_audit_setting(settings, given, named):
    settings.AUDIT = given
    assert checks.check_database(None, databases=["default"]) == []
    [message] = checks.check_settings(None)
    assert message.id == "audit.E004"
    assert named in message.msg
    assert message.hint


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_encoding():
    with temporary_database("latin1", "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0") as alias:
        nothing, message = checks.check_database(None, databases=[alias])
    assert message.id == "audit.W001"
    assert "LATIN1" in message.msg
    assert message.hint
    # Nothing is migrated there.
    assert (nothing.id, "Run manage.py migrate." in nothing.hint) == ("audit.W011", True)
    assert "There are no audit tables here, so nothing can be recorded." in nothing.msg


def test_manage_check_fails_on_it():
    _run(f"DROP TRIGGER {_GUARD} ON audit_task")
    with pytest.raises(SystemCheckError, match=r"audit\.E011"):
        call_command("check", databases=["default"])
