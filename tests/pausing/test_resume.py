"""Resuming: what is due and fits, as much as slots are free, above the higher threshold."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection

from audit.agents.draining import drain, undrain
from audit.exceptions import InvalidValue
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.pausing import CapacityVerdict, PauseManager, bulk
from audit.pausing.capacity_wait import capacity_wait, is_longest
from audit.status import PauseReason, Status
from tests.support.agents import GIB, agent, approved, due_now, read_as, short_entry, silent
from tests.support.factories import claimed
from tests.support.sessions import session

pytestmark = pytest.mark.django_db


def resumed(**options: Any) -> set[Any]:
    return {task.pk for task in PauseManager().resume_due(**options)}


def test_between_the_thresholds_nothing_moves() -> None:
    presence = agent(cpu=0.75)  # 25 % free: it is not a reason to pause, and none to resume
    task = approved()
    assert PauseManager().pause_for_capacity(task) is None
    entry = short_entry()
    assert resumed() == set()
    read_as(presence, cpu=0.70)
    due_now()
    assert resumed() == {entry.task_id}
    task = Task.objects.get(pk=entry.task_id)
    assert task.status == Status.APPROVED
    assert ExecutionLog.objects.of(task).last().actor == "audit:capacity"


def test_what_does_not_fit_is_deferred_for_longer_each_time(settings: Any) -> None:
    settings.AUDIT = {"CAPACITY_BACKOFF_SECONDS": 100, "CAPACITY_BACKOFF_MAX_SECONDS": 300}
    agent(cpu=0.9)
    entry = short_entry()
    for low, high in [(100, 200), (150, 300), (150, 300)]:
        assert resumed() == set()
        entry.refresh_from_db()
        assert not entry.claimed_by
        assert entry.claim_token is None
        with connection.cursor() as cursor:
            cursor.execute("SELECT extract(epoch FROM due_at - statement_timestamp()) FROM audit_pause_queue")
            [wait] = cursor.fetchone()
        assert low - 30 <= wait <= high
        assert resumed() == set()  # not due: nobody looks at it
        attempts = entry.attempt
        entry.refresh_from_db()
        assert entry.attempt == attempts
        due_now()
    assert ExecutionLog.objects.filter(task_id=entry.task_id, action="defer").count() >= 3


def test_a_deferred_entry_says_why_it_still_waits(settings: Any) -> None:
    entry = short_entry()

    def note() -> str:
        due_now()
        assert resumed() == set()
        entry.refresh_from_db()
        assert entry.claim_token is None
        return entry.note

    presence = agent(cpu=0.9, slots=2)
    assert note().startswith("Every agent that could do it is short: w1 (10% of CPU free, ")
    read_as(presence, cpu=0.72)  # above the threshold of a pause, below that of resuming
    assert "28% of CPU free" in note()
    read_as(presence, cpu=0.1, memory=None)
    assert note().startswith("No agent is known to have room")
    agent("other", actions=["backup"], slots=1)
    silent("w1", 100)
    assert note() == "No agent that could do it takes work now: w1 is stale."
    presence.beat()
    read_as(presence)
    agent("w1", slots=1)
    claimed(approved("backup"), "w1")
    assert note().startswith("No slot is free. There is capacity: w1 (")

    def asked(task: Task) -> CapacityVerdict:
        return CapacityVerdict(kind="short", evidence={}, summary="The budget of this month is spent.")

    settings.AUDIT = {"CAPACITY_GATE": asked}
    assert note() == "The budget of this month is spent."
    # The log keeps what it was paused for.
    paused = ExecutionLog.objects.get(task=entry.task_id, to_status=Status.PAUSED)
    assert paused.detail["note"] == ""


def test_as_many_as_slots_are_free_the_most_urgent_first() -> None:
    agent(slots=3)
    claimed(approved(), "w1")
    entries = [short_entry(priority=each) for each in (5, 3, 1, 4)]
    first = {entries[2].task_id, entries[1].task_id}
    assert resumed() == first
    # They have taken the slots, though nobody has claimed them yet: nothing else is touched.
    before = list(PauseQueueEntry.objects.order_by("id").values())
    assert resumed() == set()
    assert list(PauseQueueEntry.objects.order_by("id").values()) == before
    [claim] = Task.objects.filter(pk=entries[2].task_id).claim("w1")
    assert resumed() == set()
    claim.complete()
    assert resumed() == {entries[3].task_id}


def test_a_limit_is_kept() -> None:
    agent(slots=9)
    for _ in range(4):
        short_entry()
    assert len(resumed(limit=3)) == 3
    with pytest.raises(InvalidValue, match="limit"):
        PauseManager().resume_due(limit=0)


def test_estimates_of_what_is_resumed_are_subtracted() -> None:
    agent(slots=9, memory=0.0)
    entries = [short_entry(estimated_resources={"memory_bytes": 6 * GIB}) for _ in range(3)]
    assert resumed() == {entries[0].task_id, entries[1].task_id}
    due_now()
    # Nor by the next pass, though no reading shows them yet.
    assert resumed() == set()


def test_the_agent_must_be_able() -> None:
    agent("backups", actions=["backup"], slots=2)
    agent("deployer", actions=["deploy"], slots=1)
    entries = [short_entry(), short_entry(), short_entry("backup")]
    assert resumed() == {entries[0].task_id, entries[2].task_id}


def test_labels_are_asked_for() -> None:
    agent("plain", slots=2)
    presence = agent("with-gpu", labels=["gpu"], slots=1, cpu=0.9)
    entry = short_entry()
    assert PauseManager(labels_of=lambda task: ["gpu"]).resume_due() == []
    due_now()
    read_as(presence, cpu=0.1)
    [task] = PauseManager(labels_of=lambda task: ["gpu"]).resume_due()
    assert task.pk == entry.task_id
    # It waits for the one that has the label, and takes the slot of no other.
    other = short_entry()
    [task] = PauseManager(labels_of=lambda task: ["gpu"] if task.pk == entry.task_id else []).resume_due()
    assert task.pk == other.task_id


def test_agents_that_are_gone_are_waited_for() -> None:
    agent("w1")
    entry = short_entry()
    silent("w1", 40)
    assert resumed() == set()
    due_now()
    silent("w1", 400)
    assert resumed() == set()
    due_now()
    agent("w1")
    drain("w1", reason="new disks", actor="alice")
    assert resumed() == set()
    due_now()
    undrain("w1")
    assert resumed() == {entry.task_id}


def test_without_a_registry_the_time_alone_counts() -> None:
    entry = short_entry()
    later = approved().pause(reason=PauseReason.INSUFFICIENT_CAPACITY, resume_after=timedelta(hours=1))
    assert resumed() == {entry.task_id}
    assert PauseQueueEntry.objects.get() == later


def test_where_nobody_is_registered_for_such_work_there_is_nothing_to_wait_for() -> None:
    agent("backups", actions=["backup"], cpu=0.9)
    entry = short_entry()
    assert resumed() == {entry.task_id}


def test_unknown_capacity_resumes_only_after_the_longest_wait(settings: Any) -> None:
    settings.AUDIT = {"CAPACITY_BACKOFF_SECONDS": 100, "CAPACITY_BACKOFF_MAX_SECONDS": 300}
    agent(slots=1, cpu=None, memory=0.1)
    entries = [short_entry(), short_entry()]
    passes = 0
    while not (task := resumed()):
        passes += 1
        assert passes < 20
        due_now()
    # 100, 200, 300 seconds: it is looked at three times in vain.
    assert task <= {each.task_id for each in entries}
    assert PauseQueueEntry.objects.count() == 1
    assert passes >= 2
    due_now()
    assert resumed() == set()


def test_what_is_known_as_short_never_resumes_by_patience(settings: Any) -> None:
    settings.AUDIT = {"CAPACITY_BACKOFF_SECONDS": 1, "CAPACITY_BACKOFF_MAX_SECONDS": 2}
    agent(cpu=0.9, memory=None)
    short_entry()
    for _ in range(6):
        assert resumed() == set()
        due_now()


def test_by_hand_for_a_time_and_no_other_reason() -> None:
    by_hand = approved().pause(reason=PauseReason.MANUAL_PAUSE, resume_after=timedelta(seconds=1))
    approved().pause(reason=PauseReason.MANUAL_PAUSE)
    unnamed = approved().pause(reason=PauseReason.AWAITING_EVENT, resume_after=timedelta(seconds=1))
    # Its end is a time-out, which recovery writes into the log.
    approved().pause(event="build-42", resume_after=timedelta(seconds=1))
    # Its time is a deadline.
    approval = approved().pause(reason=PauseReason.AWAITING_APPROVAL, resume_after=timedelta(seconds=1))
    due_now()
    assert resumed() == {by_hand.task_id, unnamed.task_id}
    assert PauseQueueEntry.objects.filter(pk=approval.pk).exists()
    assert resumed() == set()
    assert PauseQueueEntry.objects.count() == 3


def test_a_gate_of_the_projects_own_has_the_last_word(settings: Any) -> None:
    kinds = {"kind": "short"}

    def asked(task: Task) -> CapacityVerdict:
        return CapacityVerdict(kind=kinds["kind"], evidence={}, summary="")  # type: ignore[arg-type]

    settings.AUDIT = {"CAPACITY_GATE": asked}
    entry = short_entry()
    assert resumed() == set()
    due_now()
    kinds["kind"] = "free"
    agent(cpu=0.9)
    assert resumed() == set()  # it needs the registry's room as well, where there are agents
    due_now()
    settings.AUDIT = {"CAPACITY_GATE": None}
    assert resumed() == {entry.task_id}


@pytest.mark.django_db(transaction=True)
def test_while_another_resumer_decides_nothing_is_touched() -> None:
    agent()
    entry = short_entry()
    with session(connection.settings_dict["USER"], "READ COMMITTED") as other:
        other.execute("SELECT pg_advisory_xact_lock('audit_pause_queue'::regclass::oid::bigint << 8)")
        assert resumed() == set()
        before = PauseQueueEntry.objects.get()
        assert before.attempt == 0
    assert resumed() == {entry.task_id}


@pytest.mark.django_db(transaction=True)
def test_an_entry_that_somebody_else_decides_is_passed_over() -> None:
    agent(slots=2)
    entries = [short_entry(), short_entry()]
    with session(connection.settings_dict["USER"], "READ COMMITTED") as other:
        other.execute("SELECT FROM audit_task WHERE id = %s FOR NO KEY UPDATE", [entries[0].task_id])
        assert resumed() == {entries[1].task_id}


@pytest.mark.django_db(transaction=True)
def test_what_fails_in_the_middle_has_changed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    agent(slots=5)
    for _ in range(3):
        short_entry()
    before = list(PauseQueueEntry.objects.order_by("id").values())
    real = bulk.resume_claimed

    def fails(*args: Any, **options: Any) -> list[Task]:
        assert len(real(*args, **options)) == 3
        raise OperationalError("the connection is gone")

    monkeypatch.setattr(bulk, "resume_claimed", fails)
    with pytest.raises(OperationalError, match="gone"):
        PauseManager().resume_due()
    assert list(PauseQueueEntry.objects.order_by("id").values()) == before
    assert not Task.objects.filter(status=Status.APPROVED).exists()


def test_the_backoff_doubles_has_jitter_and_an_end() -> None:
    seen = [capacity_wait(1).total_seconds() for _ in range(200)]
    assert all(7.5 <= each <= 15 for each in seen)
    assert max(seen) - min(seen) > 3
    assert 150 <= capacity_wait(6).total_seconds() <= 300
    assert 150 <= capacity_wait(10**9).total_seconds() <= 300
    assert [is_longest(each) for each in (0, 1, 5, 6, 10**9)] == [False, False, False, True, True]
