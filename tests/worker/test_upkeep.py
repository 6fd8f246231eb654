"""What a worker does beside its work: it registers, drains, keeps off when it is short, and asks the gate."""

from __future__ import annotations

import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import LazySettings

from audit.agents.presence import Presence
from audit.agents.readings import Reading
from audit.leases.keeper import keeper
from audit.models import Agent, ExecutionLog, PauseQueueEntry, ResourceMetric, Task
from audit.pausing import CapacityVerdict
from audit.worker import Worker, upkeep
from audit.worker import store as stores
from audit.worker.ending import End
from audit.worker.handlers import Handler
from audit.worker.shift import _cause
from audit.worker.store import Store
from audit.worker.upkeep import Upkeep
from tests.support.worker import approved, eventually, run_all

pytestmark = pytest.mark.django_db(transaction=True)

FREE = Reading(source="host", cpu=0.1, memory=0.1, cpu_count=8, memory_bytes_total=1 << 34)
FULL = Reading(source="host", cpu=0.99, memory=0.95, cpu_count=8, memory_bytes_total=1 << 34)


def _handler(action: str, **options: Any) -> Handler:
    values = {"labels": frozenset(), "max_attempts": 1, "timeout": None, "backoff": 1.0, "max_backoff": 1.0}
    return Handler(action=action, function=lambda run: None, isolation="thread", **values | options)


def _upkeep(name: str = "w1") -> Upkeep:
    return Upkeep("default", name, {"deploy": _handler("deploy")}, ["gpu"], 2, 1.0, set)


def _store(name: str = "w1") -> Store:
    return Store("default", name, timedelta(seconds=60), on_lost=print, on_cancel=print)


def test_a_worker_stands_in_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "read", lambda: FREE)
    kept = _upkeep()
    kept.begin()
    agent = Agent.objects.get()
    assert (agent.name, agent.actions, agent.labels, agent.slots) == ("w1", ["deploy"], ["gpu"], 2)
    assert ResourceMetric.objects.filter(agent=agent).count() == 1
    Agent.objects.update(drain_requested_at=agent.heartbeat_at, drain_requested_by="carol")
    assert kept._beat() == "Draining: no new work is taken."
    assert kept.draining
    Agent.objects.update(drain_requested_at=None, drain_requested_by="")
    assert kept._beat() == "No longer draining."
    kept.end()
    assert Agent.objects.get().stopped_at is not None


def test_a_worker_that_is_short_claims_nothing_and_pauses_what_nobody_has_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = approved("deploy")
    monkeypatch.setattr(upkeep, "read", lambda: FULL)
    kept = _upkeep()
    assert kept.begin() == "Short of capacity: no new work is taken."
    assert kept.short
    kept.pause_short()
    entry = PauseQueueEntry.objects.get(task=task)
    assert entry.reason == "insufficient_capacity"
    [note] = ExecutionLog.objects.filter(task=task, action="capacity")
    assert note.detail["agents"][0]["agent"] == "w1"
    monkeypatch.setattr(upkeep, "read", lambda: FREE)
    assert kept._beat() == "There is capacity again."
    PauseQueueEntry.objects.update(resume_after=entry.paused_at, due_at=entry.paused_at)
    assert kept._resume() == "Resumed 1 task that was due."


@pytest.mark.parametrize(("needed", "status"), [((), "approved"), (("gpu",), "paused")])
def test_only_an_agent_with_the_labels_of_the_handler_has_room(
    needed: tuple[str, ...], status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = approved("deploy")
    other = Presence("other", actions=["deploy"], labels=[], slots=1, using="default")
    other.register()
    other.beat(FREE)
    monkeypatch.setattr(upkeep, "read", lambda: FULL)
    kept = Upkeep("default", "w1", {"deploy": _handler("deploy", labels=frozenset(needed))}, ["gpu"], 2, 1.0, set)
    kept.begin()
    kept.pause_short()
    task.refresh_from_db()
    assert task.status == status


def test_the_gate_has_a_say_about_each_task(monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> None:
    kept, store = _upkeep(), _store()
    said = {"short": "paused", "no_agent": "released", "free": "runs", "unknown": "runs"}
    for kind, fate in said.items():
        task = approved("deploy")
        verdict = CapacityVerdict(kind=kind, evidence={"because": kind}, summary=f"It is {kind}.")
        settings.AUDIT = {"CAPACITY_GATE": lambda task, verdict=verdict: verdict}
        [claimed] = store.claim(["deploy"], 1)
        assert kept.fate(claimed) == fate, kind
        store.forget(claimed)
        task.refresh_from_db()
        expected = {"short": "paused", "no_agent": "approved"}
        assert task.status == expected.get(kind, "executing"), kind
        if kind == "no_agent":
            task.reject(actor="bob")
    settings.AUDIT = {"CAPACITY_GATE": None}
    approved("deploy")
    [claimed] = store.claim(["deploy"], 1)
    assert kept.fate(claimed) == "runs"
    store.forget(claimed)


def test_an_abandoned_claim_counts_as_its_own_only_while_its_lease_may_last(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(stores, "time", SimpleNamespace(monotonic=lambda: now[0]))
    store = _store()
    for _ in range(3):
        approved("deploy")
    first, second, held = (store.claim(["deploy"], 1)[0] for _ in range(3))
    tokens = [each.task.claim_token for each in (first, second, held)]
    store.abandon(first)
    now[0] += 120.0  # a lease lasts a minute, and a prolongation may have been under way
    assert store.tokens() == set(tokens)
    now[0] += 61.0
    assert store.tokens() == set(tokens[1:])
    store.abandon(second)
    assert store.tokens() == set(tokens[1:])
    assert len(store._abandoned) == 1
    store.forget(held)


def test_a_lease_that_the_store_forgets_is_kept_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = set()
    monkeypatch.setattr(keeper, "keep", lambda lease, **callbacks: kept.add(lease) or lease)
    monkeypatch.setattr(keeper, "forget", kept.remove)
    store = _store()
    for _ in range(2):
        approved("deploy")
    first, second = store.claim(["deploy"], 2)
    assert {each.task_id for each in kept} == {first.task.pk, second.task.pk}
    store.forget(first)
    assert {each.task_id for each in kept} == {second.task.pk}


def test_recovery_is_reported_in_words() -> None:
    task = approved("deploy")
    [claimed] = _store("gone").claim(["deploy"], 1)
    _store().forget(claimed)
    Task.objects.filter(pk=task.pk).update(lease_expires_at=task.created_at)
    kept = _upkeep()
    assert kept._recover() == "Recovered 1 task whose lease had run out."
    assert kept._recover() == ""


def _asked(kept: Upkeep) -> float:
    """Have it ask for the next moment; returns in how many seconds at most the next pass comes."""
    kept._resumes.due = begun = time.monotonic() + 3600
    assert kept._resume() == ""
    return kept._resumes.due - begun + 3600 - 0.5


def test_the_next_pass_comes_right_after_the_next_moment() -> None:
    kept = _upkeep()
    assert _asked(kept) == 3599.5  # there is no moment
    Task.objects.request("deploy", actor="alice", approve_before=timedelta(hours=2))
    assert _asked(kept) == 3599.5  # it is later than that
    Task.objects.request("deploy", actor="alice", approve_before=timedelta(minutes=20))
    assert _asked(kept) < 1300
    assert kept.wakes_at() <= kept._resumes.due
    late = Task.objects.request("deploy", actor="alice", approve_before=timedelta(microseconds=1))
    assert kept._resume() == "Recovered 1 task that nobody approved in time."
    late.refresh_from_db()
    assert (late.status, late.outcome["error_type"]) == ("rejected", "ApprovalExpired")
    kept.due()
    assert kept._resume not in kept.due()
    kept.ask_for_moments()
    assert kept._resume in kept.due()


@pytest.mark.parametrize("reason", ["manual_pause", "awaiting_event"])
def test_the_end_of_a_pause_is_such_a_moment(reason: str) -> None:
    kept = _upkeep()
    event = "never" if reason == "awaiting_event" else ""
    approved("deploy").pause(reason=reason, event=event, resume_after=timedelta(minutes=20))
    assert _asked(kept) < 1300
    task = approved("deploy")
    task.pause(reason=reason, event=event, resume_after=timedelta(microseconds=1))
    expected = "Recovered 1 task whose wait for an event timed out." if event else "Resumed 1 task that was due."
    assert kept._resume() == expected
    task.refresh_from_db()
    assert task.status == "approved"


def test_a_worker_recovers_before_its_first_claim() -> None:
    task = approved("quick")
    [claimed] = _store("gone").claim(["quick"], 1)
    _store().forget(claimed)
    Task.objects.filter(pk=task.pk).update(lease_expires_at=task.created_at)
    # It looks for work once, and finds what it has recovered.
    done = run_all("--concurrency", "1", "--actions", "quick", "--poll-interval", "3600")
    assert done.said("Recovered 1 task whose lease had run out.")
    task.refresh_from_db()
    assert (task.status, task.attempt, task.expiries) == ("completed", 2, 1)


def test_an_end_that_cannot_be_stored_fails_the_task() -> None:
    task = approved("deploy")
    store = _store()
    [claimed] = store.claim(["deploy"], 1)
    end = End(verb="pause", arguments={"priority": 77, "note": ""})
    assert store.save_end(claimed, end, None) == "failed"
    task.refresh_from_db()
    assert task.outcome["error_type"] == "NotStored"
    assert "priority" in task.outcome["output_summary"]


def test_what_was_changed_of_a_result_is_noted_once_however_often_its_end_is_sent() -> None:
    approved("deploy")
    store = _store()
    [claimed] = store.claim(["deploy"], 1)
    done = {"success": True, "error_type": None, "output_summary": ""}
    end = End(verb="complete", outcome=done, changes=["at: a moment became text"])
    assert [store.save_end(claimed, end, None) for _ in range(2)] == ["completed", "completed"]
    notes = ExecutionLog.objects.filter(task=claimed.task, output_summary__startswith="The result of the work")
    assert notes.count() == 1


def test_an_end_whose_answer_was_lost_is_no_loss() -> None:
    for verb, became in (("complete", "completed"), ("fail", "failed"), ("release", "released"), ("pause", "paused")):
        approved("deploy", priority=1)
        store = _store()
        [claimed] = store.claim(["deploy"], 1)
        end = End(verb=verb, outcome={"success": verb == "complete", "error_type": None, "output_summary": ""})
        assert store.save_end(claimed, end, None) == became
        assert store.save_end(claimed, end, None) == became
        for task in Task.objects.filter(status="approved"):
            task.reject(actor="bob")


_FAILURE: dict[str, Any] = {"success": False, "error_type": "E", "output_summary": "x"}


def test_a_retry_whose_answer_was_lost_is_no_loss() -> None:
    approved("deploy")
    store, handler = _store(), _handler("deploy", max_attempts=2, backoff=0.001, max_backoff=0.001)
    [claimed] = store.claim(["deploy"], 1)
    end = End(verb="fail", outcome=_FAILURE)
    assert store.save_end(claimed, end, handler) == "retried"
    # Whoever has it meanwhile does not change what was stored.
    eventually(lambda: Task.objects.claim("other", actions=["deploy"]))
    assert store.save_end(claimed, end, handler) == "retried"


@pytest.mark.parametrize("verb", ["fail", "release", "pause"])
def test_an_end_that_came_after_recovery_is_lost_however_often_it_was_sent(verb: str) -> None:
    task = approved("deploy")
    store, handler = _store(), _handler("deploy", max_attempts=2)
    [claimed] = store.claim(["deploy"], 1)
    claimed.tried = True  # and that try did not reach the database
    Task.objects.filter(pk=task.pk).update(lease_expires_at=task.created_at)
    assert [each.pk for each in Task.objects.recover_expired()] == [task.pk]
    assert store.save_end(claimed, End(verb=verb, outcome=_FAILURE), handler) == "lost"


def test_a_pause_whose_plan_goes_back_to_a_person_does_not_say_that_it_waits_for_the_event(
    settings: LazySettings,
) -> None:
    settings.AUDIT = {"REAPPROVE_CHANGED_PLANS": True}
    approved("deploy", ["a"])
    store = _store()
    [claimed] = store.claim(["deploy"], 1)
    end = End(verb="pause", arguments={"event": "build-42", "work_plan": ["b"], "note": "new"})
    assert store.save_end(claimed, end, None) == "paused"
    said = ": awaiting approval: The work plan is not a remainder of the approved plan. new"
    assert _cause(end.arguments, came=False) == said


def test_cancelled_work_is_not_retried() -> None:
    task = approved("deploy")
    store = _store()
    [claimed] = store.claim(["deploy"], 1)
    claimed.task.request_cancel(actor="carol")
    end = End(verb="fail", outcome={"success": False, "error_type": "E", "output_summary": "x"})
    assert store.save_end(claimed, end, _handler("deploy", max_attempts=5)) == "failed"
    task.refresh_from_db()
    assert task.status == "failed"


def test_cancelled_work_that_the_worker_gives_back_has_failed() -> None:
    task = approved("deploy")
    store = _store()
    [claimed] = store.claim(["deploy"], 1)
    claimed.task.request_cancel(actor="carol")
    assert store.save_end(claimed, End(verb="release", arguments={"reason": "stopped"}), None) == "failed"
    task.refresh_from_db()
    assert (task.status, task.outcome["error_type"]) == ("failed", "Cancelled")


def test_a_worker_that_stops_only_beats() -> None:
    kept = _upkeep()
    kept.due()
    for each in kept._passes:
        each.due = 0.0
    assert kept.wakes_at(stopping=True) == 0.0
    assert kept.due(stopping=True) == [kept._beat]
    assert kept.wakes_at(stopping=True) > time.monotonic()
    assert len(kept.due()) == len(kept._passes) - 1


def test_only_failures_use_up_attempts() -> None:
    task = approved("deploy")
    store, handler = _store(), _handler("deploy", max_attempts=2)
    failure = {"success": False, "error_type": "E", "output_summary": "x"}
    became = []
    for end in (End(verb="release"), End(verb="fail", outcome=failure), End(verb="release")):
        [claimed] = store.claim(["deploy"], 1)
        became.append(store.save_end(claimed, end, handler))
        Task.objects.filter(pk=task.pk).update(available_at=task.created_at)
    [claimed] = store.claim(["deploy"], 1)
    became.append(store.save_end(claimed, End(verb="fail", outcome=failure), handler))
    assert became == ["released", "retried", "released", "failed"]
    task.refresh_from_db()
    assert (task.status, task.attempt, task.failures) == ("failed", 4, 2)


def test_a_worker_can_be_run_from_code(settings: LazySettings) -> None:
    from tests.support.handling import audit_handlers

    assert audit_handlers
    settings.AUDIT = {"CAPACITY_GATE": None}
    good, bad = approved("thread"), approved("async", "block")
    said: list[str] = []
    worker = Worker(name="here", concurrency=2, actions=["thread", "async"], drain=True, say=said.append)
    summary = worker.run()
    assert summary.counts == {"completed": 1, "failed": 1}
    assert str(summary).startswith("1 completed, 1 failed in")
    assert said[-1].startswith("Stopped: 1 completed, 1 failed")
    for task in (good, bad):
        task.refresh_from_db()
    assert (good.status, bad.status) == ("completed", "failed")
