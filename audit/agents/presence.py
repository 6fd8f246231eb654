"""Shows the registry that an agent lives: it registers, sends heartbeats with a reading, and withdraws.

Note [Two processes of one name]
    The row belongs to the process that registered last; the other one learns by its next heartbeat that it was
    superseded. Both may go on, because leases alone decide whose work is whose. Once the row is given up, or without
    a heartbeat for `AUDIT["AGENT_OFFLINE_SECONDS"]`, whichever of them still lives has it again.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.apps import apps
from django.db import connections, router

from audit import conf
from audit.agents.pruning import prune_agents, prune_readings
from audit.agents.readings import Reading
from audit.models import Agent
from audit.models.querysets.agent import names
from audit.statements.retry import reconnecting
from audit.statements.rows import columns, fetch, run
from audit.values import validation

__all__ = ["Presence", "PresenceState"]

_READ = [each.name for each in fields(Reading)]
_KINDS = {"source": "text", "memory_bytes_total": "bigint", "gpu_memory_bytes_total": "bigint"}

_REGISTER = """
INSERT INTO audit_agent AS agent (name, actions, labels, slots, instance, host, pid, version)
VALUES (%s, %s::text[], %s::text[], %s, %s, %s, %s, %s)
ON CONFLICT (name) DO UPDATE
SET actions = excluded.actions, labels = excluded.labels, slots = excluded.slots, instance = excluded.instance,
    host = excluded.host, pid = excluded.pid, version = excluded.version, stopped_at = NULL,
    registered_at = statement_timestamp(), heartbeat_at = statement_timestamp()
RETURNING {columns}
"""

# A process that another one has superseded must not touch the row while its successor lives.
_BEAT = f"""
WITH mine AS (
    UPDATE audit_agent AS agent
    SET heartbeat_at = statement_timestamp(), stopped_at = NULL, instance = %s
    WHERE agent.name = %s AND (
        agent.instance = %s OR agent.stopped_at IS NOT NULL
        OR agent.heartbeat_at <= statement_timestamp() - %s)
    RETURNING agent.id, agent.drain_requested_at
), kept AS (
    INSERT INTO audit_resource_metric (agent_id, at, {", ".join(_READ)})
    SELECT mine.id, statement_timestamp(), {", ".join(f"%s::{_KINDS.get(name, 'double precision')}" for name in _READ)}
    FROM mine WHERE %s
)
SELECT mine.drain_requested_at IS NOT NULL, false FROM mine
UNION ALL
SELECT agent.drain_requested_at IS NOT NULL, true FROM audit_agent AS agent
WHERE agent.name = %s AND NOT EXISTS (SELECT FROM mine)
"""  # noqa: S608 - constants of this module; every value is a parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceState:
    """What the registry answers to a heartbeat."""

    draining: bool
    """Whether somebody asked this agent to take no new work."""
    superseded: bool
    """Whether another process has registered under this name and lives."""


class Presence:
    """One agent's place in the registry.

    Safe to use from several threads; each writes through its own connection, as Django has it.

    Args:
        name: the name that its claims are under, at most 500 characters.
        actions: the kinds of work it does; any when empty.
        labels: what it has that work may need, such as `gpu` or `zone-a`.
        slots: how much work it does at once.
        using: the alias to write through; the router's choice when left out.

    Raises:
        InvalidValue: a name that is empty or cannot be stored, slots that are not positive.
    """

    def __init__(
        self,
        name: str,
        *,
        actions: Iterable[str] = (),
        labels: Iterable[str] = (),
        slots: int = 1,
        using: str | None = None,
    ) -> None:
        self.name = validation.label("name", name)
        self.actions = names("actions", actions)
        self.labels = names("labels", labels)
        self.slots = validation.whole("slots", slots)
        self.instance = uuid4()
        self._using = using or router.db_for_write(Agent)

    def register(self) -> Agent:
        """Enter the registry, or take over the row of this name; a drain that was asked for stays asked for.

        Returns:
            The agent, equal to its row.
        """
        prune_agents(self._using)
        params = [
            *(self.name, self.actions, self.labels, self.slots, self.instance),
            *(validation.storable_text(socket.gethostname()), os.getpid(), _version()),
        ]
        sql = _REGISTER.format(columns=columns(Agent, "agent"))
        [agent] = reconnecting(connections[self._using], lambda: fetch(Agent, self._using, sql, params))
        return agent

    def beat(self, reading: Reading | None = None) -> PresenceState:
        """Send a heartbeat, and keep a reading; old readings, of whatever agent, are pruned on the way.

        An agent that was pruned meanwhile registers anew.

        Args:
            reading: of this machine; none is kept when left out.

        Returns:
            What the registry answers.
        """
        offline = timedelta(seconds=conf.settings().AGENT_OFFLINE_SECONDS)
        values: list[Any] = [None] * len(_READ) if reading is None else list(astuple(reading))
        params = [self.instance, self.name, self.instance, offline, *values, reading is not None, self.name]
        rows = reconnecting(connections[self._using], lambda: run(self._using, _BEAT, params))
        if not rows:
            self.register()
            return self.beat(reading)
        if reading is not None:
            prune_readings(self._using)
        [(draining, superseded)] = rows
        return PresenceState(draining=draining, superseded=superseded)

    def forget(self) -> None:
        """Leave the registry without a trace, if the row is this process's: for a name that never comes back."""
        Agent.objects.using(self._using).filter(name=self.name, instance=self.instance).delete()

    def withdraw(self) -> bool:
        """Say that this agent has stopped.

        Returns:
            Whether the row was this process's to give up.
        """
        sql = (
            "UPDATE audit_agent AS agent SET stopped_at = statement_timestamp()"
            " WHERE agent.name = %s AND agent.instance = %s RETURNING agent.id"
        )
        return bool(reconnecting(connections[self._using], lambda: run(self._using, sql, [self.name, self.instance])))


def _version() -> str:
    # Not by an import: the package offers what stands above this module.
    return str(apps.get_app_config("audit").module.__version__)  # type: ignore[union-attr]
