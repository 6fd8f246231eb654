"""Whether any agent has room for a piece of work, judged by the registry.

Note [Unknown]
    A resource of which nobody knows how much is free is not free and not short. So it pauses no work: that takes every
    agent to be known as short. And it resumes none at once: that takes one agent to be known as free. Work that was
    paused goes on by it only when its backoff is at its longest, one piece a slot, or it would wait for ever for a
    reading that does not come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from typing import Any, Literal
from uuid import UUID

from django.db import router

from audit import conf
from audit.agents.needs import UNESTIMATED, needs_of
from audit.agents.readings import Reading, read
from audit.agents.survey import Missing, Surveyed, absent, elsewhere, survey
from audit.models import Task
from audit.values.names import cut

__all__ = ["CapacityVerdict", "Kind", "capacity_here", "check_capacities", "check_capacity", "judged"]

Kind = Literal["free", "short", "unknown", "no_agent"]

_SHOWN = 50
_NAMED = 3
_LONGEST_NAME = 60
_WORDS = {"cpu": "CPU", "memory": "memory", "gpu": "GPU", "gpu_memory": "GPU memory"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityVerdict:
    """Whether there is capacity for a task."""

    kind: Kind
    """`free`: an agent has room. `short`: every agent that could do it is short. `unknown`: no agent is known to have
    room, and not every one to be short. `no_agent`: none that could do it takes work now."""
    evidence: dict[str, Any]
    """What it was judged by, as the log keeps it: `threshold`, `needs`, and of each agent its ratios free and the age
    of its reading in seconds."""
    summary: str
    """The same in one sentence."""


def check_capacity(task: Task, *, labels: Iterable[str] = (), using: str | None = None) -> CapacityVerdict:
    """Judge by the registry whether there is capacity for a task: the default of `AUDIT["CAPACITY_GATE"]`.

    Args:
        task: the work; if it is executing, only what started before it counts against it.
        labels: what it needs an agent to have.
        using: the alias to read through; the one that tasks are written to when left out, since a replica lags.
    """
    alias = using or router.db_for_write(Task, instance=task)
    return judged(task, survey(alias, before=task.pk), labels=labels, using=alias)


def check_capacities(
    tasks: Sequence[Task], *, labels_of: Callable[[Task], Iterable[str]] = lambda task: (), using: str | None = None
) -> list[CapacityVerdict]:
    """Judge tasks that were claimed together as if they had been claimed one by one, by one look at the registry.

    Args:
        tasks: executing work.
        labels_of: says what each needs an agent to have; nothing when left out.
        using: as for `check_capacity`.

    Returns:
        The verdicts, in the order of the tasks.
    """
    if not tasks:
        return []
    alias = using or router.db_for_write(Task, instance=tasks[0])
    began: dict[UUID | None, datetime] = {}
    for task in tasks:
        began[task.claim_token] = min(task.status_since, began.get(task.claim_token, task.status_since))
    # One claim writes its rows in any order.
    in_order = sorted(tasks, key=lambda task: (began[task.claim_token], task.priority, task.available_at, task.pk))
    agents = survey(alias, before=in_order[0].pk)
    by_name = {agent.name: agent for agent in agents}
    said = {}
    missing = cache(partial(elsewhere, alias))
    for task in in_order:
        said[task.pk] = judged(task, agents, labels=labels_of(task), using=alias, missing=missing)
        holder = by_name.get(task.claimed_by)
        if holder is not None and task.estimated_resources:
            holder.subtract(needs_of(task.estimated_resources))
    return [said[task.pk] for task in tasks]


def judged(
    task: Task,
    agents: Iterable[Surveyed],
    *,
    labels: Iterable[str] = (),
    using: str,
    threshold: float | None = None,
    missing: Callable[[], Iterable[Missing]] | None = None,
) -> CapacityVerdict:
    """Judge by a survey that was made already.

    Args:
        task: the work.
        agents: those that count as there.
        labels: what it needs an agent to have.
        using: the alias to read through who is missing.
        threshold: the ratio below which a resource is short; `AUDIT["CAPACITY_PAUSE_FREE"]` when left out.
        missing: returns the agents that do not count now; the database is asked when left out.
    """
    limit = conf.settings().CAPACITY_PAUSE_FREE if threshold is None else threshold
    needs = needs_of(task.estimated_resources)
    asked = {"action": task.action, "labels": list(labels), "threshold": limit, "needs": needs}
    able = [agent for agent in agents if not agent.draining and agent.able(task.action, labels)]
    if not able:
        gone = absent(using, task.action, labels, among=None if missing is None else missing())
        return CapacityVerdict(kind="no_agent", evidence={**asked, "absent": gone}, summary=_nobody(task, gone))
    lines = [_evidence(agent, needs, limit) for agent in able]
    kind: Kind = "short"
    if any(not line["short"] and not line["unknown"] for line in lines):
        kind = "free"
    elif not all(line["short"] for line in lines):
        kind = "unknown"
    evidence = {**asked, "considered": len(lines), "agents": lines[:_SHOWN]}
    return CapacityVerdict(kind=kind, evidence=evidence, summary=_sentence(kind, lines))


def capacity_here(reading: Reading | None = None) -> bool:
    """Whether this machine may take new work: neither CPU nor memory is known to be short. Unknown is not short.

    Args:
        reading: of this machine; made now when left out.
    """
    now = read() if reading is None else reading
    limit = conf.settings().CAPACITY_PAUSE_FREE
    return all(used is None or round(1 - used, 6) >= limit for used in (getattr(now, each) for each in UNESTIMATED))


def _evidence(agent: Surveyed, needs: Mapping[str, float | None], threshold: float) -> dict[str, Any]:
    return {
        "agent": agent.name,
        "free": {each: None if (free := agent.free[each]) is None else round(free, 4) for each in needs},
        "reading_age_s": agent.reading_age_s,
        "source": agent.source,
        "short": agent.lacks(needs, threshold),
        "unknown": agent.unknown(needs),
    }


def _sentence(kind: Kind, lines: list[dict[str, Any]]) -> str:
    heads = {
        "free": "There is capacity",
        "short": "Every agent that could do it is short",
        "unknown": "No agent is known to have room, and not every one to be short",
    }
    chosen = [line for line in lines if kind != "free" or not line["short"] + line["unknown"]]
    more = len(chosen) - _NAMED
    named = ", ".join(_agent_in_words(line) for line in chosen[:_NAMED])
    return f"{heads[kind]}: {named}{f' and {more} more' if more > 0 else ''}."


def _agent_in_words(line: dict[str, Any]) -> str:
    shown = line["short"] + line["unknown"] or list(line["free"])
    parts = [
        f"{_WORDS[each]} unknown" if line["free"][each] is None else f"{line['free'][each]:.0%} of {_WORDS[each]} free"
        for each in shown
    ]
    age = line["reading_age_s"]
    return f"{cut(line['agent'], _LONGEST_NAME)} ({'; '.join(parts)}{'' if age is None else f', {age:.0f} s ago'})"


def _nobody(task: Task, missing: list[dict[str, str]]) -> str:
    if not missing:
        return f"No agent is registered that could do {task.action!r}. Start a worker that has a handler for it."
    named = ", ".join(f"{cut(agent['agent'], _LONGEST_NAME)} is {agent['state']}" for agent in missing[:_NAMED])
    more = len(missing) - _NAMED
    return f"No agent that could do it takes work now: {named}{f' and {more} more' if more > 0 else ''}."
