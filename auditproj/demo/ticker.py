"""Those who ask for work in the demo, and its policy: it requests, decides, emits events, and makes a worker short.

Run as `python -m auditproj.demo.ticker`; see `tied`. The work itself is done by `audit_worker` and
`auditproj/audit_handlers.py`.
"""

from __future__ import annotations

import contextlib
import random
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import DatabaseError, connection

from auditproj.demo import tied

if TYPE_CHECKING:
    from audit.models import Task

__all__ = ["UNAPPROVED", "UNDECIDED", "Ticker", "main"]

UNDECIDED = 8
"""How many requests stay pending, for whoever reads along to decide; older ones are approved by the policy."""
UNAPPROVED = 3
"""How many tasks wait for an approval in their middle; those that wait longer are approved by the policy."""
_WAITING = 10
"""With so many tasks that wait for a worker nobody asks for more."""
_TICK_S = 1.5
_EVENT_S = 10
_SHORT_EVERY_S = 90
_SHORT_S = 30
_POLICY = "policy:demo"

# action: (weight, summary, services, plan, estimate)
_WORK: dict[str, tuple[int, str, tuple[str, ...], dict[str, Any], dict[str, Any] | None]] = {
    "check-disk": (6, "Check free disk space", ("backup",), {"steps": ["df"]}, None),
    "check-uptime": (6, "Read load and uptime", ("grafana",), {"steps": ["uptime", "uname"]}, None),
    "list-processes": (6, "List running processes", ("edge", "gateway"), {"steps": ["ps"]}, None),
    "compare-clocks": (6, "Compare clocks", ("dns",), {"steps": ["date", "python"]}, None),
    "checksum": (6, "Checksum the interpreter", ("vault",), {"steps": ["sha256"]}, None),
    "keep-still": (6, "Wait for a quiet moment", ("ci",), {"steps": ["sleep"]}, None),
    "probe": (3, "Probe a port that is closed", ("kuma", "gateway"), {"steps": ["connect"]}, None),
    "start-service": (5, "Start a service that is slow", ("wiki",), {"steps": ["connect"]}, None),
    "roll-out": (
        5,
        "Roll out a new version of search",
        ("search",),
        {"steps": ["check the canary", "switch traffic", "remove the old version"]},
        None,
    ),
    "await-build": (5, "Take over what a build made", ("ci", "media"), {}, None),
    "reindex": (
        3,
        "Build the search index anew",
        ("search", "postgres"),
        {"steps": ["part 1", "part 2", "part 3"]},
        {"memory_bytes": 50_000_000, "wall_s": 3},
    ),
}


@dataclass(slots=True)
class Ticker:
    """What happens from moment to moment.

    Args:
        chance: chooses what is asked for.
        short: the agent that is short of memory now and then; nobody when empty.
    """

    chance: random.Random
    short: str = ""
    _began: float = field(default_factory=time.monotonic)

    def tick(self) -> None:
        """Do what is due now; each part on its own, since a person may decide first."""
        for act in (self._request, self._approve, self._emit, self._shorten):
            act()

    def _request(self) -> None:
        from audit.exceptions import ApprovalExpired, IllegalTransition
        from audit.models import Task

        pending = Task.objects.filter(status="pending", action__in=_WORK).order_by("-created_at")
        if left := pending[UNDECIDED : UNDECIDED + 1]:
            with contextlib.suppress(IllegalTransition, ApprovalExpired):  # a person was faster
                left[0].approve(actor=_POLICY)
            return
        waiting = Task.objects.filter(status="approved", action__in=_WORK)[:_WAITING]
        if self.chance.random() >= 0.8 or len(waiting) == _WAITING:
            return
        action = self.chance.choices(tuple(_WORK), [work[0] for work in _WORK.values()])[0]
        task = self._requested(action)
        decision = self.chance.random()
        with contextlib.suppress(IllegalTransition):
            if decision < 0.05:
                task.reject(actor=_POLICY, reason="Enough of these for now.")
            elif decision < 0.93:
                task.approve(actor=_POLICY)

    def _requested(self, action: str) -> Task:
        from audit.models import Task

        _, summary, services, plan, estimate = _WORK[action]
        if action == "await-build":
            plan = {"build": self.chance.randint(100_000, 999_999)}
        return Task.objects.request(
            action,
            summary=summary,
            services=services,
            plan=plan,
            estimated_resources=estimate,
            priority=self.chance.choices((2, 3, 4), (1, 6, 1))[0],
            actor=f"agent-{self.chance.randint(1, 12):02}",
        )

    def _approve(self) -> None:
        """Approve, in the middle of a task, what has waited longest."""
        from audit.exceptions import AuditError
        from audit.models import PauseQueueEntry

        entries = PauseQueueEntry.objects.filter(reason="awaiting_approval", task__action__in=_WORK)
        for entry in entries.order_by("-paused_at")[UNAPPROVED : UNAPPROVED + 1]:
            with contextlib.suppress(AuditError):  # a person was faster, or its time is over
                entry.resume(actor=_POLICY)

    def _emit(self) -> None:
        """Emit the events that were waited for long enough; every fifth build never ends."""
        from django.db.models.functions import Now

        from audit import emit_event
        from audit.models import PauseQueueEntry

        entries = PauseQueueEntry.objects.filter(reason="awaiting_event", event__startswith="build-")
        for entry in entries.annotate(now=Now()).order_by("paused_at")[:20]:
            number = int(entry.event.removeprefix("build-") or 0)
            if number % 5 and (entry.now - entry.paused_at).total_seconds() > _EVENT_S:
                emit_event(entry.event, {"result": "passed", "tests": number % 1000}, actor="ci")

    def _shorten(self) -> None:
        """Make an agent short for a part of the time, and ask for work that this concerns."""
        from audit.models import Task
        from auditproj.demo.capacity import pretend

        since = time.monotonic() - self._began
        if not self.short or since % _SHORT_EVERY_S < _SHORT_EVERY_S - _SHORT_S:
            return
        pretend(self.short)
        if not Task.objects.live().filter(action="reindex").exclude(status="pending").exists():
            self._requested("reindex").approve(actor=_POLICY)


def main() -> None:
    """Tick until standard input ends."""
    ended = tied.set_up()
    from audit.exceptions import AuditError

    ticker = Ticker(random.Random(), settings.DEMO_SHORT_AGENT)  # noqa: S311 - variety, not secrecy
    while not ended.wait(_TICK_S * ticker.chance.uniform(0.5, 1.5)):
        try:
            ticker.tick()
        except (AuditError, DatabaseError) as error:
            print(f"ticker: {error}".strip(), file=sys.stderr, flush=True)  # noqa: T201 - a process of its own
            connection.close()
            ended.wait(_TICK_S)


if __name__ == "__main__":
    main()
