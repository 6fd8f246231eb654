"""One entry of the pause queue, as text."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypedDict
from urllib.parse import urlencode

from django.db.models import OuterRef, Subquery
from django.db.models.functions import Left
from django.utils.translation import gettext as _

from audit.admin.decide.offers import checkbox
from audit.admin.queue.states import OVERDUE
from audit.admin.shared.wording import ago, moment, shown, span
from audit.models import Task
from audit.reading.filters.values import short_id
from audit.status import PauseReason, Status

__all__ = ["QueueRow", "list_columns", "queue_row"]


def list_columns(rows: Any) -> Any:
    """Read of each entry what a list shows, and no more, whatever its size."""
    return rows.values(
        "id",
        "task_id",
        "reason",
        "paused_at",
        "due_at",
        "held",
        "priority",
        "lease_expires_at",
        "revision",
        "event",
        # Of the rows shown, by primary key; a join could be planned the other way round.
        task_revision=Subquery(Task.objects.filter(pk=OuterRef("task_id")).values("revision")),
        words=Left("note", 300),
        who=Left("paused_by", 400),
        worker=Left("claimed_by", 400),
    )


class QueueRow(TypedDict):
    """One entry of the queue, as text."""

    id: int
    title: str
    short: str
    url: str
    reason: str
    reason_label: str
    note: str
    age: str
    paused: str
    paused_iso: str
    paused_by: str
    paused_by_title: str
    overdue: bool
    due: str
    due_exact: str
    due_iso: str
    held: bool
    deadline: bool
    priority: int
    event: str
    """What it waits for."""
    event_url: str
    lease: str
    lease_over: bool
    """Whether a worker claimed it, and the lease has run out."""
    worker: str
    worker_url: str
    checkbox: str
    """What its check box stands for."""


def queue_row(
    values: dict[str, Any], title: str, task_url: str, now: datetime, events_url: str = "", agents_url: str = ""
) -> QueueRow:
    """Write a row of `list_columns` as text.

    Args:
        values: the row.
        title: what its task is called.
        task_url: of its task's page; empty for who may not see it.
        now: when the page is read.
        events_url: of the page of events; empty for who may not see it.
        agents_url: of the page of agents, as well.
    """
    task = values["task_id"]
    lease = values["lease_expires_at"]
    due = values["due_at"]
    # An approval without a deadline is due when it was paused, as the database has it.
    deadline = values["reason"] == PauseReason.AWAITING_APPROVAL and due != values["paused_at"]
    return QueueRow(
        id=values["id"],
        title=title,
        short=short_id(task),
        url=f"{task_url}#pause" if task_url else "",
        reason=values["reason"],
        reason_label=str(PauseReason(values["reason"]).label),
        note=shown(values["words"], 200),
        age=span(now - values["paused_at"]),
        paused=moment(values["paused_at"], now),
        paused_iso=values["paused_at"].isoformat(),
        paused_by=shown(values["who"], 60, name=True),
        paused_by_title=shown(values["who"], 400),
        overdue=now - values["paused_at"] > OVERDUE,
        due="" if values["held"] and not deadline else ago(due, now),
        due_exact=moment(due, now),
        due_iso=due.isoformat(),
        held=values["held"],
        deadline=deadline,
        priority=values["priority"],
        event=shown(values["event"], 200),
        event_url=f"{events_url}?{urlencode({'name': values['event']})}" if events_url and values["event"] else "",
        lease=(_("lease ends %(when)s") if lease > now else _("lease ended %(when)s")) % {"when": ago(lease, now)}
        if lease
        else "",
        lease_over=lease is not None and lease <= now,
        worker=shown(values["worker"], 60, name=True),
        worker_url=f"{agents_url}?{urlencode({'agent': values['worker']})}" if agents_url and values["worker"] else "",
        checkbox=checkbox(task, values["task_revision"], Status.PAUSED, values["id"], values["revision"]),
    )
