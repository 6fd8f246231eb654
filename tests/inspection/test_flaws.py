"""What an owner can change by DDL, with every trigger on: each change is found, and the SQL of its remedy mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection

from audit import inspection
from audit.checks import check_database
from audit.inspection.expected import expected
from tests.support.expected_state import state

pytestmark = pytest.mark.django_db

_GUARD = "audit_task_10_write"
_ALWAYS = f"ALTER TABLE audit_task ENABLE ALWAYS TRIGGER {_GUARD}"
_LATE = "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
_PARENT = "CREATE TABLE parent (LIKE audit_task)"
_FK = "audit_pause_queue_task_id_76056aa5_fk_audit_task_id"


def _run(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _found() -> dict[str, list[str]]:
    """What the database check says: the objects concerned by id."""
    found: dict[str, list[str]] = {}
    for message in check_database(None, databases=["default"]):
        assert message.hint
        assert (message.level >= 40) == message.id.startswith("audit.E")
        found.setdefault(message.id, []).append(message.obj)
    return found


def test_the_snapshot_is_what_the_migrations_leave():
    """Write it anew with `python -m tests.support.expected_state`."""
    assert state("default") == {key: each.facts for key, each in expected().items()}


@dataclass(frozen=True, kw_only=True)
class Change:
    """Something that an owner does, and what the check says of it."""

    do: tuple[str, ...]
    found: dict[str, list[str]]
    version: int = 15


def does(*statements: str, version: int = 15, **found: str) -> Any:
    """`E011="a b"` stands for two messages of that id, about a and b."""
    messages = {f"audit.{number}": names.split(";") for number, names in found.items()}
    label = f"{next(iter(found))}-{statements[-1][:50]}"
    return pytest.param(Change(do=statements, found=messages, version=version), id=label)


def _recreated(definition: str, function: str = "audit_task_write_v1()", before: tuple[str, ...] = ()) -> Any:
    return does(
        *before,
        f"DROP TRIGGER {_GUARD} ON audit_task",
        f"CREATE TRIGGER {_GUARD} {definition} EXECUTE FUNCTION {function}",
        _ALWAYS,
        E014=_GUARD,
    )


_TRIGGERS = [
    does(f"DROP TRIGGER {_GUARD} ON audit_task", E011=_GUARD),
    does(
        "ALTER TRIGGER audit_pause_queue_10_no_truncate ON audit_pause_queue RENAME TO audit_pause_queue_10",
        E011="audit_pause_queue_10_no_truncate",
        E029="audit_pause_queue_10",
    ),
    does(f"ALTER TABLE audit_task DISABLE TRIGGER {_GUARD}", E012=_GUARD),
    does("ALTER TABLE audit_task DISABLE TRIGGER audit_task_50_log_update", E012="audit_task_50_log_update"),
    does(
        "SET LOCAL allow_system_table_mods = on",
        "UPDATE pg_class SET relhastriggers = false WHERE oid = 'audit_executionlog'::regclass",
        E012="audit_executionlog",
    ),
    does(f"ALTER TABLE audit_task ENABLE TRIGGER {_GUARD}", E013=_GUARD),
    does("ALTER TABLE audit_task ENABLE REPLICA TRIGGER audit_task_20_plan", E013="audit_task_20_plan"),
    # A writer that fires on a replica too would log what its source has logged.
    does(
        "ALTER TABLE audit_task ENABLE ALWAYS TRIGGER audit_task_50_log_update",
        E013="audit_task_50_log_update",
    ),
    _recreated("BEFORE UPDATE ON audit_task FOR EACH ROW"),
    _recreated("AFTER INSERT OR UPDATE ON audit_task FOR EACH ROW"),
    _recreated("BEFORE INSERT OR UPDATE OF summary ON audit_task FOR EACH ROW"),
    _recreated("BEFORE INSERT OR UPDATE ON audit_task FOR EACH STATEMENT"),
    _recreated("BEFORE INSERT OR UPDATE ON audit_task FOR EACH ROW WHEN (false)"),
    _recreated("BEFORE INSERT OR UPDATE ON audit_task FOR EACH ROW", "audit_task_write_v1('x')"),
    _recreated("BEFORE INSERT OR UPDATE ON audit_task FOR EACH ROW", "late()", (_LATE,)),
    # The same name, in another schema, and in the one that is searched first.
    *(
        _recreated(
            "BEFORE INSERT OR UPDATE ON audit_task FOR EACH ROW",
            f"{schema}.audit_task_write_v1()",
            (
                "CREATE SCHEMA attic",
                _LATE.replace("late()", f"{schema}.audit_task_write_v1()"),
            ),
        )
        for schema in ("attic", "pg_catalog")
    ),
    # A condition that differs in the case of a literal: it is never true.
    does(
        "CREATE OR REPLACE TRIGGER audit_task_30_replan AFTER UPDATE OF plan ON audit_task FOR EACH ROW "
        "WHEN (OLD.status = 'PENDING' AND NEW.plan::text IS DISTINCT FROM OLD.plan::text) "
        "EXECUTE FUNCTION audit_task_replan_v1()",
        E014="audit_task_30_replan",
    ),
    # The condition asks about a function by its id; this one has the same name, and everybody may call it.
    does(
        "CREATE SCHEMA attic",
        _LATE.replace("late()", "attic.audit_task_log_v1()"),
        "DROP TRIGGER audit_executionlog_10_write ON audit_executionlog",
        "CREATE TRIGGER audit_executionlog_10_write BEFORE INSERT ON audit_executionlog FOR EACH ROW "
        "WHEN (NEW.kind <> 'transition' OR pg_trigger_depth() = 0 "
        "OR NOT has_function_privilege('attic.audit_task_log_v1()'::regprocedure, 'EXECUTE')) "
        "EXECUTE FUNCTION audit_log_write_v1()",
        "ALTER TABLE audit_executionlog ENABLE ALWAYS TRIGGER audit_executionlog_10_write",
        E014="audit_executionlog_10_write",
    ),
    # The same, but with a cast that PostgreSQL also prints.
    does(
        "CREATE OR REPLACE TRIGGER audit_task_30_replan AFTER UPDATE OF plan ON audit_task FOR EACH ROW "
        "WHEN (OLD.status = 'pending'::varchar(1) AND NEW.plan::text IS DISTINCT FROM OLD.plan::text) "
        "EXECUTE FUNCTION audit_task_replan_v1()",
        E014="audit_task_30_replan",
    ),
    # The literal says another schema's name: nothing is cut out of literals.
    does(
        "CREATE OR REPLACE TRIGGER audit_task_30_replan AFTER UPDATE OF plan ON audit_task FOR EACH ROW "
        "WHEN (OLD.status = 'public.pending' AND NEW.plan::text IS DISTINCT FROM OLD.plan::text) "
        "EXECUTE FUNCTION audit_task_replan_v1()",
        E014="audit_task_30_replan",
    ),
]

_STRANGERS = [
    does(_LATE, "CREATE TRIGGER zz BEFORE UPDATE ON audit_task FOR EACH ROW EXECUTE FUNCTION late()", E015="zz"),
    does(
        # Between stamp and judgement: it can say that somebody else was there.
        _LATE,
        "CREATE TRIGGER audit_executionlog_30_x BEFORE INSERT ON audit_executionlog FOR EACH ROW "
        "EXECUTE FUNCTION late()",
        E015="audit_executionlog_30_x",
    ),
    does(
        # RETURN NULL swallows the row, and with it the result of a verification.
        _LATE,
        "CREATE TRIGGER aa BEFORE INSERT ON audit_ledger_verification FOR EACH ROW EXECUTE FUNCTION late()",
        E015="aa",
    ),
    does(
        _LATE,
        "CREATE TRIGGER aa BEFORE DELETE ON audit_pause_queue FOR EACH ROW EXECUTE FUNCTION late()",
        E015="aa",
    ),
    does(_LATE, "CREATE TRIGGER zz BEFORE UPDATE ON audit_task EXECUTE FUNCTION late()", E029="zz"),
    does(_LATE, "CREATE TRIGGER aa AFTER UPDATE ON audit_task EXECUTE FUNCTION late()", E029="aa"),
    does(
        _LATE,
        "CREATE TRIGGER zz AFTER UPDATE ON audit_task FOR EACH ROW EXECUTE FUNCTION late()",
        "ALTER TABLE audit_task ENABLE ALWAYS TRIGGER zz",
        E029="zz",
    ),
    does("CREATE RULE divert AS ON UPDATE TO audit_task DO INSTEAD NOTHING", E022="divert"),
]

_LOG_FUNCTION = "audit_log_guard_v1() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp"
_FUNCTIONS = [
    does(
        "DROP FUNCTION audit_log_guard_v1() CASCADE",
        E016="audit_log_guard_v1",
        E011="audit_executionlog_10_guard",
    ),
    does(
        "ALTER FUNCTION audit_log_guard_v1() RENAME TO other",
        E016="audit_log_guard_v1",
        E014="audit_executionlog_10_guard",
    ),
    does(
        f"CREATE OR REPLACE FUNCTION {_LOG_FUNCTION} AS 'BEGIN RETURN NEW; END'",
        E017="audit_log_guard_v1",
    ),
    does("ALTER FUNCTION audit_task_write_v1() RESET search_path", E018="audit_task_write_v1"),
    does("ALTER FUNCTION audit_task_write_v1() SET search_path = public", E018="audit_task_write_v1"),
    does("ALTER FUNCTION audit_task_write_v1() SET row_security = off", E018="audit_task_write_v1"),
    does("ALTER FUNCTION audit_task_log_v1() SECURITY INVOKER", E018="audit_task_log_v1"),
    does("ALTER FUNCTION audit_task_write_v1() SECURITY DEFINER", E018="audit_task_write_v1"),
    does("ALTER FUNCTION audit_task_write_v1() IMMUTABLE", E018="audit_task_write_v1"),
    does("ALTER FUNCTION audit_task_write_v1() STRICT", E018="audit_task_write_v1"),
    does("ALTER FUNCTION audit_task_write_v1() LEAKPROOF", E018="audit_task_write_v1"),
    does("GRANT EXECUTE ON FUNCTION audit_task_log_v1() TO PUBLIC", E019="audit_task_log_v1"),
    # Whoever may call it may write transitions from a trigger.
    does("CREATE ROLE eve", "GRANT EXECUTE ON FUNCTION audit_task_log_v1() TO eve", E035="audit_task_log_v1"),
    does(
        "CREATE FUNCTION pg_catalog.quote_ident(name) RETURNS text LANGUAGE sql AS 'SELECT $1::text'",
        E017="quote_ident(name)",
    ),
    does(
        "CREATE OR REPLACE FUNCTION pg_catalog.sha256(bytea) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT "
        "AS 'SELECT $1'",
        E017="sha256(bytea)",
    ),
    # The same symbol, of somebody else's library.
    does(
        "SET LOCAL allow_system_table_mods = on",
        "UPDATE pg_proc SET prolang = (SELECT oid FROM pg_language WHERE lanname = 'c') WHERE proname = 'sha256'",
        E017="sha256(bytea)",
    ),
]

_LENGTH = "audit_ledger_leaf_hash_long"
_DROP_LENGTH = f"ALTER TABLE audit_ledger_leaf DROP CONSTRAINT {_LENGTH}"
_DROP_FK = f"ALTER TABLE audit_pause_queue DROP CONSTRAINT {_FK}"
_ADD_FK = f"ALTER TABLE audit_pause_queue ADD CONSTRAINT {_FK} FOREIGN KEY (task_id) REFERENCES"
_CONSTRAINTS = [
    does(_DROP_LENGTH, E020=_LENGTH),
    does(
        _DROP_LENGTH,
        f"ALTER TABLE audit_ledger_leaf ADD CONSTRAINT {_LENGTH} CHECK (length(leaf_hash) = 32) NOT VALID",
        E021=_LENGTH,
    ),
    does(_DROP_LENGTH, f"ALTER TABLE audit_ledger_leaf ADD CONSTRAINT {_LENGTH} CHECK (true)", E028=_LENGTH),
    does(
        # Its moments are worded in UTC, wherever the session is.
        "SET LOCAL TimeZone = 'Asia/Kolkata'",
        "ALTER TABLE audit_ledger_epoch DROP CONSTRAINT audit_ledger_epoch_moment_readable",
        "ALTER TABLE audit_ledger_epoch ADD CONSTRAINT audit_ledger_epoch_moment_readable CHECK "
        "(started_at >= '0001-01-02 00:00:00+00' AND started_at < '9999-12-30 00:00:00+00')",
        E028="audit_ledger_epoch_moment_readable",
    ),
    does("ALTER TABLE audit_task ADD CONSTRAINT mine CHECK (priority < 9)", E030="mine"),
    does("CREATE UNIQUE INDEX mine ON audit_task (summary)", E030="mine"),
    does("ALTER TABLE audit_task ADD CONSTRAINT mine EXCLUDE (summary WITH =)", E030="mine"),
    does(
        "CREATE TABLE parents (id uuid PRIMARY KEY)",
        "ALTER TABLE audit_task ADD CONSTRAINT mine FOREIGN KEY (parent) REFERENCES parents ON DELETE SET NULL",
        E030="mine",
    ),
    does(_DROP_FK, E032=_FK),
    does(_DROP_FK, f"{_ADD_FK} audit_task ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED", E032=_FK),
    does(_DROP_FK, f"{_ADD_FK} audit_task", E032=_FK),
    does(_DROP_FK, f"{_ADD_FK} audit_task DEFERRABLE INITIALLY DEFERRED NOT VALID", E032=_FK),
    does(
        "CREATE SCHEMA attic",
        "CREATE TABLE attic.audit_task (id uuid PRIMARY KEY)",
        _DROP_FK,
        f"{_ADD_FK} attic.audit_task DEFERRABLE INITIALLY DEFERRED",
        E032=_FK,
    ),
    does(
        f"ALTER TABLE audit_pause_queue ALTER CONSTRAINT {_FK} NOT ENFORCED",
        version=18,
        E032=f"{_FK};{_FK}",
    ),
    does(
        "SET LOCAL allow_system_table_mods = on",
        f"DELETE FROM pg_trigger WHERE tgconstraint = (SELECT oid FROM pg_constraint WHERE conname = '{_FK}') "
        "AND tgrelid = 'audit_pause_queue'::regclass",
        E032=_FK,
    ),
]

_INDEXES = [
    does("DROP INDEX audit_ledger_leaf_task", E020="audit_ledger_leaf_task"),
    does(
        "DROP INDEX audit_ledger_leaf_task",
        "CREATE UNIQUE INDEX audit_ledger_leaf_task ON audit_ledger_leaf (task_id) WHERE index < 0",
        E028="audit_ledger_leaf_task",
    ),
    does(
        "DROP INDEX audit_ledger_leaf_task",
        "CREATE INDEX audit_ledger_leaf_task ON audit_ledger_leaf (task_id) WHERE task_id IS NOT NULL",
        E028="audit_ledger_leaf_task",
    ),
    does(
        "ALTER TABLE audit_ledger_tile DROP CONSTRAINT audit_ledger_tile_pkey",
        E020="audit_ledger_tile_pkey",
    ),
    does(
        "ALTER TABLE audit_ledger_tile DROP CONSTRAINT audit_ledger_tile_pkey",
        "ALTER TABLE audit_ledger_tile ADD PRIMARY KEY (level, index) DEFERRABLE",
        E028="audit_ledger_tile_pkey",
    ),
    *(
        does(
            "SET LOCAL allow_system_table_mods = on",
            f"UPDATE pg_index SET {state} = false WHERE indexrelid = 'audit_ledger_leaf_task'::regclass",
            E021="audit_ledger_leaf_task",
        )
        for state in ("indisvalid", "indisready")
    ),
    does("DROP INDEX audit_task_claim", W010="audit_task_claim"),
    does(
        "DROP INDEX audit_task_claim",
        "CREATE INDEX audit_task_claim ON audit_task (id) WHERE status = 'approved'",
        W010="audit_task_claim",
    ),
    does(
        "SET LOCAL allow_system_table_mods = on",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'audit_task_claim'::regclass",
        W010="audit_task_claim",
    ),
]

_RELATIONS = [
    does("ALTER TABLE audit_pause_queue RENAME TO elsewhere", E010="audit_pause_queue"),
    does("ALTER TABLE audit_ledger_tile SET UNLOGGED", E023="audit_ledger_tile"),
    does(
        "ALTER TABLE audit_ledger_tile RENAME TO elsewhere",
        "CREATE VIEW audit_ledger_tile AS SELECT * FROM elsewhere",
        E023="audit_ledger_tile",
    ),
    does("CREATE TABLE child () INHERITS (audit_task)", E023="child"),
    # An UPDATE of the parent moves the tasks, and no statement trigger of theirs fires.
    does(_PARENT, "ALTER TABLE audit_task INHERIT parent", E023="parent"),
    does(
        "CREATE TABLE parent (LIKE audit_executionlog) PARTITION BY LIST (kind)",
        "ALTER TABLE audit_executionlog ALTER id DROP IDENTITY",  # PostgreSQL 17 and later insist on it
        "ALTER TABLE parent ATTACH PARTITION audit_executionlog DEFAULT",
        E023="parent",
        E031="audit_executionlog.id",
        E036="audit_executionlog_id_seq",
    ),
    does("ALTER TABLE audit_task ENABLE ROW LEVEL SECURITY", E024="audit_task"),
    does("ALTER TABLE audit_task FORCE ROW LEVEL SECURITY", E024="audit_task"),
    does("CREATE POLICY part ON audit_task USING (priority > 3)", E024="part"),
    does("ALTER TABLE audit_task REPLICA IDENTITY FULL", W012="audit_task"),
    does("CREATE ROLE eve", "ALTER TABLE audit_executionlog OWNER TO eve", E033="audit_executionlog"),
    does("CREATE ROLE eve", "ALTER FUNCTION audit_task_log_v1() OWNER TO eve", E033="audit_task_log_v1"),
    does("ALTER SEQUENCE audit_executionlog_id_seq INCREMENT BY -1 MINVALUE -9", E036="audit_executionlog_id_seq"),
    does("ALTER SEQUENCE audit_executionlog_id_seq MAXVALUE 900000000 CYCLE", E036="audit_executionlog_id_seq"),
]

_COLUMNS = [
    does(
        "ALTER TABLE audit_task DROP COLUMN summary CASCADE",
        E025="audit_task.summary",
        W010="audit_task_words",
    ),
    does("ALTER TABLE audit_task ALTER claimed_by TYPE varchar(500)", E026="audit_task.claimed_by"),
    does("ALTER TABLE audit_task ALTER summary DROP NOT NULL", E026="audit_task.summary"),
    does(
        "ALTER TABLE audit_task ALTER summary DROP NOT NULL",
        "ALTER TABLE audit_task ADD CONSTRAINT mine NOT NULL summary NOT VALID",
        version=18,
        E026="audit_task.summary",
    ),
    does("ALTER TABLE audit_task ADD COLUMN mine text", E027="audit_task.mine"),
    # Raw SQL would act under that name.
    does("ALTER TABLE audit_executionlog ALTER actor SET DEFAULT 'alice'", E031="audit_executionlog.actor"),
    does("ALTER TABLE audit_task ALTER created_at DROP DEFAULT", E031="audit_task.created_at"),
    does("ALTER TABLE audit_executionlog ALTER id SET GENERATED ALWAYS", E031="audit_executionlog.id"),
    does(
        "DROP INDEX audit_task_requested_by",
        'ALTER TABLE audit_task ALTER requested_by TYPE text COLLATE "C"',
        E031="audit_task.requested_by",
        W010="audit_task_requested_by",
    ),
    does(
        "ALTER TABLE audit_ledger_tile DROP COLUMN data",
        "ALTER TABLE audit_ledger_tile ADD COLUMN data bytea NOT NULL GENERATED ALWAYS AS (''::bytea) STORED",
        E031="audit_ledger_tile.data;audit_ledger_tile.data",
    ),
]

_SURROUNDINGS = [
    does("CREATE ROLE eve", "ALTER ROLE eve SET session_replication_role = replica", E034="eve"),
    does("CREATE ROLE eve", "ALTER ROLE eve SET Session_Replication_Role = 'REPLICA'", E034="eve"),
    does("ALTER ROLE ALL SET session_replication_role = replica", E034="ALL"),
    does("SET LOCAL session_replication_role = replica", E034="session_replication_role"),
    does("CREATE PUBLICATION part FOR TABLE audit_task (id, action)", W012="part"),
    does("CREATE PUBLICATION part FOR TABLE audit_task WHERE (id IS NULL)", W012="part"),
    does(
        "CREATE FUNCTION login() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "CREATE EVENT TRIGGER each_login ON login EXECUTE FUNCTION login()",
        version=17,
        W013="each_login",
    ),
    does(
        "CREATE SCHEMA front",
        "CREATE TABLE front.audit_ledger_tile (LIKE public.audit_ledger_tile INCLUDING ALL)",
        "SET LOCAL search_path = front, public",
        E023="audit_ledger_tile",
        E011="audit_ledger_tile_10_guard;audit_ledger_tile_10_no_truncate",
        E028="audit_ledger_tile_pkey",
    ),
    does("CREATE SCHEMA front", "SET LOCAL search_path = front, pg_catalog, public", E023="front"),
]


@pytest.mark.parametrize(
    "change",
    [
        *_TRIGGERS,
        *_STRANGERS,
        *_FUNCTIONS,
        *_CONSTRAINTS,
        *_INDEXES,
        *_RELATIONS,
        *_COLUMNS,
        *_SURROUNDINGS,
    ],
)
def test_what_an_owner_changed_is_found(change: Change) -> None:
    connection.ensure_connection()
    if connection.pg_version < change.version * 10_000:
        pytest.skip(f"PostgreSQL {change.version} has it")
    _run(*change.do)
    assert _found() == change.found


def test_settings_of_this_database_that_switch_triggers_off() -> None:
    name = connection.settings_dict["NAME"]
    _run(f'ALTER DATABASE "{name}" SET session_replication_role = replica')
    assert _found() == {"audit.E034": [name]}
    [flaw] = inspection.inspect("default")
    _run(flaw.remedy)
    assert _found() == {}


def test_the_trap_of_restoring_with_disabled_triggers() -> None:
    # What pg_dump --data-only --disable-triggers writes around the rows of each table.
    _run("ALTER TABLE audit_task DISABLE TRIGGER ALL", "ALTER TABLE audit_task ENABLE TRIGGER ALL")
    always = [
        name
        for (kind, table, name), each in expected().items()
        if each.facts.get("enabled") == "A" and table == "audit_task"
    ]
    assert len(always) > 2
    assert _found() == {"audit.E013": sorted(always)}


@pytest.mark.parametrize("switch", ["DISABLE", "ENABLE REPLICA"])
def test_foreign_keys_that_are_switched_off(switch: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgname FROM pg_trigger WHERE tgisinternal AND tgrelid = 'audit_pause_queue'::regclass ORDER BY 1"
        )
        names = [name for (name,) in cursor.fetchall()]
    assert names
    _run(*(f'ALTER TABLE audit_pause_queue {switch} TRIGGER "{name}"' for name in names))
    assert _found() == {"audit.E012": names}


def test_what_the_project_may_do() -> None:
    _run(
        _LATE,
        "CREATE TRIGGER zz BEFORE UPDATE ON auth_user FOR EACH ROW EXECUTE FUNCTION late()",  # another table
        "CREATE TRIGGER zz AFTER UPDATE ON audit_task FOR EACH ROW EXECUTE FUNCTION late()",  # the row is written
        "CREATE TRIGGER off BEFORE UPDATE ON audit_task FOR EACH ROW EXECUTE FUNCTION late()",
        "ALTER TABLE audit_task DISABLE TRIGGER off",
        "CREATE INDEX mine ON audit_task (summary)",
        "CREATE TABLE notes (task uuid REFERENCES audit_task)",
        "ALTER TABLE audit_task SET (fillfactor = 90)",
        "ALTER SEQUENCE audit_executionlog_id_seq RESTART WITH 1000000",
        "CREATE ROLE app",
        "GRANT SELECT, INSERT, UPDATE ON audit_task TO app",
        "ALTER ROLE app SET session_replication_role = origin",
        "CREATE PUBLICATION everything FOR TABLE audit_task, audit_executionlog",
    )
    assert _found() == {}


@pytest.mark.parametrize(
    "statements",
    [
        [f"ALTER TABLE audit_task DISABLE TRIGGER {_GUARD}"],
        [f"DROP TRIGGER {_GUARD} ON audit_task"],
        ["DROP TRIGGER audit_task_50_log_update ON audit_task"],
        ['CREATE RULE "a; DROP TABLE x" AS ON UPDATE TO audit_task DO INSTEAD NOTHING'],
        ['CREATE POLICY "My Own" ON audit_task'],
        ['ALTER TABLE audit_task ADD COLUMN "My Own" text'],
        ["ALTER TABLE audit_executionlog ALTER actor SET DEFAULT 'alice'"],
        ["ALTER TABLE audit_task ALTER action SET DEFAULT 'x'"],
        [_DROP_LENGTH],
        [_DROP_FK],
        ["ALTER TABLE audit_ledger_tile DROP CONSTRAINT audit_ledger_tile_pkey"],
        ["DROP INDEX audit_ledger_leaf_task"],
        ["DROP INDEX audit_task_words"],
        ["ALTER TABLE audit_task ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"],
        ["GRANT EXECUTE ON FUNCTION audit_task_log_v1() TO PUBLIC"],
        ['CREATE ROLE "Eve E"', 'GRANT EXECUTE ON FUNCTION audit_task_log_v1() TO "Eve E"'],
        ['CREATE ROLE "Eve E"', 'ALTER TABLE audit_task OWNER TO "Eve E"'],
        ['CREATE ROLE "Eve E"', 'ALTER ROLE "Eve E" SET session_replication_role = replica'],
        ['CREATE PUBLICATION "Some Of" FOR TABLE audit_task (id)'],
        ["ALTER TABLE audit_task REPLICA IDENTITY FULL"],
    ],
    ids=lambda statements: statements[-1][:50],
)
def test_the_sql_of_a_remedy_mends_it(statements: list[str]) -> None:
    _run(*statements)
    [flaw] = inspection.inspect("default", minor=True)
    sql = flaw.remedy
    for words in ("Find out who dropped it, then ", "Find out who enabled it, then "):
        sql = sql.removeprefix(words)
    _run(sql[sql.rfind(": ") + 2 if sql.startswith(("Keep", "Unless")) else 0 :])
    assert inspection.inspect("default", minor=True) == []
