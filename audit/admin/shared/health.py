"""How the queue is doing, as pages say it: each number with what to do about it where it stands out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.admin.shared.wording import grouped, span
from audit.reading.health import STUCK_LEASES, QueueHealth
from audit.status import Status

__all__ = ["HealthFact", "health_facts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthFact:
    """A number about the queue."""

    label: Any
    value: str
    status: str = ""
    """Of the tasks that it is about; empty where it is about entries or rows."""
    advice: str = ""
    """What to do, where it stands out."""

    @property
    def stands_out(self) -> bool:
        """Whether somebody should do something."""
        return bool(self.advice)


def health_facts(state: QueueHealth) -> list[HealthFact]:
    """Write how the queue is doing, every span by the database's clock."""
    return list(_facts(state))


def _facts(state: QueueHealth) -> Iterator[HealthFact]:
    advice = state.advice()
    if state.oldest_approved:
        yield HealthFact(
            label=_("Approved work waits"),
            value=span(state.at - state.oldest_approved),
            status=Status.APPROVED,
            advice=advice.get("oldest_approved", ""),
        )
    if state.oldest_due:
        yield HealthFact(
            label=_("A due entry waits"),
            value=span(state.at - state.oldest_due),
            advice=advice.get("oldest_due", ""),
        )
    if state.expired:
        yield HealthFact(
            label=ngettext("Lease ran out", "Leases ran out", state.expired),
            value=grouped(state.expired),
            status=Status.EXECUTING,
            advice=_("%(count)s of them more than %(times)d lease lengths ago; %(advice)s")
            % {"count": grouped(state.stuck), "times": STUCK_LEASES, "advice": advice["expired"]}
            if "expired" in advice
            else "",
        )
    if state.oldest_snapshot and state.snapshot_is_old:
        yield HealthFact(
            label=_("A transaction is open"),
            value=span(state.at - state.oldest_snapshot),
            advice=advice["oldest_snapshot"],
        )
    if state.is_bloated:
        yield HealthFact(label=_("Dead rows"), value=grouped(state.dead_tuples), advice=advice["dead_tuples"])
