"""The execution log: every status change and step of every task, newest first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models.functions import Left
from django.http import HttpRequest, HttpResponseRedirect
from django.utils.translation import gettext as _

from audit.admin.shared.base import NotThere
from audit.admin.shared.export import Export, range_name
from audit.admin.shared.paging import Order, turn
from audit.admin.shared.question import DEFAULT_SPAN, Link, Question
from audit.admin.shared.seals import Seal, seals_of_log
from audit.admin.shared.tail import TailingAdmin
from audit.admin.shared.wording import ago, milliseconds, moment, shown
from audit.models import ExecutionLog, Task
from audit.reading.filters import TaskFilter
from audit.reading.filters.values import short_id
from audit.status import LogKind, Status

__all__ = ["ExecutionLogAdmin", "LogRow", "titles"]

ORDER = Order(moment="at", key=int)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """One line of the log, as text."""

    id: int
    kind: str
    kind_label: str
    before: str
    after: str
    before_label: str
    after_label: str
    when: str
    exact: str
    iso: str
    title: str
    short: str
    url: str
    who: str
    role: str
    action: str
    output: str
    took: str
    seal: Seal


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What of the log is asked for: a range of time, kinds of rows, one task."""

    question: Question
    kinds: tuple[str, ...]
    task: UUID | None
    problems: tuple[str, ...]

    @classmethod
    def read(cls, request: HttpRequest) -> _Asked:
        """Read the URL; what means nothing is left out and told in `problems`."""
        question, problems = _ranged(Question.read(request, ORDER, ("kind", "task")))
        task, told = _task(request)
        problems += told
        kinds = request.GET.getlist("kind")
        problems += [
            _("There is no kind %(kind)s; it is left out.") % {"kind": shown(each, 80)}
            for each in kinds
            if each not in LogKind.values
        ]
        if task is not None:
            question = replace(question, answered=question.asked)
        return cls(
            question=question,
            kinds=tuple(each for each in kinds if each in LogKind.values),
            task=task,
            problems=(*question.problems, *problems),
        )

    @property
    def kept(self) -> dict[str, list[str]]:
        """The URL keys beside the range."""
        return {"kind": list(self.kinds), "task": [str(self.task)] if self.task else []}

    @property
    def query(self) -> dict[str, list[str]]:
        """The URL keys, without the place in the list."""
        pairs = self.question.asked.pairs()
        return {name: [value] for name, value in pairs} | self.kept

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The same, one by one."""
        return [(name, value) for name, values in self.query.items() for value in values]

    def rows(self, using: str) -> Any:
        """The rows that answer, in no order."""
        rows = ExecutionLog.objects.using(using)
        if self.kinds:
            rows = rows.filter(kind__in=self.kinds)
        if self.task is not None:
            rows = rows.filter(task_id=self.task)
        if self.question.start is not None:
            rows = rows.filter(at__gte=self.question.start)
        if self.question.end is not None:
            rows = rows.filter(at__lt=self.question.end)
        return rows


class ExecutionLogAdmin(TailingAdmin):
    """The log as one stream; the page of a row is its place in the page of its task."""

    list_template = "audit/admin/log/list.html"
    order = ORDER

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        asked = _Asked.read(request)
        question, kinds, task = asked.question, asked.kinds, asked.task
        page = turn(_columns(asked.rows(self.using)), ORDER, question.cursor)
        tasks = self.sees(request, Task)
        found = titles(self.using, {each["task_id"] for each in page.rows}) if tasks else {}
        seals = seals_of_log(self.using, [each["id"] for each in page.rows], question.now)
        kept, here = asked.kept, asked.query
        task_page = self.urls_of("change", model="task") if tasks else None

        def url(**more: Any) -> str:
            return f"?{urlencode({**here, **more}, doseq=True)}"

        return {
            "title": _("Execution log"),
            "question": question,
            "problems": asked.problems,
            "rows": [
                _row(each, found, seals[each["id"]], question.now, task_page(each["task_id"]) if task_page else "")
                for each in page.rows
            ],
            "kinds": [
                Link(label=LogKind(kind).label, url=url(kind=_toggled(kinds, kind)), chosen=kind in kinds, tone=kind)
                for kind in LogKind.values
            ],
            "ranges": [replace(each, url=_kept(each.url, kept)) for each in question.ranges()],
            "task": task,
            "task_url": self.url("change", task, model="task") if task and tasks else "",
            "task_label": short_id(task) if task else "",
            "without_task": url(task=[]),
            "hidden": [(key, value) for key, values in kept.items() for value in values],
            "newer": url(before=page.before) if page.before else "",
            "older": url(after=page.after) if page.after else "",
            "newest": "" if page.first else url(),
            "widened": _kept(question.widened(DEFAULT_SPAN * 7), kept),
            "all_time": _kept(question.searched(), kept),
            "exports": self.export_links(asked.pairs),
            "live": self.live(asked.pairs, page, question.now) if page.first and not question.end else None,
        }

    def narrower(self, request: HttpRequest) -> list[tuple[str, str]]:
        asked = _Asked.read(request)
        return [(words, _kept(url, asked.kept)) for words, url in asked.question.narrower()]

    def to_export(self, request: HttpRequest) -> Export:
        asked = _Asked.read(request)
        return Export(
            name="log", rows=asked.rows(self.using), range=range_name(asked.question), problems=asked.problems
        )

    def detail_context(self, request: HttpRequest, object_id: str) -> Any:
        if not object_id.isascii() or not object_id.isdigit() or len(object_id) > 18:
            raise NotThere
        for task in ExecutionLog.objects.using(self.using).filter(pk=int(object_id)).values_list("task_id", flat=True):
            if not self.sees(request, Task):
                return HttpResponseRedirect(f"{self.url('changelist')}?task={task}")
            return HttpResponseRedirect(f"{self.url('change', task, model='task')}#log-{int(object_id)}")
        raise NotThere


def _row(values: dict[str, Any], found: dict[UUID, str], seal: Seal, now: datetime, task_page: str) -> LogRow:
    task = values["task_id"]
    before, after = values["from_status"] or "", values["to_status"] or ""
    took = values["duration_ms"]
    return LogRow(
        id=values["id"],
        kind=values["kind"],
        kind_label=_kind(values),
        before=before,
        after=after,
        before_label=str(Status(before).label) if before else "",
        after_label=str(Status(after).label) if after else "",
        when=ago(values["at"], now),
        exact=moment(values["at"], now),
        iso=values["at"].isoformat(),
        title=found.get(task, ""),
        short=short_id(task),
        url=f"{task_page}#log-{values['id']}" if task_page else "",
        who=shown(values["who"], 60),
        role=shown(values["role"], 60),
        action=shown(values["name"], 120),
        output=shown(values["output"], 240),
        took=milliseconds(took),
        seal=seal,
    )


def _columns(rows: Any) -> Any:
    return rows.values(
        "id",
        "at",
        "task_id",
        "kind",
        "from_status",
        "to_status",
        "step_number",
        "duration_ms",
        who=Left("actor", 100),
        role=Left("db_role", 100),
        name=Left("action", 200),
        output=Left("output_summary", 300),
    )


def titles(using: str, keys: set[UUID]) -> dict[UUID, str]:
    """Read what a few tasks are called, in one query: the summary, else the action."""
    if not keys:
        return {}
    rows = Task.objects.using(using).filter(pk__in=keys).values_list("id", Left("summary", 120), "action")
    return {key: shown(summary, 100).strip() or shown(action) for key, summary, action in rows}


def _kind(values: dict[str, Any]) -> str:
    if values["kind"] == LogKind.STEP and values["step_number"] is not None:
        return _("Step %(number)s") % {"number": values["step_number"]}
    return str(LogKind(values["kind"]).label)


def _ranged(question: Question) -> tuple[Question, list[str]]:
    """Keep of a filter of tasks what the log knows too, its range of time, and tell what of it is left out."""
    asked = question.asked
    kept = TaskFilter(since=asked.since, until=asked.until, all_time=asked.all_time)
    told = [
        _("The log has no filter %(key)s; %(value)s is left out.") % {"key": shown(key, 80), "value": shown(value, 80)}
        for key, value in asked.pairs()
        if (key, value) not in set(kept.pairs())
    ]
    return replace(question, asked=kept, answered=kept.within(DEFAULT_SPAN)), told


def _task(request: HttpRequest) -> tuple[UUID | None, list[str]]:
    text = request.GET.get("task")
    if not text:
        return None, []
    try:
        return UUID(text), []
    except ValueError:
        return None, [_("The task id %(id)s is no UUID; it is left out.") % {"id": shown(text, 80)}]


def _toggled(kinds: tuple[str, ...], kind: str) -> list[str]:
    return [each for each in kinds if each != kind] if kind in kinds else [*kinds, kind]


def _kept(url: str, kept: dict[str, list[str]]) -> str:
    """Add what is kept to a link to another range; empty without a link."""
    more = urlencode(kept, doseq=True)
    return f"{url}&{more}" if url and more else url
