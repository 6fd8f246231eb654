"""The pause entry on the page of its task: why it waits, until when, and who has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import F, TextField
from django.db.models.functions import Cast, Left, Length
from django.utils.translation import gettext as _

from audit.admin.shared.facts import Fact
from audit.admin.shared.jsontree import LIMIT
from audit.admin.shared.wording import ago, moment, shown, span
from audit.models import PauseQueueEntry
from audit.status import PauseReason

__all__ = ["Paused", "describe", "read_entry"]

_LONGEST_NOTE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """An entry, as text."""

    facts: Sequence[Fact]
    since: str
    """When it was paused, and by whom."""
    since_exact: str
    note: str
    """What was noted; empty for want of capacity, which names agents: that is said to who may see them."""


def read_entry(using: str, key: UUID) -> dict[str, Any] | None:
    """Read the pause entry of a task, of its texts and its work plan no more than a page shows."""
    rows = PauseQueueEntry.objects.using(using).filter(task_id=key)
    columns = (
        "id",
        "revision",
        "reason",
        "paused_at",
        "due_at",
        "held",
        "priority",
        "lease_expires_at",
        "resume_after",
        "event",
    )
    document = Cast(F("work_plan"), TextField())
    for row in rows.values(
        *columns,
        words=Left("note", _LONGEST_NOTE + 1),
        who=Left("paused_by", 200),
        worker=Left("claimed_by", 200),
        document=Left(document, LIMIT),
        document_length=Length(document),
    )[:1]:
        return dict(row)
    return None


def describe(row: dict[str, Any], now: datetime) -> Paused:
    """Write what `read_entry` read as text."""
    who = shown(row["who"], 100, name=True)
    words = {"when": ago(row["paused_at"], now), "who": who}
    return Paused(
        facts=list(_facts(row, now)),
        since=(_("Paused %(when)s by %(who)s") if who else _("Paused %(when)s")) % words,
        since_exact=moment(row["paused_at"], now),
        note="" if row["reason"] == PauseReason.INSUFFICIENT_CAPACITY else shown(row["words"], _LONGEST_NOTE),
    )


def _facts(row: dict[str, Any], now: datetime) -> Iterator[Fact]:
    yield Fact(label=_("Reason"), value=str(PauseReason(row["reason"]).label))
    if row["event"]:
        yield Fact(label=_("Event"), value=shown(row["event"], 200))
    yield Fact(label=_("State"), value=_state(row, now))
    if row["words"]:
        yield Fact(label=_("Note"), value=shown(row["words"], _LONGEST_NOTE))
    yield Fact(label=_("Paused"), value=ago(row["paused_at"], now), title=moment(row["paused_at"], now))
    yield Fact(label=_("Paused by"), value=shown(row["who"], 100, name=True) or "—")
    yield Fact(label=_("Priority"), value=str(row["priority"]))
    if row["worker"]:
        yield Fact(label=_("Claimed by"), value=shown(row["worker"], 100, name=True))
    if lease := row["lease_expires_at"]:
        ends = _("ends %(when)s") if lease > now else _("ended %(when)s")
        yield Fact(label=_("Lease"), value=ends % {"when": ago(lease, now)}, title=moment(lease, now))


def _state(row: dict[str, Any], now: datetime) -> str:
    if row["held"]:
        return _("held until somebody releases it")
    if row["due_at"] <= now:
        return _("due since %(span)s") % {"span": span(now - row["due_at"])}
    return _("waits until %(moment)s") % {"moment": moment(row["due_at"], now)}
