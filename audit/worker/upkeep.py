"""What every worker does beside its work, in bounded passes with jitter: no leader is needed for any of it.

It recovers what others left behind, resumes paused work that is due and fits, and shows the registry of agents that it
lives. Everything here runs in the clerk's thread.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from audit import conf
from audit.agents.presence import Presence
from audit.agents.readings import read
from audit.pausing import CapacityVerdict, PauseManager, capacity_here, check_capacity, gate
from audit.recovery import RecoveryReport, Sweep, next_moment, recover, recover_due
from audit.worker.handlers import Handler
from audit.worker.own_name import OwnName
from audit.worker.store import Claimed

__all__ = ["Upkeep"]

_LIMIT = 100
_LOOKED_AT = 500
_LONGEST_REASON = 1000
_RESUME_SECONDS = 5.0
_AFTER_SECONDS = 0.5
_LEAST_SECONDS = 1.0
"""So long at most after a moment the pass comes that it makes due: workers must not all come at once."""


@dataclass(slots=True)
class _Pass:
    run: Callable[[], str]
    every: Callable[[], float]
    due: float = 0.0


class Upkeep:
    """The passes, and what they found out.

    Args:
        using: the alias of the database.
        name: of the worker.
        handlers: what it runs, by action.
        labels: what it offers.
        slots: how much it runs at once.
        recover_seconds: between two looks for what others left behind.
        tokens: returns the claim tokens of all that this worker works on.
        is_named: whether somebody chose the name; host and process id are forgotten at the end.
    """

    def __init__(
        self,
        using: str,
        name: str,
        handlers: Mapping[str, Handler],
        labels: Sequence[str],
        slots: int,
        recover_seconds: float,
        tokens: Callable[[], Collection[UUID]],
        *,
        is_named: bool = True,
    ) -> None:
        self._using = using
        self._is_named = is_named
        self.own_name = OwnName(using, name, tokens)
        self._handlers = handlers
        self._presence = Presence(name, actions=list(handlers), labels=labels, slots=slots, using=using)
        self._manager = PauseManager(using, labels_of=lambda task: self._labels_of(task.action))
        self._beats = _Pass(self._beat, lambda: conf.settings().AGENT_HEARTBEAT_SECONDS)
        self._recovers = _Pass(self._recover, lambda: recover_seconds)
        self._resumes = _Pass(self._resume, lambda: _RESUME_SECONDS)
        self._takes_over = _Pass(self._take_over, lambda: conf.settings().AGENT_HEARTBEAT_SECONDS)
        self._passes = [self._beats, self._takes_over, self._recovers, self._resumes]
        self._sweep = Sweep()
        self.draining = False
        """Whether somebody asked this worker to take no new work."""
        self.short = False
        """Whether this machine has no room for new work."""

    def _labels_of(self, action: str) -> frozenset[str]:
        handler = self._handlers.get(action)
        return frozenset() if handler is None else handler.labels

    def wakes_at(self, *, stopping: bool = False) -> float:
        """When the next pass is due, on the monotonic clock; a worker that stops only beats."""
        return self._beats.due if stopping else min(each.due for each in self._passes)

    def ask_to_beat(self) -> None:
        """Send the next heartbeat soon: somebody may have asked this worker to drain."""
        self._beats.due = 0.0

    def ask_for_moments(self) -> None:
        """Look soon for the next moment that makes something due; called when work was paused until one."""
        self._resumes.due = 0.0

    def due(self, *, stopping: bool = False) -> list[Callable[[], str]]:
        """Return the passes that are due now; each returns a line for the person, or nothing."""
        now = time.monotonic()
        found = [each for each in ([self._beats] if stopping else self._passes) if each.due <= now]
        for each in found:
            each.due = now + each.every() * random.uniform(0.75, 1.25)  # noqa: S311 - a wait, no secret
        return [each.run for each in found]

    def begin(self) -> str:
        """Register, recover before the first claim, and return a line for the person, or nothing."""
        self._presence.register()
        beat = self._beat()
        for each in (self._beats, self._recovers):
            each.due = time.monotonic() + each.every()
        return f"{self._recover()} {beat}".strip()

    def end(self) -> None:
        """Leave the registry; a name that comes back stays there, and the next process goes on with it."""
        self._presence.withdraw() if self._is_named else self._presence.forget()

    # The passes

    def _beat(self) -> str:
        reading = read()
        state = self._presence.beat(reading)
        said = ""
        if state.draining != self.draining:
            self.draining = state.draining
            said = "Draining: no new work is taken." if state.draining else "No longer draining."
        short = gate() is check_capacity and not capacity_here(reading)
        if short != self.short:
            self.short = short
            said += " Short of capacity: no new work is taken." if short else " There is capacity again."
        return said.strip()

    def _take_over(self) -> str:
        taken = self.own_name.take_over()
        usual = self._takes_over.every()
        self._takes_over.due = time.monotonic() + self.own_name.next_look(usual)
        return f"Took over {len(taken)} that the last worker of this name left." if taken else ""

    def _recover(self) -> str:
        report = recover(limit=_LIMIT, sweep=self._sweep, using=self._using)
        if report.is_full(_LIMIT):
            self._recovers.due = 0.0
        return _in_words(report)

    def _resume(self) -> str:
        said = []
        passed, seconds = next_moment(using=self._using)
        if passed:
            report = recover_due(limit=_LIMIT, using=self._using)
            said.append(_in_words(report))
            if report.is_full(_LIMIT):
                seconds = 0.0
        if resumed := self._manager.resume_due(_LIMIT):
            said.append(f"Resumed {_tasks(len(resumed))} that {'was' if len(resumed) == 1 else 'were'} due.")
        if seconds is not None:
            wait = seconds and max(seconds, _LEAST_SECONDS)
            soon = time.monotonic() + wait + random.uniform(0, _AFTER_SECONDS)  # noqa: S311 - a wait, no secret
            self._resumes.due = min(self._resumes.due, soon)
        return " ".join(filter(None, said))

    # Capacity

    def pause_short(self) -> None:
        """Pause what no agent has room for, where this one claims nothing."""
        self._manager.pause_short(_LOOKED_AT, list(self._handlers))

    def verdicts(self, batch: Sequence[Claimed]) -> dict[Claimed, CapacityVerdict]:
        """Ask the registry about what was claimed together, in one look; nothing where another gate is asked."""
        estimated = [each for each in batch if each.task.estimated_resources is not None]
        if gate() is not check_capacity or not estimated:
            return {}
        tasks = [each.task for each in estimated]
        return dict(zip(estimated, self._manager.check_capacities(tasks), strict=True))

    def fate(self, claimed: Claimed, verdict: CapacityVerdict | None = None) -> str:
        """Say what becomes of a claimed task: it `runs`, was `paused` with the evidence in its log, or `released`.

        Args:
            claimed: the task.
            verdict: what the gate said already; it is asked when left out.
        """
        asked = gate()
        task = claimed.task
        # This agent is there, and free as far as it knows: without an estimate the registry can say nothing else.
        if asked is None or (asked is check_capacity and task.estimated_resources is None):
            return "runs"
        verdict = verdict or self._manager.check_capacity(task)
        if verdict.kind == "no_agent" and asked is not check_capacity:
            task.release(reason=verdict.summary[:_LONGEST_REASON], using=self._using)
            return "released"
        return "runs" if self._manager.pause_for_capacity(task, verdict) is None else "paused"


_WORDS = {
    "leases": "{} whose lease had run out",
    "restarted": "{} of this worker's name",
    "entries_made": "{} without an entry in the pause queue",
    "entries_removed": "{} with a needless entry in the pause queue",
    "events": "{} whose event was emitted",
    "timeouts": "{} whose wait for an event timed out",
    "approvals": "{} that nobody approved in time",
}


def _in_words(report: RecoveryReport) -> str:
    counted = ", ".join(_WORDS[kind].format(_tasks(count)) for kind, count in report.counts.items() if count)
    return f"Recovered {counted}." if counted else ""


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"
