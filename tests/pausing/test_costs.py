"""What a pass costs: as many statements for many tasks as for one, each by an index."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.pausing import CapacityVerdict, PauseManager, check_capacity
from audit.status import Status
from tests.leases.test_claims_plans import nodes
from tests.support.agents import GIB, agent, approved, due_now, read_as
from tests.support.factories import claimed, sql

pytestmark = pytest.mark.django_db


def work(number: int, action: str = "work", **given: Any) -> None:
    """So much approved work."""
    Task.objects.bulk_request([{"action": action, "actor": "alice", **given}] * number)
    sql("UPDATE audit_task SET status = 'approved' WHERE status = 'pending'")


def statements(act: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What it returns, and the statements that it made; savepoints of the test's own transaction aside."""
    with CaptureQueriesContext(connection) as queries:
        found = act()
    return found, [each["sql"] for each in queries if "SAVEPOINT" not in each["sql"]]


def read_sequentially(statement: str) -> set[str]:
    """Which tables of the trail a statement reads from end to end."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}")
        [(plan,)] = cursor.fetchall()
    plan = json.loads(plan) if isinstance(plan, str) else plan
    scans = [each for each in nodes(plan[0]["Plan"]) if each["Node Type"] == "Seq Scan"]
    return {each["Relation Name"] for each in scans} & {"audit_task", "audit_pause_queue", "audit_executionlog"}


def analyzed() -> None:
    for table in ("audit_task", "audit_pause_queue", "audit_executionlog", "audit_agent", "audit_resource_metric"):
        sql(f"ANALYZE {table}")


def test_pausing_costs_as_many_statements_for_many_as_for_one() -> None:
    for number in range(5):
        agent(f"w{number}", cpu=0.95)
    work(1)
    one, few = statements(lambda: PauseManager().pause_short(limit=400))
    work(300)
    many, made = statements(lambda: PauseManager().pause_short(limit=400))
    assert (len(one), len(many)) == (1, 300)
    assert len(made) == len(few) == 5, made
    assert PauseQueueEntry.objects.count() == ExecutionLog.objects.filter(action="capacity").count() == 301


def test_work_that_nobody_can_do_costs_no_statement_of_its_own() -> None:
    agent("w1", actions=["deploy"], cpu=0.95)
    for number in range(30):
        work(1, f"other-{number}")
    approved()
    found, made = statements(lambda: PauseManager().pause_short(limit=100))
    assert len(found) == 1
    assert len(made) == 5, made


def test_resuming_costs_as_many_statements_for_many_as_for_one() -> None:
    presence = agent(slots=200, cpu=0.95, actions=["work"])
    costs = []
    for number in (1, 60):
        work(number)
        PauseManager().pause_short(limit=100)
        due_now()
        costs.append(len(statements(lambda: PauseManager().resume_due())[1]))  # deferred
        assert PauseQueueEntry.objects.count() == number
        due_now()
        read_as(presence, cpu=0.1)
        found, made = statements(lambda: PauseManager().resume_due())
        assert len(found) == number
        costs.append(len(made))
        for task in Task.objects.claim("w1", limit=100):
            task.complete()
        read_as(presence, cpu=0.95)
    assert costs[:2] == costs[2:] == [8, 8], costs


def test_actions_that_nobody_is_registered_for_are_looked_up_at_once() -> None:
    agent(slots=90, actions=["deploy"], cpu=0.1)
    for number in range(20):
        Task.objects.request(f"other-{number}", actor="a").approve(actor="b")
    for task in Task.objects.filter(status="approved"):
        task.pause(reason="insufficient_capacity", resume_after=timedelta(seconds=1))
    due_now()
    found, made = statements(lambda: PauseManager().resume_due())
    assert len(found) == 20
    assert len(made) <= 9, made


def test_what_resumes_by_time_alone_costs_one_statement() -> None:
    for _ in range(20):
        approved().pause(reason="manual_pause", resume_after=timedelta(seconds=1))
    due_now()
    urgent = approved(priority=1).pause(reason="manual_pause", resume_after=timedelta(microseconds=1))
    found, _ = statements(lambda: PauseManager().resume_due(limit=1))
    assert [each.pk for each in found] == [urgent.task_id]
    found, made = statements(lambda: PauseManager().resume_due())
    assert len(found) == 20
    assert all(each.status == Status.APPROVED and each.actor == "audit:capacity" for each in found)
    assert sum("UPDATE audit_task" in each for each in made) == 1


def test_a_leased_entry_is_its_workers() -> None:
    entry = approved().pause(reason="manual_pause", resume_after=timedelta(microseconds=1))
    assert PauseQueueEntry.objects.claim("orch-1") == [entry]
    assert PauseManager().resume_due() == []
    sql("UPDATE audit_pause_queue SET lease_expires_at = statement_timestamp()")
    assert [each.pk for each in PauseManager().resume_due()] == [entry.task_id]


def test_while_no_slot_is_free_a_pass_is_four_statements() -> None:
    agent("w1", slots=2, cpu=0.1)
    work(50)
    for task in Task.objects.claim("w1", limit=2):
        assert task.claimed_by == "w1"
    found, made = statements(lambda: PauseManager().resume_due())
    assert found == []
    assert len(made) == 3, made  # by time, the lock, the registry


def test_each_statement_uses_an_index() -> None:
    presence = agent(slots=50, cpu=0.95)
    work(3000)
    assert len(PauseManager().pause_short(limit=2900)) == 2900
    sql("UPDATE audit_pause_queue SET resume_after = now() + interval '1 hour'")
    analyzed()
    short = statements(lambda: PauseManager().pause_short(limit=20))[1]
    sql("UPDATE audit_pause_queue SET resume_after = now() - interval '1 hour' WHERE id % 40 = 0")
    read_as(presence, cpu=0.1)
    due = statements(lambda: PauseManager().resume_due(limit=10))[1]
    looked_at = [each for each in [*short, *due] if each.lstrip().startswith(("SELECT", "WITH", "UPDATE"))]
    assert len(looked_at) >= 10
    for each in looked_at:
        assert not read_sequentially(each), each


def test_what_waits_for_capacity_hides_nothing_that_resumes_by_time() -> None:
    work(2000)
    sql("UPDATE audit_task SET status = 'paused'")
    sql("UPDATE audit_pause_queue SET held = false, reason = 'insufficient_capacity', resume_after = now()")
    timed = approved(priority=5).pause(reason="manual_pause", resume_after=timedelta(microseconds=1))
    analyzed()
    agent(slots=1, cpu=0.1)
    claimed(approved(), "w1")
    found, [statement, *_] = statements(lambda: PauseManager().resume_due())
    assert [each.pk for each in found] == [timed.task_id]
    plan = sql(f"EXPLAIN {statement}")
    assert any("audit_pause_queue_timed" in line for (line,) in plan), plan


def test_a_claimed_batch_reads_the_registry_once() -> None:
    agent(memory=0.25, slots=8)
    for _ in range(6):
        approved(estimated_resources={"memory_bytes": 3 * GIB})
    batch = Task.objects.claim("w1", limit=6)
    alone = [check_capacity(each) for each in batch]
    for order in (batch, batch[::-1]):
        together, made = statements(lambda given=order: PauseManager().check_capacities(given))
        assert len(made) == 1
        by_task = dict(zip([each.pk for each in order], together, strict=True))
        for task, verdict in zip(batch, alone, strict=True):
            said = by_task[task.pk]
            assert (said.kind, said.evidence["agents"][0]["free"]) == (
                verdict.kind,
                verdict.evidence["agents"][0]["free"],
            )
    assert [each.kind for each in alone] == ["free", "free", "free", "short", "short", "short"]
    assert PauseManager().check_capacities([]) == []


def test_a_batch_that_nobody_can_do_asks_once_who_is_missing() -> None:
    agent("gone", actions=["work", "other"]).withdraw()
    agent("here", actions=["else"])
    tasks = [claimed(approved(action), "here") for action in ("work", "other", "third") for _ in range(2)]
    found, made = statements(lambda: PauseManager().check_capacities(tasks))
    assert [each.kind for each in found] == ["no_agent"] * 6
    assert len(made) == 2
    said = [each.evidence["absent"] for each in found]
    assert said == [[{"agent": "gone", "state": "offline"}]] * 4 + [[]] * 2
    assert [PauseManager().check_capacity(each).evidence for each in tasks] == [each.evidence for each in found]


def test_a_gate_of_the_projects_own_is_asked_for_each(settings: Any) -> None:
    asked = []

    def gate(task: Task) -> CapacityVerdict:
        asked.append(task.pk)
        return CapacityVerdict(kind="short", evidence={"task": str(task.pk)}, summary=f"No room for {task.pk}.")

    settings.AUDIT = {"CAPACITY_GATE": gate}
    work(5)
    entries = PauseManager().pause_short()
    assert [each.task_id for each in entries] == asked
    assert [each.note for each in entries] == [f"No room for {each}." for each in asked]
    for each in entries:
        [row] = ExecutionLog.objects.filter(task_id=each.task_id, action="capacity")
        assert (row.detail, row.output_summary) == ({"task": str(each.task_id)}, each.note)
    assert len(PauseManager().check_capacities(list(Task.objects.all()))) == 5


def test_work_that_stays_approved_hides_nothing() -> None:
    agent("w1", actions=["deploy"], cpu=0.95)
    work(50, "nobody", priority=1)
    task = approved(priority=5)
    manager = PauseManager()
    passes = [manager.pause_short(limit=20) for _ in range(3)]
    assert [[each.task_id for each in found] for found in passes] == [[], [], [task.pk]]
    # Then from the front again.
    urgent = approved(priority=1)
    sql("UPDATE audit_task SET available_at = now() - interval '1 day' WHERE id = %s", [urgent.pk])
    assert [each.task_id for each in manager.pause_short(limit=20)] == [urgent.pk]


def test_each_goes_on_behind_the_last_that_was_looked_at() -> None:
    agent("w1", actions=["deploy"], cpu=0.95)
    work(3, "nobody", priority=1)
    work(2, "nobody", priority=2)
    task = approved(priority=2)
    manager = PauseManager()
    for _ in range(2):
        assert manager.pause_short(limit=3) == []
        assert [each.task_id for each in manager.pause_short(limit=3)] in ([task.pk], [])
    assert not Task.objects.filter(pk=task.pk, status="approved").exists()


def test_the_wait_grows_in_sets_too(settings: Any) -> None:
    settings.AUDIT = {"CAPACITY_BACKOFF_SECONDS": 100, "CAPACITY_BACKOFF_MAX_SECONDS": 300}
    agent(cpu=0.95)
    approved()
    for low, high in [(50, 101), (100, 201), (150, 301)]:
        [entry] = PauseManager().pause_short()
        assert low <= (entry.due_at - entry.paused_at).total_seconds() <= high
        entry.resume()


def test_a_set_writes_what_a_single_pause_writes() -> None:
    agent(cpu=0.95)
    single = PauseManager().pause_for_capacity(approved())
    approved()
    [entry] = PauseManager().pause_short()
    assert single is not None
    skipped = {"id", "task_id", "paused_at", "due_at", "resume_after", "note"}
    for field in PauseQueueEntry._meta.concrete_fields:
        if field.attname not in skipped:
            assert getattr(entry, field.attname) == getattr(single, field.attname), field.attname

    def log(task: Any) -> list[tuple[Any, ...]]:
        rows = ExecutionLog.objects.filter(task_id=task).order_by("id")
        return list(rows.values_list("kind", "from_status", "to_status", "action", "actor", "revision", "attempt"))

    assert log(entry.task_id) == log(single.task_id)
    assert log(entry.task_id)[-1][3] == "capacity"
