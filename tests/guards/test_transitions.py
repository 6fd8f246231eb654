"""The status rules by raw SQL: every step, every stamp, the queue in step, and the name each change appears under."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from audit.context import actor
from audit.exceptions import AuditError, StaleTask
from audit.ids import uuid7
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.status import FINISHED, LIVE, TRANSITIONS, Status
from tests.support.attacks import CIRCUMSTANCES, changed, circumstance
from tests.support.factories import CHECK, assert_same, entry_of, log_of, refused, requested, sql, task_in, unchanged

pytestmark = pytest.mark.django_db

MATRIX = [(before, after) for before in Status for after in Status]
LONG_AGO = datetime(2020, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
STAMPS = ("decided_at", "started_at", "finished_at")


def _set(task, assignments):
    sql(f"UPDATE public.audit_task SET {assignments} WHERE id = '{task.pk}'")


def _me():
    return sql("SELECT 'db:' || session_user")[0][0]


@pytest.mark.parametrize("where", ["as owner", "replica role", "plain role", "temp namesakes"])
@pytest.mark.parametrize(("before", "after"), MATRIX)
def test_the_matrix_of_steps_by_raw_sql(before, after, where):
    task = task_in(before)
    with circumstance(where):
        if before in FINISHED:
            with unchanged(task), refused(match="finished task never changes"):
                _set(task, f"status = '{after}'")
        elif after == before:
            _set(task, f"status = '{after}'")
        elif after not in TRANSITIONS[before]:
            with unchanged(task), refused(match=f"{before} cannot become {after}"):
                _set(task, f"status = '{after}'")
        elif where == "replica role":
            # Nothing stamps there, so what must be stamped is refused; the rest is the primary's.
            if after in FINISHED or after == Status.EXECUTING:
                with unchanged(task), pytest.raises(IntegrityError), transaction.atomic():
                    _set(task, f"status = '{after}'")
            else:
                _set(task, f"status = '{after}'")
        else:
            _set(task, f"status = '{after}'")
            rows = sql(
                "SELECT from_status, to_status, actor, db_role FROM public.audit_executionlog"
                " WHERE task_id = %s ORDER BY id DESC LIMIT 1",
                [task.pk],
            )
            [[role]] = sql("SELECT session_user::text")
            assert rows == [(before, after, f"db:{role}", role)]


@pytest.mark.parametrize("status", ["", "done", "Completed", "completed ", "executed"])
def test_unknown_statuses_are_refused(status):
    task = requested()
    with unchanged(task), refused(match=r"cannot become"):
        sql("UPDATE audit_task SET status = %s WHERE id = %s", [status, task.pk])
    with refused(CHECK):
        sql("INSERT INTO audit_task (id, action, available_at, status) VALUES (%s, 'x', now(), %s)", [uuid7(), status])


@pytest.mark.parametrize("status", LIVE)
@pytest.mark.parametrize("column", ["id", "created_at", "recorded_at", "requested_by", "origin"])
def test_what_was_asked_and_when_never_changes(column, status):
    task = task_in(status)
    with unchanged(task), refused(match="never change"):
        _set(task, f"{column} = {changed(Task._meta.get_field(column))}")
    with unchanged(task), circumstance("replica role"), refused(match="never change"):
        _set(task, f"{column} = {changed(Task._meta.get_field(column))}")


@pytest.mark.parametrize("status", LIVE)
def test_everything_else_of_a_live_task_may_change(status):
    task = task_in(status)
    names = {
        "action", "summary", "priority", "services_touched", "work_plan", "estimated_resources", "resources_used",
        "outcome", "suggestions", "decided_by", "parent", "correlation_id", "available_at", "decided_at", "claimed_by",
        "claim_token", "lease_expires_at", "attempt", "expiries", "failures", "on_expiry", "cancel_requested_at",
    }  # fmt: skip
    for name in sorted(names):
        _set(task, f"{name} = {changed(Task._meta.get_field(name))}")
    assert log_of(task)[-1][0] == "transition"
    task.refresh_from_db()
    assert (task.status, task.actor) == (status, _me())


@pytest.mark.parametrize("column", ["finished_at", "row_version", "finished_xid"])
@pytest.mark.parametrize("status", LIVE)
def test_a_live_task_carries_no_end(status, column):
    task = task_in(status)
    with unchanged(task), refused(CHECK, match="finished_whole"):
        _set(task, f"{column} = {changed(Task._meta.get_field(column))}")


@pytest.mark.parametrize("missing", ["finished_at", "finished_xid", "row_version"])
def test_an_end_is_whole_where_nothing_stamps_it(missing):
    """A replica's session writes the row as it comes: each part of the end has to be there."""
    task = task_in(Status.EXECUTING)
    end = {"finished_at": "now()", "finished_xid": "pg_current_xact_id()", "row_version": "1"}

    def change(parts):
        _set(task, ", ".join(["status = 'completed'", *(f"{name} = {value}" for name, value in parts.items())]))

    with unchanged(task), circumstance("replica role"), refused(CHECK, match="finished_whole"):
        change({name: value for name, value in end.items() if name != missing})
    with unchanged(task), circumstance("replica role"), refused(CHECK, match="finished_whole"):
        change(end | {"row_version": "2"})
    with circumstance("replica role"):
        change(end)


@pytest.mark.parametrize("step", [-1, -2, -1000])
@pytest.mark.parametrize("where", ["as owner", "replica role", "plain session"])
def test_a_lowered_revision_is_refused(where, step):
    task = task_in(Status.EXECUTING)
    with unchanged(task), circumstance(where), refused(match="revision cannot go back"):
        _set(task, f"revision = revision {step}, actor = 'x'")


@pytest.mark.parametrize("revision", ["revision", "revision + 2", "revision + 1000", "2147483647"])
def test_any_other_revision_counts_one_on_and_names_the_role(revision):
    task = task_in(Status.EXECUTING)
    _set(task, f"revision = {revision}, actor = 'mallory', summary = 'x'")
    before = task.revision
    task.refresh_from_db()
    assert (task.revision, task.actor) == (before + 1, _me())


def test_a_stale_save_saves_nothing_and_undoes_no_claim():
    task = task_in(Status.APPROVED)
    stale = Task.objects.get(pk=task.pk)
    [claim] = Task.objects.claim("orch-1")
    stale.summary = "stale"
    with unchanged(claim), pytest.raises(StaleTask) as caught:
        stale.save()
    assert (caught.value.task_id, caught.value.revision, caught.value.current_revision) == (task.pk, 2, 3)
    assert sql("SELECT 1") == [(1,)]
    assert stale.revision == 2
    with pytest.raises(StaleTask):
        stale.save(update_fields=["summary"])
    stale.refresh_from_db()
    stale.summary = "fresh"
    stale.save()
    assert_same(stale)
    assert (stale.summary, stale.claim_token) == ("fresh", claim.claim_token)


@pytest.mark.parametrize(
    "read",
    [lambda tasks: tasks.only("status", "summary"), lambda tasks: tasks.defer("revision")],
    ids=["only", "defer"],
)
def test_a_save_without_the_revision_that_was_read_is_refused(read):
    task = task_in(Status.APPROVED)
    stale = read(Task.objects).get(pk=task.pk)
    [claim] = Task.objects.claim("orch-1")
    stale.summary = "stale"
    for options in ({}, {"update_fields": ["summary"]}):
        with unchanged(claim), pytest.raises(AuditError, match="load `revision` too"):
            stale.save(**options)
    claim.heartbeat()


def test_a_save_of_some_fields_names_who_saves():
    task = task_in(Status.PAUSED)
    entry = entry_of(task)
    with actor("carol"):
        task.summary = "fresh"
        task.save(update_fields=["summary"])
        entry.note = "fresh"
        entry.save(update_fields=["note"])
    stored, queued = Task.objects.get(pk=task.pk), entry_of(task)
    assert (stored.summary, stored.actor, task.actor) == ("fresh", "carol", "carol")
    assert (queued.note, queued.actor, entry.actor) == ("fresh", "carol", "carol")


@pytest.mark.parametrize("fields", [[], ()])
def test_a_save_of_no_fields_writes_nothing(fields):
    task = task_in(Status.APPROVED)
    task.summary = "x"
    with unchanged(Task.objects.get(pk=task.pk)):
        task.save(update_fields=fields)


# Stamps


def test_stamps_tell_the_story_with_durations_inside_one_transaction():
    task = requested()
    for status in ("approved", "executing", "completed"):
        _set(task, f"status = '{status}'")
    task.refresh_from_db()
    assert task.created_at < task.decided_at < task.started_at < task.finished_at
    assert task.finished_at - task.started_at > timedelta(0)
    moments = list(task.execution_log.order_by("id").values_list("at", flat=True))
    assert len(set(moments)) == 4
    assert moments == sorted(moments)


@pytest.mark.parametrize(
    ("status", "columns"), [("rejected", {"decided_at", "finished_at"}), ("approved", {"decided_at"})]
)
def test_leaving_pending_stamps_the_decision_and_who_made_it(status, columns):
    task = requested()
    _set(task, f"status = '{status}', decided_at = '2001-01-01'")
    task.refresh_from_db()
    assert {name for name in STAMPS if getattr(task, name)} == columns
    assert task.decided_at > task.created_at
    assert task.decided_by == _me()


def test_a_moment_chosen_for_the_end_or_the_start_is_not_taken():
    task = task_in(Status.APPROVED)
    _set(task, "status = 'executing', started_at = '2001-01-01'")
    _set(task, "status = 'failed', finished_at = '2001-01-01'")
    task.refresh_from_db()
    assert task.created_at < task.started_at < task.finished_at


@pytest.mark.parametrize("status", Status.values)
def test_insert_takes_every_status_logs_it_and_says_when_it_was_recorded(status):
    key = uuid7()
    before = sql("SELECT clock_timestamp()")[0][0]
    sql(
        "INSERT INTO audit_task (id, action, status, created_at, recorded_at, revision)"
        " VALUES (%s, 'x', %s, %s, %s, 77)",
        [key, status, LONG_AGO, LONG_AGO],
    )
    task = Task.objects.get(pk=key)
    assert (task.revision, task.actor, task.created_at, task.available_at) == (1, _me(), LONG_AGO, LONG_AGO)
    assert task.recorded_at > before
    assert log_of(task) == [("transition", None, status, _me())]
    assert (task.finished_at is not None) == (status in FINISHED)
    assert (task.decided_at, task.started_at) == (None, None)
    assert (task.finished_xid is not None) == (task.row_version is not None) == (status in FINISHED)
    assert (task.status_was, task.executing_ms, task.paused_ms) == (None, 0, 0)
    assert task.status_since >= task.recorded_at
    assert PauseQueueEntry.objects.filter(task=task).exists() == (status == Status.PAUSED)
    assert (task.claim_token is not None) == (task.lease_expires_at is not None) == (status == Status.EXECUTING)


@pytest.mark.parametrize("status", FINISHED)
def test_insert_keeps_the_stamps_it_is_given(status):
    key = uuid7()
    given = {name: LONG_AGO + timedelta(minutes=n) for n, name in enumerate(STAMPS)}
    sql(
        f"INSERT INTO audit_task (id, action, status, created_at, actor, {', '.join(given)})"
        " VALUES (%s, 'x', %s, %s, 'importer', %s, %s, %s)",
        [key, status, LONG_AGO, *given.values()],
    )
    task = Task.objects.get(pk=key)
    assert {name: getattr(task, name) for name in STAMPS} == given
    assert task.actor == "importer"
    assert task.recorded_at > task.finished_at


def test_insert_chooses_no_stamp_of_the_database():
    key = uuid7()
    sql(
        "INSERT INTO audit_task (id, action, status, available_at, row_version, finished_xid, status_was, status_since)"
        " VALUES (%s, 'x', 'completed', now(), 9, '3', 'executing', '2001-01-01')",
        [key],
    )
    task = Task.objects.get(pk=key)
    [[xid]] = sql("SELECT pg_current_xact_id()::text")
    assert (task.row_version, task.finished_xid, task.status_was) == (1, int(xid), None)
    assert task.status_since > task.created_at


def test_executing_by_raw_sql_gets_a_lease_that_recovery_can_end():
    task = task_in(Status.APPROVED)
    _set(task, "status = 'executing'")
    task.refresh_from_db()
    assert task.claim_token
    assert task.lease_expires_at > task.started_at
    with unchanged(task), refused(CHECK):
        _set(task, "lease_expires_at = NULL")
    with unchanged(task), refused(CHECK):
        _set(task, "claim_token = NULL")


# The queue


@pytest.mark.parametrize("before", [Status.APPROVED, Status.EXECUTING])
@pytest.mark.parametrize("after", sorted(TRANSITIONS[Status.PAUSED]))
@pytest.mark.parametrize("where", ["as owner", "plain role", "temp namesakes"])
def test_raw_sql_to_and_from_paused_keeps_table_and_queue_in_step(before, after, where):
    task = task_in(before)
    with circumstance(where):
        _set(task, """work_plan = '{"rest": 1.50}'""")
        _set(task, "status = 'paused'")
        columns = "held, reason, priority, work_plan::text, paused_by, actor, claimed_by"
        rows = sql(f"SELECT {columns} FROM public.audit_pause_queue WHERE task_id = %s", [task.pk])
        [[me]] = sql("SELECT 'db:' || session_user")
        assert rows == [(True, "manual_pause", 2, '{"rest": 1.50}', me, me, "")]
        [[lease, token, worker]] = sql(
            "SELECT lease_expires_at, claim_token, claimed_by FROM public.audit_task WHERE id = %s", [task.pk]
        )
        assert (lease, token, worker) == (None, None, "")
        [[reason]] = sql(
            "SELECT detail ->> 'reason' FROM public.audit_executionlog WHERE task_id = %s ORDER BY id DESC LIMIT 1",
            [task.pk],
        )
        assert reason == "manual_pause"
        _set(task, f"status = '{after}'")
        assert sql("SELECT count(*) FROM public.audit_pause_queue WHERE task_id = %s", [task.pk]) == [(0,)]


def test_many_tasks_pause_and_go_on_in_one_statement():
    tasks = [task_in(Status.APPROVED) for _ in range(5)]
    keys = [task.pk for task in tasks]
    sql("UPDATE audit_task SET status = 'paused' WHERE id = ANY(%s)", [keys])
    assert PauseQueueEntry.objects.filter(task__in=keys).count() == 5
    sql("UPDATE audit_task SET status = (ARRAY['approved','rejected'])[1 + priority %% 2] WHERE id = ANY(%s)", [keys])
    assert PauseQueueEntry.objects.filter(task__in=keys).count() == 0
    assert ExecutionLog.objects.filter(task__in=keys, from_status="paused").count() == 5


@pytest.mark.parametrize("where", ["as owner", "plain role", "plain session", "temp namesakes"])
@pytest.mark.parametrize("status", sorted(set(Status.values) - {"paused"}))
def test_no_entry_without_a_paused_task(status, where):
    task = task_in(status)
    with unchanged(task), circumstance(where), refused(match="only a paused task"):
        sql("INSERT INTO public.audit_pause_queue (task_id) VALUES (%s)", [task.pk])


@pytest.mark.parametrize("where", ["as owner", "plain role", "plain session", "temp namesakes"])
def test_no_paused_task_without_its_entry(where):
    task = task_in(Status.PAUSED)
    with unchanged(task), circumstance(where):
        with refused(match="is paused"):
            sql("DELETE FROM public.audit_pause_queue WHERE task_id = %s", [task.pk])
        with refused():
            sql("TRUNCATE public.audit_pause_queue")
        with refused("23505"):
            sql("INSERT INTO public.audit_pause_queue (task_id) VALUES (%s)", [task.pk])


@pytest.mark.parametrize("where", CIRCUMSTANCES)
def test_an_entry_does_not_change_hands(where):
    task, other = task_in(Status.PAUSED), task_in(Status.APPROVED)
    entry = entry_of(task)
    for change in (
        f"task_id = '{other.pk}'",
        "id = id + 1",
        "paused_by = 'mallory'",
        "paused_at = paused_at - interval '1 day'",
        "revision = revision - 1",
    ):
        with unchanged(task), circumstance(where), refused(match="never change"):
            sql(f"UPDATE public.audit_pause_queue SET {change} WHERE id = {entry.pk}")
    with refused(match="is paused"):
        entry.delete()


def test_an_entry_is_saved_as_it_was_read_or_not_at_all():
    task = task_in(Status.PAUSED)
    stale, entry = entry_of(task), entry_of(task)
    entry.note = "after the audit"
    entry.resume_after = LONG_AGO
    with actor("bob"):
        entry.save()
    assert_same(entry)
    assert (entry.actor, entry.revision, entry.due_at) == ("bob", stale.revision + 1, LONG_AGO)
    stale.note = "stale"
    with unchanged(task), pytest.raises(StaleTask, match="pause entry") as caught:
        stale.save()
    assert (caught.value.task_id, caught.value.revision) == (task.pk, stale.revision)
    assert sql("SELECT 1") == [(1,)]


def test_raw_changes_of_an_entry_are_reported_in_the_log():
    task = task_in(Status.PAUSED)
    for change, action in (
        ("held = false", "defer"),
        ("held = true", "hold"),
        ("resume_after = now() + interval '1 hour'", "defer"),
        ("priority = 1", "change-pause"),
        ("note = 'x'", "change-pause"),
        ("reason = 'awaiting_event'", "change-pause"),
        ("work_plan = '[1.50]'", "change-pause"),
    ):
        sql(f"UPDATE audit_pause_queue SET {change} WHERE task_id = '{task.pk}'")
        row = task.execution_log.latest("id")
        assert (row.kind, row.action, row.actor) == ("note", action, _me())
    entry = entry_of(task)
    assert entry.due_at == entry.resume_after
    sql("UPDATE audit_pause_queue SET due_at = '2001-01-01' WHERE task_id = %s", [task.pk])
    assert entry_of(task).due_at == entry.due_at
