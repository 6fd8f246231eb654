"""The execution log: every status change and step of every task, newest first."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponseRedirect
from django.utils.translation import gettext as _

from audit.admin.log.query import ORDER, LogQuery
from audit.admin.log.rows import list_columns, log_row
from audit.admin.shared.export import Export, range_name
from audit.admin.shared.paging import read_page
from audit.admin.shared.read_only_admin import NotThere
from audit.admin.shared.seal_badge import seals_of_log
from audit.admin.shared.tail import TailingAdmin
from audit.admin.shared.timerange import DEFAULT_SPAN
from audit.admin.shared.titles import task_titles
from audit.models import ExecutionLog, Task
from audit.reading.filters.values import short_id

__all__ = ["ExecutionLogAdmin"]


class ExecutionLogAdmin(TailingAdmin):
    """The log as one stream; the page of a row is its place in the page of its task."""

    list_template = "audit/admin/log/list.html"
    order = ORDER

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        query = LogQuery.read(request)
        task, span, links, now = query.task, query.list_query.range, query.list_query.links, query.list_query.now
        page = read_page(list_columns(query.rows(self.using)), ORDER, query.list_query.cursor)
        tasks = self.sees(request, Task)
        titles = task_titles(self.using, {each["task_id"] for each in page.rows}) if tasks else {}
        seals = seals_of_log(self.using, [each["id"] for each in page.rows], now)
        task_url = self.urls_of("change", model="task") if tasks else None
        return {
            "title": _("Execution log"),
            "query": query.list_query,
            "problems": query.problems,
            "rows": [
                log_row(each, titles, seals[each["id"]], now, task_url(each["task_id"]) if task_url else "")
                for each in page.rows
            ],
            "kinds": query.kind_choices(),
            "spans": query.spans(),
            "task": task,
            "task_url": self.url("change", task, model="task") if task and tasks else "",
            "task_label": short_id(task) if task else "",
            "without_task": query.url(task=[]),
            "hidden": query.hidden,
            "newer": query.url(before=page.before) if page.before else "",
            "older": query.url(after=page.after) if page.after else "",
            "newest": "" if page.first else query.url(),
            "widened": query.over(links.widened(DEFAULT_SPAN * 7)),
            "all_time": query.over(links.all_time()),
            "exports": self.export_links(query.pairs),
            "live": self.live(query.pairs, page, now) if page.first and not span.end else None,
        }

    def narrower(self, request: HttpRequest) -> list[tuple[str, str]]:
        query = LogQuery.read(request)
        return [(words, query.over(url)) for words, url in query.list_query.links.narrower()]

    def to_export(self, request: HttpRequest) -> Export:
        query = LogQuery.read(request)
        span = range_name(query.list_query.range)
        return Export(name="log", rows=query.rows(self.using), range=span, problems=query.problems)

    def detail_context(self, request: HttpRequest, key: Any) -> Any:
        for task in ExecutionLog.objects.using(self.using).filter(pk=key).values_list("task_id", flat=True):
            if not self.sees(request, Task):
                return HttpResponseRedirect(f"{self.url('changelist')}?task={task}")
            return HttpResponseRedirect(f"{self.url('change', task, model='task')}#log-{key}")
        raise NotThere
