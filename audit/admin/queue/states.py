"""The states that an entry of the pause queue may be in, and how each is found."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Q
from django.utils.translation import gettext_lazy

__all__ = ["OVERDUE", "STATES", "WHOLE", "in_state"]

OVERDUE = timedelta(hours=24)
"""How long work may be paused before it stands out."""

STATES = {
    "due": (gettext_lazy("Due"), gettext_lazy("Ready for a worker to resume.")),
    "waiting": (
        gettext_lazy("Waiting"),
        gettext_lazy("They go on at their time; those that wait for an event, at the event or their time-out."),
    ),
    "held": (
        gettext_lazy("Held"),
        gettext_lazy("No time lets them go on: a person does, or the event that they wait for."),
    ),
    "overdue": (gettext_lazy("Over 24 h"), gettext_lazy("Paused for longer than a day; the longest first.")),
    "leased": (gettext_lazy("Leased"), gettext_lazy("A worker has claimed them and is deciding.")),
}
# Each entry is in exactly one of these.
WHOLE = ("due", "waiting", "held", "leased")


def in_state(state: str, now: datetime) -> Q:
    """The condition that an entry is in one of `STATES`, at a moment."""
    leased = Q(claim_token__isnull=False, lease_expires_at__gt=now)
    if state == "leased":
        return leased
    free = Q(claim_token__isnull=True) | Q(lease_expires_at__isnull=True) | Q(lease_expires_at__lte=now)
    if state == "overdue":
        return Q(paused_at__lt=now - OVERDUE)
    if state == "held":
        return free & Q(held=True)
    if state == "due":
        return free & Q(held=False, due_at__lte=now)
    return free & Q(held=False, due_at__gt=now)
