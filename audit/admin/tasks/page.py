"""The list of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _

from audit.admin.decide.offers import ON_TASKS, offer
from audit.admin.decide.view import receive
from audit.admin.shared.export import Export, range_name
from audit.admin.shared.paging import Order, turn
from audit.admin.shared.panels import Panel, narrowed, panel
from audit.admin.shared.question import DEFAULT_SPAN, Link, Question
from audit.admin.shared.seals import seals_of_tasks
from audit.admin.shared.tail import TailingAdmin
from audit.admin.shared.wording import grouped
from audit.admin.task.page import detail_context, raw
from audit.admin.task.proof import outside_transactions, send_proof
from audit.admin.tasks.counting import CHOICES, Overview, overview
from audit.admin.tasks.facets import FAILURES, Others, by_status, facets, failures, others
from audit.admin.tasks.rows import list_columns, task_row
from audit.admin.tasks.samples import sized
from audit.models import PauseQueueEntry, Task
from audit.reading.filters import TaskFilter
from audit.status import FINISHED, FailureClass

__all__ = ["TaskAdmin"]

ORDER = Order(moment="created_at")


class TaskAdmin(TailingAdmin):
    """What was asked, who decided, who did it, and how it ended."""

    order = ORDER

    list_template = "audit/admin/tasks/list.html"
    detail_template = "audit/admin/task/page.html"

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        question = Question.read(request, ORDER)
        tasks = question.answered.apply(Task.objects.using(self.using))
        tasks = narrowed(self.using, tasks, question.answered)
        page = turn(list_columns(tasks), ORDER, question.cursor)
        seals = seals_of_tasks(self.using, {row["id"]: row["status"] in FINISHED for row in page.rows}, question.now)
        url = self.urls_of("change")
        rows = [task_row(each, question, seals[each["id"]], url(each["id"])) for each in page.rows]
        counted = panel(self.using, partial(overview, self.using, tasks, question))
        most = sized(FAILURES, question.answered)
        errors = panel(self.using, partial(failures, self.using, tasks, most))
        all_statuses = self._all_statuses(question)
        drawn, counts = (counted.value.chart, counted.value.counts) if counted.value else (None, {})
        empty_table = not rows and not question.asked and not Task.objects.using(self.using).exists()
        return {
            "title": _("Task audit trail"),
            "question": question,
            "problems": question.problems,
            "chart": Panel(value=drawn, degraded=counted.degraded),
            "statuses": question.statuses(drawn.legend if drawn else (), all_statuses),
            "facets": facets(question, {**counts, **(errors.value or {})}, self._others(question)),
            "facets_note": _facets_note(counted.value, errors.value or {}, most),
            "facets_degraded": counted.degraded or errors.degraded,
            "views": _views(question, self._queue_url(request)),
            "rows": rows,
            "decide": offer(self, request, ON_TASKS) if any(row.pick for row in rows) else None,
            "empty_table": empty_table,
            "newer": question.turned(before=page.before) if page.before else "",
            "older": question.turned(after=page.after) if page.after else "",
            "newest": "" if page.first else question.turned(),
            "widened": question.widened(DEFAULT_SPAN * 7),
            "all_time": question.searched(),
            "exports": self.export_links(list(question.hidden())),
            "live": self.live(list(question.hidden()), page, question.now) if page.first and not question.end else None,
        }

    def _queue_url(self, request: HttpRequest) -> str:
        return self.url("changelist", model="pausequeueentry") if self.sees(request, PauseQueueEntry) else ""

    def _all_statuses(self, question: Question) -> dict[str, int] | None:
        """Count what the filter of statuses leaves out, when there is one and the rest is cheap to find."""
        if not question.asked.statuses or question.answered.words or question.answered.documents:
            return None
        relaxed = replace(question.answered, statuses=()).apply(Task.objects.using(self.using))
        return panel(self.using, partial(by_status, self.using, relaxed, CHOICES)).value

    def _others(self, question: Question) -> Others:
        """Count what else could be chosen, under the same conditions."""
        asked = question.asked
        chosen = asked.failures or asked.error_types or asked.any_services or asked.actions or asked.actors
        if not chosen or question.answered.words or question.answered.documents:
            return {}
        return panel(self.using, partial(others, self.using, Task.objects.using(self.using), question)).value or {}

    def narrower(self, request: HttpRequest) -> list[tuple[str, str]]:
        return Question.read(request, ORDER).narrower()

    def to_export(self, request: HttpRequest) -> Export:
        question = Question.read(request, ORDER)
        tasks = question.answered.apply(Task.objects.using(self.using))
        return Export(name="tasks", rows=tasks, range=range_name(question), problems=question.problems)

    def detail_context(self, request: HttpRequest, object_id: str) -> dict[str, Any]:
        return detail_context(self, request, object_id)

    def more_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            *super().more_urls(),
            path("decide/", view(self.decide_view), name="audit_task_decide"),
            path("<str:object_id>/raw/", view(self.raw_view), name="audit_task_raw"),
            path("<str:object_id>/proof/", outside_transactions(view(self.proof_view)), name="audit_task_proof"),
        ]

    def decide_view(self, request: HttpRequest) -> HttpResponse:
        """Take a decision about tasks or pause entries; by POST alone."""
        return receive(self, request)

    def raw_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send the whole row as JSON, documents exactly as they are stored."""
        return self.page(request, "", lambda: raw(self.using, object_id))

    def proof_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send the proof of a sealed task, with its log, as a file."""
        return send_proof(self, request, object_id)


def _facets_note(counted: Overview | None, errors: Mapping[str, Mapping[str, int]], most: int) -> str:
    notes = []
    if counted and counted.sample:
        notes.append(_("Counted among the newest %(count)s.") % {"count": grouped(counted.sample)})
    if max(errors.get("unwell", {}).values(), default=0) >= most:
        notes.append(_("Failures and rejections: among the newest %(count)s of each.") % {"count": grouped(most)})
    return " ".join(notes)


def _views(question: Question, queue_url: str) -> list[Link]:
    """Questions people ask every day, ready to ask."""
    asked = {
        _("Needs attention"): TaskFilter(statuses=("failed", "paused"), since=DEFAULT_SPAN * 7),
        _("Awaiting approval"): TaskFilter(statuses=("pending",), all_time=True),
        _("Running now"): TaskFilter(statuses=("executing",), all_time=True),
        _("Resource failures"): TaskFilter(failures=(FailureClass.RESOURCE,), since=DEFAULT_SPAN * 7),
        _("Integrity problems"): TaskFilter(seals=("failed",)),
    }
    views = [Link(label=name, url=question.url(each), chosen=question.asked == each) for name, each in asked.items()]
    return [*views, Link(label=_("Long pauses"), url=f"{queue_url}?state=overdue")] if queue_url else views
