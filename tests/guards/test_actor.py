"""Under whose name a change appears: what the application claims, and what the database observed."""

import pytest
from django.db import connection
from django.db.models import F

from audit.context import actor
from audit.ids import uuid7
from audit.models import Task
from audit.status import Status
from tests.support.attacks import circumstance
from tests.support.factories import entry_of, log_of, refused, requested, sql, task_in

pytestmark = pytest.mark.django_db


def _set(task, assignments):
    sql(f"UPDATE public.audit_task SET {assignments} WHERE id = '{task.pk}'")


def _me():
    return sql("SELECT 'db:' || session_user")[0][0]


def test_revision_without_actor_names_the_role():
    task = requested()
    _set(task, "summary = 'raw', revision = revision + 1")
    task.refresh_from_db()
    assert (task.actor, task.revision) == (_me(), 2)
    Task.objects.filter(pk=task.pk).update(summary="orm", revision=F("revision") + 1)
    Task.objects.filter(pk=task.pk).update(actor="bob", revision=F("revision") + 1)
    task.refresh_from_db()
    assert (task.actor, task.revision) == ("bob", 4)
    _set(task, "status = 'approved', revision = revision + 1")
    task.refresh_from_db()
    assert (task.actor, task.decided_by) == (_me(), _me())
    assert log_of(task)[-1] == ("transition", "pending", "approved", _me())


@pytest.mark.parametrize(
    "said",
    [
        "decided_by = 'carol'",
        "decided_by = 'carol', decided_at = '2001-01-01'",
        "decided_by = 'carol', revision = revision + 1",
        "decided_by = 'carol', actor = 'carol'",
        "decided_by = 'carol', actor = 'carol', revision = NULL",
        "decided_by = 'carol', actor = NULL, revision = revision + 1",
        "decided_by = NULL",
    ],
)
@pytest.mark.parametrize("status", ["approved", "rejected"])
def test_raw_sql_decides_under_its_role_whomever_it_names(said, status):
    task = requested()
    _set(task, f"status = '{status}', {said}")
    task.refresh_from_db()
    assert (task.actor, task.decided_by, task.revision) == (_me(), _me(), 2)
    assert task.decided_at > task.recorded_at


def test_raw_sql_pauses_under_its_role_whomever_it_names():
    task = task_in(Status.APPROVED)
    sql(
        "WITH paused AS (UPDATE audit_task SET status = 'paused' WHERE id = %s RETURNING id)"
        " INSERT INTO audit_pause_queue (task_id, paused_by) SELECT id, 'alice' FROM paused",
        [task.pk],
    )
    entry = entry_of(task)
    assert (entry.actor, entry.paused_by) == (_me(), _me())


def test_who_decided_may_be_another_than_who_acts_when_the_application_says_so():
    task = requested()
    Task.objects.filter(pk=task.pk).update(
        status=Status.APPROVED, decided_by="carol", actor="bob", revision=F("revision") + 1
    )
    task.refresh_from_db()
    assert (task.actor, task.decided_by) == ("bob", "carol")


def test_entries_too_name_the_role_when_no_actor_is_named():
    task = task_in(Status.PAUSED)
    sql("UPDATE audit_pause_queue SET held = false, revision = revision + 1 WHERE task_id = %s", [task.pk])
    assert entry_of(task).actor == _me()
    sql(
        "UPDATE audit_pause_queue SET held = true, actor = 'carol', revision = revision + 1 WHERE task_id = %s",
        [task.pk],
    )
    assert entry_of(task).actor == "carol"


@pytest.mark.parametrize("name", ["''", "chr(1)", "chr(1) || chr(1)"])
def test_an_empty_actor_names_the_role(name):
    task = requested()
    _set(task, f"revision = revision + 1, actor = {name}")
    task.refresh_from_db()
    if name == "''":
        assert task.actor == _me()
    assert task.revision == 2


def test_the_mark_of_a_named_actor_cannot_be_brought_along():
    """The mark is a control character; a name stored with it would mark the next raw statement as named."""
    task = requested()
    _set(task, "revision = revision + 1, actor = chr(1) || 'mallory'")
    _set(task, "revision = revision + 1, summary = 'x'")
    task.refresh_from_db()
    assert task.actor == _me()
    key = uuid7()
    sql("INSERT INTO audit_task (id, action, available_at, actor) VALUES (%s, 'x', now(), chr(1) || 'eve')", [key])
    sql("UPDATE audit_task SET revision = revision + 1, summary = 'x' WHERE id = %s", [key])
    assert Task.objects.get(pk=key).actor == _me()


def test_raw_sql_appears_under_its_role_whatever_it_calls_itself():
    task = requested()
    _set(task, "actor = 'alice', summary = 'x'")
    task.refresh_from_db()
    assert task.actor == _me()


@pytest.mark.parametrize(
    ("session", "role"),
    [
        ("SET LOCAL ROLE audit_plain", None),
        ("SET LOCAL SESSION AUTHORIZATION audit_plain", "audit_plain"),
        ("SET LOCAL SESSION AUTHORIZATION audit_plain; SET LOCAL ROLE audit_plain", "audit_plain"),
        ("SET LOCAL application_name = 'alice'", None),
    ],
)
def test_the_observed_role_is_the_one_that_logged_in(session, role):
    task = requested()
    role = role or sql("SELECT session_user::text")[0][0]
    with circumstance("as owner"):
        sql("CREATE ROLE audit_plain; GRANT ALL ON ALL TABLES IN SCHEMA public TO audit_plain")
        sql(session)
        _set(task, "status = 'approved'")
        rows = sql(
            "SELECT actor, db_role FROM public.audit_executionlog WHERE task_id = %s ORDER BY id DESC LIMIT 1",
            [task.pk],
        )
        assert rows == [(f"db:{role}", role)]


def test_a_definer_function_does_not_hide_who_called_it():
    task = requested()
    with circumstance("as owner"):
        sql(
            "CREATE FUNCTION public.promote(task uuid) RETURNS void LANGUAGE sql SECURITY DEFINER AS"
            " $$ UPDATE public.audit_task SET status = 'approved' WHERE id = task $$"
        )
        sql("CREATE ROLE audit_caller; GRANT USAGE ON SCHEMA public TO audit_caller")
        sql("SET LOCAL SESSION AUTHORIZATION audit_caller")
        sql("SELECT public.promote(%s)", [task.pk])
        sql("RESET SESSION AUTHORIZATION")
        assert log_of(task)[-1] == ("transition", "pending", "approved", "db:audit_caller")
        assert task.execution_log.latest("id").db_role == "audit_caller"


def test_orm_saves_name_the_role_or_the_actor_block():
    task = requested()
    task.save()
    assert (task.actor, task.revision) == (_me(), 2)
    with actor("dora"):
        task.save()
    assert (task.actor, task.revision) == ("dora", 3)
    Task.objects.filter(pk=task.pk).update(summary="x")
    task.refresh_from_db()
    assert (task.actor, task.revision) == (_me(), 4)


def test_the_connection_goes_on_after_every_refusal():
    task = task_in(Status.COMPLETED)
    for _ in range(20):
        with refused():
            _set(task, "summary = 'x'")
    assert connection.is_usable()
