"""What is told about a task in two words each: the facts above its timeline, and every plain column below."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit.admin.shared.question import Question
from audit.admin.shared.wording import moment, shown, span
from audit.reading.filters import TaskFilter
from audit.status import OnExpiry, Status

__all__ = ["LABELS", "MOMENTS", "PLAIN", "Fact", "facts", "fields"]

MOMENTS = {
    "created_at": gettext_lazy("Created"),
    "recorded_at": gettext_lazy("Recorded here"),
    "available_at": gettext_lazy("Available from"),
    "decided_at": gettext_lazy("Decided"),
    "started_at": gettext_lazy("Started"),
    "finished_at": gettext_lazy("Finished"),
    "lease_expires_at": gettext_lazy("Lease ends"),
    "cancel_requested_at": gettext_lazy("Asked to stop"),
}
LABELS = {
    "requested_by": gettext_lazy("Requested by"),
    "decided_by": gettext_lazy("Decided by"),
    "claimed_by": gettext_lazy("Claimed by"),
    "actor": gettext_lazy("Last change by"),
    "correlation_id": gettext_lazy("Correlation"),
}
"""Columns of any length; a page reads the beginning of each as `<name>_label`."""
PLAIN = (
    "id",
    "action",
    "status",
    "priority",
    "parent",
    "attempt",
    "expiries",
    "on_expiry",
    "claim_token",
    "revision",
    "row_version",
    "salt",
    "row_hash",
    "finished_xid",
    *MOMENTS,
)
"""Columns that are read as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something about the task in two words."""

    label: Any
    value: str
    title: str = ""
    url: str = ""


def facts(task: dict[str, Any], now: datetime, list_url: str) -> Iterator[Fact]:
    """Tell what people look for first.

    Args:
        task: its columns, those of `PLAIN` and `LABELS`.
        now: when the page is read.
        list_url: of the list of tasks, for links into it.
    """
    created, started, finished = task["created_at"], task["started_at"], task["finished_at"]
    yield Fact(label=_("Created"), value=moment(created, now), title=created.isoformat())
    waited = (started or finished or now) - created
    yield Fact(label=_("Waited"), value=span(waited))
    took: timedelta | None = (finished or now) - started if started else None
    running = started is not None and finished is None and task["status"] == Status.EXECUTING
    yield Fact(label=_("Running for") if running else _("Took"), value=span(took if finished or running else None))
    yield Fact(label=_("Total") if finished else _("Age"), value=span((finished or now) - created))
    yield Fact(label=_("Attempt"), value=str(task["attempt"]))
    yield Fact(label=LABELS["requested_by"], value=shown(task["requested_by_label"], 80) or "—")
    yield Fact(label=LABELS["decided_by"], value=shown(task["decided_by_label"], 80) or "—")
    if correlation := task["correlation_id_label"]:
        try:
            url = list_url + Question.url(TaskFilter(correlation_ids=(correlation,)))
        except ValueError:
            url = ""
        yield Fact(label=LABELS["correlation_id"], value=shown(correlation, 80), title=shown(correlation, 500), url=url)


def fields(task: dict[str, Any], now: datetime, parent_url: str) -> Iterator[Fact]:
    """Tell every plain column, for those who want all of it; the arguments as those of `facts`."""
    yield Fact(label=_("Id"), value=str(task["id"]))
    yield Fact(label=_("Parent"), value=str(task["parent"] or "—"), url=parent_url)
    for name, label in MOMENTS.items():
        value = task[name]
        yield Fact(label=label, value=moment(value, now) if value else "—", title=value.isoformat() if value else "")
    yield Fact(label=_("Priority"), value=str(task["priority"]))
    for name, label in LABELS.items():
        yield Fact(label=label, value=shown(task[f"{name}_label"], 500) or "—")
    yield Fact(label=_("Claim token"), value=str(task["claim_token"] or "—"))
    yield Fact(label=_("Attempts"), value=str(task["attempt"]))
    yield Fact(label=_("Lost leases"), value=str(task["expiries"]))
    yield Fact(label=_("When a lease is lost"), value=str(OnExpiry(task["on_expiry"]).label))
    yield Fact(label=_("Revision"), value=str(task["revision"]))
    if task["row_hash"] is not None:
        yield Fact(label=_("Finished in transaction"), value=str(task["finished_xid"]))
        yield Fact(label=_("Version of the hashed form"), value=str(task["row_version"]))
        yield Fact(label=_("Salt"), value=bytes(task["salt"]).hex())
        yield Fact(label=_("Row hash (SHA-256)"), value=bytes(task["row_hash"]).hex())
