"""What recovery costs while a lot is paused and nothing is wrong; a sweep in parts finds what a look at all does."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.events import emit_event
from audit.models import PauseQueueEntry, Task
from audit.reading import health
from audit.recovery import Sweep, next_moment, recover
from audit.status import Status
from tests.leases.test_claims_plans import nodes
from tests.support.factories import requested, sql, task_in

pytestmark = pytest.mark.django_db

PAUSED = 4000
MICROSECOND = timedelta(microseconds=1)


def fill(reason: str, *, held: bool, event: str = "''", resume_after: str = "NULL") -> None:
    """Paused tasks with entries that are all in order; the rules are not what is tested here."""
    sql("SET CONSTRAINTS ALL IMMEDIATE")
    for table in ("audit_task", "audit_pause_queue"):
        sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    sql(
        "INSERT INTO audit_task (id, action, status, priority, available_at, executing_ms, paused_ms)"
        " SELECT lpad(to_hex(n), 32, '0')::uuid, 'work', 'paused', 1 + n %% 5, now(), 0, 0"
        " FROM generate_series(1, %s) AS n",
        [PAUSED],
    )
    sql(
        "INSERT INTO audit_pause_queue (task_id, reason, event, held, priority, resume_after, paused_at, due_at)"
        f" SELECT id, '{reason}', {event}, {held}, priority, {resume_after}, now(), coalesce({resume_after}, now())"
        " FROM audit_task"
    )
    for table in ("audit_task", "audit_pause_queue"):
        sql(f"ALTER TABLE {table} ENABLE TRIGGER USER")
        sql(f"ANALYZE {table}")
    sql("ALTER TABLE audit_task ENABLE ALWAYS TRIGGER audit_task_10_write")
    sql("ALTER TABLE audit_pause_queue ENABLE ALWAYS TRIGGER audit_pause_queue_10_write")


def rows_read(act: Callable[[], Any]) -> int:
    """How many rows of the tables its statements read, each explained by itself and rolled back."""
    with CaptureQueriesContext(connection) as queries:
        act()
    read = 0
    for each in queries:
        if not re.match(r"\s*(SELECT|WITH|UPDATE)", each["sql"]):
            continue
        with connection.cursor() as cursor:
            cursor.execute("SAVEPOINT explained")
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {each['sql']}")
            [(plan,)] = cursor.fetchall()
            cursor.execute("ROLLBACK TO explained")
        plan = json.loads(plan) if isinstance(plan, str) else plan
        for node in nodes(plan[0]["Plan"]):
            if "Scan" in node["Node Type"] and ("Relation Name" in node or "Index Name" in node):
                seen = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
                read += int(seen * node["Actual Loops"])
    return read


KINDS = {
    "capacity": {"reason": "insufficient_capacity", "held": False, "resume_after": "now() - interval '1 hour'"},
    "by hand": {"reason": "manual_pause", "held": True},
    "for a time": {"reason": "manual_pause", "held": False, "resume_after": "now() + interval '1 hour'"},
    "approval": {"reason": "awaiting_approval", "held": True},
    "deadline": {"reason": "awaiting_approval", "held": True, "resume_after": "now() + interval '1 hour'"},
    "event": {"reason": "awaiting_event", "held": True, "event": "'build-' || id"},
    "timed event": {
        "reason": "awaiting_event",
        "held": False,
        "event": "'build-' || id",
        "resume_after": "now() + interval '1 hour'",
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_reads_a_part_of_what_is_paused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(**KINDS[kind])
    monkeypatch.setattr("audit.recovery._NEWEST", 50)
    sweep = Sweep(size=50)
    assert rows_read(lambda: recover(sweep=sweep)) < 50 * 12
    assert recover(sweep=sweep).total == 0
    assert sweep.after.int == 100


@pytest.mark.parametrize("kind", KINDS)
def test_asking_for_the_next_moment_reads_few_rows(kind: str) -> None:
    fill(**KINDS[kind])
    assert rows_read(next_moment) < 20
    passed, seconds = next_moment()
    assert not passed
    assert (seconds is not None and 3500 < seconds <= 3600) == (kind in ("for a time", "deadline", "timed event"))


@pytest.mark.parametrize("kind", KINDS)
def test_health_reads_few_rows(kind: str) -> None:
    fill(**KINDS[kind])
    assert rows_read(health.health) < 400


def parted() -> tuple[Task, Task]:
    """A paused task without an entry, and a task that has one and is not paused."""
    alone, surplus = task_in(Status.PAUSED), task_in(Status.PAUSED)
    sql("SET session_replication_role = replica")
    sql("DELETE FROM audit_pause_queue WHERE task_id = %s", [alone.pk])
    sql("UPDATE audit_task SET status = 'approved' WHERE id = %s", [surplus.pk])
    sql("SET session_replication_role = origin")
    return alone, surplus


def test_passes_of_a_sweep_find_all_that_is_parted() -> None:
    for _ in range(5):
        task_in(Status.PAUSED)
    pairs = [parted() for _ in range(3)]
    for _ in range(5):
        task_in(Status.PAUSED)
    sweep = Sweep(size=2)
    reports = [recover(sweep=sweep) for _ in range(8)]
    assert {key for each in reports for key in each.entries_made} == {alone.pk for alone, _ in pairs}
    assert {key for each in reports for key in each.entries_removed} == {surplus.pk for _, surplus in pairs}
    assert max(each.total for each in reports) < 6
    # It begins anew.
    alone, surplus = parted()
    found = [recover(sweep=sweep) for _ in range(9)]
    assert sum((each.entries_made for each in found), ()) == (alone.pk,)
    assert sum((each.entries_removed for each in found), ()) == (surplus.pk,)


def test_a_part_with_more_than_the_limit_is_looked_at_again() -> None:
    pairs = [parted() for _ in range(5)]
    sweep = Sweep()
    found = [recover(limit=2, sweep=sweep) for _ in range(3)]
    assert sum(len(each.entries_made) for each in found) == len(pairs)
    assert sum(len(each.entries_removed) for each in found) == len(pairs)
    assert [each.is_full(2) for each in found] == [True, True, False]


def test_passes_of_a_sweep_find_every_event_that_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.recovery._NEWEST", 3)  # numbers are used in pairs: the trigger's own insert takes one
    tasks = [task_in(Status.EXECUTING) for _ in range(7)]
    for task in tasks:
        task.pause(event="came")
    sql("INSERT INTO audit_event (name) VALUES ('came')")
    sweep = Sweep(size=2)
    first = recover(sweep=sweep, dry_run=True)
    part = sorted(task.pk for task in tasks)[:2]
    assert set(first.events) == {*part, tasks[5].pk, tasks[6].pk}
    found = [recover(sweep=sweep).events for _ in range(5)]
    # The newest and a part are let go on at once, and the others in their time.
    assert {tasks[5].pk, tasks[6].pk} <= set(found[0])
    assert sorted(sum(found, ())) == sorted(task.pk for task in tasks)


def test_dry_passes_of_a_sweep_go_on_too() -> None:
    alone, surplus = parted()
    for _ in range(3):
        task_in(Status.PAUSED)
    sweep = Sweep(size=2)
    found = [recover(dry_run=True, sweep=sweep) for _ in range(2)]
    assert sum((each.entries_made for each in found), ()) == (alone.pk,)
    assert sum((each.entries_removed for each in found), ()) == (surplus.pk,)


def test_the_most_urgent_of_those_that_timed_out_come_first() -> None:
    tasks = [task_in(Status.EXECUTING, priority=each) for each in (4, 2, 5)]
    for task in tasks:
        task.pause(event="late", resume_after=MICROSECOND)
    assert recover(limit=1).timeouts == (tasks[1].pk,)
    assert recover().timeouts == (tasks[0].pk, tasks[2].pk)


def _expired() -> None:
    task = task_in(Status.EXECUTING)
    sql("UPDATE audit_task SET lease_expires_at = now() - interval '1 second' WHERE id = %s", [task.pk])


def _came() -> None:
    task_in(Status.EXECUTING).pause(event="came")
    sql("INSERT INTO audit_event (name) VALUES ('came')")


def _late() -> None:
    task_in(Status.EXECUTING).pause(event="late", resume_after=MICROSECOND)


def _unapproved() -> None:
    requested(approve_before=MICROSECOND)


@pytest.mark.parametrize(
    ("made", "heard"),
    [(_expired, [""]), (_came, [""]), (_late, [""]), (_unapproved, []), (lambda: None, [])],
    ids=["lease", "event", "timeout", "approval", "nothing"],
)
def test_workers_hear_of_what_recovery_lets_go_on(
    made: Callable[[], None], heard: list[str], django_capture_on_commit_callbacks: Any, announced: list[str]
) -> None:
    made()
    with django_capture_on_commit_callbacks(execute=True):
        recover(dry_run=True)
    assert announced == []
    with django_capture_on_commit_callbacks(execute=True):
        recover()
    assert announced == heard


def test_workers_hear_of_an_emitted_event(django_capture_on_commit_callbacks: Any, announced: list[str]) -> None:
    task_in(Status.EXECUTING).pause(event="build-42")
    with django_capture_on_commit_callbacks(execute=True):
        emit_event("build-41")
    assert announced == []
    with django_capture_on_commit_callbacks(execute=True):
        emit_event("build-42")
    assert announced == [""]


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What workers were told, by the functions that send it."""
    heard: list[str] = []
    monkeypatch.setattr("audit.leases.wakeup.notify", lambda using, actions: heard.extend(actions))
    return heard


@pytest.mark.django_db(transaction=True)
def test_a_listening_session_hears_of_recovered_and_of_resumed_work() -> None:
    import psycopg

    from audit.leases.wakeup import CHANNEL
    from audit.pausing import PauseManager

    wanted = ("dbname", "user", "host", "port", "password")
    settings = {key: value for key, value in connection.get_connection_params().items() if key in wanted}
    with psycopg.connect(**settings, autocommit=True) as listener:
        listener.execute(f"LISTEN {CHANNEL}")

        def next_heard() -> str:
            return next(listener.notifies(timeout=60, stop_after=1)).payload

        task = task_in(Status.EXECUTING, action="deploy")
        assert next_heard() == "deploy"  # its approval
        entry = task.pause(event="late", resume_after=MICROSECOND)
        assert recover().timeouts == (task.pk,)
        assert next_heard() == ""
        [again] = Task.objects.filter(pk=task.pk).claim("w")
        entry = again.pause(reason="manual_pause", resume_after=MICROSECOND)
        assert [each.pk for each in PauseManager().resume_due()] == [entry.task_id]
        assert next_heard() == "deploy"
    assert not PauseQueueEntry.objects.exists()
