"""`manage.py audit_agents`: who could do work, what is in use there, and draining."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import router

from audit import conf
from audit.agents.draining import drain, undrain
from audit.agents.listing import with_readings
from audit.agents.needs import RESOURCES
from audit.management.base import FAILED, FINE, UNABLE, ListingCommand, os_user
from audit.management.output import count, duration, safe
from audit.management.tables import Column
from audit.models import Agent
from audit.reading.filters import add_database
from audit.status import AgentState

_LOOK_SECONDS = 0.2
_HELP = {
    "list": "list each agent: its state, its running tasks, and how busy its machine was last",
    "drain": "ask an agent to take no new work until it is undrained; its running tasks go on",
    "undrain": "let an agent take work again",
}


class Command(ListingCommand):
    """Lists agents, drains and undrains them."""

    outcome = UNABLE
    verbs = _HELP
    model = Agent
    help = (
        "List the agents of the registry (workers, and other programs that take work). Drain one, so that it takes no "
        "new work, or undrain it. Without a verb, list. `VERB --help` shows the options of each verb."
    )
    examples = (
        "audit_agents list",
        "audit_agents list --state stale --state offline",
        "audit_agents drain worker-1 --reason 'new disks' --wait",
        "audit_agents undrain worker-1",
    )
    exits = "0 done, 1 somebody undrained the agent during --wait, 2 could not do it"

    def add_arguments(self, parser: CommandParser) -> None:
        """Take a verb with its own options."""
        verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
        for verb, purpose in _HELP.items():
            description = f"{purpose[0].upper()}{purpose[1:]}."
            each = verbs.add_parser(verb, help=purpose, description=description, epilog=parser.epilog)
            if verb == "list":
                each.add_argument(
                    "--state",
                    action="append",
                    choices=AgentState.values,
                    help="list only agents in this state; repeat the option for several",
                )
            else:
                each.add_argument("name", metavar="NAME", help="the agent's name")
            if verb == "drain":
                each.add_argument("--reason", required=True, metavar="TEXT", help="why it takes no new work")
                each.add_argument("--actor", metavar="NAME", help=f"who asks (default {os_user()})")
                each.add_argument(
                    "--wait", action="store_true", help="wait until its running tasks have ended and it begins no more"
                )
            add_database(each)
            self.add_format(each)
            self.add_shared(each)

    def database(self, options: Mapping[str, Any]) -> str | None:
        """A listing may come from a replica, the rest may not."""
        return router.db_for_read(Agent) if options["verb"] == "list" else router.db_for_write(Agent)

    def run(self, **options: Any) -> int:
        """List, or change one."""
        using, name = options["database"], options.get("name", "")
        if options["verb"] == "list":
            return self._list(using, options)
        if options["verb"] == "drain":
            drain(name, reason=options["reason"], actor=options["actor"] or os_user(), using=using)
        else:
            undrain(name, using=using)
        self.acted = True
        agent = with_readings(using).filter(name=name).first()
        if agent is not None and options.get("wait"):
            agent = self._empty(agent, using)
        if agent is None:  # it has no name of its own, and has stopped
            self.note(f"{safe(name)}: stopped, and no longer registered.")
            return FINE
        if self.for_programs:
            self.json(_values(agent))
            return FINE
        unsure = options["verb"] == "drain" and not _begins_nothing(agent)
        self.line(
            f"{safe(agent.name)}: {agent.state}{', not confirmed yet' if unsure else ''}, {agent.running} running"
        )
        if unsure:
            self.note("It may still begin work until it confirms with its next heartbeat. --wait waits for that.")
        return FINE

    def _empty(self, agent: Any, using: str) -> Any:
        """Wait until an agent that drains runs nothing and begins nothing any more, or is gone: then None."""
        said = ""
        while not _begins_nothing(agent) or agent.running:
            waits = f"for {count(agent.running, 'task')}" if _begins_nothing(agent) else "until it confirms"
            if waits != said:
                self.note(f"{safe(agent.name)}: waiting {waits}.")
                said = waits
            time.sleep(_LOOK_SECONDS)
            name, agent = agent.name, with_readings(using).filter(name=agent.name).first()
            if agent is None:
                return None
            if agent.drain_requested_at is None:
                raise CommandError(f"{safe(name)} was undrained meanwhile.", returncode=FAILED)
        return agent

    def _list(self, using: str, options: dict[str, Any]) -> int:
        self.outcome = FINE
        agents = with_readings(using)
        if options["state"]:
            agents = agents.filter(state__in=options["state"])
        if self.for_programs:
            self.json_each(map(_values, agents.iterator()))
        elif not self._table(list(agents)):
            self.note("No agent matches." if options["state"] else "No agent is registered.")
        return FINE

    def _table(self, agents: list[Any]) -> bool:
        return self.table(
            (
                Column(title="Agent", name=True, least=12),
                Column(title="State", paint=self.paint),
                Column(title="Running", right=True),
                Column(title="Seen", right=True),
                Column(title="CPU", right=True, rank=1),
                Column(title="Memory", right=True, rank=1),
                Column(title="GPU", right=True, rank=4),
                Column(title="GPU mem", right=True, rank=4),
                Column(title="Actions", least=10, rank=3),
                Column(title="Labels", least=8, rank=5),
                Column(title="Why it drains", least=12, rank=2),
            ),
            (
                (
                    agent.name,
                    agent.state,
                    f"{agent.running}/{agent.slots}",
                    duration(agent.silent),
                    *(_percent((agent.reading or {}).get(each)) for each in RESOURCES),
                    ", ".join(agent.actions) or "any",
                    ", ".join(agent.labels) or None,
                    f"{agent.drain_reason} ({agent.drain_requested_by})" if agent.drain_requested_at else None,
                )
                for agent in agents
            ),
        )


def _begins_nothing(agent: Any) -> bool:
    """Whether an agent that drains begins no work any more: it has confirmed, or it is gone."""
    gone = agent.stopped_at is not None or agent.silent.total_seconds() > conf.settings().AGENT_OFFLINE_SECONDS
    return agent.drain_confirmed or gone


def _percent(ratio: float | None) -> str | None:
    return None if ratio is None else f"{ratio:.0%}"


def _values(agent: Any) -> dict[str, Any]:
    return {
        "agent": agent.name,
        "state": agent.state,
        "running": agent.running,
        "slots": agent.slots,
        "actions": agent.actions,
        "labels": agent.labels,
        "heartbeat_at": agent.heartbeat_at,
        "registered_at": agent.registered_at,
        "stopped_at": agent.stopped_at,
        "host": agent.host,
        "pid": agent.pid,
        "version": agent.version,
        "drain_requested_at": agent.drain_requested_at,
        "drain_requested_by": agent.drain_requested_by,
        "drain_reason": agent.drain_reason,
        "drain_confirmed": agent.drain_confirmed,
        "reading": agent.reading,
    }
