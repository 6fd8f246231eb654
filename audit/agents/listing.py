"""The registry for people: every agent with its state and last reading, what runs there, and the last hour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import DurationField, ExpressionWrapper, F, OuterRef, Subquery
from django.db.models.fields.json import JSONField
from django.db.models.functions import JSONObject, Now

from audit.agents.needs import RESOURCES
from audit.models import Agent, ResourceMetric
from audit.statements.rows import run
from audit.status import AgentState

__all__ = ["HOUR", "MINUTES", "States", "Work", "history", "states", "with_readings", "work_of"]

MINUTES = 60
"""How many minutes `history` looks back."""
HOUR = timedelta(minutes=MINUTES)

_STATES = 10_000

# One pass over what is executing, whoever has it.
_WORK = """
SELECT claimed_by, id, action, left(summary, 120), status_since, lease_expires_at <= statement_timestamp(), place
FROM (
    SELECT *, row_number() OVER (PARTITION BY claimed_by ORDER BY status_since, id) AS place
    FROM audit_task WHERE status = 'executing' AND claimed_by = ANY (%s)
) AS running WHERE place <= %s ORDER BY claimed_by, place
"""
_HISTORY = f"""
SELECT agent_id, floor(extract(epoch FROM statement_timestamp() - at) / 60)::int AS minute,
    {", ".join(f"avg({name})" for name in RESOURCES)}
FROM audit_resource_metric
WHERE agent_id = ANY (%s) AND at > statement_timestamp() - %s AND at <= statement_timestamp()
GROUP BY 1, 2
"""  # noqa: S608 - constants of this package; every value is a parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """An executing task of an agent."""

    task: UUID
    action: str
    summary: str
    """Its beginning."""
    since: datetime
    expired: bool
    """Whether its lease has run out, by the database's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class States:
    """How many agents are in each state."""

    counts: Mapping[str, int]
    stopped: int
    """How many of the offline ones stopped in good order."""


def with_readings(using: str) -> Any:
    """Every agent by name, with `state`, `running`, `silent` (how long ago its last heartbeat was, a timedelta),
    `reading`, its last one as an object of `at`, `source` and the ratios in use (None without one), and `reading_age`.

    Args:
        using: the alias to read through.
    """
    newest = ResourceMetric.objects.filter(agent=OuterRef("pk")).order_by("-at", "-id")
    last = newest.values(reading=JSONObject(**{each: F(each) for each in ("at", "source", *RESOURCES)}))
    age = newest.annotate(age=_since("at")).values("age")
    agents = Agent.objects.using(using).with_state().order_by("name")
    return agents.annotate(
        reading=Subquery(last[:1], output_field=JSONField()),
        reading_age=Subquery(age[:1], output_field=DurationField()),
        silent=_since("heartbeat_at"),
    )


def states(using: str) -> States:
    """Count agents by state, up to ten thousand of them."""
    agents: Any = Agent.objects.using(using).with_state().order_by("name")
    found = list(agents.values_list("state", "stopped_at")[:_STATES])
    return States(
        counts=Counter(state for state, _stopped in found),
        stopped=sum(state == AgentState.OFFLINE and stopped is not None for state, stopped in found),
    )


def work_of(using: str, names: Sequence[str], most: int) -> dict[str, list[Work]]:
    """Read what runs on agents, the longest first.

    Args:
        using: the alias to read through.
        names: the agents'.
        most: how many tasks of each at most.
    """
    found: dict[str, list[Work]] = {}
    for name, task, action, summary, since, expired, _place in run(using, _WORK, [list(names), most]):
        work = Work(task=task, action=action, summary=summary, since=since, expired=bool(expired))
        found.setdefault(name, []).append(work)
    return found


def history(using: str, agents: Sequence[int]) -> dict[int, dict[str, list[float | None]]]:
    """Read how much of each resource was in use in each minute of the last hour, the oldest first.

    Args:
        using: the alias to read through.
        agents: their ids.

    Returns:
        Of each agent that was read in that hour, of each resource `MINUTES` ratios: the mean of a minute, None where
        nobody knows.
    """
    found: dict[int, dict[str, list[float | None]]] = {}
    for agent, minute, *ratios in run(using, _HISTORY, [list(agents), HOUR]):
        of_agent = found.setdefault(agent, {name: [None] * MINUTES for name in RESOURCES})
        for name, ratio in zip(RESOURCES, ratios, strict=True):
            of_agent[name][MINUTES - 1 - min(minute, MINUTES - 1)] = ratio
    return found


def _since(column: str) -> ExpressionWrapper[Any]:
    return ExpressionWrapper(Now() - F(column), output_field=DurationField())
