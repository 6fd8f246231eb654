"""The plan: what somebody approved is what the task holds ever after, whatever SQL asks otherwise."""

import hashlib

import pytest
from django.db import connection
from django.db.models import F

from audit.models import Task
from audit.status import Status
from tests.support.attacks import ATTACKS, CIRCUMSTANCES, attempts, circumstance
from tests.support.factories import (
    UNIQUE,
    claimed,
    entry_of,
    finished,
    refused,
    requested,
    sql,
    task_in,
    unchanged,
)

pytestmark = pytest.mark.django_db

PLAN = '{"steps": ["pull", "run"], "ratio": 12.5}'
OTHER = {
    "other": """'["rm -rf /"]'""",
    "none": "NULL",
    "another scale of a number": f"'{PLAN.replace('12.5', '12.50')}'",
    "a key more": """plan || '{"x": 1}'""",
}
APPROVED = (Status.APPROVED, Status.EXECUTING, Status.PAUSED)
# Those that change the column at all; a deletion is another rule's.
_UPDATES = [(attack, where) for attack, where in attempts() if "{value}" in ATTACKS[attack]]


def _digest(task):
    [[text]] = sql("SELECT plan::text FROM audit_task WHERE id = %s", [task.pk])
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


def _change(task, value, more=""):
    sql(f"UPDATE public.audit_task SET plan = {value}{more} WHERE id = '{task.pk}'")


@pytest.mark.parametrize("where", CIRCUMSTANCES)
@pytest.mark.parametrize("status", APPROVED)
@pytest.mark.parametrize("value", OTHER)
def test_no_approved_plan_becomes_another(value, status, where):
    task = task_in(status)
    with unchanged(task), circumstance(where), refused(match=f"{task.pk}: an approved plan .*{status}") as refusal:
        _change(task, OTHER[value])
    assert "work_plan" in refusal.hint
    assert "new task" in refusal.hint
    assert refusal.error.__cause__.diag.table_name == "audit_task"


@pytest.mark.parametrize(("attack", "where"), _UPDATES)
def test_no_statement_changes_an_approved_plan(attack, where):
    if attack == "merge update" and connection.pg_version < 150000:
        pytest.skip("MERGE came with PostgreSQL 15")
    task = task_in(Status.EXECUTING)
    statement = ATTACKS[attack].format(
        table="public.audit_task", key="id", id=f"'{task.pk}'::uuid", column="plan", value=OTHER["none"]
    )
    with unchanged(task), circumstance(where), refused(match="an approved plan"):
        sql(statement)


@pytest.mark.parametrize("status", APPROVED)
@pytest.mark.parametrize(
    "conflict", ["(id) DO UPDATE SET plan = excluded.plan", "ON CONSTRAINT audit_task_pkey DO UPDATE SET plan = NULL"]
)
def test_no_upsert_changes_an_approved_plan(conflict, status):
    task = task_in(status)
    insert = "INSERT INTO audit_task (id, action, plan) VALUES (%s, 'x', '[]')"
    with unchanged(task):
        with refused(match="an approved plan"):
            sql(f"{insert} ON CONFLICT {conflict}", [task.pk])
        with refused(UNIQUE):
            sql(insert, [task.pk])


@pytest.mark.parametrize("status", APPROVED)
def test_the_orm_changes_no_approved_plan(status):
    task = task_in(status)
    other = Task.objects.get(pk=task.pk)
    other.plan = {"steps": []}
    attacks = {
        "update": lambda: Task.objects.filter(pk=task.pk).update(plan=other.plan),
        "update with a step": lambda: Task.objects.filter(pk=task.pk).update(
            plan=None, status=Status.REJECTED if status != Status.EXECUTING else Status.FAILED
        ),
        "update, named": lambda: Task.objects.filter(pk=task.pk).update(
            plan=None, actor="bob", revision=F("revision") + 1
        ),
        "save": other.save,
        "save of it alone": lambda: other.save(update_fields=["plan"]),
        "bulk_update": lambda: Task.objects.bulk_update([other], ["plan"]),
        "bulk_create": lambda: Task.objects.bulk_create(
            [other], update_conflicts=True, unique_fields=["id"], update_fields=["plan"]
        ),
    }
    for attack in attacks.values():
        with unchanged(task), refused(match="an approved plan"):
            attack()


@pytest.mark.parametrize("status", APPROVED)
def test_the_plan_that_stands_may_be_written_again(status):
    task = task_in(status)
    _change(task, "plan")
    _change(task, f"'{PLAN}'")
    Task.objects.get(pk=task.pk).save()
    assert not task.execution_log.filter(action="change-plan").exists()


@pytest.mark.parametrize("value", OTHER)
def test_a_plan_that_waits_may_change_and_the_log_says_so(value):
    task = requested()
    before = _digest(task)
    _change(task, OTHER[value], ", actor = 'carol', revision = revision + 1")
    row = task.execution_log.latest("id")
    assert (row.kind, row.action, row.actor, row.revision, row.attempt) == ("note", "change-plan", "carol", 2, 0)
    assert row.detail == {"plan_sha256": _digest(task), "plan_sha256_before": before}
    assert row.detail["plan_sha256"] != before


def test_a_plan_that_comes_late_and_one_that_stays_are_distinguished():
    task = requested(plan=None)
    _change(task, "plan")
    sql("UPDATE audit_task SET summary = 'x' WHERE id = %s", [task.pk])
    assert task.execution_log.count() == 1
    _change(task, "'[]'")
    assert task.execution_log.latest("id").detail == {"plan_sha256": _digest(task), "plan_sha256_before": None}


@pytest.mark.parametrize("plan", ["NULL", "'{}'", f"'{PLAN}'", """'{"n": 12.50, "é": "\\\\u00e9 😀"}'""", "'[1e5]'"])
@pytest.mark.parametrize("way", ["verb", "sql", "insert"])
def test_the_approval_says_which_plan_was_approved(way, plan):
    task = requested()
    if way == "insert":
        task = Task(pk=task.pk.__class__("01900000-0000-7000-8000-000000000001"))
        sql(f"INSERT INTO audit_task (id, action, status, plan) VALUES ('{task.pk}', 'x', 'approved', {plan})")
    else:
        _change(task, plan)
        if way == "verb":
            task.approve(actor="bob")
        else:
            sql("UPDATE audit_task SET status = 'approved' WHERE id = %s", [task.pk])
    row = task.execution_log.get(to_status="approved")
    assert row.detail == {"plan_sha256": _digest(task)}
    assert (row.detail["plan_sha256"] is None) == (plan == "NULL")


def test_a_plan_changed_by_the_statement_that_approves_it_is_the_one_that_was_approved():
    task = requested()
    before = _digest(task)
    _change(task, OTHER["other"], ", status = 'approved'")
    step, note = (task.execution_log.get(**each) for each in ({"to_status": "approved"}, {"action": "change-plan"}))
    assert step.detail == {"plan_sha256": _digest(task)}
    assert note.detail == {"plan_sha256": _digest(task), "plan_sha256_before": before}
    assert step.revision == note.revision == 2


def test_a_rejection_and_later_approvals_tell_no_plan():
    task = task_in(Status.REJECTED)
    assert task.execution_log.get(to_status="rejected").detail is None
    task = task_in(Status.PAUSED)
    task = entry_of(task).resume(actor="bob")
    claimed(task).release()
    details = [row.detail for row in task.execution_log.filter(to_status="approved").order_by("id")]
    assert details == [{"plan_sha256": _digest(task)}, None, None]


def test_what_was_approved_is_what_the_finished_task_holds():
    task = finished()
    assert task.execution_log.get(to_status="approved").detail["plan_sha256"] == _digest(task)


def test_a_replica_session_keeps_an_approved_plan_and_logs_nothing():
    task, live = task_in(Status.APPROVED), requested()
    with circumstance("replica role"):
        with refused(match="an approved plan"):
            _change(task, "NULL")
        _change(live, "NULL")
        assert live.execution_log.count() == 1


def test_a_role_without_rights_on_the_log_changes_a_plan_that_waits_and_is_logged():
    task = requested()
    sql("CREATE ROLE audit_narrow")
    sql("GRANT SELECT, UPDATE ON audit_task TO audit_narrow")
    sql("SET LOCAL ROLE audit_narrow")
    _change(task, "NULL")
    sql("RESET ROLE")
    assert task.execution_log.latest("id").action == "change-plan"
