"""Workers that hear of work: few of them look in vain, and none of it is missed."""

from __future__ import annotations

import itertools
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from audit.leases.wakeup import WORKERS, Listener, notify
from audit.models import Task
from audit.worker import pace as paces
from audit.worker.intake import Intake
from audit.worker.pace import LONGEST_SPREAD_SECONDS, Pace
from tests.support.factories import sql
from tests.support.worker import approved, eventually, worker


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until a test moves it; of a span it is always the whole."""
    now = [1000.0]
    monkeypatch.setattr(paces, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(paces, "random", SimpleNamespace(uniform=lambda low, high: high))
    return now


def _look(pace: Pace, clock: list[float], *, found: bool, heard: bool = True, seconds: float = 0.001) -> None:
    pace.looks()
    pace.looked(seconds, found=found, heard=heard)
    clock[0] += 1.0


def test_who_finds_what_it_hears_of_looks_at_once(clock: list[float]) -> None:
    pace = Pace()
    for _ in range(5):
        _look(pace, clock, found=True)
        assert (pace.pause() <= 0, pace.pause_for_more()) == (True, 0.0)


def test_who_looks_in_vain_waits_longer_and_longer_up_to_a_bound(clock: list[float]) -> None:
    pace = Pace()
    waits = []
    for _ in range(12):
        _look(pace, clock, found=False)
        waits.append(pace.pause())
    assert waits[0] > 0
    assert waits == sorted(waits)
    assert waits[-1] == pace.pause_for_more() == LONGEST_SPREAD_SECONDS
    for _ in range(12):
        _look(pace, clock, found=True)
    assert (pace.pause() <= 0, pace.pause_for_more()) == (True, 0.0)


def test_polls_and_passes_that_find_nothing_slow_nobody_down(clock: list[float]) -> None:
    pace = Pace()
    for _ in range(12):
        _look(pace, clock, found=False, heard=False)
    assert pace.pause() <= 0


def test_two_looks_keep_a_distance_that_grows_with_what_a_look_in_vain_cost(clock: list[float]) -> None:
    pace = Pace()
    pace.looks()
    distance = pace.pause()
    assert 0 < distance < 0.05
    pace.looked(0.1, found=True, heard=True)
    assert pace.pause() == distance
    pace.looked(0.1, found=False, heard=False)
    assert pace.pause() == pytest.approx(0.4)
    pace.looked(60.0, found=False, heard=False)
    assert pace.pause() == pytest.approx(0.5)


class _Clerk:
    """Does what it is given at once."""

    away = False

    def give(self, do: Any, then: Any) -> None:
        then(do(), None)


def _intake(found: list[list[Any]], *, places: int = 2) -> Intake:
    options: Any = SimpleNamespace(poll_interval=3600.0, batch=None, max_tasks=None, once=False)
    upkeep: Any = SimpleNamespace(draining=False, short=False, verdicts=lambda claims: {}, fate=lambda *_: "runs")
    made = Intake(
        options,
        {},  # type: ignore[arg-type]
        store=SimpleNamespace(claim=lambda actions, limit: found.pop(0)),  # type: ignore[arg-type]
        upkeep=upkeep,
        clerk=_Clerk(),  # type: ignore[arg-type]
        places=SimpleNamespace(free=places),  # type: ignore[arg-type]
        start=lambda claimed: None,
        unfinished=lambda: 0,
        say=lambda line: None,
    )
    made.open, made.hungry = True, False
    return made


def test_only_looks_for_what_was_announced_are_judged() -> None:
    looked: list[tuple[bool, bool]] = []
    intake = _intake([[], ["a"], [], []])
    intake.pace.looked = lambda seconds, found, heard: looked.append((found, heard))  # type: ignore[method-assign]
    for way in (intake.look_at_once, intake.hear, intake.hear, intake.look_at_once):
        way()
        intake.claim()
        intake.waiting.clear()
    assert looked == [(False, False), (True, True), (False, True), (False, False)]


def test_after_a_full_claim_a_lone_worker_looks_at_once_and_one_of_many_after_its_pause(clock: list[float]) -> None:
    intake = _intake([["a", "b"], ["a", "b"]])
    intake.hear()
    intake.claim()
    assert intake.hungry
    intake.waiting.clear()
    for _ in range(6):
        _look(intake.pace, clock, found=False)
    intake.claim()
    assert not intake.hungry
    # It looks before the next poll all the same.
    assert intake.poll_at <= time.monotonic() + LONGEST_SPREAD_SECONDS


@pytest.mark.django_db(transaction=True)
def test_what_is_announced_while_a_listener_pauses_wakes_once() -> None:
    woken, nudged, pauses, go = itertools.count(1), [], threading.Semaphore(0), threading.Event()
    times: list[int] = []

    def pause() -> float:
        pauses.release()
        assert go.wait(60)
        return 0.0

    listener = Listener(
        "default",
        ["deploy"],
        lambda: times.append(next(woken)),
        name="w1",
        nudged=lambda: nudged.append("nudged"),
        pause=pause,
    )
    try:
        eventually(lambda: times and nudged)  # once connected
        times.clear()
        nudged.clear()
        approved("deploy")
        assert pauses.acquire(timeout=60)
        for action in ("deploy", "other", "deploy"):
            approved(action)
        notify("default", ["w1"], channel=WORKERS)
        notify("default", ["w2"], channel=WORKERS)
        go.set()
        eventually(lambda: times and nudged)
        # Notifications come in order: behind this one there is none that was sent before it.
        notify("default", ["w1"], channel=WORKERS)
        eventually(lambda: len(nudged) == 2)
        assert len(times) == 1
        approved("deploy")
        eventually(lambda: len(times) == 2)
    finally:
        go.set()
        listener.end()
        eventually(lambda: listener._connection.connection is None)


@pytest.mark.django_db(transaction=True)
def test_of_several_idle_workers_one_finds_each_announced_task_without_a_poll() -> None:
    options = ("--concurrency", "1", "--actions", "quick", "--poll-interval", "3600")
    with worker(*options) as first, worker(*options) as second, worker(*options) as third:
        for each in (first, second, third):
            eventually(lambda each=each: each.said("one at a time"))
        listening = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN audit_task'"
        eventually(lambda: len(sql(listening)) == 3)
        for number in range(30):
            task = approved("quick")
            if number % 3:  # else the next one is announced while they wait or look
                eventually(lambda task=task: Task.objects.get(pk=task.pk).status == "completed")
        eventually(lambda: not Task.objects.exclude(status="completed").exists())
    assert set(Task.objects.values_list("attempt", flat=True)) == {1}
