"""How long work waited, ran and was paused: the first start, sums at each step, and nothing of it to be chosen."""

from datetime import UTC, datetime, timedelta

import pytest

from audit.ids import uuid7
from audit.models import Task
from audit.status import LIVE, Status
from tests.support.attacks import CIRCUMSTANCES, circumstance
from tests.support.factories import claimed, entry_of, requested, sql, task_in

pytestmark = pytest.mark.django_db

STAMPED = ("status_was", "status_since", "started_at", "executing_ms", "paused_ms")
MINUTE = 60_000
LONG_AGO = datetime(2020, 2, 3, 4, 5, 6, 789, tzinfo=UTC)


def _stamps(task):
    [row] = sql(f"SELECT {', '.join(STAMPED)} FROM public.audit_task WHERE id = '{task.pk}'")
    return dict(zip(STAMPED, row, strict=True))


def _since(task, minutes):
    """Let a task be in its status for so long, as a replica session could."""
    sql("SET LOCAL session_replication_role = replica")
    sql(f"UPDATE audit_task SET status_since = now() - interval '{minutes} min' WHERE id = '{task.pk}'")
    sql("SET LOCAL session_replication_role = origin")


def _minutes(task):
    stamps = _stamps(task)
    return stamps["executing_ms"] // MINUTE, stamps["paused_ms"] // MINUTE


def test_sums_and_the_first_start_over_claims_and_pauses():
    task = requested()
    task.approve(actor="bob")
    task = claimed(task)
    first = task.started_at
    assert first == task.status_since
    _since(task, 10)
    task.pause(reason="insufficient_capacity")
    assert _minutes(task) == (10, 0)
    _since(task, 20)
    task = entry_of(task).resume(actor="bob")
    assert _minutes(task) == (10, 20)
    _since(task, 40)  # waiting for a worker is neither
    task = claimed(task)
    _since(task, 3)
    task.release()
    assert _minutes(task) == (13, 20)
    task = claimed(task, lease=timedelta(microseconds=1))
    _since(task, 5)
    [task] = Task.objects.recover_expired()
    assert _minutes(task) == (18, 20)
    task.pause(actor="bob")
    _since(task, 7)
    task.fail("given up")
    assert _minutes(task) == (18, 27)
    assert _stamps(task)["started_at"] == first == task.started_at
    assert (task.executing_ms, task.paused_ms) == (_stamps(task)["executing_ms"], _stamps(task)["paused_ms"])


@pytest.mark.parametrize(
    ("status", "verb", "minutes"),
    [
        (Status.EXECUTING, lambda task: task.complete(), (6, 0)),
        (Status.EXECUTING, lambda task: task.fail("x"), (6, 0)),
        (Status.EXECUTING, lambda task: task.pause(), (6, 0)),
        (Status.PAUSED, lambda task: entry_of(task).cancel(actor="bob"), (0, 6)),
        (Status.PAUSED, lambda task: task.reject(actor="bob"), (0, 6)),
        (Status.APPROVED, lambda task: task.reject(actor="bob"), (0, 0)),
        (Status.PENDING, lambda task: task.approve(actor="bob"), (0, 0)),
    ],
)
def test_each_step_adds_what_it_ends(status, verb, minutes):
    task = task_in(status)
    _since(task, 6)
    verb(task)
    assert _minutes(task) == minutes


@pytest.mark.parametrize("where", sorted(set(CIRCUMSTANCES) - {"replica role"}))
@pytest.mark.parametrize("status", LIVE)
def test_no_session_chooses_them(status, where):
    task = task_in(status)
    before = _stamps(task)
    with circumstance(where):
        for name in STAMPED:
            value = {"status_was": "'executing'", "executing_ms": "77", "paused_ms": "77"}.get(name, "'2001-01-01'")
            sql(f"UPDATE public.audit_task SET {name} = {value} WHERE id = '{task.pk}'")
            sql(
                f"UPDATE public.audit_task SET {name} = {value}, actor = 'x', revision = revision + 1"
                f" WHERE id = '{task.pk}'"
            )
        # Every change, also one without a step, tells the status that was there.
        assert _stamps(task) == before | {"status_was": status}


def test_a_step_takes_none_of_them_along():
    task = task_in(Status.APPROVED)
    choice = "status_was = 'paused', status_since = '2001-01-01', executing_ms = 77, paused_ms = 77"
    sql(f"UPDATE audit_task SET status = 'executing', started_at = '2001-01-01', {choice} WHERE id = '{task.pk}'")
    stamps = _stamps(task)
    assert stamps["status_was"] == "approved"
    assert stamps["started_at"] == stamps["status_since"] > LONG_AGO
    assert (stamps["executing_ms"], stamps["paused_ms"]) == (0, 0)
    sql(f"UPDATE audit_task SET status = 'completed', started_at = NULL, {choice} WHERE id = '{task.pk}'")
    after = _stamps(task)
    assert (after["status_was"], after["started_at"]) == ("executing", stamps["started_at"])
    assert after["executing_ms"] < MINUTE
    assert after["paused_ms"] == 0


def test_replica_sessions_keep_what_they_bring_but_where_the_row_came_from():
    task = task_in(Status.EXECUTING)
    with circumstance("replica role"):
        sql(
            "UPDATE public.audit_task SET status = 'paused', status_was = 'pending', status_since = %s,"
            " started_at = %s, executing_ms = 5, paused_ms = 6 WHERE id = %s",
            [LONG_AGO, LONG_AGO, task.pk],
        )
        assert _stamps(task) == {
            "status_was": "executing",
            "status_since": LONG_AGO,
            "started_at": LONG_AGO,
            "executing_ms": 5,
            "paused_ms": 6,
        }
        key = uuid7()
        sql(
            "INSERT INTO public.audit_task (id, action, status, available_at, status_was, status_since, executing_ms,"
            " paused_ms) VALUES (%s, 'x', 'paused', %s, 'approved', %s, 5, 6)",
            [key, LONG_AGO, LONG_AGO],
        )
        expected = {"status_was": "approved", "status_since": LONG_AGO, "executing_ms": 5, "paused_ms": 6}
        assert _stamps(Task(pk=key)) == expected | {"started_at": None}


@pytest.mark.parametrize(
    ("given", "executing", "paused"),
    [
        ({}, 2000, 0),
        ({"executing_ms": 250}, 250, 0),
        ({"executing_ms": 0, "paused_ms": 70}, 0, 70),
        ({"started_at": None}, 0, 0),
        ({"started_at": LONG_AGO + timedelta(hours=1)}, 0, 0),  # a clock that went back
    ],
)
def test_work_done_elsewhere_keeps_what_it_says_or_gets_its_span(given, executing, paused):
    record = {
        "action": "x",
        "status": "completed",
        "created_at": LONG_AGO,
        "started_at": LONG_AGO,
        "finished_at": LONG_AGO + timedelta(seconds=2),
    }
    [key] = Task.objects.bulk_record([record | given])
    task = Task.objects.get(pk=key)
    assert (task.executing_ms, task.paused_ms) == (executing, paused)
    assert task.status_was is None
    assert task.status_since == task.recorded_at


def test_no_count_is_below_zero():
    key = uuid7()
    for name in ("executing_ms", "paused_ms"):
        with pytest.raises(Exception, match="counts_positive"), circumstance("as owner"):
            sql(f"INSERT INTO audit_task (id, action, {name}) VALUES ('{key}', 'x', -1)")
