"""Asks agents to take no new work, and lets them take work again."""

from __future__ import annotations

from typing import Any

from django.db import router
from django.db.models import DateTimeField, Func

from audit.exceptions import InvalidValue
from audit.leases.wakeup import nudge
from audit.models import Agent
from audit.values import validation
from audit.verbs.arguments import acting

__all__ = ["drain", "undrain"]


def drain(name: str, *, reason: str, actor: str | None = None, using: str | None = None) -> Agent:
    """Ask an agent to take no new work, until `undrain`, also after it restarts; asked again, the first time stays.

    A worker's next claim finds it. One that is under way may still begin work: once `Agent.drain_confirmed` is true,
    nothing begins any more.

    Args:
        name: the agent's.
        reason: why.
        actor: who asks; the `actor` block's name when left out.
        using: the alias to write through.

    Returns:
        The agent, equal to its row.

    Raises:
        InvalidValue: there is no such agent, or a value cannot be stored.
    """
    why = validation.label("reason", reason)
    alias = using or router.db_for_write(Agent)
    agents = Agent.objects.using(alias).filter(name=validation.label("name", name))
    agents.filter(drain_requested_at__isnull=True).update(
        # Later than every heartbeat that did not see it, whatever this statement waited for.
        drain_requested_at=Func(function="clock_timestamp", output_field=DateTimeField()),
        drain_requested_by=acting(actor),
        drain_reason=why,
    )
    agent = _the(agents, name)
    nudge(alias, name)
    return agent


def undrain(name: str, *, using: str | None = None) -> Agent:
    """Let an agent take work again.

    Args:
        name: the agent's.
        using: the alias to write through.

    Returns:
        The agent, equal to its row.

    Raises:
        InvalidValue: there is no such agent.
    """
    alias = using or router.db_for_write(Agent)
    agents = Agent.objects.using(alias).filter(name=validation.label("name", name))
    agents.update(drain_requested_at=None, drain_requested_by="", drain_reason="")
    agent = _the(agents, name)
    nudge(alias, name)
    return agent


def _the(agents: Any, name: str) -> Agent:
    agent: Agent | None = agents.first()
    if agent is None:
        raise InvalidValue("name", name, "is not an agent; `manage.py audit_agents list` names them")
    return agent
