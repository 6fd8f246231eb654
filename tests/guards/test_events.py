"""Events: what was emitted stays as it was, whatever SQL asks otherwise."""

import pytest
from django.db import connection

from audit.models import Event
from audit.status import Status
from tests.support.attacks import ATTACKS, attempts, changed, circumstance
from tests.support.factories import CHECK, DENIED, UNIQUE, refused, sql, task_in

pytestmark = pytest.mark.django_db

_ATTACKS = [
    (attack, where)
    for attack, where in attempts()
    if where not in ("plain role", "plain session") and attack != "truncate of all three"
]


def _emitted() -> int:
    [[key]] = sql("INSERT INTO audit_event (name, payload, emitted_by) VALUES ('build-42', '1', 'ci') RETURNING id")
    return key


def _rows():
    return sql("SELECT t::text FROM public.audit_event AS t ORDER BY id")


@pytest.mark.parametrize(("attack", "where"), _ATTACKS)
def test_no_statement_rewrites_or_removes_an_event(attack, where):
    if attack.startswith("merge") and connection.pg_version < 150000:
        pytest.skip("MERGE came with PostgreSQL 15")
    statement = ATTACKS[attack].format(
        table="public.audit_event", key="id", id=_emitted(), column="emitted_by", value="'mallory'"
    )
    before = _rows()
    with circumstance(where), refused(match="audit_event"):
        sql(statement)
    assert _rows() == before


@pytest.mark.parametrize("field", Event._meta.concrete_fields, ids=lambda field: field.column)
@pytest.mark.parametrize("where", ["as owner", "replica role"])
def test_no_column_of_an_event_changes(field, where):
    key = _emitted()
    with circumstance(where), refused(match=f"audit_event {key}: an event takes no UPDATE"):
        sql(f"UPDATE audit_event SET {field.column} = {changed(field)}")


@pytest.mark.parametrize("conflict", ["(name)", "ON CONSTRAINT audit_event_name"])
def test_a_name_is_emitted_once(conflict):
    _emitted()
    with refused(UNIQUE):
        sql("INSERT INTO audit_event (name) VALUES ('build-42')")
    with refused():
        sql(f"INSERT INTO audit_event (name) VALUES ('build-42') ON CONFLICT {conflict} DO UPDATE SET payload = '2'")


@pytest.mark.parametrize(
    ("columns", "constraint"),
    [
        ({"name": "repeat('x', 201)"}, "name_short"),
        ({"name": "''"}, "name_given"),
        ({"name": "'a'", "payload": "'null'"}, "no_json_null"),
        ({"name": "'a'", "emitted_at": "'infinity'"}, "moment_readable"),
    ],
)
def test_what_an_event_must_be(columns, constraint):
    attack = f"INSERT INTO audit_event ({', '.join(columns)}) VALUES ({', '.join(columns.values())})"
    where = "replica role" if "emitted_at" in columns else "as owner"  # an ordinary session's is stamped
    with circumstance(where), refused(CHECK) as refusal:
        sql(attack)
    assert refusal.error.__cause__.diag.constraint_name == f"audit_event_{constraint}"
    sql(f"ALTER TABLE audit_event DROP CONSTRAINT audit_event_{constraint}")
    with circumstance(where):
        sql(attack)


def test_moment_and_role_are_the_database_s():
    stamps = "SELECT emitted_at > now() - interval '1 hour', db_role, emitted_by FROM audit_event"
    [[me]] = sql("SELECT session_user")
    with circumstance("as owner"):
        sql("INSERT INTO audit_event (name, emitted_at, db_role) VALUES ('a', '2001-01-01', 'mallory')")
        assert sql(stamps) == [(True, me, f"db:{me}")]
    with circumstance("replica role"):
        sql("INSERT INTO audit_event (name, emitted_at, db_role) VALUES ('b', '2001-01-01', 'source')")
        assert sql(stamps) == [(False, "source", "")]


@pytest.mark.parametrize("where", ["as owner", "replica role"])
@pytest.mark.parametrize("assignment", ["event = 'other'", "event = ''"])
def test_what_is_waited_for_never_changes(assignment, where):
    task_in(Status.EXECUTING).pause(event="build-42")
    with circumstance(where), refused(match="event never change"):
        sql(f"UPDATE audit_pause_queue SET {assignment}")


@pytest.mark.parametrize(
    ("pause", "attack", "constraint"),
    [
        ({"reason": "awaiting_approval"}, "held = false", "approval_held"),
        ({"reason": "insufficient_capacity"}, "reason = 'awaiting_approval'", "approval_held"),
        ({"event": "build-42"}, "reason = 'manual_pause'", "event_awaited"),
    ],
)
def test_what_an_entry_must_be(pause, attack, constraint):
    task_in(Status.EXECUTING).pause(**pause)
    for where in ("as owner", "replica role"):
        with circumstance(where), refused(CHECK) as refusal:
            sql(f"UPDATE audit_pause_queue SET {attack}")
        assert refusal.error.__cause__.diag.constraint_name == f"audit_pause_queue_{constraint}"
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql(f"ALTER TABLE audit_pause_queue DROP CONSTRAINT audit_pause_queue_{constraint}")
    sql(f"UPDATE audit_pause_queue SET {attack}")


def test_the_waiter_s_note_is_written_for_a_role_without_rights_on_events():
    task = task_in(Status.EXECUTING)
    task.pause(event="build-42")
    _emitted()
    with circumstance("plain session"):
        with refused(DENIED):
            sql("SELECT * FROM public.audit_event")
        sql("UPDATE public.audit_task SET status = 'approved'")
        sql("RESET SESSION AUTHORIZATION")
        [[payload]] = sql("SELECT detail->>'payload' FROM audit_executionlog WHERE action = 'event'")
        assert payload == "1"


def test_a_namesake_of_the_events_is_not_asked():
    task = task_in(Status.EXECUTING)
    task.pause(event="build-42")
    sql("CREATE TEMP TABLE audit_event (LIKE public.audit_event)")
    sql("INSERT INTO pg_temp.audit_event VALUES (1, 'build-42', '666', 'mallory', now(), 'mallory')")
    sql("SET LOCAL search_path = pg_temp, public")
    sql("UPDATE public.audit_task SET status = 'approved'")
    [[emitted]] = sql("SELECT detail->>'emitted' FROM public.audit_executionlog WHERE action = 'event'")
    assert emitted == "false"
    sql("DROP TABLE pg_temp.audit_event")
