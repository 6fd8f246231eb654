"""Every refusal taken away once, in a transaction: what it forbids must then succeed, or the attacks prove nothing."""

import pytest
from django.db import transaction

from audit.models import Task
from audit.status import Status
from tests.support.attacks import changed, circumstance
from tests.support.factories import CHECK, entry_of, finished, refused, requested, sql, task_in
from tests.support.refusals import FORGED, LOG, REFUSALS, WRITE, line, task
from tests.support.rules import judgements, rewrite

pytestmark = pytest.mark.django_db

_NEW_TASK = (
    "INSERT INTO public.audit_task (id, action, status, available_at, created_at, recorded_at, executing_ms, paused_ms,"
    " status_since) VALUES ({new}, 'x', {status}, now(), now(), now(), 0, 0, now())"
)


@pytest.mark.parametrize("rule", REFUSALS)
def test_without_its_rule_the_attack_succeeds(rule):
    function, old, new, status, attack, *answer = REFUSALS[rule]
    attack = attack.replace("{id}", f"'{task_in(status).pk}'" if status else "NULL")
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    with refused(*answer):
        sql(attack)
    rewrite(function, old, new)
    sql(attack)


# What a row must be. Each: where it is tried, the status of a task, the attack.
_JUDGED = {
    WRITE: {
        "status_known": ("as owner", None, _NEW_TASK.format(new="{fresh}", status="'x'")),
        "action_given": ("as owner", Status.EXECUTING, task("action = ''")),
        "priority_range": ("as owner", Status.EXECUTING, task("priority = 6")),
        "on_expiry_known": ("as owner", Status.EXECUTING, task("on_expiry = 'x'")),
        "id_is_uuid7": ("as owner", None, _NEW_TASK.format(new="gen_random_uuid()", status="'pending'")),
        "counts_positive": ("replica role", Status.EXECUTING, task("executing_ms = -1")),
        "texts_bounded": ("replica role", Status.EXECUTING, task("summary = repeat('x', 65537)")),
        "services_flat": ("as owner", Status.EXECUTING, task("services_touched = ARRAY[NULL]::text[]")),
        "executing_leased": ("as owner", Status.EXECUTING, task("lease_expires_at = NULL")),
        "finished_whole": ("as owner", Status.EXECUTING, task("finished_at = now()")),
        "moments_readable": ("as owner", Status.EXECUTING, task("available_at = 'infinity'")),
        "no_json_null": ("as owner", Status.EXECUTING, task("work_plan = 'null'")),
    },
    LOG: {
        "kind_known": ("as owner", Status.PENDING, line(kind="'x'")),
        "row_version_known": ("replica role", Status.PENDING, line(row_version="2")),
        "duration_positive": ("as owner", Status.PENDING, line(duration_ms="-1")),
        "moment_readable": ("replica role", Status.PENDING, line(at="'infinity'")),
        "texts_bounded": ("replica role", Status.PENDING, line(output_summary="repeat('x', 65537)")),
        "no_json_null": ("as owner", Status.PENDING, line(detail="'null'")),
        "transition_whole": ("replica role", Status.PENDING, line(**FORGED | {"to_status": "'x'"})),
    },
}


@pytest.mark.parametrize(("function", "name"), [(function, name) for function in _JUDGED for name in _JUDGED[function]])
def test_without_its_judgement_the_row_is_taken(function, name):
    where, status, attack = _JUDGED[function][name]
    attack = attack.replace("{id}", f"'{task_in(status).pk}'" if status else "NULL")
    attack = attack.replace("{fresh}", "'01900000-0000-7000-8000-000000000000'")
    table = "audit_task" if function == WRITE else "audit_executionlog"
    with circumstance(where), refused(CHECK, match=rf"\({table}_{name}\)") as refusal:
        sql(attack)
    diagnosis = refusal.error.__cause__.diag
    assert (diagnosis.table_name, diagnosis.constraint_name) == (table, f"{table}_{name}")
    rewrite(function, judgements(function)[name], "NULL")
    with circumstance(where):
        sql(attack)


@pytest.mark.parametrize("function", _JUDGED)
def test_each_judgement_is_tried(function):
    assert judgements(function).keys() == _JUDGED[function].keys()


@pytest.mark.parametrize("column", [field.column for field in Task._meta.concrete_fields])
def test_without_the_guard_each_column_of_a_finished_task_changes(column):
    """So the test that changes every column would see it."""
    done = finished()
    rewrite(WRITE, "BEGIN", "BEGIN RETURN NEW;")
    rewrite("audit_task_plan_v1", "BEGIN", "BEGIN RETURN NEW;")
    rewrite("audit_task_log_v1", "BEGIN", "BEGIN RETURN NULL;")
    assert sql(
        f"UPDATE audit_task SET {column} = {changed(Task._meta.get_field(column))} WHERE id = '{done.pk}' RETURNING 1"
    ) == [(1,)]


@pytest.mark.parametrize(
    ("table", "trigger", "attack"),
    [
        ("audit_task", "audit_task_10_write", "UPDATE public.audit_task SET summary = 'forged'"),
        ("audit_task", "audit_task_10_delete", "DELETE FROM public.audit_task"),
        ("audit_task", "audit_task_20_plan", "UPDATE public.audit_task SET plan = NULL WHERE status = 'paused'"),
        ("audit_task", "audit_task_10_no_truncate", "TRUNCATE public.audit_task CASCADE"),
        ("audit_executionlog", "audit_executionlog_10_guard", "DELETE FROM public.audit_executionlog"),
        ("audit_executionlog", "audit_executionlog_10_no_truncate", "TRUNCATE public.audit_executionlog"),
        ("audit_pause_queue", "audit_pause_queue_10_no_truncate", "TRUNCATE public.audit_pause_queue"),
        ("audit_pause_queue", "audit_pause_queue_10_write", "UPDATE public.audit_pause_queue SET paused_by = 'x'"),
        ("audit_event", "audit_event_10_guard", "UPDATE public.audit_event SET emitted_by = 'x'"),
        ("audit_event", "audit_event_10_guard", "DELETE FROM public.audit_event"),
        ("audit_event", "audit_event_10_no_truncate", "TRUNCATE public.audit_event"),
    ],
)
def test_a_trigger_that_is_not_enabled_always_sleeps_under_the_replica_role(table, trigger, attack):
    finished()
    task_in(Status.PAUSED)
    sql("INSERT INTO audit_event (name) VALUES ('build-42')")
    with circumstance("replica role"), refused():
        sql(attack)
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    sql(f"ALTER TABLE {table} ENABLE TRIGGER {trigger}")
    if "CASCADE" in attack:
        for other in ("audit_executionlog", "audit_pause_queue"):
            sql(f"ALTER TABLE {other} DISABLE TRIGGER {other}_10_no_truncate")
    with circumstance("replica role"):
        sql(attack)


@pytest.mark.parametrize(
    ("constraint", "assignment"),
    [
        ("reason_known", "reason = 'x'"),
        ("priority_range", "priority = 0"),
        ("priority_range", "priority = 6"),
        ("no_json_null", "work_plan = 'null'"),
        ("moments_readable", "resume_after = 'infinity'"),
        ("approval_held", "reason = 'awaiting_approval', held = false"),
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


def test_without_the_unique_index_a_step_is_reported_twice():
    task = requested()
    sql("CREATE TABLE decoy (LIKE audit_task INCLUDING DEFAULTS)")
    sql(
        "CREATE TRIGGER log AFTER INSERT ON decoy REFERENCING NEW TABLE AS changed"
        " FOR EACH STATEMENT EXECUTE FUNCTION audit_task_log_v1()"
    )
    attack = "INSERT INTO decoy SELECT * FROM audit_task"
    with refused("23505"):
        sql(attack)
    sql("DROP INDEX audit_executionlog_transition")
    sql(attack)
    assert task.execution_log.count() == 2


def test_the_definition_is_back_after_the_transaction():
    done = finished()
    with transaction.atomic():
        rewrite(*REFUSALS["frozen"][:3])
        transaction.set_rollback(True)
    with refused():
        sql(task("summary = 'forged'").replace("{id}", f"'{done.pk}'"))
    assert entry_of(task_in(Status.PAUSED)).held
