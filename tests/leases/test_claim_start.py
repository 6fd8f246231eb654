"""While a snapshot is held, claims do not read again past all that was claimed before, and keep their rules."""

import contextlib
import itertools
import time
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from audit.leases import claim as claims
from audit.leases import claim_start
from audit.leases.claim import ENTRIES, TASKS, claim_sql
from audit.models import PauseQueueEntry, Task
from audit.status import Status
from tests.leases.test_claims_plans import nodes, plan_of
from tests.support.factories import sql
from tests.support.sessions import session

CLAIMED = 1600
WAITING = 60
SET = ["w", "00000000-0000-4000-8000-000000000000", timedelta(seconds=60), "w"]
EARLIEST = "0002-01-01 00:00:00+00"


@contextlib.contextmanager
def held() -> Iterator[None]:
    """A snapshot that somebody holds: nothing that dies meanwhile can be removed."""
    with session(connection.settings_dict["USER"], "REPEATABLE READ") as other:
        other.execute("SELECT count(*) FROM audit_task")
        yield


def fill() -> None:
    """Approved work of all priorities, and most of it claimed."""
    Task.objects.bulk_request(
        [{"action": "work", "actor": "a", "priority": 1 + each % 5} for each in range(CLAIMED + WAITING)]
    )
    sql("UPDATE audit_task SET status = 'approved'")
    sql("VACUUM ANALYZE audit_task")


def used_up() -> None:
    """Claim what stands in front."""
    assert len(Task.objects.claim("w", limit=CLAIMED)) == CLAIMED


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows the index gave each claim."""
    counts: list[int] = []
    fetch = claims.fetch

    def counted(model: Any, using: str, statement: str, params: Any) -> list[Any]:
        before = claim_start.index_reads(using, "audit_task_claim")
        found = fetch(model, using, statement, params)
        counts.append(claim_start.index_reads(using, "audit_task_claim") - before)
        return found

    monkeypatch.setattr(claims, "fetch", counted)
    return counts


def start() -> Any:
    """Where this session's claims begin now."""
    return claim_start.session_claims(connections["default"]).start


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock of starts that stands still until a test moves it; every claim takes long, so they last a second."""
    seen = claim_start.session_claims(connections["default"])
    seen.start, seen.counting, seen.quiet_until = None, False, 0.0
    now, claiming = [1000.0], itertools.count(step=100)
    monkeypatch.setattr(claim_start, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(claims, "time", SimpleNamespace(monotonic=lambda: next(claiming)))
    first = itertools.cycle([True, False])

    def reads(using: str, index: str) -> int:
        # The server adds its counts up at most once a second, and starts anew then: not between two looks.
        if next(first):
            sql("SELECT pg_stat_force_next_flush()")
        return claim_start.index_reads(using, index)

    monkeypatch.setattr(claims, "index_reads", reads)
    yield now
    seen.start, seen.counting, seen.quiet_until = None, False, 0.0


def in_order(tasks: list[Task]) -> list[Any]:
    return [(each.priority, each.available_at, each.pk) for each in tasks]


@pytest.mark.django_db(transaction=True)
def test_only_the_first_claim_reads_past_what_was_claimed(clock: list[float], read: list[int]) -> None:
    fill()
    with held():
        used_up()
        [first] = Task.objects.claim("w")
        assert read.pop() > CLAIMED / 2, "the snapshot holds nothing"
        waiting = in_order(list(Task.objects.filter(status="approved").order_by("priority", "available_at", "id")))
        read.clear()
        taken = [each for _ in range(10) for each in in_order(Task.objects.claim("w", limit=2))]
        assert max(read) < 40, read
        # In order: by priority, then due time.
        assert taken == waiting[:20]
        assert in_order([first])[0] < waiting[0]
        clock[0] += 1.0
        Task.objects.claim("w")
        assert read.pop() > CLAIMED / 2


@pytest.mark.django_db(transaction=True)
def test_what_comes_back_in_front_waits_a_second_at_most(clock: list[float]) -> None:
    fill()
    with held():
        used_up()
        [urgent] = Task.objects.filter(priority=1, status="executing")[:1]
        [early] = Task.objects.claim("w")
        assert start() is not None
        urgent.release()
        [other] = Task.objects.claim("w")
        assert other.pk != urgent.pk
        clock[0] += 0.99
        assert Task.objects.claim("w")[0].pk != urgent.pk
        clock[0] += 0.01
        assert Task.objects.claim("w")[0].pk == urgent.pk
        # The last one that was taken is still in sight.
        early.release()


@pytest.mark.django_db(transaction=True)
def test_new_and_more_urgent_work_is_taken_first(clock: list[float]) -> None:
    fill()
    with held():
        used_up()
        [found] = Task.objects.claim("w")
        assert found.priority > 1
        assert start() is not None
        new = Task.objects.request("work", actor="a", priority=1)
        new.approve(actor="b")
        assert [each.pk for each in Task.objects.claim("w")] == [new.pk]


@pytest.mark.django_db(transaction=True)
def test_who_finds_too_few_behind_the_start_looks_at_all(clock: list[float]) -> None:
    fill()
    with held():
        used_up()
        urgent = list(Task.objects.filter(priority=1, status="executing")[:3])
        Task.objects.claim("w")
        assert start() is not None
        for each in urgent:
            each.release()
        found = Task.objects.claim("w", limit=CLAIMED)
        assert len(found) == WAITING - 1 + 3
        assert in_order(found) == sorted(in_order(found))
        assert {each.pk for each in urgent} <= {each.pk for each in found}
        assert not Task.objects.filter(status=Status.APPROVED).exists()


@pytest.mark.django_db(transaction=True)
def test_the_start_is_of_the_same_rows_alone(clock: list[float]) -> None:
    fill()
    other = Task.objects.request("other", actor="a", priority=1)
    other.approve(actor="b")
    with held():
        used_up()
        Task.objects.filter(action="work").claim("w")
        assert start() is not None
        [found] = Task.objects.filter(action="other").claim("w") or Task.objects.filter(action="other")
        assert found.pk == other.pk


@pytest.mark.django_db(transaction=True)
def test_inside_of_a_transaction_there_is_no_start(clock: list[float]) -> None:
    fill()
    with held():
        used_up()
        [urgent] = Task.objects.filter(priority=1, status="executing")[:1]
        Task.objects.claim("w")
        assert start() is not None
        urgent.release()
        with transaction.atomic():
            assert [each.pk for each in Task.objects.claim("w")] == [urgent.pk]


@pytest.mark.django_db(transaction=True)
def test_what_was_claimed_behind_the_start_is_returned_when_the_rest_fails(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill()
    with held():
        used_up()
        Task.objects.claim("w")
        assert start() is not None

        def fails(*_: Any) -> Any:
            raise OperationalError("the connection is lost")

        monkeypatch.setattr(claims._Claim, "_look", fails)
        found = Task.objects.claim("w", limit=CLAIMED)
        assert len(found) == WAITING - 1
        with pytest.raises(OperationalError):
            Task.objects.claim("w")


@pytest.mark.django_db(transaction=True)
def test_a_claim_that_may_be_rolled_back_leaves_no_start(clock: list[float]) -> None:
    fill()
    with held():
        used_up()
        with transaction.atomic():
            Task.objects.claim("w")
            Task.objects.claim("w")
        assert start() is None
        Task.objects.claim("w")
        assert start() is not None


@pytest.mark.django_db(transaction=True)
def test_without_a_held_snapshot_there_is_no_start(clock: list[float]) -> None:
    Task.objects.bulk_request([{"action": "work", "actor": "a"}] * 1300)
    sql("UPDATE audit_task SET status = 'approved'")
    assert len(Task.objects.claim("w", limit=1250)) == 1250
    for tried in range(40):
        # Not every VACUUM removes all: an autovacuum may hold a snapshot, or a page.
        sql("VACUUM ANALYZE audit_task")
        claim_start.session_claims(connections["default"]).start = None
        assert len(Task.objects.claim("w")) == 1
        if start() is None:
            break
        time.sleep(0.1 * tried)
    for _ in range(5):
        assert len(Task.objects.claim("w")) == 1
        assert start() is None


@pytest.mark.django_db(transaction=True)
def test_only_a_claim_after_a_slow_one_counts(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    fill()
    quick = itertools.count(step=0.004)
    with held():
        used_up()
        slow = claims.time
        monkeypatch.setattr(claims, "time", SimpleNamespace(monotonic=lambda: next(quick)))
        # The claim before was slow, so this one counts, and finds a start; then the start is over.
        Task.objects.claim("w")
        assert start() is not None
        claim_start.session_claims(connections["default"]).counting = False
        clock[0] += 1.0
        with CaptureQueriesContext(connection) as ran:
            Task.objects.claim("w")
            Task.objects.claim("w")
        assert len(ran) == 2
        assert start() is None
        monkeypatch.setattr(claims, "time", slow)
        with CaptureQueriesContext(connection) as ran:
            Task.objects.claim("w")
        assert len(ran) == 1
        with CaptureQueriesContext(connection) as ran:
            Task.objects.claim("w")
        assert len([each for each in ran if "next_flush" not in each["sql"]]) == 3
        assert start() is not None


@pytest.mark.django_db(transaction=True)
def test_claims_that_are_slow_for_another_reason_count_once_a_second(clock: list[float]) -> None:
    def queries(times: int) -> int:
        with CaptureQueriesContext(connection) as ran:
            for _ in range(times):
                Task.objects.claim("w")
        return len([each for each in ran if "next_flush" not in each["sql"]])

    assert queries(1) == 1
    assert queries(5) == 5 + 2
    clock[0] += 1.0
    assert queries(5) == 5 + 2


@pytest.mark.django_db(transaction=True)
def test_a_slow_claim_that_found_nothing_leaves_no_start(clock: list[float]) -> None:
    for _ in range(3):
        assert Task.objects.claim("w") == []
        assert start() is None


_METHODS = ("hashjoin", "mergejoin", "hashagg", "sort", "material", "nestloop")


@pytest.mark.django_db
@pytest.mark.parametrize("off", [(), ("hashjoin", "mergejoin"), ("nestloop",), _METHODS])
def test_no_plan_takes_more_than_the_limit(off: tuple[str, ...]) -> None:
    Task.objects.bulk_request([{"action": "work", "actor": "a", "priority": 1 + each % 5} for each in range(200)])
    sql("UPDATE audit_task SET status = 'approved'")
    for each in off:
        sql(f"SET LOCAL enable_{each} = off")
    start = [[EARLIEST] * 5, ["00000000-0000-0000-0000-000000000000"] * 5]
    assert len(sql(claim_sql(Task, TASKS, "", 7, from_start=True), [*SET, *start])) == 7


@pytest.mark.django_db
@pytest.mark.parametrize("what", [TASKS, ENTRIES], ids=["tasks", "entries"])
def test_it_begins_in_the_index(what: Any) -> None:
    Task.objects.bulk_request([{"action": "work", "actor": "a", "priority": 3} for _ in range(3000)])
    sql("UPDATE audit_task SET status = 'approved'")
    model, lowest = Task, "00000000-0000-0000-0000-000000000000"
    if what is ENTRIES:
        model, lowest = PauseQueueEntry, "0"
        sql("UPDATE audit_task SET status = 'paused'")
        sql("UPDATE audit_pause_queue SET held = false")
    sql(f"ANALYZE {what.table}")
    [(due, key)] = sql(
        f"SELECT {what.due}::text, id::text FROM {what.table} ORDER BY {what.due}, id OFFSET 2990 LIMIT 1"
    )
    start: list[Any] = [[EARLIEST, EARLIEST, due, EARLIEST, EARLIEST], [lowest, lowest, key, lowest, lowest]]
    plan = plan_of(claim_sql(model, what, "", 5, from_start=True), [*SET, *start])["Plan"]
    [scan] = [each for each in nodes(plan) if each.get("Index Name") == what.index]
    assert "ROW(" in scan["Index Cond"]
    assert scan.get("Rows Removed by Filter", 0) == 0
    # The first rows are dead to it: some 3000 index entries, each with its row, that it would read without the start.
    assert scan["Shared Hit Blocks"] + scan["Shared Read Blocks"] < 300
