"""Every rule taken away once, in a transaction: what it forbids must then succeed, or the attacks prove nothing."""

import pytest
from django.db import transaction

from audit.ids import uuid7
from audit.models import Task
from audit.status import Status
from tests.support.attacks import changed, circumstance
from tests.support.factories import entry_of, finished, refused, requested, sql, task_in

pytestmark = pytest.mark.django_db


def _rewrite(function, old, new):
    """Replace a piece of a function's source by another, as an owner could."""
    [[source]] = sql("SELECT pg_get_functiondef(%s::regproc)", [f"public.{function}"])
    assert source.count(old) >= 1, source
    sql(source.replace(old, new))


# Each: the function, the piece of it that is the rule, what stands there instead, the status of a task, the attack.
_RULES = {
    "delete": ("audit_task_guard_v1", "IF TG_OP = 'DELETE' THEN", "IF TG_OP = 'DELETE' THEN RETURN OLD;"),
    "frozen": (
        "audit_task_guard_v1",
        "IF OLD.status IN ('completed', 'failed', 'rejected') THEN",
        "IF OLD.status IN ('completed', 'failed', 'rejected') THEN RETURN NEW;",
    ),
    "steps": ("audit_task_guard_v1", "IF NEW.status <> OLD.status AND NOT", "IF false AND NOT"),
    "who asked and when": (
        "audit_task_guard_v1",
        "IF NEW.id <> OLD.id OR",
        "IF true THEN RETURN NEW; END IF; IF NEW.id <> OLD.id OR",
    ),
    "lowered revision": ("audit_task_guard_v1", "IF NEW.revision < OLD.revision THEN", "IF false THEN"),
    "truncate": ("audit_truncate_guard_v1", "BEGIN", "BEGIN RETURN NULL;"),
    "log": ("audit_log_guard_v1", "BEGIN", "BEGIN IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW;"),
    "forged transition": ("audit_log_chain_v1", "BEGIN", "BEGIN RETURN NULL;"),
    "entry": ("audit_entry_follow_v1", "BEGIN", "BEGIN RETURN NULL;"),
    "entry's owner": (
        "audit_entry_guard_v1",
        "IF NEW.id <> OLD.id OR",
        "IF true THEN RETURN NEW; END IF; IF NEW.id <> OLD.id OR",
    ),
}


def _delete_live(task):
    sql("DELETE FROM audit_executionlog WHERE false")
    sql("DELETE FROM audit_task WHERE id = %s", [task.pk])


def _update(assignment):
    return lambda task: sql(f"UPDATE audit_task SET {assignment} WHERE id = %s", [task.pk])


def _forge(task):
    sql(
        "INSERT INTO audit_executionlog (task_id, kind, from_status, to_status, revision)"
        " VALUES (%s, 'transition', 'executing', 'completed', 99)",
        [task.pk],
    )


def _log(statement):
    return lambda task: sql(f"{statement} WHERE id = {task.execution_log.latest('id').pk}")


@pytest.mark.parametrize(
    ("rule", "status", "attack"),
    [
        ("delete", Status.PENDING, _delete_live),
        ("delete", Status.COMPLETED, _delete_live),
        ("frozen", Status.COMPLETED, _update("summary = 'forged'")),
        ("frozen", Status.REJECTED, _update("summary = summary")),
        ("steps", Status.PENDING, _update("status = 'executing'")),
        ("steps", Status.EXECUTING, _update("status = 'rejected'")),
        ("who asked and when", Status.PENDING, _update("requested_by = 'mallory'")),
        ("who asked and when", Status.PENDING, _update("created_at = created_at - interval '1 day'")),
        ("lowered revision", Status.EXECUTING, _update("revision = revision - 1")),
        ("truncate", Status.COMPLETED, lambda task: sql("TRUNCATE audit_task CASCADE")),
        ("log", Status.COMPLETED, _log("UPDATE audit_executionlog SET actor = 'mallory'")),
        ("log", Status.EXECUTING, _log("DELETE FROM audit_executionlog")),
        ("forged transition", Status.COMPLETED, _forge),
        ("entry", Status.APPROVED, lambda task: sql("INSERT INTO audit_pause_queue (task_id) VALUES (%s)", [task.pk])),
        ("entry", Status.PAUSED, lambda task: sql("DELETE FROM audit_pause_queue WHERE task_id = %s", [task.pk])),
        ("entry's owner", Status.PAUSED, lambda task: sql("UPDATE audit_pause_queue SET paused_by = 'mallory'")),
    ],
)
def test_without_its_rule_the_attack_succeeds(rule, status, attack):
    task = task_in(status)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    with refused():
        attack(task)
    # A task whose log refers to it could not be deleted anyway; that is the foreign key, not the rule.
    sql("ALTER TABLE audit_executionlog DROP CONSTRAINT IF EXISTS " + _foreign_key())
    _rewrite(*_RULES[rule])
    attack(task)


def _foreign_key():
    [[name]] = sql(
        "SELECT conname FROM pg_constraint WHERE conrelid = 'audit_executionlog'::regclass AND contype = 'f'"
    )
    return f'"{name}"'


@pytest.mark.parametrize("column", [field.column for field in Task._meta.concrete_fields])
def test_without_the_guard_each_column_of_a_finished_task_changes(column):
    """So the test that changes every column would see it, but for the columns that stamps and seal write anew."""
    task = finished()
    _rewrite("audit_task_guard_v1", "BEGIN", "BEGIN RETURN NEW;")
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("ALTER TABLE audit_executionlog DROP CONSTRAINT " + _foreign_key())
    assert sql(
        f"UPDATE audit_task SET {column} = {changed(Task._meta.get_field(column))} WHERE id = '{task.pk}' RETURNING 1"
    ) == [(1,)]


@pytest.mark.parametrize(
    ("table", "trigger", "attack"),
    [
        ("audit_task", "audit_task_10_guard", "UPDATE audit_task SET summary = summary"),
        ("audit_task", "audit_task_10_guard", "DELETE FROM audit_task"),
        ("audit_executionlog", "audit_executionlog_10_guard", "DELETE FROM audit_executionlog"),
        ("audit_pause_queue", "audit_pause_queue_10_no_truncate", "TRUNCATE audit_pause_queue"),
        ("audit_pause_queue", "audit_pause_queue_10_guard", "UPDATE audit_pause_queue SET paused_by = 'mallory'"),
    ],
)
def test_a_trigger_that_is_not_enabled_always_sleeps_under_the_replica_role(table, trigger, attack):
    finished()
    task_in(Status.PAUSED)
    with circumstance("replica role"), refused():
        sql(attack)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql(f"ALTER TABLE {table} ENABLE TRIGGER {trigger}")
    if attack.startswith("UPDATE"):
        # Awake there still: the seal, which finds that the row is the sealed one.
        _rewrite("audit_task_seal_v1", "BEGIN", "BEGIN RETURN NEW;")
    with circumstance("replica role"):
        sql(attack)


def test_without_the_queue_trigger_table_and_queue_fall_apart():
    task = task_in(Status.APPROVED)
    _rewrite("audit_task_queue_v1", "BEGIN", "BEGIN RETURN NULL;")
    sql("UPDATE audit_task SET status = 'paused' WHERE id = %s", [task.pk])
    assert sql("SELECT count(*) FROM audit_pause_queue WHERE task_id = %s", [task.pk]) == [(0,)]


def test_without_the_log_trigger_steps_go_untold():
    task = requested()
    _rewrite("audit_task_log_v1", "BEGIN", "BEGIN RETURN NULL;")
    sql("UPDATE audit_task SET status = 'approved' WHERE id = %s", [task.pk])
    assert task.execution_log.count() == 1


def test_without_the_stamps_raw_sql_appears_under_anothers_name():
    task = requested()
    _rewrite("audit_task_stamp_v2", "BEGIN", "BEGIN IF TG_OP = 'UPDATE' THEN NEW.revision := 2; RETURN NEW; END IF;")
    sql("UPDATE audit_task SET status = 'approved' WHERE id = %s", [task.pk])
    task.refresh_from_db()
    assert (task.actor, task.revision, task.decided_at) == ("alice", 2, None)


def test_without_the_mark_of_a_named_actor_raw_sql_appears_under_anothers_name():
    task = requested()
    named = "starts_with(NEW.actor, chr(1))) IS TRUE;"
    _rewrite("audit_task_stamp_v2", named, "true); NEW.actor := chr(1) || ltrim(NEW.actor, chr(1));")
    sql("UPDATE audit_task SET summary = 'raw', revision = revision + 1 WHERE id = %s", [task.pk])
    task.refresh_from_db()
    assert task.actor == "alice"


def test_without_the_mark_raw_sql_decides_under_anothers_name():
    task = requested()
    _rewrite("audit_task_stamp_v2", "NOT named OR", "")
    sql("UPDATE audit_task SET status = 'approved', decided_by = 'carol' WHERE id = %s", [task.pk])
    task.refresh_from_db()
    assert task.decided_by == "carol"


def test_without_the_log_stamps_moment_and_role_are_the_callers():
    task = requested()
    _rewrite("audit_log_stamp_v1", "BEGIN", "BEGIN RETURN NEW;")
    sql("INSERT INTO audit_executionlog (task_id, kind, at, db_role) VALUES (%s, 'note', '2001-01-01', 'x')", [task.pk])
    row = task.execution_log.latest("id")
    assert (row.at.year, row.db_role) == (2001, "x")


@pytest.mark.parametrize(
    ("constraint", "assignment"),
    [
        ("audit_task_moments_readable", "available_at = 'infinity'"),
        ("audit_task_moments_readable", "cancel_requested_at = '20000-01-01'"),
        ("audit_task_services_flat", "services_touched = ARRAY[NULL]::text[]"),
        ("audit_task_no_json_null", "plan = 'null'"),
        ("audit_task_priority_range", "priority = 6"),
        ("audit_task_action_given", "action = ''"),
        ("audit_task_on_expiry_known", "on_expiry = 'x'"),
        ("audit_task_counts_positive", "attempt = -1"),
        ("audit_task_executing_leased", "lease_expires_at = NULL"),
        ("audit_task_seal_form", "row_version = 2"),
        ("audit_task_finished_sealed", "finished_at = now()"),
    ],
)
def test_without_its_check_the_row_is_taken(constraint, assignment):
    task = task_in(Status.EXECUTING)
    with refused("23514"):
        _update(assignment)(task)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql(f"ALTER TABLE audit_task DROP CONSTRAINT {constraint}")
    if constraint == "audit_task_seal_form":
        sql("ALTER TABLE audit_task DROP CONSTRAINT audit_task_finished_sealed")
    _update(assignment)(task)


@pytest.mark.parametrize(
    ("constraint", "assignment"),
    [
        ("reason_known", "reason = 'x'"),
        ("priority_range", "priority = 0"),
        ("priority_range", "priority = 6"),
        ("no_json_null", "work_plan = 'null'"),
        ("moments_readable", "resume_after = 'infinity'"),
        ("due_follows", "due_at = now() + interval '1 day'"),  # an ordinary session's is stamped
    ],
)
def test_without_its_check_the_entry_is_taken(constraint, assignment):
    task = task_in(Status.PAUSED)
    attack = f"UPDATE public.audit_pause_queue SET {assignment} WHERE task_id = '{task.pk}'"
    where = "replica role" if constraint == "due_follows" else "as owner"
    with circumstance(where), refused("23514"):
        sql(attack)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql(f"ALTER TABLE audit_pause_queue DROP CONSTRAINT audit_pause_queue_{constraint}")
    if constraint == "moments_readable":
        sql("ALTER TABLE audit_pause_queue DROP CONSTRAINT audit_pause_queue_due_follows")
    with circumstance(where):
        sql(attack)


@pytest.mark.parametrize(
    ("constraint", "values"),
    [
        ("row_version_known", {"row_version": 2}),
        ("moment_readable", {"at": "infinity"}),
        ("seal_form", {"salt": b""}),
    ],
)
def test_without_its_check_a_row_of_the_log_is_taken_in_the_replica_role(constraint, values):
    """Its stamps do not fire there: beside the hash, which whoever writes the row can make, the CHECK alone stands."""
    task = requested()
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql("ALTER TABLE audit_executionlog DISABLE TRIGGER audit_executionlog_90_seal")
    row = {"task_id": task.pk, "kind": "note", "at": "2026-01-01", "db_role": "x", "xid": "1"}
    row |= {"salt": b"1" * 16, "row_hash": b"1" * 32, "row_version": 1} | values
    statement = (
        f"INSERT INTO public.audit_executionlog ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))}) RETURNING id"
    )
    with circumstance("replica role"), refused("23514", match=f"audit_executionlog_{constraint}"):
        sql(statement, list(row.values()))
    sql(f"ALTER TABLE audit_executionlog DROP CONSTRAINT audit_executionlog_{constraint}")
    with circumstance("replica role"):
        assert sql(statement, list(row.values()))


def test_without_the_version_check_an_id_tells_no_time():
    statement = "INSERT INTO audit_task (id, action, available_at) VALUES (gen_random_uuid(), 'x', now())"
    with refused("23514"):
        sql(statement)
    sql("ALTER TABLE audit_task DROP CONSTRAINT audit_task_id_is_uuid7")
    sql(statement)


def test_without_its_stamp_a_verification_is_dated_ahead():
    statement = (
        "INSERT INTO audit_ledger_verification (started_at, finished_at, verdict, size, unsealed, report)"
        " VALUES (now(), '9000-01-01', 'intact', 0, 0, '{}') RETURNING extract(year FROM finished_at)::int"
    )
    [[year]] = sql(statement)
    assert 2020 < year < 9000
    _rewrite("audit_verification_stamp_v1", "BEGIN", "BEGIN RETURN NEW;")
    assert sql(statement) == [(9000,)]


def test_a_refused_hash_under_the_replica_role_is_the_seals_work():
    row = (
        "INSERT INTO audit_task (id, action, status, created_at, recorded_at, available_at, finished_at, row_version,"
        f" salt, row_hash, finished_xid) VALUES ('{uuid7()}', 'x', 'failed', now(), now(), now(), now(), 1,"
        " decode(repeat('00', 16), 'hex'), decode(repeat('00', 32), 'hex'), '7')"
    )
    with circumstance("replica role"), refused(match="row hash"):
        sql(row)
    _rewrite("audit_task_seal_v1", "ELSIF NEW.row_hash IS DISTINCT FROM computed", "ELSIF false")
    with circumstance("replica role"):
        sql(row)


def test_the_definition_is_back_after_the_transaction():
    task = finished()
    with transaction.atomic():
        _rewrite(*_RULES["frozen"])
        transaction.set_rollback(True)
    with refused():
        _update("summary = 'forged'")(task)
    assert entry_of(task_in(Status.PAUSED)).held
