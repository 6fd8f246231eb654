"""A thousand paused entries and four resumers, real processes that are killed now and then."""

import sys
import time
from typing import Any

import pytest
from django.db import connection

from audit.agents.presence import Presence
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.pausing import PauseManager
from audit.status import Status
from tests.support.agents import agent, read_as
from tests.support.factories import sql
from tests.support.preloaded import Popen

ENTRIES = 1000
RESUMERS = 4
WORKERS = 2
SLOTS = 8
KILLS = 6


def _start(role: str, name: str) -> Popen:
    command = [sys.executable, "-m", "tests.support.resume_worker", connection.settings_dict["NAME"], role, name]
    return Popen(command)


def _paused(entries: int) -> None:
    """So much approved work, paused because the only agents are short."""
    Task.objects.bulk_request([{"action": "work", "actor": "alice"}] * entries)
    sql("UPDATE audit_task SET status = 'approved', actor = 'bob', revision = revision + 1")
    assert len(PauseManager().pause_short(limit=entries)) == entries
    sql("UPDATE audit_pause_queue SET resume_after = statement_timestamp() - interval '1 second'")


def _resumed_and_unclaimed() -> int:
    return Task.objects.filter(status=Status.APPROVED, status_was=Status.PAUSED).count()


def _transitions(to: Status) -> int:
    return ExecutionLog.objects.filter(kind="transition", to_status=to).count()


def _agents(cpu: float, presences: list[Presence]) -> list[Presence]:
    presences = presences or [agent(f"w{number}", slots=SLOTS // WORKERS) for number in range(WORKERS)]
    for each in presences:
        read_as(each, cpu=cpu)
    return presences


@pytest.fixture(autouse=True)
def _patient(settings: Any) -> None:
    """However slow the machine, the agents count as there, in this process as in those that it starts."""
    settings.AUDIT = {"AGENT_STALE_SECONDS": 1000, "AGENT_OFFLINE_SECONDS": 2000}


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_thousand_entries_and_four_resumers_neither_stampede_nor_flap_nor_double() -> None:
    presences = _agents(0.9, [])
    _paused(ENTRIES)
    _agents(0.5, presences)
    resumers = [_start("resumer", f"r{number}") for number in range(RESUMERS)]
    workers: list[Popen] = []
    kills, most = 0, 0
    deadline = time.monotonic() + 600
    try:
        # First without workers: what is resumed fills the slots, however often four processes look.
        while _resumed_and_unclaimed() < SLOTS:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        looked_at = _looks()
        while _looks() < looked_at + 40:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert _resumed_and_unclaimed() == _transitions(Status.APPROVED) - ENTRIES == SLOTS
        assert ExecutionLog.objects.filter(action="defer").count() == ENTRIES, "those that waited were touched"

        workers = [_start("worker", f"w{number}") for number in range(WORKERS)]
        while Task.objects.live().exists():
            assert time.monotonic() < deadline, f"{Task.objects.live().count()} left, {kills} kills"
            most = max(most, _resumed_and_unclaimed() + Task.objects.filter(status=Status.EXECUTING).count())
            done = Task.objects.finished().count()
            if kills < KILLS and done > (kills + 1) * ENTRIES // (KILLS + 2):
                victim = resumers[kills % RESUMERS]
                victim.kill()
                victim.wait()
                resumers[kills % RESUMERS] = _start("resumer", f"r{kills}+")
                kills += 1
            time.sleep(0.02)
        for process in [*workers, *resumers]:
            assert process.wait(timeout=120) == 0
    finally:
        for process in [*workers, *resumers]:
            process.kill()
            process.wait()

    assert kills == KILLS
    assert Task.objects.filter(status=Status.COMPLETED).count() == ENTRIES
    # Nothing twice: each was paused once, resumed once, claimed once, finished once; none flapped.
    for status, times in [
        (Status.PAUSED, ENTRIES),
        (Status.APPROVED, 2 * ENTRIES),
        (Status.EXECUTING, ENTRIES),
        (Status.COMPLETED, ENTRIES),
    ]:
        assert _transitions(status) == times, status
    assert not PauseQueueEntry.objects.exists()
    # A look from outside may see a task that another one has replaced meanwhile, but never a crowd.
    assert most <= 2 * SLOTS


@pytest.mark.django_db(transaction=True)
def test_while_every_agent_is_between_the_thresholds_four_resumers_move_nothing() -> None:
    presences = _agents(0.9, [])
    _paused(50)
    _agents(0.75, presences)
    resumers = [_start("resumer", f"r{number}") for number in range(RESUMERS)]
    deadline = time.monotonic() + 300
    try:
        # Until every entry was looked at and deferred at least once.
        while PauseQueueEntry.objects.filter(attempt=0).exists():
            assert time.monotonic() < deadline
            assert all(each.poll() is None for each in resumers)
            time.sleep(0.1)
    finally:
        for process in resumers:
            process.kill()
            process.wait()
    assert PauseQueueEntry.objects.count() == 50
    assert _transitions(Status.PAUSED) == _transitions(Status.APPROVED) == 50
    assert PauseManager().resume_due() == []


def _looks() -> int:
    """How often the resumers have looked so far: transactions of this database that ended."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute("SELECT xact_commit / 10 FROM pg_stat_database WHERE datname = current_database()")
        [count] = cursor.fetchone()
    return int(count)
