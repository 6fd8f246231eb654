"""A worker in this process: what keeps it from work that it could claim, and what it costs while it cannot."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection

from audit.agents.draining import drain, undrain
from audit.agents.presence import Presence
from audit.models import Agent, ExecutionLog, Task
from audit.pausing import CapacityVerdict
from audit.worker import Worker
from audit.worker.calls import Calls
from audit.worker.shift import Shift
from audit.worker.store import Store
from tests.support.handling import audit_handlers
from tests.support.preloaded import Popen
from tests.support.worker import approved, eventually, logged, worker

assert audit_handlers

pytestmark = pytest.mark.django_db(transaction=True)


def _run(**options: Any) -> tuple[Worker, list[str]]:
    said: list[str] = []
    worker = Worker(name="here", concurrency=2, actions=["thread"], drain=True, say=said.append, **options)
    worker.run()
    return worker, said


def _verdict(kind: str) -> CapacityVerdict:
    return CapacityVerdict(kind=kind, evidence={"because": kind}, summary=f"It is {kind}.")


@pytest.mark.parametrize(("kind", "status"), [("short", "paused"), ("no_agent", "approved"), ("free", "completed")])
def test_the_gate_decides_before_a_handler_starts(kind: str, status: str, settings: LazySettings) -> None:
    settings.AUDIT = {"CAPACITY_GATE": lambda task: _verdict(kind)}
    task = approved("thread")
    _run()
    task.refresh_from_db()
    assert (task.status, task.failures) == (status, 0)
    assert ExecutionLog.objects.filter(task=task, action="in a thread").exists() == (kind == "free")


def test_a_gate_that_fails_holds_nothing_up(settings: LazySettings) -> None:
    def broken(task: Task) -> CapacityVerdict:
        raise ZeroDivisionError("no answer")

    settings.AUDIT = {"CAPACITY_GATE": broken}
    task = approved("thread")
    _, said = _run()
    task.refresh_from_db()
    assert task.status == "completed"
    assert any("the capacity gate failed, and it runs: ZeroDivisionError('no answer')" in line for line in said)


def test_a_worker_that_drains_claims_nothing(settings: LazySettings) -> None:
    settings.AUDIT = {"CAPACITY_GATE": None}
    Presence("here", actions=["thread"], labels=[], slots=1, using="default").register()
    Agent.objects.update(drain_requested_at="2026-01-01T00:00:00Z", drain_requested_by="carol")
    task = approved("thread")
    made, said = _run()
    assert made.summary.ended == 0
    assert any("Draining: no new work is taken." in line for line in said)
    task.refresh_from_db()
    assert (task.status, task.attempt) == ("approved", 0)


def test_a_drain_counts_from_the_next_claim_on() -> None:
    """Also before the worker knows of it."""
    Presence("here", actions=["thread"], labels=[], slots=1, using="default").register()
    Presence("other").register()
    store = Store("default", "here", timedelta(seconds=60), on_lost=lambda _: None, on_cancel=lambda _: None)
    first, second = approved("thread"), approved("thread")
    drain("other", reason="not this one", actor="carol")
    [claimed] = store.claim(["thread"], 1)
    assert claimed.task.pk == first.pk
    store.forget(claimed)
    drain("here", reason="new disks", actor="carol")
    assert store.claim(["thread"], 1) == []
    undrain("here")
    [claimed] = store.claim(["thread"], 1)
    assert claimed.task.pk == second.pk
    store.forget(claimed)


def test_nothing_begins_once_drain_has_waited(tmp_path: Path) -> None:
    with worker("--concurrency", "2", "--name", "w1", "--poll-interval", "0.01") as running:
        eventually(lambda: running.said("Worker w1 runs"))
        busy = approved("wait", str(tmp_path / "end"))
        logged(busy, "waits")
        enough = threading.Event()
        requests = threading.Thread(target=_request_until, args=(enough,))
        requests.start()
        command = Popen(
            [sys.executable, "-m", "django", "audit_agents", "drain", "w1", "--reason", "new disks", "--wait"],
            env=running.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            eventually(lambda: Agent.objects.get(name="w1").drain_confirmed)
            eventually(lambda: Task.objects.filter(attempt=0).exists())
            enough.set()
            assert command.poll() is None
            (tmp_path / "end").touch()
            out, _ = command.communicate(timeout=120)
        finally:
            enough.set()
            requests.join()
            command.kill()
        assert (out, command.returncode) == ("w1: draining, 0 running\n", 0)
        left = [task.pk for task in Task.objects.filter(attempt=0)]
        late = approved("echo")
        undrain("w1")
        eventually(lambda: not Task.objects.filter(status__in=["approved", "executing"]).exists())
        [ended] = ExecutionLog.objects.filter(task=late, from_status="pending").values_list("at", flat=True)
        assert left
        assert not Task.objects.filter(pk__in=left, started_at__lt=ended).exists()


def _request_until(enough: threading.Event) -> None:
    try:
        while not enough.wait(0.05):
            approved("echo")
    finally:
        connection.close()


def test_a_worker_whose_places_are_full_waits(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it cannot claim now must not wake it again and again."""
    settings.AUDIT = {"CAPACITY_GATE": None}
    first, second = approved("thread", "wait"), approved("thread")
    worker = Worker(name="here", concurrency=1, actions=["thread"], poll_interval=0.01, say=lambda line: None)
    real, open_ = Calls.wait, Shift._open
    waits: list[float] = []
    shifts: list[Shift] = []

    def wait(self: Calls, selector: Any, seconds: float) -> Any:
        intake = shifts[0]._intake
        if not intake.may_claim() and time.monotonic() > intake.poll_at:
            waits.append(seconds)
        return real(self, selector, seconds)

    def opened(self: Shift) -> None:
        shifts.append(self)
        open_(self)

    monkeypatch.setattr(Calls, "wait", wait)
    monkeypatch.setattr(Shift, "_open", opened)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        logged(first, "in a thread")
        seen = len(waits)

        def waits_again() -> bool:
            worker._calls.wake()
            return any(seconds > 0 for seconds in waits[seen:])

        eventually(waits_again)
        second.refresh_from_db()
        assert second.status == "approved"
    finally:
        worker.stop()
        thread.join()
    first.refresh_from_db()
    assert (first.status, first.failures) == ("approved", 0)
