"""What the demo is made of: who asks for work, what the handlers do, and the worker that is short or killed."""

import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from audit.agents.presence import Presence
from audit.agents.readings import Reading
from audit.models import Event, PauseQueueEntry, ResourceMetric, Task
from audit.pausing import PauseManager
from auditproj import audit_handlers
from auditproj.demo import capacity, ticker, workers
from auditproj.demo.ticker import UNAPPROVED, UNDECIDED, Ticker
from tests.support.worker import approved, eventually, run_all

_GATE = {"CAPACITY_GATE": "auditproj.demo.capacity.gate"}


def _ticker(**options: Any) -> Ticker:
    return Ticker(random.Random(3), **options)


@pytest.mark.django_db
def test_what_nobody_decides_stays_few_also_where_a_pile_was_left() -> None:
    pile = [Task.objects.request("check-disk", actor="agent-01") for _ in range(UNDECIDED + 5)]
    other = Task.objects.request("deploy", actor="alice")
    asks = _ticker()
    for _ in range(5):
        asks.tick()
    decided = Task.objects.filter(decided_by="policy:demo").values_list("pk", flat=True)
    assert sorted(decided) == [task.pk for task in pile[:5]]
    for _ in range(60):
        asks.tick()
        assert Task.objects.filter(status="pending").count() <= UNDECIDED + 2
    # Nobody works here, so nobody asks for more than some would do.
    assert Task.objects.filter(status="approved").count() <= 5 + ticker._WAITING
    assert Task.objects.filter(status="rejected").exists()
    other.refresh_from_db()
    assert other.status == "pending"


def _paused(action: str, plan: Any = None, **pause: Any) -> Task:
    approved(action, plan)
    [task] = Task.objects.claim(worker="w", actions=[action])
    task.pause(**pause)
    return task


@pytest.mark.django_db
def test_the_policy_approves_what_waits_longest_in_its_middle() -> None:
    asked = [_paused("roll-out", reason="awaiting_approval") for _ in range(UNAPPROVED + 2)]
    other = _paused("deploy", reason="awaiting_approval")
    for _ in range(5):
        _ticker()._approve()
    assert set(PauseQueueEntry.objects.values_list("task_id", flat=True)) == {other.pk, *(t.pk for t in asked[2:])}
    [first] = Task.objects.filter(pk=asked[0].pk)
    assert (first.status, first.actor) == ("approved", "policy:demo")


@pytest.mark.django_db
def test_events_come_after_a_while_and_some_never(monkeypatch: pytest.MonkeyPatch) -> None:
    never, later = (_paused("await-build", event=f"build-{each}") for each in (100_005, 100_006))
    _paused("deploy", event="approved-by-ci")
    _ticker()._emit()
    assert not Event.objects.exists()
    monkeypatch.setattr(ticker, "_EVENT_S", -1)
    _ticker()._emit()
    assert [(each.name, each.payload) for each in Event.objects.all()] == [
        ("build-100006", {"result": "passed", "tests": 6})
    ]
    for task in (never, later):
        task.refresh_from_db()
    assert (never.status, later.status) == ("paused", "approved")


@pytest.mark.django_db
def test_the_worker_that_is_short_pauses_large_work_with_the_evidence() -> None:
    agent = Presence("orch-2", actions=["reindex"], labels=["large"])
    agent.register()
    capacity.pretend("orch-2")  # without a reading there is nothing to add to
    assert not ResourceMetric.objects.exists()
    real = Reading(source="host", cpu=1.0, memory=0.3, memory_bytes_total=8_000_000_000, cpu_count=2)
    agent.beat(real)
    small, large = approved("check-disk"), approved("reindex", estimated_resources={"memory_bytes": 50_000_000})
    with override_settings(AUDIT=_GATE):
        manager = PauseManager()
        # No CPU is free, which neither of them asks for.
        assert [manager.check_capacity(each).kind for each in (small, large)] == ["free", "free"]
        asks = _ticker(short="orch-2")
        asks._began -= ticker._SHORT_EVERY_S - 1
        asks._shorten()
        asks._shorten()
        assert [each.source for each in ResourceMetric.objects.order_by("id")] == ["host", "host+demo"]
        assert Task.objects.filter(action="reindex").count() == 1
        assert manager.check_capacity(small).kind == "free"
        entry = manager.pause_for_capacity(large)
        assert entry is not None
        assert "5% of memory free" in entry.note
        agent.beat(real)
        assert manager.check_capacity(large).kind == "free"
        asks._began -= 30
        asks._shorten()
    assert ResourceMetric.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_the_handlers_do_what_they_say() -> None:
    looks = [approved(action) for action in audit_handlers.LOOKS]
    plan = {"steps": ["check the canary", "switch traffic", "remove the old version"]}
    rolled = approved("roll-out", plan)
    probe, service = approved("probe"), approved("start-service")
    built = approved("await-build", {"build": 7})
    large = approved("reindex", estimated_resources={"memory_bytes": 1})
    actions = [*audit_handlers.LOOKS, "roll-out", "probe", "start-service", "await-build", "reindex"]

    def worked() -> None:
        run_all(
            "--concurrency", "2", "--name", "orch-2", "--labels", "large", "--actions", ",".join(actions), code=None
        )

    worked()
    for task in (*looks, large):
        task.refresh_from_db()
        assert task.status == "completed", task.outcome
    rolled.refresh_from_db()
    [approval] = PauseQueueEntry.objects.filter(task=rolled)
    assert (rolled.status, approval.reason, approval.held) == ("paused", "awaiting_approval", True)
    assert approval.work_plan == {"steps": plan["steps"][1:]}
    approval.resume(actor="bob")
    [waits] = PauseQueueEntry.objects.filter(task=built)
    assert waits.event == "build-7"
    from audit import emit_event

    emit_event("build-7", {"result": "passed"})

    def tried_again() -> bool:
        worked()
        return not Task.objects.live().exists()

    eventually(tried_again)
    found = {each.action: each for each in Task.objects.filter(pk__in=[rolled.pk, probe.pk, service.pk, built.pk])}
    assert {action: (each.status, each.failures) for action, each in found.items()} == {
        "roll-out": ("completed", 0),
        "probe": ("failed", 2),
        "start-service": ("completed", 1),
        "await-build": ("completed", 0),
    }
    assert found["probe"].outcome["error_type"] == "ConnectionRefusedError"
    assert found["await-build"].outcome["output_summary"] == "build-7: passed"
    steps = rolled.execution_log.filter(kind="step").order_by("id").values_list("action", flat=True)
    assert list(steps) == plan["steps"]


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.mark.django_db(transaction=True)
def test_a_worker_is_killed_in_the_middle_of_its_work_and_comes_back(
    sleeper: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    crew = workers.Workers(tmp_path)
    crew._processes["orch-1"] = sleeper
    assert not workers._is_working("orch-1")
    approved("keep-still")
    Task.objects.claim(worker="orch-1")
    assert workers._is_working("orch-1")
    assert not workers._is_working("orch-2")
    started = []

    def start(name: str) -> None:
        started.append(name)
        crew._ended.set()

    monkeypatch.setattr(crew, "_start", start)
    for name, seconds in (("_FIRST_S", 0.0), ("_AWAY_S", 0.0)):
        monkeypatch.setattr(workers, name, seconds)
    crew._kill_now_and_then()
    assert started == ["orch-1"]
    assert sleeper.returncode == -9
