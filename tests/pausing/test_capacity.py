"""Whether there is capacity: every agent short, one free, nobody there, nobody knows."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from audit.agents.draining import drain
from audit.agents.needs import needs_of
from audit.agents.readings import Reading
from audit.agents.survey import survey
from audit.exceptions import AuditError, InvalidValue
from audit.models import Agent, ExecutionLog, PauseQueueEntry, Task
from audit.pausing import CapacityVerdict, PauseManager, capacity_here, check_capacity, gate
from audit.status import Status
from tests.support.agents import GIB, aged, agent, approved, read_as, silent
from tests.support.factories import claimed

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("estimate", "needs"),
    [
        (None, {"cpu": None, "memory": None}),
        ({"wall_s": 30}, {"cpu": None, "memory": None}),
        ([1], {"cpu": None, "memory": None}),
        ({"peak_rss_bytes": 5}, {"memory": 5.0}),
        ({"peak_rss_bytes": 5, "memory_bytes": 7}, {"memory": 7.0}),
        ({"cpu_cores": 1.5, "gpu_vram_bytes": 9, "gpu": 1}, {"cpu": 1.5, "gpu": 1.0, "gpu_memory": 9.0}),
        ({"gpu": 0, "cpu": 2}, {"cpu": 2.0}),
        ({"gpu": False, "memory_bytes": None}, {"cpu": None, "memory": None}),
        ({"gpu": True, "memory_bytes": "a lot"}, {"gpu": None, "memory": None}),
        ({"memory_bytes": 10**400}, {"memory": None}),
        ({"memory_bytes": -5}, {"memory": None}),
    ],
)
def test_what_work_needs(estimate: Any, needs: dict[str, Any]) -> None:
    assert needs_of(estimate) == needs


@pytest.mark.parametrize(
    ("machines", "estimate", "kind"),
    [
        ([{"cpu": 0.5}], None, "free"),
        ([{"cpu": 0.81}], None, "short"),
        ([{"cpu": 0.80}], None, "free"),
        ([{"memory": 0.95}], None, "short"),
        ([{"memory": 0.95}, {"cpu": 0.95}], None, "short"),
        ([{"memory": 0.95}, {"cpu": 0.5}], None, "free"),
        # Only what the estimate asks for counts.
        ([{"cpu": 0.99}], {"peak_rss_bytes": GIB}, "free"),
        ([{"memory": 0.99}], {"cpu_cores": 1}, "free"),
        # It must fit, too; CPU is shared.
        ([{"memory": 0.5}], {"memory_bytes": 9 * GIB}, "short"),
        ([{"memory": 0.5}], {"memory_bytes": 7 * GIB}, "free"),
        ([{"memory": 0.5, "memory_bytes_total": None}], {"memory_bytes": 99 * GIB}, "free"),
        ([{"cpu": 0.5}], {"cpu_cores": 64}, "free"),
        # Unknown is neither.
        ([{"cpu": None}], None, "unknown"),
        ([{"cpu": None, "memory": 0.95}], None, "short"),
        ([{"cpu": 0.95}, {"cpu": None}], None, "unknown"),
        ([{}, {"cpu": None}], None, "free"),
        ([{}], {"gpu_vram_bytes": GIB}, "unknown"),
        ([{"gpu_memory": 0.9, "gpu_memory_bytes_total": 16 * GIB}], {"gpu_vram_bytes": GIB}, "short"),
        ([{"gpu_memory": 0.1, "gpu_memory_bytes_total": 16 * GIB}], {"gpu_vram_bytes": GIB}, "free"),
        ([{"gpu": 0.9}], {"gpu": 1}, "short"),
    ],
)
def test_the_verdict(machines: list[dict[str, Any]], estimate: Any, kind: str) -> None:
    for number, machine in enumerate(machines):
        agent(f"w{number}", **machine)
    verdict = check_capacity(approved(estimated_resources=estimate))
    assert verdict.kind == kind
    assert verdict.evidence["considered"] == len(machines)


def test_an_old_reading_is_unknown() -> None:
    agent(cpu=0.95)
    task = approved()
    assert check_capacity(task).kind == "short"
    aged(31)
    verdict = check_capacity(task)
    assert verdict.kind == "unknown"
    [line] = verdict.evidence["agents"]
    assert line["free"] == {"cpu": None, "memory": None}
    assert line["reading_age_s"] is None


def test_nobody_who_could_do_it_is_another_reason() -> None:
    task = approved()
    verdict = check_capacity(task)
    assert verdict.kind == "no_agent"
    assert verdict.summary == "No agent is registered that could do 'deploy'. Start a worker that has a handler for it."
    agent("backups", actions=["backup"], cpu=0.99)
    agent("gone", cpu=0.99)
    silent("gone", 200)
    agent("full", cpu=0.99)
    drain("full", reason="new disks", actor="alice")
    verdict = check_capacity(task)
    assert verdict.kind == "no_agent"
    assert sorted((each["agent"], each["state"]) for each in verdict.evidence["absent"]) == [
        ("full", "draining"),
        ("gone", "offline"),
    ]
    assert "gone is offline" in verdict.summary
    # The task stays approved, and an agent that is stale or drains is not waited for as if it were short.
    assert PauseManager().pause_for_capacity(task) is None
    task.refresh_from_db()
    assert task.status == Status.APPROVED


def test_labels_narrow_who_could() -> None:
    agent("plain", cpu=0.1)
    agent("with-gpu", labels=["gpu"], cpu=0.95)
    task = approved()
    assert check_capacity(task).kind == "free"
    assert check_capacity(task, labels=["gpu"]).kind == "short"
    assert check_capacity(task, labels=["zone-b"]).kind == "no_agent"
    assert PauseManager(labels_of=lambda each: ["gpu"]).check_capacity(task).kind == "short"


def test_estimates_of_work_just_started_are_subtracted() -> None:
    presence = agent(slots=8, memory=0.25)
    for _ in range(2):
        running = approved(estimated_resources={"memory_bytes": 5 * GIB, "note": ["long"]})
        claimed(running, "w1")
    [surveyed] = survey("default")
    assert surveyed.free["memory"] == pytest.approx(0.75 - 10 / 16)
    assert surveyed.free_slots == 6
    task = approved(estimated_resources={"memory_bytes": GIB})
    assert check_capacity(task).kind == "short"
    read_as(presence, memory=0.9)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("audit.agents.survey.conf.settings", lambda: _lag(0))
        # A reading that came after their start shows what they use.
        [surveyed] = survey("default")
    assert surveyed.free["memory"] == pytest.approx(0.1)


def test_its_own_estimate_is_not_subtracted_from_the_room_it_needs() -> None:
    agent(memory=0.25)
    task = claimed(approved(estimated_resources={"memory_bytes": 10 * GIB}), "w1")
    assert check_capacity(task).kind == "free"
    assert survey("default")[0].free["memory"] == pytest.approx(0.125)


def test_of_a_batch_as_many_are_free_as_fit() -> None:
    agent(memory=0.25, slots=8)
    for _ in range(6):
        approved(estimated_resources={"memory_bytes": 3 * GIB})
    kinds = [check_capacity(each).kind for each in Task.objects.claim("w1", limit=6)]
    # 12 of 16 GiB are free: after three of them 3 GiB, which is less than 20 %.
    assert kinds == ["free", "free", "free", "short", "short", "short"]


def test_of_a_batch_the_most_urgent_are_free() -> None:
    agent(memory=0.25, slots=8)
    for priority in range(5, 0, -1):
        approved(priority=priority, estimated_resources={"memory_bytes": 3 * GIB})
    batch = Task.objects.claim("w1", limit=5)
    assert [each.priority for each in batch] == [1, 2, 3, 4, 5]
    expected = ["free", "free", "free", "short", "short"]
    assert [check_capacity(each).kind for each in batch] == expected
    assert [each.kind for each in PauseManager().check_capacities(batch[::-1])] == expected[::-1]


def _lag(seconds: int) -> Any:
    return SimpleNamespace(AGENT_STALE_SECONDS=30, CAPACITY_LAG_SECONDS=seconds)


def test_a_pause_keeps_its_evidence_in_the_log() -> None:
    agent("w1", cpu=0.95, memory=0.5)
    agent("w2", cpu=0.5, memory=0.9)
    task = approved()
    entry = PauseManager().pause_for_capacity(task)
    assert entry is not None
    assert task.status == Status.PAUSED
    assert entry.reason == "insufficient_capacity"
    assert not entry.held
    assert 7.5 <= (entry.due_at - entry.paused_at).total_seconds() <= 15.5
    said = (
        r"Every agent that could do it is short: w1 \(5% of CPU free, \d+ s ago\), w2 \(10% of memory free, \d+ s ago\)"
    )
    assert re.match(said, entry.note)
    row = ExecutionLog.objects.of(task).get(action="capacity")
    assert row.output_summary == entry.note
    assert row.actor == entry.paused_by == "audit:capacity"
    assert row.detail["threshold"] == 0.2
    assert row.detail["needs"] == {"cpu": None, "memory": None}
    first, second = row.detail["agents"]
    assert (first["agent"], first["free"], first["short"]) == ("w1", {"cpu": 0.05, "memory": 0.5}, ["cpu"])
    assert (second["agent"], second["free"], second["short"]) == ("w2", {"cpu": 0.5, "memory": 0.1}, ["memory"])
    assert 0 <= first["reading_age_s"] < 30
    assert first["source"] == "host"


def test_every_such_pause_of_a_task_waits_longer(settings: Any) -> None:
    settings.AUDIT = {"CAPACITY_BACKOFF_SECONDS": 100, "CAPACITY_BACKOFF_MAX_SECONDS": 300}
    agent(cpu=0.95)
    task, waits = approved(), []
    for _ in range(4):
        entry = PauseManager().pause_for_capacity(task)
        assert entry is not None
        waits.append((entry.due_at - entry.paused_at).total_seconds())
        task = entry.resume()
    for wait, (low, high) in zip(waits, [(50, 101), (100, 201), (150, 301), (150, 301)], strict=True):
        assert low <= wait <= high


def test_executing_work_is_paused_under_its_claim_and_a_lost_one_is_not() -> None:
    agent(cpu=0.95)
    claim = claimed(approved(), "w1")
    stale = claimed_copy(claim)
    entry = PauseManager().pause_for_capacity(claim)
    assert entry is not None
    assert entry.paused_by == "w1"
    with pytest.raises(AuditError):
        PauseManager().pause_for_capacity(stale)
    assert stale.status == Status.EXECUTING
    assert ExecutionLog.objects.filter(action="capacity").count() == 1


def claimed_copy(task: Any) -> Any:
    return type(task).objects.get(pk=task.pk)


def test_without_the_evidence_there_is_no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    agent(cpu=0.95)
    claim = claimed(approved(), "w1")
    token = claim.claim_token

    def fails(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the log is full")

    monkeypatch.setattr("django.db.models.query.QuerySet.create", fails)
    with pytest.raises(RuntimeError, match="the log is full"):
        PauseManager().pause_for_capacity(claim)
    assert (claim.status, claim.claim_token) == (Status.EXECUTING, token)
    assert not PauseQueueEntry.objects.exists()
    claim.complete()


def test_short_workers_pause_what_nobody_has_room_for() -> None:
    agent(cpu=0.95, labels=[])
    tasks = [approved(priority=each) for each in (3, 1, 5, 2)]
    approved(estimated_resources={"memory_bytes": GIB}, priority=1)
    approved("backup", priority=1)
    entries = PauseManager().pause_short(limit=3, actions=["deploy"])
    assert [each.task_id for each in entries] == [tasks[1].pk, tasks[3].pk]
    entries = PauseManager().pause_short()
    assert {each.task_id for each in entries} >= {tasks[0].pk, tasks[2].pk}
    assert PauseManager().pause_short() == []
    agent("w2", cpu=0.1)
    approved()
    assert PauseManager().pause_short() == []


@pytest.mark.parametrize(
    ("reading", "room"),
    [
        (Reading(source="host", cpu=0.5, memory=0.5), True),
        (Reading(source="host", cpu=0.81, memory=0.5), False),
        (Reading(source="host", cpu=0.5, memory=0.81), False),
        (Reading(source="host", cpu=None, memory=None, gpu=1.0), True),
    ],
)
def test_a_worker_that_is_short_does_not_claim(reading: Reading, room: bool) -> None:
    assert capacity_here(reading) is room


def test_a_worker_reads_its_machine_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.pausing.capacity.read", lambda: Reading(source="host", cpu=0.99))
    assert capacity_here() is False


def always_short(task: Any) -> CapacityVerdict:
    return CapacityVerdict(kind="short", evidence={"task": str(task.pk)}, summary="Always short.")


def test_the_gate_is_a_setting(settings: Any) -> None:
    agent(cpu=0.1)
    assert gate() is check_capacity
    for given in (f"{__name__}.always_short", always_short):
        settings.AUDIT = {"CAPACITY_GATE": given}
        entry = PauseManager().pause_for_capacity(approved())
        assert entry is not None
        assert entry.note == "Always short."
    approved()
    assert len(PauseManager().pause_short()) == 1
    settings.AUDIT = {"CAPACITY_GATE": None}
    Agent.objects.all().update(slots=1)
    assert PauseManager().check_capacity(approved()).kind == "free"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"CAPACITY_GATE": "audit.nowhere.gate"}, "cannot be imported"),
        ({"CAPACITY_GATE": "audit.status.LIVE"}, "must name a callable"),
        ({"CAPACITY_GATE": 5}, "must be str"),
        ({"CAPACITY_PAUSE_FREE": 0.4}, "work would be paused and resumed in turn"),
        ({"CAPACITY_PAUSE_FREE": 0.3}, "work would be paused and resumed in turn"),
        ({"CAPACITY_PAUSE_FREE": 0}, "must be positive"),
        ({"CAPACITY_RESUME_FREE": 1.0}, "must be a ratio between 0 and 1"),
        ({"CAPACITY_RESUME_FREE": float("nan")}, "must be a ratio between 0 and 1"),
        ({"CAPACITY_RESUME_FREE": True}, "must be float"),
        ({"CAPACITY_BACKOFF_SECONDS": 300}, "the backoff could not grow"),
        ({"AGENT_HEARTBEAT_SECONDS": 30}, "every agent would be stale"),
        ({"AGENT_OFFLINE_SECONDS": 30}, "no agent would ever be stale"),
    ],
)
def test_settings_that_do_not_fit_are_reported(settings: Any, given: dict[str, Any], says: str) -> None:
    settings.AUDIT = given
    with pytest.raises(SystemCheckError, match="E004") as caught:
        call_command("check")
    assert says in str(caught.value)


@pytest.mark.parametrize("given", [{"CAPACITY_GATE": "audit.nowhere.gate"}, {"CAPACITY_GATE": "audit.status.LIVE"}])
def test_a_gate_that_is_none_is_refused(settings: Any, given: dict[str, Any]) -> None:
    settings.AUDIT = given
    with pytest.raises(AuditError, match="CAPACITY_GATE"):
        gate()


def test_long_names_of_agents_fit_into_the_note() -> None:
    for number in range(60):
        agent(f"{number:02}" + "\N{PILE OF POO}" * 498, cpu=0.95)
    entry = PauseManager().pause_for_capacity(approved())
    assert entry is not None
    assert entry.note.endswith("and 57 more.")
    assert len(entry.note) < 400
    evidence = ExecutionLog.objects.get(action="capacity").detail
    assert (evidence["considered"], len(evidence["agents"])) == (60, 50)


def test_evidence_of_a_gate_must_be_json(settings: Any) -> None:
    settings.AUDIT = {"CAPACITY_GATE": _talkative}
    task = approved()
    with pytest.raises(InvalidValue, match="evidence"):
        PauseManager().pause_for_capacity(task)
    assert Task.objects.get(pk=task.pk).status == task.status == Status.APPROVED


def _talkative(task: Any) -> CapacityVerdict:
    return CapacityVerdict(kind="short", evidence={"agents": {"w1"}}, summary="Short.")


@pytest.mark.django_db
def test_alike_work_that_needs_other_labels_is_judged_by_itself() -> None:
    agent("roomy", labels=["gpu"])
    agent("full", cpu=0.95, labels=["tape"])
    fits, short = approved(priority=1), approved(priority=2)
    labels = {fits.pk: ["gpu"], short.pk: ["tape"]}
    entries = PauseManager(labels_of=lambda task: labels[task.pk]).pause_short()
    assert [entry.task_id for entry in entries] == [short.pk]


@pytest.mark.django_db
def test_work_that_started_just_before_the_reading_counts_too_and_nothing_is_less_than_not_free() -> None:
    presence = agent("w1", cpu=0.1)
    for cpu, free in ((2, 0.4), (16, 0.0)):
        approved(estimated_resources={"cpu": cpu})
        assert len(Task.objects.claim("w1")) == 1
        read_as(presence, cpu=0.1)
        [seen] = survey("default")
        assert seen.free["cpu"] == pytest.approx(free)
