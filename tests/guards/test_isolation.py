"""Every rule against every isolation level, and against snapshots that were taken before another session's step."""

from contextlib import contextmanager

import psycopg
import pytest
from django.db import connection

from audit.models import PauseQueueEntry, Task
from audit.status import Status
from tests.support.factories import (
    RESTRICT,
    SERIALIZATION,
    UNIQUE,
    claimed,
    entry_of,
    requested,
    snapshot,
    sql,
    task_in,
)
from tests.support.refusals import REFUSALS
from tests.support.rules import source_of
from tests.support.sessions import ISOLATION, Background, application_role, session

pytestmark = pytest.mark.django_db(transaction=True)

STALE = ("REPEATABLE READ", "SERIALIZABLE")
INSERT = "INSERT INTO audit_pause_queue (task_id, reason, work_plan) VALUES ('{task}', 'awaiting_event', '[\"ghost\"]')"
# What another session makes of a paused task after the snapshot.
STEPS = {
    "resumed": lambda task: entry_of(task).resume(actor="bob"),
    "resumed and claimed": lambda task: claimed(entry_of(task).resume(actor="bob")),
    "resumed and completed": lambda task: claimed(entry_of(task).resume(actor="bob")).complete(),
    "cancelled": lambda task: entry_of(task).cancel(actor="bob"),
    "failed": lambda task: task.fail("given up"),
    "by raw SQL": lambda task: sql("UPDATE audit_task SET status = 'approved' WHERE id = %s", [task.pk]),
}


@pytest.fixture
def role():
    with application_role() as name:
        yield name


def _answer(opened, statement):
    """Run a statement and commit: the SQLSTATE of the refusal, or how many rows it changed."""
    try:
        cursor = opened.execute(statement)
        while cursor.nextset():
            pass  # of several statements, the last one is the attack
        rows = cursor.rowcount
        opened.execute("COMMIT")
    except psycopg.Error as error:
        return error.sqlstate
    return rows


def _look(opened):
    """Take the snapshot."""
    opened.execute("SELECT count(*) FROM audit_task")


@pytest.mark.parametrize("isolation", ISOLATION)
@pytest.mark.parametrize("step", STEPS)
def test_no_entry_comes_to_stand_for_a_task_that_goes_on(step, isolation, role):
    task = task_in(Status.PAUSED)
    with session(role, isolation) as stale:
        _look(stale)
        STEPS[step](task)
        before = snapshot(task.pk)
        assert _answer(stale, INSERT.format(task=task.pk)) == (SERIALIZATION if isolation in STALE else RESTRICT)
    assert snapshot(task.pk) == before
    assert not before["audit_pause_queue"]


@pytest.mark.parametrize("isolation", ISOLATION)
def test_an_entry_of_a_task_paused_anew_is_neither_doubled_nor_removed(isolation, role):
    for attack, fresh in (
        (INSERT, UNIQUE),
        ("DELETE FROM audit_pause_queue WHERE task_id = '{task}'", RESTRICT),
    ):
        task = task_in(Status.PAUSED)
        with session(role, isolation) as stale:
            _look(stale)
            entry_of(task).resume(actor="bob").pause(actor="bob", work_plan=["true"])
            before = snapshot(task.pk)
            answer = _answer(stale, attack.format(task=task.pk))
            assert answer in ((SERIALIZATION, UNIQUE) if isolation in STALE else (fresh,))
        assert snapshot(task.pk) == before
        assert entry_of(task).work_plan == ["true"]


@pytest.mark.parametrize("isolation", ISOLATION)
def test_no_entry_of_a_task_that_was_paused_since_is_removed(isolation, role):
    task = task_in(Status.APPROVED)
    with session(role, isolation) as stale:
        _look(stale)
        task.pause(actor="bob")
        before = snapshot(task.pk)
        answer = _answer(stale, f"DELETE FROM audit_pause_queue WHERE task_id = '{task.pk}'")
        assert answer == (0 if isolation in STALE else RESTRICT)
    assert snapshot(task.pk) == before


@pytest.mark.parametrize("isolation", ISOLATION)
@pytest.mark.parametrize("status", [Status.PAUSED, Status.COMPLETED])
def test_no_step_is_made_from_a_status_that_is_past(status, isolation, role):
    task = task_in(Status.APPROVED)
    with session(role, isolation) as stale:
        _look(stale)
        if status == Status.PAUSED:
            task.pause(actor="bob")
        else:
            claimed(task).complete()
        before = snapshot(task.pk)
        answer = _answer(stale, f"UPDATE audit_task SET status = 'executing' WHERE id = '{task.pk}'")
        assert answer == (SERIALIZATION if isolation in STALE else RESTRICT)
    assert snapshot(task.pk) == before


@pytest.mark.parametrize("isolation", ISOLATION)
def test_no_plan_is_changed_that_was_approved_since(isolation, role):
    task = requested()
    with session(role, isolation) as stale:
        _look(stale)
        task.approve(actor="bob")
        before = snapshot(task.pk)
        answer = _answer(stale, f"UPDATE audit_task SET plan = '[]' WHERE id = '{task.pk}'")
        assert answer == (SERIALIZATION if isolation in STALE else RESTRICT)
    assert snapshot(task.pk) == before


# Two at once


@contextmanager
def _under_way(task):
    """Another session of the owner's that resumes a task and has not committed."""
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("UPDATE audit_task SET status = 'approved' WHERE id = %s", [task.pk])
            yield cursor
    finally:
        other.close()


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("isolation", ISOLATION)
def test_whoever_writes_an_entry_waits_for_the_step_that_is_under_way(isolation, end, role):
    task = task_in(Status.PAUSED)
    with session(role, isolation) as mine, _under_way(task) as cursor:
        _look(mine)
        waiting = Background(mine, INSERT.format(task=task.pk))
        cursor.execute(end)
        answer = waiting.wait()
    gone = SERIALIZATION if isolation in STALE else RESTRICT
    assert answer == (gone if end == "COMMIT" else UNIQUE)
    task.refresh_from_db()
    assert PauseQueueEntry.objects.filter(task=task).exists() == (task.status == Status.PAUSED) == (end == "ROLLBACK")


@pytest.mark.parametrize("isolation", ISOLATION)
def test_whoever_removes_an_entry_waits_for_the_step_that_is_under_way(isolation, role):
    task = task_in(Status.PAUSED)
    with session(role, isolation) as mine, _under_way(task) as cursor:
        _look(mine)
        waiting = Background(mine, f"DELETE FROM audit_pause_queue WHERE task_id = '{task.pk}'")
        cursor.execute("COMMIT")
        assert waiting.wait() == (SERIALIZATION if isolation in STALE else "")
    assert Task.objects.get(pk=task.pk).status == Status.APPROVED
    assert not PauseQueueEntry.objects.filter(task=task).exists()


@pytest.mark.parametrize("isolation", ISOLATION)
def test_whoever_changes_a_task_waits_for_the_step_and_meets_the_rule_of_what_it_became(isolation, role):
    task = task_in(Status.EXECUTING)
    other = connection.copy()
    try:
        with session(role, isolation) as mine, other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("UPDATE audit_task SET status = 'completed' WHERE id = %s", [task.pk])
            _look(mine)
            waiting = Background(mine, f"UPDATE audit_task SET summary = 'forged' WHERE id = '{task.pk}'")
            cursor.execute("COMMIT")
            assert waiting.wait() == (SERIALIZATION if isolation in STALE else RESTRICT)
    finally:
        other.close()
    assert Task.objects.get(pk=task.pk).summary != "forged"


# Everything that is refused

# An application's role may not become a replica session; the same attacks are there without that.
_ATTACKS = {name: each for name, each in REFUSALS.items() if "session_replication_role" not in each[4]}


def _refusals(isolation, role, stale):
    for name, (_, _, _, status, attack, *answer) in _ATTACKS.items():
        task = requested()
        with session(role, isolation) as mine:
            if stale:
                _look(mine)
            if status and status != Status.PENDING:
                task = _brought(task, status) if stale else task_in(status)
            before = snapshot(task.pk)
            found = _answer(mine, attack.replace("{id}", f"'{task.pk}'"))
        yield name, found, answer[0] if answer else RESTRICT
        assert snapshot(task.pk) == before, name


def _brought(task, status):
    """The same task, brought to a status after the snapshot of another session."""
    if status in (Status.APPROVED, Status.EXECUTING, Status.PAUSED, Status.COMPLETED):
        task.approve(actor="bob")
    if status == Status.PAUSED:
        task.pause(actor="bob")
    elif status in (Status.EXECUTING, Status.COMPLETED):
        task = claimed(task)
        if status == Status.COMPLETED:
            task.complete()
    return task


@pytest.mark.parametrize("isolation", ISOLATION)
def test_every_refusal_stands_at_every_isolation_level(isolation, role):
    found = list(_refusals(isolation, role, stale=False))
    assert len(found) == len(_ATTACKS) >= len(REFUSALS) - 5
    assert [each for each in found if each[1] != each[2]] == []


@pytest.mark.parametrize("isolation", STALE)
def test_every_refusal_stands_against_a_stale_snapshot(isolation, role):
    """What changed since fails to serialize, and what the snapshot does not have is not touched."""
    for name, found, answer in _refusals(isolation, role, stale=True):
        assert found in (answer, SERIALIZATION, 0), name


@pytest.mark.parametrize("isolation", STALE)
def test_without_its_lock_a_stale_snapshot_makes_a_ghost(isolation, role):
    task = task_in(Status.PAUSED)
    source = source_of("audit_entry_follow_v1")
    assert source.count(" FOR NO KEY UPDATE;") == 1
    sql(source.replace(" FOR NO KEY UPDATE;", ";"))
    try:
        with session(role, isolation) as stale:
            _look(stale)
            entry_of(task).resume(actor="bob")
            assert _answer(stale, INSERT.format(task=task.pk)) == 1
        assert PauseQueueEntry.objects.filter(task__status="approved").count() == 1
    finally:
        sql(source)
