"""How the queue is doing, as pages say it: each number with what to do about it where it stands out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit import conf
from audit.admin.shared.wording import grouped, span
from audit.reading.health import STUCK_LEASES, QueueHealth
from audit.status import Status

__all__ = ["HealthFact", "health_facts"]

_LONG_SNAPSHOT = timedelta(minutes=10)
_MANY_DEAD = 50_000


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
    long = timedelta(seconds=conf.settings().QUEUE_MAX_WAIT_SECONDS)

    def age(at: Any, limit: timedelta, advice: str) -> tuple[str, str]:
        waited = state.at - at
        return span(waited), advice if waited > limit else ""

    if state.oldest_approved:
        value, advice = age(state.oldest_approved, long, _("start workers, or undrain agents"))
        yield HealthFact(label=_("Approved work waits"), value=value, advice=advice, status=Status.APPROVED)
    if state.oldest_due:
        value, advice = age(state.oldest_due, long, _("run a worker, or audit_resume"))
        yield HealthFact(label=_("A due entry waits"), value=value, advice=advice)
    if state.expired:
        yield HealthFact(
            label=ngettext("Lease ran out", "Leases ran out", state.expired),
            value=grouped(state.expired),
            status=Status.EXECUTING,
            advice=_("%(count)s of them more than %(times)d lease lengths ago; run audit_recover or a worker")
            % {"count": grouped(state.stuck), "times": STUCK_LEASES}
            if state.stuck
            else "",
        )
    if state.oldest_snapshot and state.at - state.oldest_snapshot > _LONG_SNAPSHOT:
        yield HealthFact(
            label=_("A transaction is open"),
            value=span(state.at - state.oldest_snapshot),
            advice=_("it keeps VACUUM from its work; end it"),
        )
    if state.dead_tuples > max(_MANY_DEAD, state.live_tuples):
        yield HealthFact(
            label=_("Dead rows"), value=grouped(state.dead_tuples), advice=_("VACUUM should run more often")
        )
