"""The registry: heartbeats, states by the database's clock, and what the tables refuse."""

import os
import socket
import uuid
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.db.utils import ConnectionDoesNotExist

from audit.agents.draining import drain, undrain
from audit.agents.presence import Presence
from audit.agents.pruning import Pruned, prune
from audit.agents.readings import Reading
from audit.exceptions import InvalidValue
from audit.ledger.tlog.canonical import FORMS
from audit.models import Agent, ResourceMetric
from audit.status import AgentState
from tests.support.factories import CHECK, claimed, refused, requested

pytestmark = pytest.mark.django_db

READING = Reading(source="host", cpu=0.25, memory=0.5, cpu_count=2.0, memory_bytes_total=8_000_000_000)


def state_of(name: str) -> tuple[str, int]:
    found = Agent.objects.with_state().get(name=name)
    return found.state, found.running


def silent_for(name: str, seconds: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE audit_agent SET heartbeat_at = statement_timestamp() - %s WHERE name = %s",
            [timedelta(seconds=seconds), name],
        )


def test_an_agent_registers_once_and_is_its_row() -> None:
    presence = Presence("w1", actions=["deploy", "backup", "deploy"], labels=["gpu"], slots=4)
    agent = presence.register()
    assert (agent.actions, agent.labels, agent.slots) == (["deploy", "backup"], ["gpu"], 4)
    assert agent.instance == presence.instance
    assert agent.pid
    assert agent.host
    assert agent.version
    assert state_of("w1") == (AgentState.AVAILABLE, 0)
    again = Presence("w1", slots=2).register()
    assert again.pk == agent.pk
    assert (again.actions, again.labels, again.slots) == ([], [], 2)


class _Elsewhere:
    """A router for databases that are not there."""

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "elsewhere"


@pytest.mark.parametrize(
    "act",
    [
        partial(drain, "w1", actor="carol", reason="maintenance"),
        partial(undrain, "w1"),
        prune,
        lambda **given: Presence("w1", **given).register(),
    ],
    ids=["drain", "undrain", "prune", "register"],
)
def test_the_alias_that_is_given_comes_before_the_router(act: Any, settings: Any) -> None:
    Presence("w1").register()
    settings.DATABASE_ROUTERS = [f"{__name__}._Elsewhere"]
    act(using="default")
    with pytest.raises(ConnectionDoesNotExist, match="elsewhere"):
        act()


def test_an_agent_that_stopped_is_there_again_once_it_registers() -> None:
    presence = Presence("w1")
    presence.register()
    assert presence.withdraw()
    assert not Agent.objects.fresh().exists()
    assert Presence("w1").register().stopped_at is None
    assert state_of("w1")[0] == AgentState.AVAILABLE


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"slots": 0}, "slots"),
        ({"slots": True}, "slots"),
        ({"actions": "deploy"}, "actions"),
        ({"labels": [""]}, r"labels\[0\]"),
        ({"labels": ["a\0"]}, r"labels\[0\]"),
    ],
)
def test_what_cannot_be_registered_is_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidValue, match=field):
        Presence("w1", **options)
    with pytest.raises(InvalidValue, match="name"):
        Presence("  ")


def test_state_is_derived_by_the_databases_clock() -> None:
    presence = Presence("w1", slots=2)
    presence.register()
    for _ in range(2):
        task = requested()
        task.approve()
        claimed(task, "w1")
    other = requested()
    other.approve()
    claimed(other, "w2")
    assert state_of("w1") == (AgentState.BUSY, 2)
    silent_for("w1", 31)
    assert state_of("w1") == (AgentState.STALE, 2)
    assert not Agent.objects.fresh().exists()
    silent_for("w1", 121)
    assert state_of("w1")[0] == AgentState.OFFLINE
    presence.beat()
    assert state_of("w1")[0] == AgentState.BUSY
    assert Agent.objects.fresh().get().name == "w1"
    presence.withdraw()
    assert state_of("w1")[0] == AgentState.OFFLINE
    assert not Agent.objects.fresh().exists()
    Agent.objects.update(drain_requested_at="2026-01-01T00:00:00Z")
    assert state_of("w1")[0] == AgentState.DRAINING


def test_the_spans_of_states_are_settings(settings: Any) -> None:
    Presence("w1").register()
    silent_for("w1", 31)
    settings.AUDIT = {"AGENT_STALE_SECONDS": 60}
    assert state_of("w1")[0] == AgentState.AVAILABLE
    settings.AUDIT = {"AGENT_HEARTBEAT_SECONDS": 2, "AGENT_STALE_SECONDS": 10, "AGENT_OFFLINE_SECONDS": 20}
    assert state_of("w1")[0] == AgentState.OFFLINE


def test_who_could_do_which_work() -> None:
    Presence("any").register()
    Presence("deployer", actions=["deploy"], labels=["gpu", "zone-a"]).register()
    Presence("backups", actions=["backup"], labels=["gpu"]).register()

    def able(*arguments: Any) -> list[str]:
        return sorted(Agent.objects.able(*arguments).values_list("name", flat=True))

    assert able("deploy") == ["any", "deployer"]
    assert able("deploy", ["gpu"]) == ["deployer"]
    assert able("deploy", ["gpu", "zone-b"]) == []
    assert able("backup", ["gpu"]) == ["backups"]
    with pytest.raises(InvalidValue, match="labels"):
        able("deploy", "gpu")


def test_a_beat_keeps_its_reading_as_it_is() -> None:
    presence = Presence("w1")
    presence.register()
    assert not presence.beat(READING).draining
    metric = ResourceMetric.objects.of(Agent.objects.get()).get()
    assert {name: getattr(metric, name) for name in ("source", "cpu", "memory", "cpu_count", "memory_bytes_total")} == {
        "source": "host",
        "cpu": 0.25,
        "memory": 0.5,
        "cpu_count": 2.0,
        "memory_bytes_total": 8_000_000_000,
    }
    # Unknown, and never zero.
    assert (metric.gpu, metric.gpu_memory, metric.gpu_memory_bytes_total) == (None, None, None)
    presence.beat()
    assert ResourceMetric.objects.count() == 1


def test_a_drain_outlives_the_process_and_is_answered() -> None:
    Presence("w1").register()
    Agent.objects.update(drain_requested_at="2026-01-01T00:00:00Z", drain_reason="new disks")
    again = Presence("w1")
    assert again.register().drain_reason == "new disks"
    assert again.beat().draining


def test_the_process_that_registered_last_has_the_row() -> None:
    first, second = Presence("w1", slots=1), Presence("w1", slots=8)
    first.register()
    second.register()
    silent_for("w1", 20)
    before = Agent.objects.get()
    assert first.beat(READING).superseded
    assert Agent.objects.get().heartbeat_at == before.heartbeat_at
    assert not ResourceMetric.objects.exists()
    assert not first.withdraw()
    assert Agent.objects.get().stopped_at is None
    assert not second.beat(READING).superseded
    # The second one is gone: the first, which still lives, has it again.
    assert second.withdraw()
    assert not first.beat(READING).superseded
    assert Agent.objects.get().instance == first.instance
    silent_for("w1", 121)
    assert not second.beat().superseded


def test_an_agent_that_was_pruned_registers_anew() -> None:
    presence = Presence("w1", slots=3)
    presence.register()
    Agent.objects.all().delete()
    presence.beat(READING)
    assert Agent.objects.get().slots == 3
    assert ResourceMetric.objects.count() == 1


@pytest.mark.parametrize(
    "values",
    [
        {"cpu": 1.01},
        {"memory": -0.01},
        {"gpu": float("nan")},
        {"gpu_memory": float("inf")},
        {"memory_bytes_total": 0},
        {"cpu_count": 0.0},
        {"cpu_count": float("nan")},
        {"gpu_memory_bytes_total": -1},
    ],
)
def test_readings_are_ratios(values: dict[str, Any]) -> None:
    agent = Presence("w1").register()
    with refused(CHECK):
        ResourceMetric.objects.create(agent=agent, source="host", **values)
    assert not ResourceMetric.objects.exists()


@pytest.mark.parametrize("values", [{"name": ""}, {"slots": 0}, {"heartbeat_at": "0001-01-01T00:00:00Z"}])
def test_agents_are_named_and_have_slots(values: dict[str, Any]) -> None:
    with refused(CHECK):
        Agent.objects.create(**{"name": "w1", "instance": uuid.uuid4()} | values)


def test_no_seal_and_no_guard_covers_the_registry() -> None:
    Presence("w1").register()
    assert Agent.objects.all().delete()[0] == 1
    assert not {Agent._meta.db_table, ResourceMetric._meta.db_table} & {form.table for form in FORMS}


def _age_readings(count: int, span: timedelta) -> None:
    agent = Agent.objects.get()
    ResourceMetric.objects.bulk_create([ResourceMetric(agent=agent, source="host") for _ in range(count)])
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audit_resource_metric SET at = at - %s", [span])


def test_readings_are_pruned_in_bounded_passes(settings: Any) -> None:
    settings.AUDIT = {"METRICS_KEEP_SECONDS": 3600}
    presence = Presence("w1")
    presence.register()
    _age_readings(450, timedelta(hours=2))
    presence.beat(READING)
    assert ResourceMetric.objects.count() == 451 - 200
    assert prune(limit=200) == Pruned(readings=200, agents=0)
    assert prune(limit=200) == Pruned(readings=50, agents=0)
    assert ResourceMetric.objects.get().cpu == 0.25
    with pytest.raises(InvalidValue, match="limit"):
        prune(limit=0)


def test_a_stopped_agent_with_a_generated_name_goes_with_its_last_reading(settings: Any) -> None:
    settings.AUDIT = {"METRICS_KEEP_SECONDS": 3600}
    generated = f"{socket.gethostname()}:{os.getpid()}"
    for name in (generated, "named"):
        presence = Presence(name)
        presence.register()
        presence.beat(READING)
        presence.withdraw()
    assert prune() == Pruned(readings=0, agents=0)
    ResourceMetric.objects.all().delete()
    assert prune() == Pruned(readings=0, agents=1)
    assert [each.name for each in Agent.objects.all()] == ["named"]
    running = Presence(generated)
    running.register()
    assert prune() == Pruned(readings=0, agents=0)


def test_agents_that_are_gone_for_long_are_pruned(settings: Any) -> None:
    settings.AUDIT = {"AGENTS_KEEP_SECONDS": 3600, "METRICS_KEEP_SECONDS": 3600}
    for name in ("gone", "drained", "here", "with-readings"):
        presence = Presence(name)
        presence.register()
        if name == "with-readings":
            presence.beat(READING)
    for name in ("gone", "drained", "with-readings"):
        silent_for(name, 3601)
    Agent.objects.filter(name="drained").update(drain_requested_at="2026-01-01T00:00:00Z")
    assert prune() == Pruned(readings=0, agents=1)
    assert set(Agent.objects.values_list("name", flat=True)) == {"drained", "here", "with-readings"}
