"""The time of an approval is a deadline: afterwards nobody approves, by whatever way."""

from datetime import UTC, datetime, timedelta

import pytest
from django.test import override_settings

from audit.decisions import Decision, Seen, carry_out, decide
from audit.exceptions import ApprovalExpired, ConflictingTask, IllegalTransition, InvalidValue, OwnRequest
from audit.ids import uuid7
from audit.models import PauseQueueEntry, Task
from audit.recovery import recover
from audit.status import Status
from tests.support.attacks import circumstance
from tests.support.factories import assert_same, entry_of, refused, requested, sql, task_in, unchanged

pytestmark = pytest.mark.django_db

PAST = datetime(2001, 1, 1, tzinfo=UTC)
AHEAD = datetime(2090, 1, 1, tzinfo=UTC)
SHORT = timedelta(microseconds=1)


def test_a_request_may_have_a_deadline(django_assert_num_queries):
    with django_assert_num_queries(1):
        task = requested(approve_before=timedelta(hours=1))
    assert_same(task)
    assert task.approve_before - task.created_at == timedelta(hours=1)
    assert requested(approve_before=AHEAD).approve_before == AHEAD
    assert requested().approve_before is None
    task.approve(actor="bob")
    assert task.status == "approved"


def test_many_requests_each_with_its_own():
    keys = Task.objects.bulk_request(
        [
            {"action": "a", "approve_before": timedelta(hours=1)},
            {"action": "b", "approve_before": AHEAD},
            {"action": "c"},
            {"action": "d", "approve_before": None},
        ]
    )
    a, b, c, d = (Task.objects.get(pk=key) for key in keys)
    assert (a.approve_before - a.created_at, b.approve_before) == (timedelta(hours=1), AHEAD)
    assert c.approve_before is d.approve_before is None
    [alike, same] = Task.objects.bulk_request([{"action": "a", "approve_before": timedelta(hours=1)}] * 2)
    assert Task.objects.get(pk=alike).approve_before == Task.objects.get(pk=same).approve_before is not None


@pytest.mark.parametrize("value", ["tomorrow", -timedelta(1), timedelta(0), datetime(2090, 1, 1), 5])  # noqa: DTZ001
def test_a_deadline_that_could_not_be_stored_is_refused(value, django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(InvalidValue, match=r"^approve_before"):
        requested(approve_before=value)


def test_a_repeated_request_finds_its_task():
    first = requested(id=(key := uuid7()), approve_before=timedelta(hours=1))
    assert requested(id=key, approve_before=timedelta(hours=1)) == first
    with pytest.raises(ConflictingTask) as caught:
        requested(id=key, approve_before=AHEAD)
    assert caught.value.fields == ("approve_before",)


def test_nobody_approves_too_late(django_assert_num_queries):
    task = requested(approve_before=PAST)
    with unchanged(task), django_assert_num_queries(2), pytest.raises(ApprovalExpired) as caught:
        task.approve(actor="bob")
    assert isinstance(caught.value, IllegalTransition)
    assert (caught.value.task_id, caught.value.from_status, caught.value.to_status, caught.value.deadline) == (
        task.pk, "pending", "approved", PAST,
    )  # fmt: skip
    with unchanged(task), pytest.raises(ApprovalExpired):
        decide("approve", Seen(task=task.pk, revision=1), reason="late", actor="bob")
    task.reject(actor="bob")


@pytest.mark.parametrize("where", ["as owner", "plain session", "deep savepoint", "temp namesakes"])
@pytest.mark.parametrize(
    "attack",
    [
        "status = 'approved'",
        "status = 'approved', approve_before = NULL",
        "status = 'approved', approve_before = now() + interval '1 hour'",
        "approve_before = NULL",
        "approve_before = now() + interval '1 hour'",
    ],
)
def test_no_statement_approves_too_late_or_moves_the_deadline(attack, where):
    task = requested(approve_before=PAST)
    with unchanged(task), circumstance(where), refused(match="approve"):
        sql(f"UPDATE public.audit_task SET {attack}, actor = 'bob', revision = revision + 1 WHERE id = '{task.pk}'")
    if where == "as owner" and attack == "status = 'approved'":
        with unchanged(task), refused():
            Task.objects.filter(pk=task.pk).update(status="approved")
        task.status = "approved"
        with unchanged(task), refused():
            task.save()


def test_a_replica_keeps_what_its_source_says():
    task = requested(approve_before=PAST)
    with circumstance("replica role"):
        sql("UPDATE audit_task SET status = 'approved' WHERE id = %s", [task.pk])
    done = task_in(Status.APPROVED)
    with circumstance("replica role"), refused(match="approve_before"):
        sql("UPDATE audit_task SET approve_before = now() WHERE id = %s", [done.pk])


def test_a_deadline_ahead_may_be_moved_while_nobody_decided():
    task = requested(approve_before=AHEAD)
    task.approve_before = AHEAD + timedelta(days=1)
    task.save()
    task.approve(actor="bob")
    task.approve_before = None
    with refused(match="approve_before changes only"):
        task.save()


def test_recovery_rejects_what_nobody_approved():
    task, later = requested(approve_before=PAST), requested(approve_before=AHEAD)
    with unchanged(later):
        assert recover().approvals == (task.pk,)
    task.refresh_from_db()
    assert (task.status, task.actor, task.decided_by) == ("rejected", "audit:recovery", "audit:recovery")
    assert task.outcome == {
        "success": False, "error_type": "ApprovalExpired", "output_summary": "Nobody approved it in time.",
    }  # fmt: skip


def _awaiting(**options):
    task = task_in(Status.EXECUTING)
    return task, task.pause(reason="awaiting_approval", **options)


def test_an_approval_in_the_middle_never_resumes_itself():
    task, entry = _awaiting(resume_after=SHORT)
    assert entry.held
    assert list(PauseQueueEntry.objects.due()) == PauseQueueEntry.objects.claim("orch-2") == []
    for call in (entry.resume, lambda: entry.defer(timedelta(hours=1)), lambda: entry.defer(AHEAD)):
        with unchanged(task), pytest.raises(ApprovalExpired) as caught:
            call()
        assert caught.value.deadline == entry.resume_after
    assert recover().approvals == (task.pk,)
    task.refresh_from_db()
    assert (task.status, task.outcome["error_type"], task.actor) == ("rejected", "ApprovalExpired", "audit:recovery")
    assert not PauseQueueEntry.objects.exists()
    assert task.execution_log.latest("id").to_status == "rejected"


def test_in_time_a_person_approves_or_moves_the_deadline():
    _, entry = _awaiting(resume_after=timedelta(hours=1))
    entry.defer(AHEAD, actor="bob")
    assert_same(entry)
    assert (entry.held, entry.resume_after) == (True, AHEAD)
    assert recover().total == 0
    assert entry.resume(actor="bob").status == "approved"
    _, entry = _awaiting()
    entry.defer(timedelta(hours=1))
    assert entry.held
    assert entry.resume_after is not None
    assert recover().total == 0


@pytest.mark.parametrize("where", ["as owner", "plain session", "deep savepoint", "temp namesakes"])
@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE public.audit_task SET status = 'approved' WHERE id = '{id}'",
        "UPDATE public.audit_pause_queue SET resume_after = NULL WHERE task_id = '{id}'",
        "UPDATE public.audit_pause_queue SET resume_after = now() + interval '1 hour' WHERE task_id = '{id}'",
        "UPDATE public.audit_pause_queue SET reason = 'manual_pause' WHERE task_id = '{id}'",
    ],
)
def test_no_statement_resumes_too_late(attack, where):
    task, _ = _awaiting(resume_after=SHORT)
    with unchanged(task), circumstance(where), refused(match="the time to approve"):
        sql(attack.format(id=task.pk))


def test_what_was_not_given_a_time_waits_for_ever():
    task, _ = _awaiting()
    with unchanged(task):
        assert recover().total == 0


@pytest.mark.parametrize("decision", ["approve", "resume", "defer"])
def test_nobody_decides_alone_on_any_path(decision):
    task = requested() if decision == "approve" else _awaiting()[0]
    entry = None if decision == "approve" else entry_of(task)
    seen = Seen(task=task.pk, revision=task.revision)
    if entry:
        seen = Seen(task=task.pk, revision=task.revision, entry=entry.pk, entry_revision=entry.revision)
    options = {"until": AHEAD} if decision == "defer" else {}
    with override_settings(AUDIT={"DECIDE_OWN": False}), unchanged(task):
        with pytest.raises(OwnRequest):
            decide(decision, seen, reason="mine", actor="alice", **options)
        with pytest.raises(OwnRequest):
            carry_out(Decision(decision), task, entry, reason="mine", actor="alice", using="default", **options)
    carry_out(Decision(decision), task, entry, reason="", actor="alice", using="default", **options)
