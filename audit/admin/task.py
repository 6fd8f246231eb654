"""The page of one task: what it was, what happened to it in which order, and what came out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections
from django.db.models import F, IntegerField, TextField
from django.db.models.expressions import Func
from django.db.models.functions import Cast, Left, Length
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit.admin.base import NotThere
from audit.admin.integrity import integrity_url
from audit.admin.jsontree import LIMIT, Tree, tree
from audit.admin.offers import about_one
from audit.admin.proofs import proof_offer
from audit.admin.question import Link, Question
from audit.admin.seals import seal_of_task
from audit.admin.timeline import Moment, Segment, segments, timeline
from audit.admin.wording import ago, moment, shown, size, span
from audit.failures import failure_class
from audit.filters import TaskFilter
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.status import FINISHED, OnExpiry, PauseReason, Status

if TYPE_CHECKING:
    from audit.admin.base import ReadOnlyAdmin

__all__ = ["DOCUMENTS", "Document", "detail_context", "find", "raw"]

DOCUMENTS = {
    "outcome": gettext_lazy("Outcome"),
    "plan": gettext_lazy("Plan"),
    "resources_used": gettext_lazy("Resources used"),
    "estimated_resources": gettext_lazy("Estimated resources"),
    "suggestions": gettext_lazy("Suggestions"),
    "origin": gettext_lazy("Origin"),
}
LOG_ROWS = 500
_SERVICES_SHOWN = 200
_RELATED_SHOWN = 20
_LABELS = ("requested_by", "decided_by", "claimed_by", "actor", "correlation_id")
_MOMENTS = {
    "created_at": gettext_lazy("Created"),
    "recorded_at": gettext_lazy("Recorded here"),
    "available_at": gettext_lazy("Available from"),
    "decided_at": gettext_lazy("Decided"),
    "started_at": gettext_lazy("Started"),
    "finished_at": gettext_lazy("Finished"),
    "lease_expires_at": gettext_lazy("Lease ends"),
    "cancel_requested_at": gettext_lazy("Asked to stop"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A JSON column to show."""

    name: str
    title: Any
    drawn: Tree
    size: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something about the task in two words."""

    label: Any
    value: str
    title: str = ""
    url: str = ""
    tone: str = ""


def find(using: str, object_id: str) -> dict[str, Any]:
    """Read one task, of each text and document no more than a page shows.

    Args:
        using: the database alias.
        object_id: its id, as the URL has it.

    Raises:
        NotThere: no task has this id.
    """
    key = _key(object_id)
    columns: dict[str, Any] = {f"{name}_text": Left(Cast(F(name), TextField()), LIMIT) for name in DOCUMENTS}
    columns |= {f"{name}_length": Length(Cast(F(name), TextField())) for name in DOCUMENTS}
    columns |= {f"{name}_label": Left(name, 500) for name in _LABELS}
    rows = (
        Task.objects.using(using)
        .filter(pk=key)
        .values(
            "id",
            "action",
            "status",
            "priority",
            "parent",
            "attempt",
            "expiries",
            "on_expiry",
            "revision",
            "row_version",
            "row_hash",
            *_MOMENTS,
        )
        .annotate(
            **columns,
            title=Left("summary", LIMIT),
            title_length=Length("summary"),
            some_services=F(f"services_touched__0_{_SERVICES_SHOWN}"),
            service_count=Func(F("services_touched"), function="cardinality", output_field=IntegerField()),
        )[:1]
    )
    for row in rows:
        return dict(row)
    raise NotThere


def detail_context(page: ReadOnlyAdmin, request: HttpRequest, object_id: str) -> dict[str, Any]:
    """Read what the page shows: the task, its log, its pause entry, and the tasks that belong to it."""
    using, now = page.using, timezone.now()
    task = find(using, object_id)
    key = task["id"]
    log = list(_log(using, key)[: LOG_ROWS + 1])
    entry = _entry(using, key) if task["status"] == Status.PAUSED else None
    related = list(
        Task.objects.using(using)
        .filter(parent=key)
        .order_by("id")
        .values("id", "action", "status", title=Left("summary", 120))[:_RELATED_SHOWN]
    )
    moments: Sequence[Moment] = timeline(log[:LOG_ROWS], task, now)
    spent: Sequence[Segment] = segments(log[:LOG_ROWS], task, now) if len(log) <= LOG_ROWS else ()
    documents = [
        Document(
            name=name,
            title=title,
            drawn=tree(task[f"{name}_text"], task[f"{name}_length"]),
            size=size(task[f"{name}_length"]),
        )
        for name, title in DOCUMENTS.items()
        if task[f"{name}_text"] is not None
    ]
    seal = seal_of_task(using, key, now) if task["status"] in FINISHED else None
    summary = shown(task["title"], LIMIT)
    list_url = page.url("changelist")
    return {
        "title": shown(task["title"], 120).strip() or shown(task["action"]),
        "task": task,
        "now": now,
        "short": key.hex[-8:],
        "status_label": Status(task["status"]).label,
        "finished": task["status"] in FINISHED,
        "action": shown(task["action"]),
        "summary": summary if len(summary) > 120 or "\n" in summary.strip() else "",
        "actor": shown(task["actor_label"], 100),
        "services": [_service(list_url, name) for name in task["some_services"]],
        "more_services": max(task["service_count"] - _SERVICES_SHOWN, 0),
        "seal": seal,
        "integrity_url": integrity_url(page, request) if seal else "",
        "proof": proof_offer(page, key) if seal and seal.is_sealed else None,
        "facts": list(_facts(task, now, list_url)),
        "fields": list(_fields(task, now)),
        "banner": _banner(task),
        "timeline": moments,
        "segments": spent,
        "log_is_cut": len(log) > LOG_ROWS,
        "log_url": f"{page.url('changelist', model='executionlog')}?task={key}&since=all",
        "documents": documents,
        "entry": _told_entry(entry, now) if entry else None,
        "decide": about_one(page, request, task, entry),
        "parent_url": page.url("change", task["parent"]) if task["parent"] else "",
        "related": [
            Link(
                label=shown(each["title"], 100).strip() or shown(each["action"]),
                url=page.url("change", each["id"]),
                tone=each["status"],
                value=str(Status(each["status"]).label),
            )
            for each in related
        ],
        "is_detail": True,
        "permalink": page.url("change", key),
        "raw_url": page.url("raw", key),
    }


def raw(using: str, object_id: str) -> HttpResponse:
    """Answer with one task as a JSON object of its columns, documents exactly as PostgreSQL keeps them.

    Raises:
        NotThere: no task has this id.
    """
    key = _key(object_id)
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT row_to_json(task)::text FROM audit_task AS task WHERE id = %s", [key])
        for (text,) in cursor.fetchall():
            response = HttpResponse(text, content_type="application/json; charset=utf-8")
            response["Content-Disposition"] = f'inline; filename="task-{key}.json"'
            response["X-Content-Type-Options"] = "nosniff"
            return response
    raise NotThere


def _key(object_id: str) -> UUID:
    try:
        return UUID(object_id)
    except ValueError:
        raise NotThere from None


def _log(using: str, key: UUID) -> Any:
    return (
        ExecutionLog.objects.using(using)
        .of(key)
        .values(
            "id",
            "at",
            "kind",
            "from_status",
            "to_status",
            "attempt",
            "step_number",
            "duration_ms",
            "action",
            who=Left("actor", 100),
            role=Left("db_role", 100),
            output=Left("output_summary", 2000),
            output_length=Length("output_summary"),
            detail_text=Left(Cast(F("detail"), TextField()), 4000),
            detail_length=Length(Cast(F("detail"), TextField())),
        )
    )


def _entry(using: str, key: UUID) -> dict[str, Any] | None:
    rows = PauseQueueEntry.objects.using(using).filter(task_id=key)
    names = ("id", "revision", "reason", "paused_at", "due_at", "resume_after", "held", "priority")
    for row in rows.values(*names, words=Left("note", 2000)):
        return dict(row)
    return None


def _told_entry(row: dict[str, Any], now: datetime) -> list[Fact]:
    if row["held"]:
        when = _("held until somebody releases it")
    elif row["due_at"] <= now:
        when = _("due since %(span)s") % {"span": span(now - row["due_at"])}
    else:
        when = _("waits until %(moment)s") % {"moment": moment(row["due_at"], now)}
    facts = [
        Fact(label=_("Reason"), value=str(PauseReason(row["reason"]).label)),
        Fact(label=_("Paused"), value=ago(row["paused_at"], now), title=moment(row["paused_at"], now)),
        Fact(label=_("State"), value=when),
    ]
    if row["words"]:
        facts.append(Fact(label=_("Note"), value=shown(row["words"], 2000)))
    return facts


def _service(list_url: str, name: str) -> Link:
    try:
        url = list_url + Question.url(TaskFilter(services=(name,)))
    except ValueError:
        url = ""
    return Link(label=shown(name, 60), value=shown(name, 200), url=url)


def _banner(task: dict[str, Any]) -> dict[str, str]:
    """What went wrong, from the outcome of a task that did not end well."""
    if task["status"] not in (Status.FAILED, Status.REJECTED):
        return {}
    told = {"kind": "", "text": ""} | _told(task)
    reason = failure_class(task["status"], told["kind"])
    return told | {"reason": str(reason.label) if reason else ""}


def _told(task: dict[str, Any]) -> dict[str, str]:
    try:
        outcome = json.loads(task["outcome_text"] or "null")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(outcome, dict):
        return {}
    return {
        "kind": shown(outcome.get("error_type") or "", 200),
        "text": shown(outcome.get("output_summary") or "", 2000),
    }


def _facts(task: dict[str, Any], now: datetime, list_url: str) -> Iterator[Fact]:
    created, started, finished = task["created_at"], task["started_at"], task["finished_at"]
    yield Fact(label=_("Created"), value=moment(created, now), title=created.isoformat())
    waited = (started or finished or now) - created
    yield Fact(label=_("Waited"), value=span(waited))
    took: timedelta | None = (finished or now) - started if started else None
    running = started is not None and finished is None and task["status"] == Status.EXECUTING
    yield Fact(label=_("Running for") if running else _("Took"), value=span(took if finished or running else None))
    yield Fact(label=_("Total") if finished else _("Age"), value=span((finished or now) - created))
    yield Fact(label=_("Attempt"), value=str(task["attempt"]))
    yield Fact(label=_("Requested by"), value=shown(task["requested_by_label"], 80) or "—")
    yield Fact(label=_("Decided by"), value=shown(task["decided_by_label"], 80) or "—")
    if correlation := task["correlation_id_label"]:
        try:
            url = list_url + Question.url(TaskFilter(correlation_ids=(correlation,)))
        except ValueError:
            url = ""
        yield Fact(label=_("Correlation"), value=shown(correlation, 80), title=shown(correlation, 500), url=url)


def _fields(task: dict[str, Any], now: datetime) -> Iterator[Fact]:
    """Every plain column, for those who want all of it."""
    yield Fact(label=_("Id"), value=str(task["id"]))
    for name, label in _MOMENTS.items():
        value = task[name]
        yield Fact(label=label, value=moment(value, now) if value else "—", title=value.isoformat() if value else "")
    yield Fact(label=_("Priority"), value=str(task["priority"]))
    yield Fact(label=_("Attempts"), value=str(task["attempt"]))
    yield Fact(label=_("Lost leases"), value=str(task["expiries"]))
    yield Fact(label=_("When a lease is lost"), value=str(OnExpiry(task["on_expiry"]).label))
    yield Fact(label=_("Claimed by"), value=shown(task["claimed_by_label"], 500) or "—")
    yield Fact(label=_("Last change by"), value=shown(task["actor_label"], 500) or "—")
    yield Fact(label=_("Revision"), value=str(task["revision"]))
    if task["row_hash"] is not None:
        yield Fact(label=_("Row hash (SHA-256)"), value=bytes(task["row_hash"]).hex())
