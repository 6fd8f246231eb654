"""Emit and pause at the same moment, in two real sessions: nobody waits for what has come."""

from threading import Thread

import pytest
from django.db import OperationalError, connection, transaction

from audit.events import emit_event
from audit.models import Event, Task
from audit.recovery import recover
from audit.status import Status
from audit.verbs import pausing
from tests.support.factories import sql, task_in
from tests.support.sessions import Background, session

pytestmark = pytest.mark.django_db(transaction=True)

_PAUSE = """
WITH paused AS (UPDATE audit_task SET status = 'paused' WHERE id = '{id}' RETURNING id)
INSERT INTO audit_pause_queue (task_id, reason, event) SELECT id, 'awaiting_event', 'build-42' FROM paused
"""


def _me() -> str:
    [[name]] = sql("SELECT current_user")
    return name


@pytest.mark.parametrize("first", ["pause", "emit"])
def test_neither_sees_the_other_and_whoever_commits_last_looks_again(first):
    task = task_in(Status.EXECUTING)
    with session(_me(), "READ COMMITTED") as other:
        if first == "pause":
            with transaction.atomic():
                other.execute(_PAUSE.format(id=task.pk))
                emit_event("build-42", 1)
                assert recover(dry_run=True).events == ()
                other.execute("COMMIT")
        else:
            other.execute("INSERT INTO audit_event (name, payload) VALUES ('build-42', '1')")
            with transaction.atomic():
                task.pause(event="build-42")
                assert task.status == "paused"
                other.execute("COMMIT")
        other.execute("BEGIN")
    task.refresh_from_db()
    assert task.status == "approved"
    assert task.awaited_event().payload == 1


def test_recovery_finds_a_pause_that_never_looked():
    task = task_in(Status.EXECUTING)
    with session(_me(), "READ COMMITTED") as other:
        other.execute(_PAUSE.format(id=task.pk))
        emit_event("build-42", 1)
        other.execute("COMMIT")
        other.execute("BEGIN")
    task.refresh_from_db()
    assert task.status == "paused"
    assert recover().events == (task.pk,)
    assert task.awaited_event().payload == 1


@pytest.mark.parametrize("kind", [OperationalError, ZeroDivisionError])
def test_a_look_that_fails_leaves_the_pause_as_it_is(kind, monkeypatch, caplog):
    def fails(*args, **options):
        raise kind("it went away")

    emit_event("build-42", 1)
    task = task_in(Status.EXECUTING)
    monkeypatch.setattr(pausing, "resume_waits", fails)
    task.pause(event="build-42")
    assert task.status == "paused"
    assert "it went away" in caplog.text
    assert recover().events == (task.pk,)


@pytest.mark.parametrize("ends", ["COMMIT", "ROLLBACK"])
def test_two_emits_of_one_name_at_once(ends):
    """The second waits for the first, and is the first if that is rolled back."""
    task = task_in(Status.EXECUTING)
    task.pause(event="build-42")
    with session(_me(), "READ COMMITTED") as first, session(_me(), "READ COMMITTED") as second:
        first.execute("INSERT INTO audit_event (name, payload) VALUES ('build-42', '1')")
        insert = "INSERT INTO audit_event (name, payload) VALUES ('build-42', '2') ON CONFLICT (name) DO NOTHING"
        waiting = Background(second, insert)
        first.execute(ends)
        assert waiting.wait() == ""
        second.execute("COMMIT")
        first.execute("BEGIN")
        second.execute("BEGIN")
    assert Event.objects.get().payload == (1 if ends == "COMMIT" else 2)
    assert emit_event("build-42", 3).payload == (1 if ends == "COMMIT" else 2)
    assert task.awaited_event().emitted


def test_many_pauses_and_emits_at_once_leave_nobody_waiting():
    tasks = [task_in(Status.EXECUTING) for _ in range(40)]

    def pauses(mine):
        try:
            for task in mine:
                task.pause(event=f"build-{task.pk.int % 5}")
        finally:
            connection.close()

    def emits():
        try:
            for number in range(5):
                emit_event(f"build-{number}", number)
        finally:
            connection.close()

    threads = [Thread(target=pauses, args=(tasks[start::4],)) for start in range(4)]
    threads += [Thread(target=emits) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Event.objects.count() == 5
    assert set(Task.objects.values_list("status", flat=True)) == {"approved"}
    for task in tasks:
        found = task.awaited_event()
        assert (found.name, found.payload) == (f"build-{task.pk.int % 5}", task.pk.int % 5)
        assert task.execution_log.filter(action="event").count() == 1


def test_an_emit_does_not_wait_for_whoever_has_the_task():
    task = task_in(Status.EXECUTING)
    task.pause(event="build-42")
    with session(_me(), "READ COMMITTED") as other:
        other.execute("SELECT 1 FROM audit_task WHERE id = %s FOR UPDATE", [task.pk])
        sql("SET lock_timeout = '5s'")
        emit_event("build-42")
        sql("RESET lock_timeout")
    task.refresh_from_db()
    assert task.status == "paused"
    assert recover().events == (task.pk,)


def test_a_wait_that_somebody_ends_meanwhile_is_not_ended_again():
    """The emit passes by the entry that somebody holds, and who comes later finds that nobody waits any more."""
    task = task_in(Status.EXECUTING)
    entry = task.pause(event="build-42")
    with session(_me(), "READ COMMITTED") as other:
        other.execute("SELECT 1 FROM audit_pause_queue WHERE id = %s FOR UPDATE", [entry.pk])
        emit_event("build-42")
        other.execute("SET LOCAL session_replication_role = replica")
        other.execute("DELETE FROM audit_pause_queue WHERE id = %s", [entry.pk])
        other.execute("COMMIT")
        other.execute("BEGIN")
    emit_event("build-42")
    task.refresh_from_db()
    assert task.status == "paused"
    assert recover().entries_made == (task.pk,)
