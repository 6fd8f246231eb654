"""The system checks, each by its id, on a database in which the thing is really broken."""

from collections.abc import Iterator

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection, connections
from django.test import override_settings
from django.utils import timezone

from audit import checks, inspection
from audit.inspection import installed
from audit.inspection.flaws import kept_models
from audit.ledger.tlog import keys
from audit.models import LedgerHead, Task
from audit.sql import parts
from tests.support.databases import temporary_database

pytestmark = pytest.mark.django_db


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
    _run("DROP TRIGGER audit_task_10_guard ON audit_task")
    assert checks.check_database(None, databases=None) == []
    assert checks.check_database(None) == []
    assert [each.id for each in run_checks()] == []
    assert [each.id for each in run_checks(databases=["default"])] == ["audit.E011"]


_GUARD = "audit_task_10_guard"
_ALWAYS = f"ALTER TABLE audit_task ENABLE ALWAYS TRIGGER {_GUARD}"


_LATE = ["CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"]


def _recreated(definition: str) -> list[str]:
    return [
        f"DROP TRIGGER {_GUARD} ON audit_task",
        f"CREATE TRIGGER {_GUARD} {definition} EXECUTE FUNCTION audit_task_guard_v1()",
        _ALWAYS,
    ]


@pytest.mark.parametrize(
    ("expected", "statements"),
    [
        ({"audit.E010": ["audit_pause_queue"]}, ["ALTER TABLE audit_pause_queue RENAME TO elsewhere"]),
        ({"audit.E011": [_GUARD]}, [f"DROP TRIGGER {_GUARD} ON audit_task"]),
        (
            {"audit.E011": ["audit_pause_queue_10_no_truncate"]},
            ["ALTER TRIGGER audit_pause_queue_10_no_truncate ON audit_pause_queue RENAME TO audit_pause_queue_10"],
        ),
        ({"audit.E012": [_GUARD]}, [f"ALTER TABLE audit_task DISABLE TRIGGER {_GUARD}"]),
        ({"audit.E012": ["audit_task_20_stamp"]}, ["ALTER TABLE audit_task DISABLE TRIGGER audit_task_20_stamp"]),
        ({"audit.E013": [_GUARD]}, [f"ALTER TABLE audit_task ENABLE TRIGGER {_GUARD}"]),
        ({"audit.E013": ["audit_task_90_seal"]}, ["ALTER TABLE audit_task ENABLE REPLICA TRIGGER audit_task_90_seal"]),
        (
            # A writer that fires on a replica too would stamp and log what its source has logged.
            {"audit.E013": ["audit_task_20_stamp"]},
            ["ALTER TABLE audit_task ENABLE ALWAYS TRIGGER audit_task_20_stamp"],
        ),
        ({"audit.E014": [_GUARD]}, _recreated("BEFORE DELETE ON audit_task FOR EACH ROW")),
        ({"audit.E014": [_GUARD]}, _recreated("AFTER UPDATE OR DELETE ON audit_task FOR EACH ROW")),
        ({"audit.E014": [_GUARD]}, _recreated("BEFORE UPDATE OF summary OR DELETE ON audit_task FOR EACH ROW")),
        ({"audit.E014": [_GUARD]}, _recreated("BEFORE UPDATE OR DELETE ON audit_task FOR EACH STATEMENT")),
        ({"audit.E014": [_GUARD]}, _recreated("BEFORE UPDATE OR DELETE ON audit_task FOR EACH ROW WHEN (false)")),
        (
            {"audit.E014": [_GUARD]},
            [
                "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
                (
                    "CREATE OR REPLACE TRIGGER audit_task_10_guard BEFORE UPDATE OR DELETE ON audit_task FOR EACH ROW "
                    "EXECUTE FUNCTION nothing()"
                ),
                _ALWAYS,
            ],
        ),
        (
            # The same name, in another schema.
            {"audit.E014": [_GUARD]},
            [
                "CREATE SCHEMA attic",
                (
                    "CREATE FUNCTION attic.audit_task_guard_v1() RETURNS trigger LANGUAGE plpgsql "
                    "AS 'BEGIN RETURN NEW; END'"
                ),
                (
                    "CREATE OR REPLACE TRIGGER audit_task_10_guard BEFORE UPDATE OR DELETE ON audit_task FOR EACH ROW "
                    "EXECUTE FUNCTION attic.audit_task_guard_v1()"
                ),
                _ALWAYS,
            ],
        ),
        (
            # A trigger with a WHEN, whose condition is another one.
            {"audit.E014": ["audit_task_40_queue_insert"]},
            [
                (
                    "CREATE OR REPLACE TRIGGER audit_task_40_queue_insert AFTER INSERT ON audit_task FOR EACH ROW "
                    "WHEN (NEW.status = 'pending') EXECUTE FUNCTION audit_task_queue_v1()"
                )
            ],
        ),
        (
            # With arguments, which nothing of ours takes.
            {"audit.E014": [_GUARD]},
            [
                (
                    "CREATE OR REPLACE TRIGGER audit_task_10_guard BEFORE UPDATE OR DELETE ON audit_task FOR EACH ROW "
                    "EXECUTE FUNCTION audit_task_guard_v1('x')"
                ),
                _ALWAYS,
            ],
        ),
        (
            # After the seal: what it changes is not what was hashed.
            {"audit.E015": ["zz_late"]},
            [*_LATE, "CREATE TRIGGER zz_late BEFORE UPDATE ON audit_task FOR EACH ROW EXECUTE FUNCTION late()"],
        ),
        (
            # Between stamp and seal: it can say that somebody else was there.
            {"audit.E015": ["audit_executionlog_30_x"]},
            [
                *_LATE,
                (
                    "CREATE TRIGGER audit_executionlog_30_x BEFORE INSERT ON audit_executionlog FOR EACH ROW "
                    "EXECUTE FUNCTION late()"
                ),
            ],
        ),
        (
            # RETURN NULL swallows the row, and with it the result of a verification.
            {"audit.E015": ["aa"]},
            [
                *_LATE,
                "CREATE TRIGGER aa BEFORE INSERT ON audit_ledger_verification FOR EACH ROW EXECUTE FUNCTION late()",
            ],
        ),
        (
            {"audit.E015": ["aa"]},
            [*_LATE, "CREATE TRIGGER aa BEFORE DELETE ON audit_pause_queue FOR EACH ROW EXECUTE FUNCTION late()"],
        ),
        (
            {"audit.E016": ["audit_log_guard_v1"], "audit.E011": ["audit_executionlog_10_guard"]},
            ["DROP FUNCTION audit_log_guard_v1() CASCADE"],
        ),
        (
            {"audit.E017": ["audit_log_guard_v1"]},
            [
                (
                    "CREATE OR REPLACE FUNCTION audit_log_guard_v1() RETURNS trigger LANGUAGE plpgsql "
                    "SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NEW; END'"
                )
            ],
        ),
        ({"audit.E018": ["audit_task_guard_v1"]}, ["ALTER FUNCTION audit_task_guard_v1() RESET search_path"]),
        ({"audit.E018": ["audit_task_guard_v1"]}, ["ALTER FUNCTION audit_task_guard_v1() SET search_path = public"]),
        ({"audit.E018": ["audit_task_log_v1"]}, ["ALTER FUNCTION audit_task_log_v1() SECURITY INVOKER"]),
        ({"audit.E018": ["audit_task_guard_v1"]}, ["ALTER FUNCTION audit_task_guard_v1() SECURITY DEFINER"]),
        ({"audit.E019": ["audit_task_log_v1"]}, ["GRANT EXECUTE ON FUNCTION audit_task_log_v1() TO PUBLIC"]),
        (
            {"audit.E020": ["audit_task_id_is_uuid7"]},
            ["ALTER TABLE audit_task DROP CONSTRAINT audit_task_id_is_uuid7"],
        ),
        (
            # One that Django made.
            {"audit.E020": ["audit_executionlog_kind_known"]},
            ["ALTER TABLE audit_executionlog DROP CONSTRAINT audit_executionlog_kind_known"],
        ),
        (
            {"audit.E021": ["audit_task_id_is_uuid7"]},
            [
                "ALTER TABLE audit_task DROP CONSTRAINT audit_task_id_is_uuid7",
                (
                    "ALTER TABLE audit_task ADD CONSTRAINT audit_task_id_is_uuid7 "
                    "CHECK ((get_byte(uuid_send(id), 6) & 240) = 112) NOT VALID"
                ),
            ],
        ),
        (
            {"audit.E028": ["audit_task_id_is_uuid7"]},
            [
                "ALTER TABLE audit_task DROP CONSTRAINT audit_task_id_is_uuid7",
                "ALTER TABLE audit_task ADD CONSTRAINT audit_task_id_is_uuid7 CHECK (true)",
            ],
        ),
        (
            # Its moments are worded in UTC, wherever the session is.
            {"audit.E028": ["audit_executionlog_moment_readable"]},
            [
                "SET LOCAL TimeZone = 'Asia/Kolkata'",
                "ALTER TABLE audit_executionlog DROP CONSTRAINT audit_executionlog_moment_readable",
                (
                    "ALTER TABLE audit_executionlog ADD CONSTRAINT audit_executionlog_moment_readable CHECK "
                    "(at >= '0001-01-02 00:00:00+00' AND at < '9999-12-30 00:00:00+00')"
                ),
            ],
        ),
        (
            {"audit.E028": ["audit_ledger_leaf_task"]},
            [
                "DROP INDEX audit_ledger_leaf_task",
                "CREATE UNIQUE INDEX audit_ledger_leaf_task ON audit_ledger_leaf (task_id) WHERE index < 0",
            ],
        ),
        (
            {"audit.E028": ["audit_ledger_tile_pkey"]},
            [
                "ALTER TABLE audit_ledger_tile DROP CONSTRAINT audit_ledger_tile_pkey",
                "ALTER TABLE audit_ledger_tile ADD PRIMARY KEY (level, index) DEFERRABLE",
            ],
        ),
        ({"audit.E020": ["audit_ledger_leaf_task"]}, ["DROP INDEX audit_ledger_leaf_task"]),
        ({"audit.E023": ["audit_pause_queue"]}, ["ALTER TABLE audit_pause_queue SET UNLOGGED"]),
        ({"audit.E024": ["audit_task"]}, ["ALTER TABLE audit_task ENABLE ROW LEVEL SECURITY"]),
        ({"audit.E025": ["audit_task.summary"]}, ["ALTER TABLE audit_task DROP COLUMN summary CASCADE"]),
        (
            {"audit.E026": ["audit_task.claimed_by"]},
            ["ALTER TABLE audit_task ALTER claimed_by TYPE varchar(500)"],
        ),
        ({"audit.E026": ["audit_task.summary"]}, ["ALTER TABLE audit_task ALTER summary DROP NOT NULL"]),
        ({"audit.E027": ["audit_task.mine"]}, ["ALTER TABLE audit_task ADD COLUMN mine text"]),
        (
            {"audit.E022": ["divert"]},
            ["CREATE RULE divert AS ON UPDATE TO audit_task DO INSTEAD NOTHING"],
        ),
    ],
)
def test_what_an_owner_changed_is_found(expected, statements):
    _run(*statements)
    assert _found() == expected


def test_the_trap_of_restoring_with_disabled_triggers():
    # What pg_dump --data-only --disable-triggers writes around the rows of each table.
    _run("ALTER TABLE audit_task DISABLE TRIGGER ALL", "ALTER TABLE audit_task ENABLE TRIGGER ALL")
    assert _found() == {"audit.E013": ["audit_task_10_guard", "audit_task_10_no_truncate", "audit_task_90_seal"]}


def test_foreign_keys_that_are_switched_off():
    _run("ALTER TABLE audit_executionlog DISABLE TRIGGER ALL")
    names = _found()["audit.E012"]
    assert any(name.startswith("RI_ConstraintTrigger") for name in names)
    assert "audit_executionlog_10_guard" in names


def test_what_is_installed_is_written_down_and_nothing_else() -> None:
    """A migration that adds or changes a CHECK or a unique index changes `installed.tsv` too."""
    tables = [model._meta.db_table for model in kept_models()]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE contype = 'c' AND conrelid::regclass::text = ANY(%s)",
            [tables],
        )
        found = {(table, name): installed.worded(words) for table, name, words in cursor.fetchall()}
        cursor.execute(
            "SELECT tablename, indexname, split_part(indexdef, ' USING ', 2) FROM pg_indexes"
            " WHERE tablename = ANY(%s) AND indexdef LIKE 'CREATE UNIQUE %%'",
            [tables],
        )
        unique = {(table, name): words for table, name, words in cursor.fetchall()}
    assert found == installed.checks()
    assert unique == installed.keys()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER zz BEFORE UPDATE ON auth_user FOR EACH ROW EXECUTE FUNCTION late()",  # another table
        "CREATE TRIGGER zz AFTER UPDATE ON audit_task FOR EACH ROW EXECUTE FUNCTION late()",  # after the row is written
        "CREATE TRIGGER zz BEFORE UPDATE ON audit_task FOR EACH STATEMENT EXECUTE FUNCTION late()",  # sees no row
    ],
)
def test_triggers_of_the_project_that_harm_nothing(statement):
    _run("CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'", statement)
    assert _found() == {}


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


def test_a_backlog_that_may_not_be_counted_is_told() -> None:
    LedgerHead.objects.update_or_create(id=1, defaults={"sealed_at": timezone.now(), "size": 0, "low_xid": 0})
    _run(
        "CREATE ROLE audit_checker",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO audit_checker",
        "REVOKE SELECT ON audit_ledger_leaf FROM audit_checker",
        "SET LOCAL ROLE audit_checker",
    )
    [message] = checks.check_database(None, databases=["default"])
    assert message.id == "audit.W002"
    assert "permission denied for table audit_ledger_leaf" in message.msg


def test_a_sealer_that_is_behind(settings) -> None:
    settings.AUDIT = {"LEDGER_MAX_AGE_SECONDS": 3600}
    now = timezone.now()
    LedgerHead.objects.update_or_create(id=1, defaults={"sealed_at": now, "size": 0, "low_xid": 0})
    Task.objects.bulk_record([{"action": "x", "status": "completed"}])
    assert _found() == {}
    settings.AUDIT = {"LEDGER_MAX_AGE_SECONDS": 1}
    _run("SELECT pg_sleep(1.1)")
    [message] = checks.check_database(None, databases=["default"])
    assert message.id == "audit.W002"
    assert "2 finished rows of 'default' are not sealed" in message.msg
    assert message.hint


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


def test_the_remedy_of_a_switch_can_be_run():
    _run(f"ALTER TABLE audit_task DISABLE TRIGGER {_GUARD}")
    [flaw] = inspection.inspect("default")
    _run(flaw.remedy)
    assert inspection.inspect("default") == []


def test_tables_in_another_schema_are_found_by_the_search_path():
    _run("CREATE SCHEMA tenant", "SET LOCAL search_path = tenant")
    assert {each.kind for each in inspection.inspect("default")} == set()  # no record of migrations: nothing expected
    _run(
        "SET LOCAL search_path = public",
        f"DROP TRIGGER {_GUARD} ON audit_task",
        "SET LOCAL search_path = tenant, public",
    )
    assert _found() == {"audit.E011": [_GUARD]}


def test_nothing_is_missed_before_it_is_migrated():
    _run("DELETE FROM django_migrations WHERE app = 'audit' AND name <> '0001_initial'")
    _run(f"DROP TRIGGER {_GUARD} ON audit_task", "ALTER TABLE audit_task DROP CONSTRAINT audit_task_id_is_uuid7")
    assert _found() == {}
    _run("DELETE FROM django_migrations WHERE app = 'audit'", "ALTER TABLE audit_pause_queue RENAME TO elsewhere")
    assert _found() == {}


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
    monkeypatch.setattr(checks, "MINIMUM_SERVER", 99)
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
    [message] = checks.check_settings(None)
    assert message.id == "audit.E004"
    assert named in message.msg
    assert message.hint


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_encoding():
    with temporary_database("latin1", "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0") as alias:
        [message] = checks.check_database(None, databases=[alias])
    assert message.id == "audit.W001"
    assert "LATIN1" in message.msg
    assert message.hint


def test_manage_check_fails_on_it():
    _run(f"DROP TRIGGER {_GUARD} ON audit_task")
    with pytest.raises(SystemCheckError, match=r"audit\.E011"):
        call_command("check", databases=["default"])


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE FUNCTION f(x integer) RETURNS trigger LANGUAGE plpgsql AS $$BEGIN END$$",
        "CREATE TRIGGER t INSTEAD OF INSERT ON a_view FOR EACH ROW EXECUTE FUNCTION f()",
    ],
)
def test_statements_that_the_reader_does_not_know_are_refused(statement):
    with pytest.raises(ValueError, match="can read"):
        parts.replay([statement])


def test_replay_follows_drops_and_replacements():
    made = [
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$",
        "-- why\nALTER TABLE t ADD CONSTRAINT c CHECK (true)",
        "CREATE TRIGGER a AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
    ]
    there = parts.replay(made)
    assert (list(there.functions), list(there.triggers), there.checks) == (["f"], ["a"], {("t", "c")})
    gone = parts.replay([*made, "DROP TRIGGER a ON t", "DROP FUNCTION f()", "ALTER TABLE t DROP CONSTRAINT c"])
    assert gone == parts.Installed()
    assert (
        parts.replay([*made, made[0].replace("CREATE", "CREATE OR REPLACE").replace("NULL", "NEW")]).functions["f"].body
        == "BEGIN RETURN NEW; END"
    )
