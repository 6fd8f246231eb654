"""The page of one task: what it was, what happened to it in which order, and what came out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections
from django.db.models import F, IntegerField, TextField
from django.db.models.expressions import Func
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Left, Length
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy

from audit.admin.decide.offers import about_one
from audit.admin.integrity.page import integrity_url
from audit.admin.shared.base import NotThere, json_file
from audit.admin.shared.jsontree import LIMIT, Tree, tree
from audit.admin.shared.question import Link, Question
from audit.admin.shared.seals import seal_of_task
from audit.admin.shared.wording import shown, size
from audit.admin.task.facts import LABELS, PLAIN, facts, fields
from audit.admin.task.pause_entry import entry_of, told
from audit.admin.task.proof import proof_offer
from audit.admin.task.suggestions import MOST, Suggestion, added, known
from audit.admin.task.timeline import Moment, Segment, segments, spent, timeline
from audit.models import ExecutionLog, Task
from audit.reading.filters import TaskFilter
from audit.reading.filters.values import short_id
from audit.status import FINISHED, Status
from audit.values.failures import REJECTION, failure_class

if TYPE_CHECKING:
    from audit.admin.shared.base import ReadOnlyAdmin

__all__ = ["DOCUMENTS", "Document", "detail_context", "find", "raw"]

DOCUMENTS = {
    "outcome": gettext_lazy("Outcome"),
    "suggestions": gettext_lazy("Suggestions"),
    "plan": gettext_lazy("Plan"),
    "resources_used": gettext_lazy("Resources used"),
    "estimated_resources": gettext_lazy("Estimated resources"),
    "origin": gettext_lazy("Origin"),
}
LOG_ROWS = 500
_SERVICES_SHOWN = 200
_RELATED_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A JSON column to show: as a tree, or suggestions as cards."""

    name: str
    title: Any
    drawn: Tree | None = None
    size: str = ""
    cards: Sequence[Suggestion] = ()
    more: int = 0
    """How many cards were left out."""


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
    columns |= {f"{name}_label": Left(name, 500) for name in LABELS}
    rows = (
        Task.objects.using(using)
        .filter(pk=key)
        .values(*PLAIN)
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
    entry = entry_of(using, key) if task["status"] == Status.PAUSED else None
    related = list(
        Task.objects.using(using)
        .filter(parent=key)
        .order_by("id")
        .values("id", "action", "status", title=Left("summary", 120))[:_RELATED_SHOWN]
    )
    banner = _banner(task)
    moments: Sequence[Moment] = timeline(log[:LOG_ROWS], task, now, banner.get("kind", ""))
    parts: Sequence[Segment] = segments(log[:LOG_ROWS], task, now) if len(log) <= LOG_ROWS else ()
    parent_url = page.url("change", task["parent"]) if task["parent"] else ""
    seal = seal_of_task(using, key, now) if task["status"] in FINISHED else None
    summary = shown(task["title"], LIMIT)
    list_url = page.url("changelist")
    return {
        "title": shown(task["title"], 120).strip() or shown(task["action"]),
        "task": task,
        "now": now,
        "short": short_id(key),
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
        "facts": list(facts(task, now, list_url)),
        "fields": list(fields(task, now, parent_url)),
        "banner": banner,
        "timeline": moments,
        "segments": parts,
        "spent": spent(parts),
        "zone": timezone.get_current_timezone_name(),
        "log_is_cut": len(log) > LOG_ROWS,
        "log_url": f"{page.url('changelist', model='executionlog')}?task={key}&since=all"
        if page.sees(request, ExecutionLog)
        else "",
        "documents": list(_documents(task, log[:LOG_ROWS], now)),
        "entry": told(entry, now) if entry else None,
        "decide": about_one(page, request, task, entry),
        "parent_url": parent_url,
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
            return json_file(text, f"task-{key}")
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
            why=Left(KeyTextTransform("reason", "detail"), 100),
            noted=Left(KeyTextTransform("note", "detail"), 300),
        )
    )


def _documents(task: dict[str, Any], log: Sequence[dict[str, Any]], now: datetime) -> Iterator[Document]:
    for name, title in DOCUMENTS.items():
        text, length = task[f"{name}_text"], task[f"{name}_length"]
        if name == "suggestions":
            column = [] if text is None else known(text, length, now)
            cards = [*(column or ()), *added(log, column, task["finished_at"], now)]
            is_tree = column is None
            if cards or is_tree:
                yield Document(
                    name=name,
                    title=title,
                    drawn=tree(text, length) if is_tree else None,
                    size=size(length) if is_tree else "",
                    cards=cards[:MOST],
                    more=max(len(cards) - MOST, 0),
                )
        elif text is not None:
            yield Document(name=name, title=title, drawn=tree(text, length), size=size(length))


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
    said = {"kind": "", "text": ""} | _said(task)
    if task["status"] == Status.REJECTED and said["kind"] == REJECTION:
        said["kind"] = ""
    reason = failure_class(task["status"], said["kind"])
    return said | {"reason": str(reason.label) if reason else ""}


def _said(task: dict[str, Any]) -> dict[str, str]:
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
