"""What the URL of the execution log asks for: a range of time, kinds of rows, one task."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpRequest
from django.utils.translation import gettext as _

from audit.admin.shared.ids import BadId, read_id
from audit.admin.shared.links import Link
from audit.admin.shared.paging import Order
from audit.admin.shared.query import ListQuery
from audit.admin.shared.wording import shown
from audit.models import ExecutionLog
from audit.reading.filters import TaskFilter
from audit.status import LogKind

__all__ = ["ORDER", "LogQuery"]

ORDER = Order(moment="at", key=int)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """The URL of the log, read."""

    list_query: ListQuery
    kinds: tuple[str, ...]
    task: UUID | None
    problems: tuple[str, ...]

    @classmethod
    def read(cls, request: HttpRequest) -> LogQuery:
        """Read the URL; what means nothing is left out and reported in `problems`."""
        list_query, problems = _range_only(ListQuery.read(request, ORDER, ("kind", "task")))
        task, no_task = _task(request)
        kinds = request.GET.getlist("kind")
        no_kinds = [
            _("There is no kind %(kind)s; it is left out.") % {"kind": shown(each, 80)}
            for each in kinds
            if each not in LogKind.values
        ]
        if task is not None:
            list_query = replace(list_query, default_span=None)
        return cls(
            list_query=list_query,
            kinds=tuple(each for each in kinds if each in LogKind.values),
            task=task,
            problems=(*list_query.problems, *problems, *no_task, *no_kinds),
        )

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The URL keys and values, without the place in the list."""
        return [(key, value) for key, values in self._keys.items() for value in values]

    @property
    def hidden(self) -> list[tuple[str, str]]:
        """The keys and values beside the range, which the form of a range carries along."""
        return [(key, value) for key, values in self._beside.items() for value in values]

    @property
    def _beside(self) -> dict[str, list[str]]:
        return {"kind": list(self.kinds), "task": [str(self.task)] if self.task else []}

    @property
    def _keys(self) -> dict[str, list[str]]:
        return {name: [value] for name, value in self.list_query.filter.pairs()} | self._beside

    def rows(self, using: str) -> Any:
        """The rows that answer, in no order."""
        rows = ExecutionLog.objects.using(using)
        if self.kinds:
            rows = rows.filter(kind__in=self.kinds)
        if self.task is not None:
            rows = rows.filter(task_id=self.task)
        span = self.list_query.range
        if span.start is not None:
            rows = rows.filter(at__gte=span.start)
        if span.end is not None:
            rows = rows.filter(at__lt=span.end)
        return rows

    # Links

    def url(self, **other: Any) -> str:
        """Link to the log with some keys changed."""
        return f"?{urlencode({**self._keys, **other}, doseq=True)}"

    def over(self, url: str) -> str:
        """Add what is asked beside the range to a link to another range; empty without a link."""
        beside = urlencode(self._beside, doseq=True)
        return f"{url}&{beside}" if url and beside else url

    def spans(self) -> list[Link]:
        """The range buttons."""
        return [replace(each, url=self.over(each.url)) for each in self.list_query.links.spans()]

    def kind_choices(self) -> list[Link]:
        """The kinds, each as a toggle."""
        return [
            Link(label=LogKind(kind).label, url=self._toggling(kind), chosen=kind in self.kinds, tone=kind)
            for kind in LogKind.values
        ]

    def _toggling(self, kind: str) -> str:
        others = [each for each in self.kinds if each != kind]
        return self.url(kind=others if kind in self.kinds else [*self.kinds, kind])


def _range_only(query: ListQuery) -> tuple[ListQuery, list[str]]:
    """Keep of a filter of tasks what the log knows too, its range of time, and say what of it is left out."""
    wanted = query.filter
    kept = TaskFilter(since=wanted.since, until=wanted.until, all_time=wanted.all_time)
    problems = [
        _("The log has no filter %(key)s; %(value)s is left out.") % {"key": shown(key, 80), "value": shown(value, 80)}
        for key, value in wanted.pairs()
        if (key, value) not in set(kept.pairs())
    ]
    return replace(query, filter=kept), problems


def _task(request: HttpRequest) -> tuple[UUID | None, list[str]]:
    text = request.GET.get("task")
    if not text:
        return None, []
    try:
        return read_id(text, UUID), []
    except BadId:
        return None, [_("The task id %(id)s is not a UUID; it is left out.") % {"id": shown(text, 80)}]
