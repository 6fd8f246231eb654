"""Recovery: what was left behind is put right once, by whoever comes, and nothing else is touched."""

from datetime import datetime, timedelta
from threading import Thread
from uuid import uuid4

import pytest
from asgiref.sync import async_to_sync
from django.db import connection

from audit.context import actor
from audit.exceptions import InvalidValue, LeaseLost, TaskFrozen
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.pausing import PauseManager
from audit.recovery import RecoveryReport, Sweep, arecover, recover
from audit.status import Status
from tests.support.agents import agent, silent
from tests.support.factories import assert_same, claimed, entry_of, requested, sql, task_in, unchanged

pytestmark = pytest.mark.django_db

SHORT = timedelta(microseconds=1)


def _expired(**options):
    task = task_in(Status.EXECUTING, **options)
    sql("UPDATE audit_task SET lease_expires_at = now() - interval '1 second' WHERE id = %s", [task.pk])
    return task


def _without_entry():
    """A paused task whose entry is gone, as a restore in parts leaves it."""
    task = task_in(Status.PAUSED)
    sql("SET session_replication_role = replica; DELETE FROM audit_pause_queue; SET session_replication_role = origin")
    return task


def _without_pause():
    task = task_in(Status.PAUSED)
    sql(
        f"SET session_replication_role = replica; UPDATE audit_task SET status = 'approved' WHERE id = '{task.pk}';"
        " SET session_replication_role = origin"
    )
    return task


def _everything():
    came = f"came-{uuid4()}"
    made = {
        "leases": [_expired(), _expired(on_expiry="fail")],
        "entries_made": [_without_entry()],
        "entries_removed": [_without_pause()],
        "restarted": [task_in(Status.EXECUTING)],
        "events": [task_in(Status.EXECUTING)],
        "timeouts": [task_in(Status.EXECUTING)],
        "approvals": [task_in(Status.EXECUTING), requested(approve_before=SHORT)],
    }
    made["events"][0].pause(event=came)
    sql("INSERT INTO audit_event (name) VALUES (%s)", [came])  # nobody has looked since
    made["timeouts"][0].pause(event="late", resume_after=SHORT)
    made["approvals"][0].pause(reason="awaiting_approval", resume_after=SHORT)
    return {kind: {task.pk for task in tasks} for kind, tasks in made.items()}


def _in_order():
    """Tasks that nothing is wrong with."""
    tasks = [task_in(status) for status in Status.values]
    held = task_in(Status.EXECUTING)
    held.pause(event="never", resume_after=SHORT, held=True)
    later = task_in(Status.EXECUTING)
    later.pause(event="never", resume_after=timedelta(hours=1))
    ahead = requested(approve_before=timedelta(hours=1))
    capacity = task_in(Status.EXECUTING)
    capacity.pause(reason="insufficient_capacity", resume_after=SHORT)
    return [*tasks, held, later, ahead, capacity]


def _found(report: RecoveryReport):
    return {kind: set(getattr(report, kind)) for kind in report.counts}


def test_everything_at_once_and_only_once():
    expected = _everything()
    # After the repair of entries, so that these have theirs.
    fine = _in_order()
    for task in fine:
        if task.status == Status.EXECUTING:
            sql("UPDATE audit_task SET claimed_by = 'other' WHERE id = %s", [task.pk])
    with unchanged(*fine):
        would = recover(worker="orch-1", dry_run=True)
        assert (would.dry_run, _found(would)) == (True, expected)
        assert _found(recover(worker="orch-1", dry_run=True)) == expected
        report = recover(worker="orch-1")
        assert (report.dry_run, _found(report)) == (False, expected)
        assert recover(worker="orch-1").total == 0
    assert report.total == sum(map(len, expected.values())) == 9
    assert report.is_full(2)
    assert not report.is_full(3)


def test_dry_run_changes_nothing(django_assert_num_queries):
    expected = _everything()
    tasks = list(Task.objects.filter(pk__in=set().union(*expected.values())))
    with unchanged(*tasks), django_assert_num_queries(8):
        recover(worker="orch-1", dry_run=True)


def test_nothing_to_do_costs_one_statement_a_kind(django_assert_num_queries):
    with django_assert_num_queries(7):
        assert recover().total == 0


def test_what_nobody_approved_in_time_ended_without_success():
    waiting = requested(approve_before=SHORT)
    paused = task_in(Status.EXECUTING)
    paused.pause(reason="awaiting_approval", resume_after=SHORT)
    recover()
    for task in (waiting, paused):
        ended = Task.objects.get(pk=task.pk)
        assert (ended.status, ended.outcome) == (
            "rejected",
            {
                "success": False,
                "error_type": "ApprovalExpired",
                "output_summary": "Nobody approved it in time.",
            },
        )


def test_a_pass_is_bounded():
    for _ in range(3):
        _expired()
        requested(approve_before=SHORT)
        task_in(Status.EXECUTING).pause(event="late", resume_after=SHORT)
    for expected in (2, 1, 0):
        report = recover(limit=2)
        assert {report.counts[kind] for kind in ("leases", "approvals", "timeouts")} == {expected}


def test_an_expired_lease_counts_and_so_does_a_restart():
    expired, mine = _expired(), task_in(Status.EXECUTING)
    report = recover(worker="orch-1")
    assert (report.leases, report.restarted) == ((expired.pk,), (mine.pk,))
    late = Task.objects.get(pk=mine.pk)
    assert (late.status, late.expiries, late.failures, late.attempt, late.actor) == (
        "approved", 1, 0, 1, "audit:recovery",
    )  # fmt: skip
    assert Task.objects.get(pk=expired.pk).expiries == 1
    with pytest.raises(LeaseLost):
        mine.complete()


@pytest.mark.parametrize("on_expiry", ["requeue", "fail"])
def test_the_log_says_whose_claim_was_taken_back(on_expiry):
    expired, mine = _expired(on_expiry=on_expiry), task_in(Status.EXECUTING, on_expiry=on_expiry)
    before = {task.pk: Task.objects.get(pk=task.pk) for task in (expired, mine)}
    recover(worker="orch-1")
    for task, words in ((expired, "ran out at"), (mine, "is gone or was restarted")):
        note = ExecutionLog.objects.get(task=task, kind="note", action="recovery")
        was, now = before[task.pk], Task.objects.get(pk=task.pk)
        assert note.detail["claimed_by"] == "orch-1"
        for name, moment in (("since", was.status_since), ("lease_expires_at", was.lease_expires_at)):
            assert datetime.fromisoformat(note.detail[name]) == moment
            assert note.detail[name] in note.output_summary
        assert "orch-1" in note.output_summary
        assert words in note.output_summary
        assert note.output_summary.endswith("in attempt 1.")
        assert (note.attempt, note.actor, note.revision) == (1, "audit:recovery", now.revision)


@pytest.mark.parametrize("how", ["on_expiry", "cancel"])
def test_what_must_not_run_again_fails_at_the_restart(how):
    task = task_in(Status.EXECUTING, on_expiry="fail" if how == "on_expiry" else "requeue")
    if how == "cancel":
        Task.objects.get(pk=task.pk).request_cancel()
    assert recover(worker="orch-1").restarted == (task.pk,)
    ended = Task.objects.get(pk=task.pk)
    assert (ended.status, ended.outcome["error_type"]) == ("failed", "WorkerRestarted")
    assert "orch-1 was restarted in the middle of attempt 1" in ended.outcome["output_summary"]
    for end in (task.complete, task.fail):
        with pytest.raises(TaskFrozen):
            end()


@pytest.mark.parametrize("name", ["orch", "orch-10", "ORCH-1", "orch-_", "%"])
def test_only_the_very_name_is_ones_own(name):
    task = task_in(Status.EXECUTING)
    with unchanged(task):
        assert recover(worker=name).total == 0
        assert recover().total == 0


def test_an_agent_without_heartbeats_keeps_its_work_while_its_leases_live():
    presence = agent("orch-1")
    task = task_in(Status.EXECUTING)
    for seconds in (60, 3600):
        silent("orch-1", seconds)
        with unchanged(task):
            assert recover().total == 0
            assert PauseManager().pause_short() == []
            assert PauseManager().resume_due() == []
    presence.beat()
    sql("UPDATE audit_task SET lease_expires_at = now() - interval '1 second' WHERE id = %s", [task.pk])
    # And a heartbeat keeps nothing whose lease is over.
    assert recover().leases == (task.pk,)


def test_a_missing_entry_is_made_held_and_a_surplus_one_goes():
    alone = _without_entry()
    report = recover()
    assert report.entries_made == (alone.pk,)
    entry = entry_of(alone)
    assert (entry.held, entry.reason, entry.paused_by, entry.priority) == (True, "manual_pause", "audit:recovery", 2)
    surplus = _without_pause()
    assert recover().entries_removed == (surplus.pk,)
    assert [each.pk for each in PauseQueueEntry.objects.all()] == [entry.pk]
    for task in (alone, surplus):
        note = task.execution_log.get(action="recover")
        assert (note.kind, note.actor) == ("note", "audit:recovery")
        assert "entry in the queue" in note.output_summary or "had an entry" in note.output_summary
    assert entry.resume().status == "approved"


def test_who_recovers_may_be_named():
    task = requested(approve_before=SHORT)
    with actor("nightly"):
        recover()
    task.refresh_from_db()
    assert task.actor == "nightly"


@pytest.mark.parametrize("options", [{"limit": 0}, {"limit": "1"}, {"limit": True}, {"worker": ""}, {"worker": 1}])
def test_bad_arguments(options, django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(InvalidValue):
        recover(**options)


def test_async_and_logged(caplog):
    with caplog.at_level("INFO", "audit"):
        assert async_to_sync(arecover)().total == 0
        assert caplog.text == ""
        task = _expired()
        assert recover().leases == (task.pk,)
    assert "took on: 1 leases" in caplog.text


_LOCK = "SELECT 1 FROM audit_task WHERE id = %s FOR UPDATE"


@pytest.mark.django_db(transaction=True)
def test_what_is_locked_is_skipped_and_found_by_the_next():
    from tests.support.sessions import session

    kinds = _everything()
    [[me]] = sql("SELECT current_user")
    with session(me, "READ COMMITTED") as other:
        for keys in kinds.values():
            for key in keys:
                other.execute(_LOCK, [key])
        sql("SET lock_timeout = '5s'")
        assert recover(worker="orch-1").total == 0
        sql("RESET lock_timeout")
    assert _found(recover(worker="orch-1")) == kinds


@pytest.mark.django_db(transaction=True)
def test_several_at_once_share_the_work_and_do_nothing_twice():
    for _ in range(30):
        _expired()
        requested(approve_before=SHORT)
        task_in(Status.EXECUTING).pause(event="came")
    sql("INSERT INTO audit_event (name) VALUES ('came')")
    reports = []

    def passes():
        try:
            while (report := recover(limit=4)).total:
                reports.append(report)
        finally:
            connection.close()

    threads = [Thread(target=passes) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reports.append(recover())
    for kind in ("leases", "approvals", "events"):
        found = [key for report in reports for key in getattr(report, kind)]
        assert len(found) == len(set(found)) == 30, kind


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("ends", ["complete", "heartbeat"])
def test_recovery_against_whoever_completes_at_that_moment(ends):
    """The completer has the row: recovery passes by, and what it sees afterwards is nobody's any more."""
    from tests.support.sessions import session

    task = _expired()
    [[me]] = sql("SELECT current_user")
    change = {
        "complete": "status = 'completed'",
        "heartbeat": "lease_expires_at = now() + interval '1 hour'",
    }[ends]
    with session(me, "READ COMMITTED") as completer:
        completer.execute(f"UPDATE audit_task SET {change} WHERE id = '{task.pk}'")
        assert recover().total == 0
        completer.execute("COMMIT")
        assert recover().total == 0
        completer.execute("BEGIN")
    task.refresh_from_db()
    assert task.status == ("completed" if ends == "complete" else "executing")


@pytest.mark.django_db(transaction=True)
def test_a_completer_that_comes_after_recovery_hears_that_its_lease_is_lost():
    task = _expired()
    recover()
    again = claimed(task, "orch-2")
    with pytest.raises(LeaseLost):
        task.complete()
    again.complete()
    assert_same(again)


def test_a_part_in_which_there_is_more_than_the_limit_is_looked_at_again():
    first, second, *_ = [task_in(Status.PAUSED) for _ in range(4)]
    sql(
        "SET session_replication_role = replica;"
        f" DELETE FROM audit_pause_queue WHERE task_id IN ('{first.pk}', '{second.pk}');"
        " SET session_replication_role = origin"
    )
    sweep = Sweep(size=2)
    made = [recover(limit=1, sweep=sweep).entries_made for _ in range(2)]
    assert sorted(made) == sorted([(first.pk,), (second.pk,)])


def test_an_entry_that_somebody_has_claimed_does_not_time_out():
    task = task_in(Status.EXECUTING)
    task.pause(event="late", resume_after=SHORT)
    [entry] = PauseQueueEntry.objects.claim("somebody")
    assert recover().timeouts == ()
    entry.release()
    assert recover().timeouts == (task.pk,)
