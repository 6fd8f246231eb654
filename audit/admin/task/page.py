"""The page of one task: what it was, what happened to it in which order, and what came out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models.functions import Left
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils import timezone

from audit.admin.decide.offers import about_one
from audit.admin.shared.files import json_document
from audit.admin.shared.jsontree import LIMIT
from audit.admin.shared.links import Link, filter_url
from audit.admin.shared.read_only_admin import NotThere, ReadOnlyAdmin
from audit.admin.shared.seal_badge import integrity_url, seal_of_task
from audit.admin.shared.titles import task_title
from audit.admin.shared.wording import ago, shown
from audit.admin.task.banner import banner
from audit.admin.task.columns import SERVICES_SHOWN, column_facts, read_task
from audit.admin.task.documents import documents
from audit.admin.task.facts import facts
from audit.admin.task.log_rows import LOG_ROWS, read_log
from audit.admin.task.pause_entry import describe, read_entry
from audit.admin.task.proof import outside_transactions, proof_offer, send_proof
from audit.admin.task.timeline import Moment, Segment, segments, spent, timeline
from audit.admin.task.waiting import waits
from audit.models import Agent, ExecutionLog, Task
from audit.reading.filters import TaskFilter
from audit.reading.filters.values import short_id
from audit.status import FINISHED, Status
from audit.values import moments

__all__ = ["TaskPageAdmin"]

_RELATED_SHOWN = 20


class TaskPageAdmin(ReadOnlyAdmin):
    """What was asked, who decided, who did it, and how it ended, of one task."""

    key_type = UUID
    detail_template = "audit/admin/task/page.html"

    def more_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            *super().more_urls(),
            path("<str:object_id>/raw/", view(self.raw_view), name="audit_task_raw"),
            path("<str:object_id>/proof/", outside_transactions(view(self.proof_view)), name="audit_task_proof"),
        ]

    def raw_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send the whole row as JSON, documents exactly as they are stored."""
        return self.row_page(request, object_id, partial(_raw, self.using))

    def proof_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send the proof of a sealed task, with its log, as a file."""
        return send_proof(self, request, object_id)

    def detail_context(self, request: HttpRequest, key: UUID) -> dict[str, Any]:
        """Read the task, its log, its pause entry, and the tasks that belong to it."""
        using, now = self.using, moments.now()
        task = read_task(using, key)
        log = read_log(using, key)
        entry = read_entry(using, key) if task["status"] == Status.PAUSED else None
        related = list(
            Task.objects.using(using)
            .filter(parent=key)
            .order_by("id")
            .values("id", "action", "status", title=Left("summary", 120))[:_RELATED_SHOWN]
        )
        failure = banner(task)
        steps: Sequence[Moment] = timeline(log[:LOG_ROWS], task, now, failure.get("kind", ""))
        parts: Sequence[Segment] = segments(log[:LOG_ROWS], task, now) if len(log) <= LOG_ROWS else ()
        parent_url = self.url("change", task["parent"]) if task["parent"] else ""
        seal = seal_of_task(using, key, now) if task["status"] in FINISHED else None
        summary = shown(task["title"], LIMIT)
        list_url = self.url("changelist")
        return {
            "title": task_title(task["title"], task["action"], 120),
            "task": task,
            "now": now,
            "short": short_id(key),
            "status_label": Status(task["status"]).label,
            "finished": task["status"] in FINISHED,
            "action": shown(task["action"]),
            "summary": summary if len(summary) > 120 or "\n" in summary.strip() else "",
            "actor": shown(task["actor"], 100, name=True),
            "services": [_service(list_url, name) for name in task["some_services"]],
            "more_services": max(task["service_count"] - SERVICES_SHOWN, 0),
            "seal": seal,
            "integrity_url": integrity_url(self, request) if seal else "",
            "proof": proof_offer(self, key) if seal and seal.is_sealed else None,
            "facts": list(
                facts(task, now, list_url, self.url("changelist", model="agent") if self.sees(request, Agent) else "")
            ),
            "fields": list(column_facts(task, now, parent_url)),
            "banner": failure,
            "timeline": steps,
            "segments": parts,
            "spent": spent(parts),
            "zone": timezone.get_current_timezone_name(),
            "log_is_cut": len(log) > LOG_ROWS,
            "log_url": f"{self.url('changelist', model='executionlog')}?task={key}&since=all"
            if self.sees(request, ExecutionLog)
            else "",
            "documents": list(documents(task, log[:LOG_ROWS], now)),
            "entry": describe(entry, now) if entry else None,
            "waits": waits(self, request, task, entry, now),
            "lease_is_over": _lease_is_over(task, now),
            "decide": about_one(self, request, task, entry),
            "parent_url": parent_url,
            "related": [
                Link(
                    label=task_title(each["title"], each["action"]),
                    url=self.url("change", each["id"]),
                    tone=each["status"],
                    value=str(Status(each["status"]).label),
                )
                for each in related
            ],
            "is_detail": True,
            "permalink": self.url("change", key),
            "raw_url": self.url("raw", key),
        }


def _lease_is_over(task: dict[str, Any], now: datetime) -> str:
    """Say how long ago the lease of executing work ended; nothing while it lasts."""
    lease = task["lease_expires_at"]
    if task["status"] != Status.EXECUTING or lease is None or lease > now:
        return ""
    return ago(lease, now)


def _raw(using: str, key: UUID) -> HttpResponse:
    """Answer with one task as a JSON object of its columns, documents exactly as PostgreSQL keeps them.

    Raises:
        NotThere: no task has this id.
    """
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT row_to_json(task)::text FROM audit_task AS task WHERE id = %s", [key])
        for (text,) in cursor.fetchall():
            return json_document(text, f"task-{key}")
    raise NotThere


def _service(list_url: str, name: str) -> Link:
    try:
        url = list_url + filter_url(TaskFilter(services=(name,)))
    except ValueError:
        url = ""
    return Link(label=shown(name, 60, name=True), value=shown(name, 200), url=url)
