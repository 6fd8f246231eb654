"""Following: every change of a status once, whatever the order in which transactions commit."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection

from audit.models import ExecutionLog, Task
from audit.reading import following
from audit.reading.following import Follower
from tests.support.databases import ended
from tests.support.factories import claimed, requested, sql, task_in
from tests.support.pages import asking
from tests.support.refusals import line

pytestmark = pytest.mark.django_db(transaction=True)


def _follower(narrow: Any = lambda tasks: tasks, statuses: Any = ()) -> Follower:
    follower = Follower("default", narrow, statuses)
    follower.start()
    return follower


def _reported(follower: Follower) -> list[tuple[str, str]]:
    return [(change.task.summary, change.row.to_status) for change in follower.look()]


@contextmanager
def _elsewhere() -> Iterator[Any]:
    """A transaction of another connection, open until `commit`."""
    other = connection.copy()
    try:
        other.set_autocommit(False)
        yield other
    finally:
        other.close()


def _approve(other: Any, task: Task) -> None:
    with other.cursor() as cursor:
        cursor.execute("UPDATE audit_task SET status = 'approved' WHERE id = %s", [task.pk])


def _look_behind_all_others(follower: Follower) -> None:
    """Look twice, each time when whatever was open at the look before has ended, in a database next door too."""
    for _ in range(2):
        ended()
        list(follower.look())


def test_what_was_there_is_no_news_and_what_comes_is_reported_once_and_in_order() -> None:
    requested(summary="old")
    follower = _follower()
    assert _reported(follower) == []
    task = claimed(task_in("approved", summary="new"))
    assert _reported(follower) == [("new", "pending"), ("new", "approved"), ("new", "executing")]
    task.log("a step is not a change of status")
    assert _reported(follower) == []
    task.complete()
    assert _reported(follower) == [("new", "completed")]
    assert _reported(follower) == []


def test_an_empty_log_is_followed_too() -> None:
    follower = _follower()
    requested(summary="the first")
    assert _reported(follower) == [("the first", "pending")]


def test_a_transaction_that_commits_late_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    # The overlap for stamps is nothing here: what finds the row is the snapshot.
    monkeypatch.setattr(following, "_OVERLAP", timedelta(0))
    late, later = requested(summary="late"), requested(summary="later")
    follower = _follower()
    with _elsewhere() as slow, _elsewhere() as slower:
        _approve(slow, late)
        _approve(slower, later)
        for number in range(5):
            requested(summary=f"early {number}")
            assert _reported(follower) == [(f"early {number}", "pending")]
        slow.commit()
        assert _reported(follower) == [("late", "approved")]
        requested(summary="after")
        assert _reported(follower) == [("after", "pending")]
        slower.commit()
        assert _reported(follower) == [("later", "approved")]
        assert _reported(follower) == []
    newest = ExecutionLog.objects.latest("at")
    assert ExecutionLog.objects.get(task_id=late.pk, to_status="approved").at < newest.at


def test_a_transaction_that_was_open_before_the_first_look_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_OVERLAP", timedelta(0))
    task = requested(summary="late")
    with _elsewhere() as slow:
        _approve(slow, task)
        requested(summary="newest")
        follower = _follower()
        assert _reported(follower) == []
        requested()
        assert len(_reported(follower)) == 1
        slow.commit()
        assert _reported(follower) == [("late", "approved")]


def test_what_is_remembered_and_read_again_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_OVERLAP", timedelta(0))
    follower = _follower()
    for _ in range(20):
        requested()
        list(follower.look())
    _look_behind_all_others(follower)
    assert len(follower._seen) <= 2
    assert len(follower._looks) <= 2
    with _elsewhere() as open_one:
        _approve(open_one, requested())
        for _ in range(5):
            requested()
            list(follower.look())
        assert len(follower._looks) >= 5
    requested()
    _look_behind_all_others(follower)
    assert len(follower._looks) <= 2


def test_a_look_that_fails_half_way_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_DETAILS", 1)
    follower = _follower()
    for number in range(4):
        requested(summary=f"task {number}")
    changes = follower._changes
    seen = []

    def failing(keys: list[int]) -> Any:
        if len(seen) == 2:
            raise OperationalError("gone")
        return changes(keys)

    monkeypatch.setattr(follower, "_changes", failing)
    looks = follower.look()
    with pytest.raises(OperationalError):
        seen.extend(change.task.summary for change in looks)
    monkeypatch.setattr(follower, "_changes", changes)
    assert seen == ["task 0", "task 1"]
    assert [change.task.summary for change in follower.look()] == ["task 2", "task 3"]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_nothing_is_lost_between_the_pages_of_a_look(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(following, "_PAIRS", size)
    monkeypatch.setattr(following, "_DETAILS", size)
    requested(summary="old")
    follower = _follower()
    for number in range(3):
        requested(summary=f"single {number}")
    # Rows of one statement, which may have one moment.
    Task.objects.bulk_request({"action": "x", "summary": f"bulk {number}"} for number in range(4))
    found = [summary for summary, _status in _reported(follower)]
    assert sorted(found) == [*(f"bulk {number}" for number in range(4)), *(f"single {number}" for number in range(3))]
    assert _reported(follower) == []


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_rows_of_one_moment_and_rows_out_of_order_are_not_lost_between_pages(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(following, "_PAIRS", size)
    tasks = [requested(summary=str(number)) for number in range(5)]
    follower = _follower()
    sql("SET session_replication_role = replica")  # where the moment is that of the source
    try:
        for task, earlier in zip(tasks, (0, 0, 0, 2, 1), strict=True):
            values = {"kind": "'transition'", "from_status": "'pending'", "to_status": "'approved'", "revision": "2"}
            values["at"] = f"date_trunc('second', now()) - interval '{earlier} seconds'"
            sql(line(**values).replace("{id}", f"'{task.pk}'"))
    finally:
        sql("RESET session_replication_role")
    assert _reported(follower) == [(str(number), "approved") for number in range(5)]


def test_filters_and_statuses_narrow_what_is_reported() -> None:
    follower = _follower(lambda tasks: tasks.touching("db"), ("failed", "rejected"))
    for services in (["db"], ["web"]):
        task_in("failed", summary=services[0], services=services)
        task_in("completed", summary=services[0], services=services)
    assert _reported(follower) == [("db", "failed")]


def test_a_look_costs_four_statements_however_much_there_is() -> None:
    follower = _follower()
    for _ in range(30):
        requested()
    with asking() as asked:
        assert len(list(follower.look())) == 30
    assert len(asked.data) == 4
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off")
        cursor.execute(f"EXPLAIN {asked.data[1]}")
        plan = "\n".join(row for (row,) in cursor.fetchall())
        cursor.execute("RESET ALL")
    assert "Index Only Scan Backward using audit_executionlog_at" in plan
