"""Decisions of people, without a page: as seen or not at all, with a reason, in one transaction."""

from datetime import timedelta
from uuid import UUID

import pytest
from django.db import OperationalError, connection, transaction
from django.test import override_settings
from django.utils import timezone

from audit import decisions
from audit.decisions import MAX_REASON, Decision, Seen, carry_out, decide
from audit.exceptions import IllegalTransition, InvalidValue, OwnRequest, StaleTask, TaskFrozen
from audit.models import ExecutionLog, PauseQueueEntry, Task
from tests.support.factories import claimed, entry_of, log_of, requested, sql, task_in, unchanged
from tests.support.pages import asking

pytestmark = pytest.mark.django_db


def seen(task: Task) -> Seen:
    """What somebody sees who looks now."""
    task = Task.objects.get(pk=task.pk)
    if task.status != "paused":
        return Seen(task=task.pk, revision=task.revision)
    entry = entry_of(task)
    return Seen(task=task.pk, revision=task.revision, entry=entry.pk, entry_revision=entry.revision)


def notes(task: Task) -> list[tuple[str, str, object]]:
    """The notes with words in them."""
    rows = ExecutionLog.objects.of(task).filter(kind="note").exclude(output_summary="")
    return list(rows.values_list("actor", "output_summary", "detail"))


def test_an_approval_is_the_verbs_with_its_reason_beside_it() -> None:
    task = requested()
    after = decide("approve", seen(task), reason="looked at the plan", actor="bob")
    assert (after.pk, after.status, after.decided_by) == (task.pk, "approved", "bob")
    assert log_of(task) == [
        ("transition", None, "pending", "alice"),
        ("transition", "pending", "approved", "bob"),
        ("note", None, None, "bob"),
    ]
    assert notes(task) == [("bob", "looked at the plan", {"decision": "approve"})]


@pytest.mark.parametrize("status", ["pending", "approved"])
def test_a_rejection_makes_the_reason_the_outcome(status: str) -> None:
    task = task_in(status)
    after = decide("reject", seen(task), reason="too late", actor="carol")
    assert after.status == "rejected"
    assert after.outcome == {"success": False, "error_type": "Rejected", "output_summary": "too late"}
    assert notes(task) == []


def test_paused_work_is_resumed_held_deferred_or_cancelled() -> None:
    task = task_in("approved")
    task.pause(reason="insufficient_capacity", work_plan={"left": 1}, actor="w")
    decide("hold", seen(task), reason="wait for Maria", actor="bob")
    assert entry_of(task).held
    until = timezone.now() + timedelta(days=2)
    decide("defer", seen(task), reason="after the release", until=until, actor="bob")
    assert (entry_of(task).held, entry_of(task).due_at) == (False, until)
    after = decide("resume", seen(task), reason="go on", actor="carol")
    assert (after.status, after.work_plan) == ("approved", {"left": 1})
    assert notes(task) == [
        ("bob", "wait for Maria", {"decision": "hold"}),
        ("bob", "after the release", {"decision": "defer", "until": until.isoformat()}),
        ("carol", "go on", {"decision": "resume"}),
    ]
    task.refresh_from_db()
    task.pause(actor="w")
    after = decide("cancel", seen(task), reason="no longer wanted", actor="bob")
    assert (after.status, after.outcome["output_summary"]) == ("rejected", "no longer wanted")
    assert not PauseQueueEntry.objects.exists()


def undecided(decision: str, **values: object) -> Task:
    """A task about which this can be decided."""
    if decision == "request_cancel":
        return task_in("executing", **values)
    if decision == "pause":
        return task_in("approved", **values)
    return task_in("paused" if Decision(decision).on_entry else "pending", **values)


@pytest.mark.parametrize("decision", Decision.values)
def test_what_changed_since_is_reported_and_stays(decision: str) -> None:
    task = undecided(decision)
    before = seen(task)
    if decision == "reject":
        task.approve(actor="dora")
    elif decision in ("approve", "pause"):
        task.suggest("look again", actor="dora")
    elif decision == "request_cancel":
        task.release(actor="dora")
        claimed(task, worker="dora")
    else:
        entry_of(task).defer(timedelta(hours=1), actor="dora")
    with unchanged(task), pytest.raises(StaleTask) as error:
        decide(decision, before, reason="as I saw it", until=timezone.now() + timedelta(days=1), actor="bob")
    assert error.value.actor == "dora"
    assert error.value.status == Task.objects.get(pk=task.pk).status
    assert error.value.revision < error.value.current_revision
    named = f"The pause entry of task {task.pk}" if Decision(decision).on_entry else f"Task {task.pk}"
    assert str(error.value).startswith(f"{named} is at revision {error.value.current_revision}, ")


def test_executing_work_that_only_gave_signs_of_life_is_still_what_was_seen() -> None:
    task = task_in("executing")
    before = seen(task)
    task.heartbeat()
    task.log("copy", actor="orch-1")
    after = decide("request_cancel", before, reason="wrong mirror", actor="dora")
    assert (after.status, after.actor, after.revision > before.revision + 1) == ("executing", "dora", True)
    assert Task.objects.get(pk=task.pk).cancel_requested_at is not None
    assert notes(task) == [("dora", "wrong mirror", None)]
    done = task_in("completed")
    with pytest.raises(TaskFrozen):
        decide("request_cancel", seen(done), reason="too late", actor="dora")
    with pytest.raises(IllegalTransition):
        decide("request_cancel", seen(requested()), reason="it waits", actor="dora")


def test_whether_a_time_is_past_is_for_the_databases_clock_to_say(monkeypatch) -> None:
    task = task_in("paused")
    monkeypatch.setattr(decisions, "database_now", lambda using: timezone.now() + timedelta(hours=5))
    with unchanged(task), pytest.raises(InvalidValue, match="is past"):
        decide("defer", seen(task), reason="x", until=timezone.now() + timedelta(hours=4), actor="bob")
    monkeypatch.setattr(decisions, "database_now", lambda using: timezone.now() - timedelta(hours=5))
    until = timezone.now() - timedelta(hours=4)
    decide("defer", seen(task), reason="x", until=until, actor="bob")
    assert entry_of(task).due_at == until


def test_an_entry_that_left_or_is_anothers_is_stale() -> None:
    task, other = task_in("paused"), task_in("paused")
    before = seen(task)
    foreign = Seen(
        task=task.pk, revision=before.revision, entry=entry_of(other).pk, entry_revision=entry_of(other).revision
    )
    with unchanged(task, other), pytest.raises(StaleTask, match=f"^The pause entry of task {task.pk} is gone, "):
        decide("resume", foreign, reason="x", actor="bob")
    entry_of(task).resume(actor="dora")
    with unchanged(task), pytest.raises(StaleTask) as error:
        decide("resume", before, reason="x", actor="bob")
    assert (error.value.status, error.value.actor) == ("approved", "dora")


def test_a_plan_that_was_changed_under_an_entry_is_stale_too() -> None:
    """The entry has no work plan, so that the task's own is what would go on."""
    task = task_in("paused")
    before = seen(task)
    task.refresh_from_db()
    task.work_plan = {"steps": ["something else"]}
    task.save()
    with unchanged(task), pytest.raises(StaleTask):
        decide("resume", before, reason="as planned", actor="bob")


def test_a_worker_who_has_claimed_an_entry_since_makes_it_stale_and_may_be_overruled() -> None:
    task = task_in("approved")
    task.pause(reason="insufficient_capacity", actor="w")
    before = seen(task)
    [entry] = PauseQueueEntry.objects.claim("orch-9")
    with pytest.raises(StaleTask):
        decide("hold", before, reason="x", actor="bob")
    decide("hold", seen(task), reason="I know better", actor="bob")
    entry.refresh_from_db()
    assert (entry.held, entry.claim_token) == (True, None)


@pytest.mark.parametrize("status", ["approved", "executing", "completed", "failed", "rejected", "paused"])
def test_the_rules_of_the_statuses_hold_for_people_too(status: str) -> None:
    task = task_in(status)
    now = Task.objects.get(pk=task.pk)
    what = Seen(task=task.pk, revision=now.revision)
    expected = TaskFrozen if status in ("completed", "failed", "rejected") else IllegalTransition
    with unchanged(task), pytest.raises(expected):
        decide("approve", what, reason="x", actor="bob")
    if status not in ("approved", "paused"):
        with unchanged(task), pytest.raises(expected):
            decide("reject", what, reason="x", actor="bob")


@pytest.mark.parametrize(
    "wrong",
    [
        {"reason": ""},
        {"reason": " \n"},
        {"reason": "x" * (MAX_REASON + 1)},
        {"reason": "a\0b"},
        {"reason": "\ud800"},
        {"reason": None},
        {"actor": ""},
        {"actor": None},
        {"decision": "zork"},
        {"decision": "resume"},
        {"decision": "defer"},
    ],
)
def test_what_cannot_be_stored_or_meant_is_refused_before_anything_is_sent(wrong: dict[str, object]) -> None:
    task = requested()
    given = {"decision": "approve", "reason": "x", "actor": "bob"} | wrong
    with unchanged(task), pytest.raises(InvalidValue):
        decide(given.pop("decision"), seen(task), **given)


@pytest.mark.parametrize("until", [None, timezone.now().replace(tzinfo=None), "tomorrow", timezone.now()])
def test_a_deferral_needs_a_moment_that_lies_ahead(until: object) -> None:
    task = task_in("paused")
    with unchanged(task), pytest.raises(InvalidValue):
        decide("defer", seen(task), reason="x", until=until, actor="bob")


def test_a_task_that_is_not_there() -> None:
    with pytest.raises(Task.DoesNotExist):
        decide("approve", Seen(task=UUID(int=7), revision=1), reason="x", actor="bob")


@pytest.mark.parametrize("decision", Decision.values)
def test_where_it_takes_two_nobody_lets_run_what_they_requested(decision: str) -> None:
    task = undecided(decision, actor="bob")
    until = timezone.now() + timedelta(days=1)
    with override_settings(AUDIT={"DECIDE_OWN": False}):
        if decision in ("approve", "resume", "defer"):
            with unchanged(task), pytest.raises(OwnRequest, match="requested by 'bob'"):
                decide(decision, seen(task), reason="mine", until=until, actor="bob")
            decide(decision, seen(task), reason="not mine", until=until, actor="carol")
        else:
            decide(decision, seen(task), reason="withdrawn", until=until, actor="bob")


@pytest.mark.parametrize("decision", Decision.values)
def test_usually_people_decide_about_their_own_requests_too(decision: str) -> None:
    task = undecided(decision, actor="bob")
    decide(decision, seen(task), reason="mine", until=timezone.now() + timedelta(days=1), actor="bob")
    assert Task.objects.get(pk=task.pk).status == {
        "approve": "approved",
        "resume": "approved",
        "reject": "rejected",
        "cancel": "rejected",
        "request_cancel": "executing",
    }.get(decision, "paused")


@pytest.mark.parametrize("decision", ["resume", "hold", "defer", "cancel"])
def test_a_decision_about_an_entry_without_one_is_refused_and_approves_nothing(decision: str) -> None:
    task = requested()
    with unchanged(task), transaction.atomic(), pytest.raises(InvalidValue, match="entry"):
        carry_out(Decision(decision), task, None, reason="x", actor="bob", using="default")


def test_a_pause_until_a_time_is_over_by_itself_then_and_not_before() -> None:
    task, until = task_in("approved"), timezone.now() + timedelta(hours=1)
    decide("pause", seen(task), reason="so", until=until, actor="bob")
    assert (entry_of(task).held, entry_of(task).due_at, entry_of(task).note) == (False, until, "so")
    other = task_in("approved")
    with unchanged(other), pytest.raises(InvalidValue, match="is past"):
        decide("pause", seen(other), reason="so", until=timezone.now() - timedelta(hours=1), actor="bob")


def test_a_note_that_fails_takes_the_decision_along(monkeypatch: pytest.MonkeyPatch) -> None:
    task = requested()

    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("no note")

    monkeypatch.setattr(Task, "note", broken)
    with unchanged(task), pytest.raises(RuntimeError):
        decide("approve", seen(task), reason="x", actor="bob")


def test_the_callers_own_limit_on_locks_comes_back() -> None:
    with transaction.atomic():
        sql("SET LOCAL lock_timeout = '77s'")
        decide("approve", seen(requested()), reason="x", actor="bob")
        assert sql("SHOW lock_timeout") == [("77s",)]
        frozen = task_in("completed")
        with pytest.raises(TaskFrozen):
            decide("approve", seen(frozen), reason="x", actor="bob")
        assert sql("SHOW lock_timeout") == [("77s",)]


def test_no_document_is_read_to_lock_a_row() -> None:
    task = task_in("paused", plan={"x": "y" * 1000})
    now = seen(task)
    with asking() as asked:
        decide("hold", now, reason="x", actor="bob")
    locks = [statement for statement in asked.statements if "FOR NO KEY UPDATE" in statement]
    assert ['"audit_task"' in lock for lock in locks] == [True, False]
    for lock in locks:
        for column in ("plan", "outcome", "origin", "work_plan"):
            assert f'"{column}"' not in lock


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("patience", [30, 0])
def test_whoever_is_busy_with_a_task_is_waited_for_and_not_for_ever(patience: int) -> None:
    task = requested()
    # For PostgreSQL a limit of 0 is none: then this one ends the wait, with another SQLSTATE.
    sql("SET statement_timeout = '20s'")
    what = seen(task)
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT 1 FROM audit_task WHERE id = %s FOR UPDATE", [task.pk])
        with unchanged(task), pytest.raises(OperationalError) as error:
            decide("approve", what, reason="x", actor="bob", patience=timedelta(milliseconds=patience))
        assert error.value.__cause__.sqlstate == "55P03"
    finally:
        sql("RESET statement_timeout")
        other.rollback()
        other.close()
    decide("approve", what, reason="x", actor="bob")


@pytest.mark.parametrize("status", ["pending", "paused"])
def test_what_was_seen_is_written_and_read(status: str) -> None:
    what = seen(task_in(status))
    assert Seen.read(str(what)) == what


@pytest.mark.parametrize(
    "text",
    [
        "",
        "zork",
        "0" * 32,
        f"{'0' * 32}.",
        f"{'0' * 32}.-1",
        f"{'0' * 32}.٣",
        f"{'0' * 31}g.1",
        f"{'0' * 32}.1.2",
        f"{'0' * 32}.1.2.3.4",
        f"{'0' * 32}.1\n",
        f"{'0' * 32}.{'9' * 11}",
        f"{'0' * 32}.1.{'9' * 19}.1",
        f" {'0' * 32}.1",
    ],
)
def test_what_nobody_wrote_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        Seen.read(text)


def test_entry_keys_beyond_what_a_column_holds_find_nothing() -> None:
    task = task_in("paused")
    now = seen(task)
    what = Seen.read(f"{task.pk.hex}.{now.revision}.{'9' * 18}.{'9' * 10}")
    with unchanged(task), pytest.raises(StaleTask):
        decide("resume", what, reason="x", actor="bob")
