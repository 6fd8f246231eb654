"""Ways around the triggers that write the log, most of them with every trigger on, and what the verification says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import IntegrityError

from audit import ids
from audit.ledger.verify.findings import MAX_FINDINGS, Code
from audit.models import PauseQueueEntry, Task
from audit.status import FINISHED, TRANSITIONS, Status
from tests.support.attacked import Base
from tests.support.factories import claimed, requested, sql, task_in
from tests.support.ledger import behind_the_guards, codes, sealed, verified


@contextmanager
def as_a_replica() -> Iterator[None]:
    """A session whose ordinary triggers do not fire."""
    sql("SET session_replication_role = replica")
    try:
        yield
    finally:
        sql("RESET session_replication_role")


def found(task: Task) -> list[str]:
    """What is found, all of it about this task, before and after it is sealed."""
    before = verified()
    assert {each.task for each in before.findings} <= {str(task.pk)}, before.findings
    sealed()
    after = verified()
    assert codes(after) == codes(before)
    return codes(before)


def approve_through(parent: str, task: Task) -> None:
    sql(f"UPDATE {parent} SET status = 'approved' WHERE id = %s", [task.pk])


# What is as it should be


def test_every_way_that_a_task_can_go_is_whole(victim: Base) -> None:
    for status in Status:
        task_in(status)
    Task.objects.bulk_record([{"action": "import", "status": status} for status in FINISHED])
    task = claimed(task_in("approved"))
    task.release()
    task = claimed(task)
    task.pause(reason="insufficient_capacity", work_plan={"left": 1})
    entry = PauseQueueEntry.objects.get(task_id=task.pk)
    entry.resume(actor="bob")
    task = claimed(task)
    task.complete()
    for status in Status:
        sql("INSERT INTO audit_task (id, action, status) VALUES (%s, 'raw', %s)", [ids.uuid7(), status])
    sql("UPDATE audit_task SET status = 'rejected' WHERE status = 'pending' AND action = 'raw'")
    sql("UPDATE audit_task SET priority = 1 WHERE status = 'approved'")
    assert codes(verified()) == []
    sealed()
    assert codes(verified()) == []


# Statements that the statement triggers do not see


def inherit(task: Task) -> None:
    sql("CREATE TABLE ancestor (LIKE audit_task)")
    sql("ALTER TABLE audit_task INHERIT ancestor")
    approve_through("ancestor", task)
    sql("ALTER TABLE audit_task NO INHERIT ancestor")
    sql("DROP TABLE ancestor")


def attach(task: Task) -> None:
    sql("CREATE TABLE ancestor (LIKE audit_task) PARTITION BY RANGE (id)")
    sql("ALTER TABLE ancestor ATTACH PARTITION audit_task FOR VALUES FROM (MINVALUE) TO (MAXVALUE)")
    approve_through("ancestor", task)
    sql("ALTER TABLE ancestor DETACH PARTITION audit_task")
    sql("DROP TABLE ancestor")


@contextmanager
def without_the_log() -> Iterator[None]:
    """Another table bears the log's name."""
    sql("ALTER TABLE audit_executionlog RENAME TO hidden")
    sql("CREATE TABLE audit_executionlog (LIKE hidden INCLUDING DEFAULTS INCLUDING IDENTITY)")
    try:
        yield
    finally:
        sql("DROP TABLE audit_executionlog")
        sql("ALTER TABLE hidden RENAME TO audit_executionlog")


def log_away(task: Task) -> None:
    with without_the_log():
        approve_through("audit_task", task)


def replica(task: Task) -> None:
    with as_a_replica():
        approve_through("audit_task", task)


UNSEEN = {
    "by a parent that the table inherits from": inherit,
    "by a partitioned parent": attach,
    "while the log was away": log_away,
    "in a replica session": replica,
}


@pytest.mark.parametrize("way", UNSEEN)
def test_a_status_that_was_changed_without_the_log(victim: Base, way: str) -> None:
    task = requested()
    UNSEEN[way](task)
    assert Task.objects.get(pk=task.pk).status == Status.APPROVED
    assert found(task) == ["status_unlogged"]


@pytest.mark.parametrize("way", UNSEEN)
def test_steps_that_are_hidden_between_others(victim: Base, way: str) -> None:
    task = requested()
    UNSEEN[way](task)
    task.refresh_from_db()
    claimed(task).complete()
    assert found(task) == ["history_broken"]


def test_a_task_that_was_put_in_without_the_log(victim: Base) -> None:
    with without_the_log():
        task = requested()
    assert found(task) == ["row_inserted"]


def test_a_live_task_that_is_gone_leaves_its_log(victim: Base) -> None:
    task = requested()
    with behind_the_guards():
        sql("DELETE FROM audit_task WHERE id = %s", [task.pk])
    assert found(task) == ["row_deleted"]


# Rows that an owner forges in the log


def forge(task: Task, before: str | None, after: str, revision: int, detail: str | None = None) -> None:
    """Write a transition from inside a trigger of the owner's own, which the log's rule lets pass."""
    sql("CREATE TABLE lever (task_id uuid, before text, after text, revision int, detail jsonb)")
    sql(
        "CREATE FUNCTION pull() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO audit_executionlog (task_id, at, kind, from_status, to_status, revision, actor, db_role, attempt,"
        " row_version, xid, detail) VALUES (NEW.task_id, now(), 'transition', NEW.before, NEW.after, NEW.revision,"
        " 'eve', 'eve', 0, 1, pg_current_xact_id(), NEW.detail); RETURN NEW; END $$"
    )
    sql("CREATE TRIGGER pull BEFORE INSERT ON lever FOR EACH ROW EXECUTE FUNCTION pull()")
    sql("INSERT INTO lever VALUES (%s, %s, %s, %s, %s)", [task.pk, before, after, revision, detail])
    sql("DROP TABLE lever")
    sql("DROP FUNCTION pull()")


FORGED: dict[str, tuple[str | None, str, int, str]] = {
    "a step that goes on, and the task does not": ("pending", "approved", 2, "plan_changed status_unlogged"),
    "a step that nobody can make": ("pending", "completed", 2, "history_broken"),
    "a step that comes from elsewhere": ("approved", "executing", 2, "history_broken"),
    "a second beginning": (None, "pending", 2, "history_broken"),
    "a step before the first": (None, "approved", 0, "plan_changed history_broken"),
    "a step to the same status": ("pending", "pending", 2, "history_broken"),
    "a step to nowhere": ("pending", "elsewhere", 2, "history_broken"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_transition_that_an_owner_forged(victim: Base, name: str) -> None:
    before, after, revision, expected = FORGED[name]
    task = requested()
    forge(task, before, after, revision)
    assert sorted(found(task)) == sorted(expected.split())


def test_a_transition_of_no_task(victim: Base) -> None:
    task = Task(id=Task._meta.pk.get_default(), action="nobody's")
    forge(task, None, "pending", 1)
    assert found(task) == ["row_deleted"]


def test_a_transition_through_a_partitioned_parent_is_refused(victim: Base) -> None:
    task = requested()
    sql("ALTER TABLE audit_executionlog ALTER id DROP IDENTITY")
    sql("CREATE TABLE ancestor (LIKE audit_executionlog) PARTITION BY RANGE (id)")
    sql("ALTER TABLE ancestor ATTACH PARTITION audit_executionlog FOR VALUES FROM (MINVALUE) TO (MAXVALUE)")
    with pytest.raises(IntegrityError) as caught:
        sql(
            "INSERT INTO ancestor (id, task_id, at, kind, from_status, to_status, revision, actor, db_role, attempt,"
            " action, output_summary, row_version, xid) VALUES (90001, %s, now(), 'transition', 'pending', 'approved',"
            " 2, 'eve', 'eve', 0, '', '', 1, pg_current_xact_id())",
            [task.pk],
        )
    assert isinstance(caught.value.__cause__, psycopg.errors.RestrictViolation)


def test_a_transition_that_a_replica_session_adds(victim: Base) -> None:
    task = requested()
    with as_a_replica():
        sql(
            "INSERT INTO audit_executionlog (task_id, at, kind, from_status, to_status, revision, actor, db_role,"
            " attempt, row_version, xid) VALUES (%s, now(), 'transition', 'pending', 'rejected', 2, 'eve', 'eve', 0, 1,"
            " pg_current_xact_id())",
            [task.pk],
        )
    assert found(task) == ["status_unlogged"]


def test_no_step_but_the_legal_ones_passes(victim: Base) -> None:
    """Each pair of statuses, as a step in the log that goes on from the one before and leads to the task's status."""
    pairs = [(before, after) for before in Status for after in Status]
    tasks = {pair: task_in(pair[0]) for pair in pairs}
    with behind_the_guards():
        for (_, after), task in tasks.items():
            sql(
                "INSERT INTO audit_executionlog (task_id, at, kind, from_status, to_status, revision, actor, db_role,"
                " attempt, row_version, xid, detail) SELECT id, now(), 'transition', status, %s, revision + 1, 'eve',"
                " 'eve', 0, 1, pg_current_xact_id(), CASE WHEN status = 'pending' AND %s = 'approved' THEN"
                " jsonb_build_object('plan_sha256', encode(sha256(convert_to(plan::text, 'UTF8')), 'hex')) END"
                " FROM audit_task WHERE id = %s",
                [after, after, task.pk],
            )
            sql("UPDATE audit_task SET status = %s, revision = revision + 1 WHERE id = %s", [after, task.pk])
        sql("DELETE FROM audit_pause_queue")
        sql(
            "INSERT INTO audit_pause_queue (task_id, paused_at, due_at)"
            " SELECT id, now(), now() FROM audit_task WHERE status = 'paused'"
        )
    wrong = {each.task for each in verified().findings if each.code is Code.HISTORY_BROKEN}
    legal = {str(task.pk) for (before, after), task in tasks.items() if after in TRANSITIONS[before]}
    assert legal
    assert wrong == {str(task.pk) for task in tasks.values()} - legal


# Revisions


@pytest.mark.parametrize(("status", "revision"), [("completed", 90), ("executing", 1)])
def test_a_revision_that_the_log_does_not_have(victim: Base, status: str, revision: int) -> None:
    task = task_in(status)
    with behind_the_guards():
        sql("UPDATE audit_task SET revision = %s WHERE id = %s", [revision, task.pk])
    assert found(task) == ["status_unlogged"]


def test_two_transitions_of_one_revision(victim: Base) -> None:
    task = claimed(task_in("approved"))
    with behind_the_guards():
        sql("DROP INDEX audit_executionlog_transition")
        sql("UPDATE audit_executionlog SET revision = 2 WHERE task_id = %s AND to_status = 'executing'", [task.pk])
    report = verified()
    assert "history_broken" in codes(report)
    assert {each.task for each in report.findings if each.code is Code.HISTORY_BROKEN} == {str(task.pk)}


# Plans


def test_a_plan_that_was_changed_after_its_approval(victim: Base) -> None:
    task = task_in("approved")
    with behind_the_guards():
        sql("""UPDATE audit_task SET plan = '{"steps": ["check"]}' WHERE id = %s""", [task.pk])
    assert found(task) == ["plan_changed"]
    [finding] = verified().findings
    assert "holds a plan with the SHA-256 " in finding.message
    assert finding.log is not None


def test_a_plan_that_was_taken_away_or_given_after_its_approval(victim: Base) -> None:
    task = task_in("approved")
    with behind_the_guards():
        sql("UPDATE audit_task SET plan = NULL WHERE id = %s", [task.pk])
    assert found(task) == ["plan_changed"]
    with behind_the_guards():
        sql("UPDATE audit_task SET plan = %s WHERE id = %s", ['{"steps": ["pull", "run"], "ratio": 12.5}', task.pk])
    assert codes(verified()) == []
    bare = task_in("approved", plan=None)
    assert codes(verified()) == []
    with behind_the_guards():
        sql("UPDATE audit_task SET plan = '[]' WHERE id = %s", [bare.pk])
    assert found(bare) == ["plan_changed"]


def test_an_approval_that_was_rewritten_before_it_was_sealed(victim: Base) -> None:
    task = task_in("approved")
    with behind_the_guards():
        sql("UPDATE audit_executionlog SET detail = NULL WHERE task_id = %s AND to_status = 'approved'", [task.pk])
    assert found(task) == ["plan_changed"]


# Pauses


def ghost(task: Task) -> None:
    with as_a_replica():
        sql("INSERT INTO audit_pause_queue (task_id, paused_at, due_at) VALUES (%s, now(), now())", [task.pk])


def lost(task: Task) -> None:
    with as_a_replica():
        sql("DELETE FROM audit_pause_queue WHERE task_id = %s", [task.pk])


PAUSES: dict[str, tuple[str, Callable[[Task], Any], str]] = {
    "an entry of an approved task": ("approved", ghost, "has an entry for the task .*, which is approved"),
    "an entry of a finished task": ("completed", ghost, "has an entry for the task .*, which is completed"),
    "a paused task without its entry": ("paused", lost, "is paused, and the pause queue has no entry for it"),
}


@pytest.mark.parametrize("name", PAUSES)
def test_a_pause_queue_that_does_not_fit_the_tasks(victim: Base, name: str) -> None:
    status, attack, message = PAUSES[name]
    task = task_in(status)
    attack(task)
    assert found(task) == ["pause_broken"]
    [finding] = verified().findings
    assert re.search(message, finding.message)


def test_an_entry_of_no_task(victim: Base) -> None:
    task = Task(id=Task._meta.pk.get_default(), action="nobody's")
    ghost(task)
    assert found(task) == ["pause_broken"]


# Bounds


def test_many_are_counted_and_reported_in_bounds(victim: Base) -> None:
    Task.objects.bulk_record([{"action": "bulk", "status": "completed"} for _ in range(MAX_FINDINGS + 5)])
    with behind_the_guards():
        sql("DELETE FROM audit_executionlog WHERE task_id IN (SELECT id FROM audit_task WHERE action = 'bulk')")
    report = verified()
    assert report.counts["row_inserted"] > MAX_FINDINGS
    assert len([each for each in report.findings if each.code is Code.ROW_INSERTED]) == MAX_FINDINGS
