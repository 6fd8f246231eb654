"""The claim of tasks and of pause entries: the right rows, never more, each once, by index."""

import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Now
from django.utils import timezone

from audit.exceptions import LeaseLost, TaskFrozen
from audit.leases.claim import ENTRIES, LARGEST_COUNT, TASKS, claim_sql
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.recovery import recover
from tests.support.factories import sql

LEASE = timedelta(seconds=60)
TOKEN = "00000000-0000-4000-8000-000000000000"
CLAIM = ["first", TOKEN, LEASE, "first"]
"""The parameters of a claim written by `claim_sql`."""


@contextlib.contextmanager
def another_connection() -> Iterator[BaseDatabaseWrapper]:
    other = connection.copy()
    try:
        yield other
    finally:
        other.close()


def approved(count: int, **values: Any) -> None:
    """Approved tasks by the shortest way."""
    ids = Task.objects.bulk_request([{"action": "work", "actor": "alice"} | values] * count)
    Task.objects.filter(pk__in=ids).update(status="approved")


@pytest.mark.django_db
def test_urgent_then_oldest_first() -> None:
    now = timezone.now()
    wanted = []
    for priority, age in ((5, 9), (1, 1), (3, 5), (1, 2), (3, 7)):
        task = Task.objects.request("work", priority=priority, available_at=now - timedelta(minutes=age), actor="alice")
        task.approve(actor="bob")
        wanted.append((priority, -age, task.pk))
    claimed = Task.objects.claim(worker="w", limit=10)
    assert [task.pk for task in claimed] == [key for _, _, key in sorted(wanted)]
    assert {task.status for task in claimed} == {"executing"}
    assert Task.objects.claim(worker="w", limit=10) == []


@pytest.mark.django_db
def test_not_before_its_time() -> None:
    task = Task.objects.request("work", available_at=timezone.now() + timedelta(hours=1), actor="alice")
    task.approve(actor="bob")
    assert Task.objects.claim(worker="w") == []


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["tasks", "entries"])
@pytest.mark.parametrize("method", ["none", "hash", "merge", "nestloop"])
def test_never_more_than_the_limit(method: str, kind: str) -> None:
    """With hash, merge, sort and material plans off, `IN (SELECT … LIMIT 10)` takes hundreds; the claim does not.

    Nor does it take so many of each priority.
    """
    for priority in range(1, 6):
        approved(200 if kind == "tasks" else 15, priority=priority)
    if kind == "entries":
        for task in Task.objects.filter(status="approved"):
            task.pause(reason="insufficient_capacity", actor="w")
    off = ["hashjoin", "mergejoin", "sort", "hashagg", "material", "nestloop", "incremental_sort"]
    kept = {"none": [], "hash": ["hashjoin", "hashagg"], "merge": ["mergejoin", "sort"], "nestloop": ["nestloop"]}
    with connection.cursor() as cursor:
        for setting in off:
            if setting not in kept[method]:
                cursor.execute(f"SET LOCAL enable_{setting} = off")
    rows = {"tasks": Task.objects, "entries": PauseQueueEntry.objects}[kind]
    claimed = rows.claim(worker="w", limit=10)
    assert len(claimed) == 10
    assert {each.priority for each in claimed} == {1}
    due = "available_at" if kind == "tasks" else "due_at"
    assert claimed == sorted(claimed, key=lambda each: (each.priority, getattr(each, due), each.pk))
    assert {each.pk for each in rows.exclude(claim_token=None)} == {each.pk for each in claimed}
    assert len({each.claim_token for each in claimed}) == 1


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["tasks", "entries"])
def test_each_claim_has_one_token_of_its_own(kind: str) -> None:
    approved(6)
    if kind == "entries":
        for task in Task.objects.filter(status="approved"):
            task.pause(reason="insufficient_capacity", actor="w")
    rows = {"tasks": Task.objects, "entries": PauseQueueEntry.objects}[kind]
    first, second = rows.claim(worker="w", limit=2), rows.claim(worker="w", limit=4)
    tokens = [{each.claim_token for each in claimed} for claimed in (first, second)]
    assert [len(each) for each in tokens] == [1, 1]
    assert tokens[0].isdisjoint(tokens[1])
    assert {each.pk for each in first}.isdisjoint(each.pk for each in second)


@pytest.mark.django_db
def test_a_token_fences_each_task_of_its_claim_alone() -> None:
    approved(2)
    first, second = Task.objects.claim(worker="w", limit=2)
    first.release()
    [again] = Task.objects.claim(worker="w2")
    assert again == first
    second.complete()
    with pytest.raises(LeaseLost):
        Task(pk=first.pk, claim_token=second.claim_token, status="executing", claimed_by="w").complete()
    again.complete()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["tasks", "entries"])
def test_sessions_that_claim_at_once_share_the_work(kind: str) -> None:
    approved(60)
    if kind == "entries":
        for task in Task.objects.filter(status="approved"):
            task.pause(reason="insufficient_capacity", actor="w")
    rows = {"tasks": Task.objects, "entries": PauseQueueEntry.objects}[kind]
    claims: list[list[Any]] = []
    start = threading.Barrier(5)

    def work(worker: str) -> None:
        try:
            connection.ensure_connection()
            start.wait(120)
            while claimed := rows.claim(worker=worker, limit=4):
                claims.append(claimed)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=[f"w{number}"]) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    # A session that skips what others hold may stop before the last; nothing is claimed twice.
    keys = [each.pk for claimed in claims for each in claimed]
    rest = rows.claim(worker="last", limit=100)
    assert len(set(keys)) == len(keys)
    assert {*keys, *(each.pk for each in rest)} == set(rows.values_list("pk", flat=True))
    assert max(map(len, claims)) <= 4
    assert len({claimed[0].claim_token for claimed in claims}) == len(claims)


@pytest.mark.django_db(transaction=True)
def test_what_refers_to_a_task_hides_it_from_no_claim() -> None:
    """A pause entry's foreign key, and any project's own, takes KEY SHARE on the task; FOR UPDATE would skip it."""
    approved(1)
    task = Task.objects.get()
    with another_connection() as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO audit_executionlog (task_id, kind) VALUES (%s, 'note')", [task.pk])
        cursor.execute("SELECT FROM audit_task WHERE id = %s FOR KEY SHARE", [task.pk])
        assert Task.objects.claim(worker="w") == [task]
        cursor.execute("ROLLBACK")


@pytest.mark.django_db(transaction=True)
def test_what_refers_to_a_task_hides_it_from_no_recovery() -> None:
    approved(3)
    expired, own = Task.objects.claim(worker="w", limit=2)
    Task.objects.filter(pk=expired.pk).update(lease_expires_at=Now() - timedelta(seconds=1))
    overdue = Task.objects.request("work", approve_before=timedelta(microseconds=1))
    with another_connection() as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT FROM audit_task FOR KEY SHARE")
        report = recover(worker="w")
        cursor.execute("ROLLBACK")
    assert (report.leases, report.restarted, report.approvals) == ((expired.pk,), (own.pk,), (overdue.pk,))


@pytest.mark.django_db(transaction=True)
def test_a_claim_in_progress_is_skipped_not_waited_for() -> None:
    approved(2)
    with another_connection() as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(claim_sql(Task, TASKS, "", 1), CLAIM)
        (first,) = cursor.fetchall()
        with transaction.atomic(), connection.cursor() as mine:
            mine.execute("SET LOCAL lock_timeout = '2s'")
            second = Task.objects.claim(worker="second", limit=5)
        cursor.execute("COMMIT")
    assert len(second) == 1
    assert second[0].pk != first[0]


@pytest.mark.django_db(transaction=True)
def test_an_entry_being_claimed_is_skipped_not_waited_for() -> None:
    approved(2)
    for task in Task.objects.filter(status="approved"):
        task.pause(reason="insufficient_capacity", actor="w")
    with another_connection() as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(claim_sql(PauseQueueEntry, ENTRIES, "", 1), CLAIM)
        (first,) = cursor.fetchall()
        with transaction.atomic(), connection.cursor() as mine:
            mine.execute("SET LOCAL lock_timeout = '2s'")
            second = PauseQueueEntry.objects.claim(worker="second", limit=5)
        cursor.execute("COMMIT")
    assert len(second) == 1
    assert second[0].pk != first[0]


@pytest.mark.django_db(transaction=True)
def test_recovery_passes_over_what_somebody_holds() -> None:
    approved(2)
    first, second = Task.objects.claim(worker="gone", limit=2, lease=timedelta(milliseconds=1))
    time.sleep(0.005)
    with another_connection() as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT FROM audit_task WHERE id = %s FOR NO KEY UPDATE", [first.pk])
        with transaction.atomic(), connection.cursor() as mine:
            mine.execute("SET LOCAL lock_timeout = '2s'")
            recovered = Task.objects.recover_expired()
        cursor.execute("COMMIT")
    assert [task.pk for task in recovered] == [second.pk]


@pytest.mark.django_db
def test_a_row_that_is_counted_to_the_end_stops_no_other() -> None:
    approved(2)
    first, second = Task.objects.filter(status="approved")
    Task.objects.filter(pk=first.pk).update(attempt=LARGEST_COUNT, priority=1)
    claimed = Task.objects.claim(worker="w", limit=2, lease=timedelta(milliseconds=1))
    assert [(each.pk, each.attempt) for each in claimed] == [(first.pk, LARGEST_COUNT), (second.pk, 1)]
    Task.objects.filter(pk=first.pk).update(expiries=LARGEST_COUNT)
    time.sleep(0.005)
    recovered = Task.objects.recover_expired()
    assert {(each.pk, each.status, each.expiries) for each in recovered} == {
        (first.pk, "failed", LARGEST_COUNT),
        (second.pk, "approved", 1),
    }
    Task.objects.claim(worker="w")[0].pause(reason="insufficient_capacity")
    approved(1)
    Task.objects.claim(worker="w")[0].pause(reason="insufficient_capacity")
    PauseQueueEntry.objects.filter(task_id=second.pk).update(attempt=LARGEST_COUNT)
    entries = PauseQueueEntry.objects.claim(worker="w", limit=2)
    assert sorted(each.attempt for each in entries) == [1, LARGEST_COUNT]


@pytest.mark.django_db
def test_steps_go_on_after_the_largest_number() -> None:
    approved(1)
    [task] = Task.objects.claim(worker="w")
    numbers = [
        task.log("x", step_number=LARGEST_COUNT).step_number,
        task.log("y").step_number,
        task.log("z").step_number,
    ]
    assert numbers == [LARGEST_COUNT] * 3


@pytest.mark.django_db(transaction=True)
def test_heartbeats_touch_no_index() -> None:
    """Room is left in each page for the next version of a row, and what a heartbeat changes is in no index."""
    approved(1)
    [task] = Task.objects.claim(worker="w")
    counted = (
        "SELECT pg_stat_get_xact_tuples_updated(oid), pg_stat_get_xact_tuples_hot_updated(oid)"
        " FROM pg_class WHERE relname = 'audit_task'"
    )
    with transaction.atomic():
        [before] = sql(counted)  # of earlier transactions, too
        for _ in range(10):
            task.heartbeat()
        [after] = sql(counted)
    updated, hot = (now - then for now, then in zip(after, before, strict=True))
    assert updated == 10
    assert hot >= updated - 2
    for table, room in (("audit_task", "fillfactor=80"), ("audit_pause_queue", "fillfactor=70")):
        with connection.cursor() as cursor:
            cursor.execute("SELECT reloptions FROM pg_class WHERE relname = %s", [table])
            assert room in cursor.fetchone()[0]


@pytest.mark.django_db
def test_a_zombie_loses_its_lease_in_every_verb() -> None:
    approved(1)
    (zombie,) = Task.objects.claim(worker="zombie", lease=timedelta(milliseconds=1))
    time.sleep(0.005)
    (recovered,) = Task.objects.recover_expired()
    assert (recovered.status, recovered.expiries) == ("approved", 1)
    (owner,) = Task.objects.claim(worker="owner")
    verbs = {
        "complete": lambda: zombie.complete(),
        "fail": lambda: zombie.fail("too late"),
        "pause": lambda: zombie.pause(reason="insufficient_capacity"),
        "heartbeat": lambda: zombie.heartbeat(),
        "release": lambda: zombie.release(),
        "log": lambda: zombie.log("step"),
        "touch": lambda: zombie.touch("kuma"),
    }
    for name, verb in verbs.items():
        with pytest.raises(LeaseLost) as caught:
            verb()
        assert caught.value.claimed_by == "owner", name
        assert caught.value.claim_token == zombie.claim_token, name
    owner.complete({"by": "owner"})
    with pytest.raises(TaskFrozen):
        zombie.complete()
    assert Task.objects.get().outcome == {"by": "owner", "success": True}


@pytest.mark.django_db
def test_a_late_finish_is_accepted_while_the_token_still_fits() -> None:
    approved(1)
    (late,) = Task.objects.claim(worker="late", lease=timedelta(milliseconds=1))
    time.sleep(0.005)
    late.complete()
    assert Task.objects.recover_expired() == []
    assert Task.objects.get().status == "completed"


@pytest.mark.django_db
def test_an_entry_claimed_by_another_is_lost() -> None:
    approved(1)
    Task.objects.get().pause(reason="insufficient_capacity", work_plan={"rest": 1}, actor="w")
    (zombie,) = PauseQueueEntry.objects.claim(worker="zombie", lease=timedelta(milliseconds=1))
    time.sleep(0.005)
    (owner,) = PauseQueueEntry.objects.claim(worker="owner")
    for verb in (zombie.resume, zombie.hold, zombie.release, zombie.cancel, lambda: zombie.defer(LEASE)):
        with pytest.raises(LeaseLost):
            verb()
    assert owner.resume().work_plan == {"rest": 1}
    with pytest.raises(LeaseLost):
        owner.resume()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("on_expiry", "max_expiries", "cancelled", "ends"),
    [
        ("requeue", 3, False, "approved"),
        ("requeue", 1, False, "failed"),
        ("fail", 3, False, "failed"),
        ("requeue", 3, True, "failed"),
    ],
)
def test_recovery(on_expiry: str, max_expiries: int, cancelled: bool, ends: str) -> None:
    approved(1, on_expiry=on_expiry)
    (task,) = Task.objects.claim(worker="w", lease=timedelta(milliseconds=1))
    time.sleep(0.005)
    if cancelled:
        task.request_cancel(actor="bob", reason="stop")
    (found,) = Task.objects.recover_expired(max_expiries=max_expiries)
    assert (found.status, found.actor, found.claim_token is None) == (ends, "audit:recovery", ends == "approved")
    if ends == "failed":
        assert found.outcome["error_type"] == "LeaseExpired"
    last = ExecutionLog.objects.of(found).last()
    assert (last.from_status, last.to_status, last.actor) == ("executing", ends, "audit:recovery")


@pytest.mark.django_db
def test_recovery_leaves_live_leases_alone_and_is_bounded() -> None:
    approved(5)
    Task.objects.claim(worker="w", limit=3, lease=timedelta(milliseconds=1))
    time.sleep(0.005)
    Task.objects.claim(worker="w", limit=2, lease=timedelta(hours=1))
    assert len(Task.objects.recover_expired(limit=2)) == 2
    assert len(Task.objects.recover_expired(limit=10)) == 1
    assert Task.objects.filter(status="executing").count() == 2
