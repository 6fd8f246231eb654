"""Questions to the registry: who is there now, what each has left, and who is missing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from django.db import connections

from audit import conf
from audit.agents.needs import KEYS, RESOURCES, needs_of
from audit.models import Agent
from audit.models.querysets.agent import AgentQuerySet
from audit.statements.retry import persistently
from audit.statements.rows import run
from audit.values.patterns import covering

__all__ = ["Missing", "Registered", "Surveyed", "absent", "elsewhere", "survey"]

_TOTALS = {"cpu": "cpu_count", "memory": "memory_bytes_total", "gpu_memory": "gpu_memory_bytes_total"}
_ABSENT_SHOWN = 10
_MISSING = 1000

# An estimate may be a large document: only what is asked of it travels.
_ESTIMATE = "jsonb_build_object({})".format(", ".join(f"'{key}', task.estimated_resources -> '{key}'" for key in KEYS))
_SURVEY = f"""
SELECT agent.name, agent.actions, agent.labels, agent.slots, agent.drain_requested_at IS NOT NULL,
    coalesce(work.running, 0), work.started::text,
    metric.source, extract(epoch FROM statement_timestamp() - metric.at)::double precision,
    {", ".join(f"metric.{name}" for name in [*RESOURCES, *_TOTALS.values()])}
FROM audit_agent AS agent
LEFT JOIN LATERAL (
    SELECT * FROM audit_resource_metric AS reading WHERE reading.agent_id = agent.id
    ORDER BY reading.at DESC, reading.id DESC LIMIT 1
) AS metric ON metric.at > statement_timestamp() - %s
LEFT JOIN (
    SELECT task.claimed_by, count(*) AS running, jsonb_agg(jsonb_build_array(
            extract(epoch FROM statement_timestamp() - task.status_since), {_ESTIMATE}
        )) FILTER (WHERE task.status_since > statement_timestamp() - %s
            AND (own.id IS NULL OR CASE WHEN task.claim_token = own.claim_token
                THEN (task.priority, task.available_at, task.id) < (own.priority, own.available_at, own.id)
                ELSE (task.status_since, task.id) < (own.status_since, own.id) END)
            AND jsonb_typeof(task.estimated_resources) = 'object') AS started
    FROM audit_task AS task LEFT JOIN audit_task AS own ON own.id = %s AND own.status = 'executing'
    WHERE task.status = 'executing' GROUP BY task.claimed_by
) AS work ON work.claimed_by = agent.name
WHERE agent.stopped_at IS NULL AND agent.heartbeat_at > statement_timestamp() - %s
ORDER BY agent.name
"""  # noqa: S608 - constants of this package; every value is a parameter


@dataclass(slots=True, kw_only=True)
class Registered:
    """What an agent says it can do."""

    name: str
    actions: list[str]
    labels: list[str]

    def able(self, action: str, labels: Iterable[str] = ()) -> bool:
        """Whether it could do such work: an agent that names no actions does any."""
        named = not self.actions or not set(self.actions).isdisjoint(covering(action))
        return named and set(labels) <= set(self.labels)


@dataclass(slots=True, kw_only=True)
class Missing(Registered):
    """An agent that does not count now."""

    state: str


@dataclass(slots=True, kw_only=True)
class Surveyed(Registered):
    """An agent that sent a heartbeat lately, and what it has left; what is placed on it is subtracted."""

    slots: int
    draining: bool
    running: int
    """Executing tasks that are claimed under its name."""
    source: str | None
    """Where its reading is from; None without one that is young enough."""
    reading_age_s: float | None
    free: dict[str, float | None]
    """The ratio of each resource that is free, less what work asks for that has just started; None is unknown."""
    totals: dict[str, float | None] = field(default_factory=dict)
    """How much there is of a resource, in cores or bytes; None is unknown."""

    @property
    def free_slots(self) -> int:
        """How much more work it would take at once."""
        return max(self.slots - self.running, 0)

    def lacks(self, needs: Mapping[str, float | None], threshold: float) -> list[str]:
        """Name the resources that are known to be short.

        A resource is short when less than `threshold` of it is free, or when the amount does not fit into what is free.
        CPU is shared: work that asks for more than is free runs slower, so the amount of it is not a condition.

        Args:
            needs: see `audit.agents.needs.needs_of`.
            threshold: a ratio.
        """
        found = []
        for resource, amount in needs.items():
            free, total = self.free[resource], self.totals.get(resource)
            if free is not None and (
                free < threshold or (resource != "cpu" and amount and total and free * total < amount)
            ):
                found.append(resource)
        return found

    def unknown(self, needs: Mapping[str, float | None]) -> list[str]:
        """Name the needed resources of which nobody knows how much is free."""
        return [resource for resource in needs if self.free[resource] is None]

    def subtract(self, needs: Mapping[str, float | None]) -> None:
        """Take away what work will use that no reading shows yet."""
        for resource, amount in needs.items():
            free, total = self.free[resource], self.totals.get(resource)
            if free is not None and amount and total:
                self.free[resource] = max(free - amount / total, 0.0)

    def place(self, needs: Mapping[str, float | None]) -> None:
        """Let it have one more piece of work."""
        self.running += 1
        self.subtract(needs)


def survey(using: str, *, before: UUID | None = None) -> list[Surveyed]:
    """Read every agent with a heartbeat within `AUDIT["AGENT_STALE_SECONDS"]`, those that drain, too.

    A reading that is older is unknown. Of work that started after a reading, or up to `AUDIT["CAPACITY_LAG_SECONDS"]`
    before it, the estimate is subtracted.

    Args:
        using: the alias to read through.
        before: a task; if it is executing, only what started before it is subtracted, and of its own claim what is
            more urgent. So a batch is judged as if its tasks had been claimed one by one.

    Returns:
        The agents, by name.
    """
    now = conf.settings()
    stale, lag = timedelta(seconds=now.AGENT_STALE_SECONDS), timedelta(seconds=now.CAPACITY_LAG_SECONDS)
    found = []
    for name, actions, labels, slots, draining, running, started, source, age, *values in run(
        using, _SURVEY, [stale, stale + lag, before, stale]
    ):
        used, totals = values[: len(RESOURCES)], values[len(RESOURCES) :]
        agent = Surveyed(
            name=name,
            actions=actions,
            labels=labels,
            slots=slots,
            draining=draining,
            running=running,
            source=source,
            reading_age_s=None if age is None else round(age, 3),
            free={
                each: None if ratio is None else round(1 - ratio, 6)
                for each, ratio in zip(RESOURCES, used, strict=True)
            },
            totals=dict(zip(_TOTALS, totals, strict=True)),
        )
        for ago, estimate in json.loads(started or "[]", parse_int=float):
            if age is not None and ago < age + now.CAPACITY_LAG_SECONDS and any(estimate.values()):
                agent.subtract(needs_of(estimate))
        found.append(agent)
    return found


def elsewhere(using: str) -> list[Missing]:
    """Read the agents that do not count now: silent, stopped, or draining; the thousand that were there last.

    Args:
        using: the alias to read through.
    """
    agents = _elsewhere(using).with_state().order_by("-heartbeat_at")[:_MISSING]
    rows = persistently(connections[using], lambda: list(agents))
    return [Missing(name=each.name, actions=each.actions, labels=each.labels, state=each.state) for each in rows]


def _elsewhere(using: str) -> AgentQuerySet:
    counting = Agent.objects.using(using).fresh().filter(drain_requested_at__isnull=True)
    return Agent.objects.using(using).exclude(pk__in=counting.values("pk"))


def absent(
    using: str, action: str, labels: Iterable[str] = (), *, among: Iterable[Missing] | None = None
) -> list[dict[str, str]]:
    """Name agents that could do such work and do not count now: `agent` and `state` of each, ten at most.

    Args:
        using: the alias to read through.
        action: the kind of work.
        labels: what it needs.
        among: what `elsewhere` has read; the database is asked when left out.
    """
    if among is not None:
        able = [each for each in among if each.able(action, labels)]
        return [{"agent": each.name, "state": str(each.state)} for each in able[:_ABSENT_SHOWN]]
    agents = _elsewhere(using).able(action, labels).with_state()
    rows = persistently(connections[using], lambda: list(agents.order_by("-heartbeat_at")[:_ABSENT_SHOWN]))
    return [{"agent": row.name, "state": str(row.state)} for row in rows]
