"""How the queue is doing: the numbers, the checks and the line of audit_stats."""

import contextlib
import json
from datetime import timedelta

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection
from django.test import override_settings

from audit import checks
from audit.admin.shared.health import health_facts
from audit.checks import running
from audit.management.commands import audit_stats
from audit.models import PauseQueueEntry, Task
from audit.reading.health import QueueHealth, health
from audit.status import Status
from tests.support.factories import sql, task_in

pytestmark = pytest.mark.django_db


def _queue(**values) -> QueueHealth:
    [[now]] = sql("SELECT statement_timestamp()")
    fine = {
        "at": now, "oldest_due": None, "oldest_approved": None, "expired": 0, "stuck": 0, "oldest_expired": None,
        "dead_tuples": 0, "live_tuples": 0, "oldest_snapshot": None,
    }  # fmt: skip
    return QueueHealth(**fine | values)


def test_a_queue_in_order_has_nothing_to_say(django_assert_num_queries):
    task_in(Status.EXECUTING)
    task_in(Status.PAUSED)
    with django_assert_num_queries(1):
        found = health()
    assert (found.oldest_due, found.oldest_approved, found.expired, found.stuck, found.oldest_expired) == (
        None, None, 0, 0, None,
    )  # fmt: skip


def test_what_waits_longest():
    for hours in (1, 3, 2):
        task = task_in(Status.APPROVED, priority=hours)
        sql("UPDATE audit_task SET available_at = now() - %s WHERE id = %s", [timedelta(hours=hours), task.pk])
        task_in(Status.EXECUTING).pause(reason="insufficient_capacity")
    later = task_in(Status.APPROVED)
    sql("UPDATE audit_task SET available_at = now() + interval '1 hour' WHERE id = %s", [later.pk])
    found = health()
    assert timedelta(hours=3) <= found.at - found.oldest_approved < timedelta(hours=3, minutes=1)
    assert found.oldest_due == PauseQueueEntry.objects.earliest("due_at").due_at
    PauseQueueEntry.objects.claim("orch-2", limit=3)
    assert health().oldest_due is None


def test_leases_that_nobody_recovers():
    for seconds in (1, 170, 200, 3600):
        task = task_in(Status.EXECUTING)
        sql("UPDATE audit_task SET lease_expires_at = now() - %s WHERE id = %s", [timedelta(seconds=seconds), task.pk])
    found = health()
    assert (found.expired, found.stuck) == (4, 2)
    assert found.oldest_expired == Task.objects.earliest("lease_expires_at").lease_expires_at
    with override_settings(AUDIT={"LEASE_SECONDS": 600}):
        assert health().stuck == 1
    [message] = [each for each in checks.check_database(None, ["default"]) if each.id == "audit.W015"]
    assert "2 leases" in message.msg
    assert "audit_recover" in message.hint


@pytest.mark.django_db(transaction=True)
def test_the_oldest_snapshot():
    from tests.support.sessions import session

    [[me]] = sql("SELECT current_user")
    with session(me, "REPEATABLE READ") as other:
        [began] = other.execute("SELECT now()").fetchone()
        assert health().oldest_snapshot <= began
        assert health().oldest_snapshot is not None


@pytest.mark.django_db(transaction=True)
def test_a_snapshot_of_another_database_holds_nothing_back_here():
    wanted = ("host", "port", "user", "password")
    parameters = {name: value for name, value in connection.get_connection_params().items() if name in wanted}
    seen = "SELECT xact_start FROM pg_stat_activity WHERE pid = %s AND backend_xmin IS NOT NULL"
    with contextlib.closing(psycopg.connect(**parameters, dbname="postgres")) as beside:
        beside.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        [pid] = beside.execute("SELECT pg_backend_pid()").fetchone()
        [[began]] = sql(seen, [pid])
        assert health().oldest_snapshot != began


@pytest.mark.parametrize(
    ("values", "expected", "said"),
    [
        ({}, [], ""),
        ({"oldest_approved": timedelta(minutes=59)}, [], ""),
        ({"oldest_approved": timedelta(minutes=61)}, ["audit.W016"], "have handlers for it"),
        ({"oldest_due": timedelta(minutes=61)}, ["audit.W016"], "a worker or audit_resume --loop"),
        ({"stuck": 0, "expired": 3, "oldest_expired": timedelta(1)}, [], ""),
        ({"oldest_snapshot": timedelta(minutes=9)}, [], ""),
        ({"oldest_snapshot": timedelta(minutes=11)}, ["audit.W017"], "End the transaction"),
        ({"dead_tuples": 50_000}, [], ""),
        ({"dead_tuples": 50_001}, ["audit.W017"], "Check that autovacuum runs"),
        ({"dead_tuples": 50_001, "live_tuples": 50_001}, [], ""),
        ({"dead_tuples": 60_000, "oldest_snapshot": timedelta(minutes=9)}, ["audit.W017"], "Check that autovacuum"),
        ({"dead_tuples": 60_000, "oldest_snapshot": timedelta(minutes=11)}, ["audit.W017"], "End the transaction"),
    ],
)
def test_the_checks(values, expected, said, monkeypatch):
    at = _queue().at
    moments = {name: at - value if isinstance(value, timedelta) else value for name, value in values.items()}
    monkeypatch.setattr(running, "health", lambda alias: _queue(**{"at": at} | moments))
    found = running.check_queue("default")
    assert [each.id for each in found] == expected
    assert [each for each in found if said not in each.hint] == []


_OUT_OF_ORDER = [
    ("oldest_approved", {"oldest_approved": timedelta(minutes=61)}, "audit.W016", "start workers"),
    ("oldest_due", {"oldest_due": timedelta(minutes=61)}, "audit.W016", "audit_resume"),
    (
        "expired",
        {"expired": 2, "stuck": 1, "oldest_expired": timedelta(days=1)},
        "audit.W015",
        "audit_recover",
    ),
    ("oldest_snapshot", {"oldest_snapshot": timedelta(minutes=11)}, "audit.W017", "pg_stat_activity"),
    ("dead_tuples", {"dead_tuples": 50_001}, "audit.W017", "VACUUM"),
]


@pytest.mark.parametrize(("name", "values", "check", "said"), _OUT_OF_ORDER, ids=[each[0] for each in _OUT_OF_ORDER])
def test_what_stands_out_says_what_to_do_on_the_page_in_audit_stats_and_in_the_check(
    name, values, check, said, monkeypatch, capsys
):
    at = _queue().at
    moments = {name: at - value if isinstance(value, timedelta) else value for name, value in values.items()}
    found = _queue(**{"at": at} | moments)
    assert list(found.advice()) == [name]
    [fact] = health_facts(found)
    assert fact.stands_out
    assert said in fact.advice
    monkeypatch.setattr(audit_stats, "health", lambda alias: found)
    call_command("audit_stats")
    *_, last = capsys.readouterr().out.splitlines()
    assert last.endswith(found.advice()[name])
    assert said in last
    monkeypatch.setattr(running, "health", lambda alias: found)
    [message] = running.check_queue("default")
    assert message.id == check
    assert message.hint


def test_nothing_to_do_where_nothing_stands_out(monkeypatch, capsys):
    at = _queue().at
    calm = _queue(
        at=at,
        oldest_approved=at - timedelta(minutes=59),
        oldest_due=at - timedelta(minutes=59),
        expired=2,
        oldest_expired=at,
        oldest_snapshot=at - timedelta(minutes=10),
        dead_tuples=50_000,
    )
    assert calm.advice() == {}
    assert [each.label for each in health_facts(calm) if each.stands_out] == []
    assert running._dead("default", calm) == []
    monkeypatch.setattr(audit_stats, "health", lambda alias: calm)
    call_command("audit_stats")
    assert capsys.readouterr().out.splitlines()[-1].startswith("Queue now: ")


def test_a_role_that_may_not_look_is_told():
    sql("CREATE ROLE audit_nobody")
    sql("GRANT USAGE ON SCHEMA public TO audit_nobody")
    sql("SET LOCAL ROLE audit_nobody")
    [message] = running.check_queue("default")
    assert message.id == "audit.W015"
    assert "SELECT" in message.hint
    sql("RESET ROLE")


def test_audit_stats_has_a_line(capsys):
    task = task_in(Status.EXECUTING)
    sql("UPDATE audit_task SET lease_expires_at = now() - interval '1 day' WHERE id = %s", [task.pk])
    waiting = task_in(Status.APPROVED)
    sql("UPDATE audit_task SET available_at = now() - interval '2 hours' WHERE id = %s", [waiting.pk])
    call_command("audit_stats")
    out = capsys.readouterr().out
    assert "Queue now: approved work waits 2 h 00 m" in out
    assert "1 lease expired (1 long ago)" in out
    call_command("audit_stats", "--format", "json")
    queue = json.loads(capsys.readouterr().out)["queue"]
    assert (queue["expired"], queue["stuck"]) == (1, 1)
