"""One line of the list of tasks, as text and as HTML.

The fifty rows are most of a page. A template looks up, localizes and escapes each of their thousand values one by one,
which took a third of the page's time; written here they take a tenth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db.models import Case, F, IntegerField, Q, TextField, Value, When
from django.db.models.expressions import Func
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Left
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from audit.admin.decide.offers import pick
from audit.admin.shared.question import Link, Question
from audit.admin.shared.seals import Seal, badge
from audit.admin.shared.wording import ago, moment, shown, span
from audit.reading.filters.values import short_id
from audit.status import Status
from audit.values.failures import REJECTION, failure_class

__all__ = ["LIST_COLUMNS", "TaskRow", "list_columns", "task_row"]

_SERVICES_SHOWN = 2
_LONGEST_NAME = 200

# No JSON column, no text in full: a row may hold megabytes that no list shows.
LIST_COLUMNS = (
    "id",
    "action",
    "status",
    "priority",
    "created_at",
    "started_at",
    "finished_at",
    "attempt",
    "revision",
)


def list_columns(queryset: Any) -> Any:
    """Read of each task what a list shows, and no more, whatever its size."""
    failure = Left(KeyTextTransform("error_type", "outcome"), 80)
    return queryset.values(*LIST_COLUMNS).annotate(
        title=Left("summary", 200),
        who=Left("actor", _LONGEST_NAME),
        some_services=F(f"services_touched__0_{_SERVICES_SHOWN}"),
        service_count=Func(F("services_touched"), function="cardinality", output_field=IntegerField()),
        failure=Case(
            When(Q(status__in=(Status.FAILED, Status.REJECTED)), then=failure),
            default=Value(""),
            output_field=TextField(),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One line of the list, as text."""

    id: UUID
    url: str
    title: str
    action: str
    status: str
    status_label: str
    failure: str
    """The class of the failure, in words."""
    error_type: str
    when: str
    exact: str
    iso: str
    services: Sequence[Link]
    more_services: int
    who: Link | None
    took: str
    waited: str
    seal: Seal
    pick: str
    """What its check box stands for; empty where nothing can be decided."""

    @property
    def short(self) -> str:
        """The beginning of the id, as a search finds it."""
        return short_id(self.id)

    @property
    def cells(self) -> SafeString:
        """Its cells, but for the one with the check box."""
        return format_html(
            _CELLS,
            self.status,
            self.status_label,
            _optional(self.failure, '<small class="audit-failure">{}</small>'),
            _optional(self.error_type, '<small class="audit-type" title="{0}"><bdi>{0}</bdi></small>'),
            self.iso,
            self.iso,
            self.when,
            self.exact,
            self.url,
            self.title,
            self.id,
            self.short,
            self.action,
            format_html_join("", "{}", ((_service(each),) for each in self.services)),
            format_html("<small>+{}</small>", self.more_services) if self.more_services else "",
            _actor(self.who),
            self.took,
            _optional(self.waited),
            badge(self.seal),
        )


_CELLS = """
<td role="cell" class="c-status"><span class="audit-pill t-{}">{}</span>{}{}</td>
<td role="cell" class="c-when"><time datetime="{}" title="{}">{}<small>{}</small></time></td>
<td role="cell" class="c-task"><a class="audit-title" href="{}"><bdi>{}</bdi></a>\
<small><code title="{}">{}</code> · <bdi>{}</bdi></small></td>
<td role="cell" class="c-services">{}{}</td>
<td role="cell" class="c-actor">{}</td>
<td role="cell" class="c-took"><bdi>{}</bdi>{}</td>
<td role="cell" class="c-seal">{}</td>
"""


def _optional(text: str, markup: str = "<small>{}</small>") -> str:
    return format_html(markup, text) if text else ""


@lru_cache(maxsize=1024)
def _service(link: Link) -> SafeString:
    if link.url:
        markup = '<a class="audit-tag" href="{}" title="{}"><bdi>{}</bdi></a> '
        return format_html(markup, link.url, link.value, link.label)
    return format_html('<span class="audit-tag"><bdi>{}</bdi></span> ', link.label)


@lru_cache(maxsize=1024)
def _actor(link: Link | None) -> SafeString:
    if link is None:
        return SafeString("—")
    markup = '<a href="{}" title="{}"><bdi>{}</bdi></a>' if link.url else '<bdi title="{1}">{2}</bdi>'
    return format_html(markup, link.url, link.value, link.label)


def task_row(values: dict[str, Any], question: Question, seal: Seal, url: str) -> TaskRow:
    """Write a row of `list_columns` as text.

    Args:
        values: the row.
        question: of the list; gives the links that narrow it, and the moment of the page.
        seal: the task's.
        url: of its page.
    """
    action = shown(values["action"])
    return TaskRow(
        id=values["id"],
        url=url,
        title=shown(values["title"], 160).strip() or action,
        action=action,
        status=values["status"],
        status_label=str(Status(values["status"]).label),
        failure=str(kind.label) if (kind := failure_class(values["status"], values["failure"])) else "",
        error_type="" if values["failure"] == REJECTION else shown(values["failure"], 60),
        when=ago(values["created_at"], question.now),
        exact=moment(values["created_at"], question.now),
        iso=values["created_at"].isoformat(),
        services=[
            Link(label=shown(name, 30), value=shown(name, 200), url=question.with_("services", name))
            for name in values["some_services"]
        ],
        more_services=max(values["service_count"] - _SERVICES_SHOWN, 0),
        who=_who(values["who"], question),
        took=_took(values, question.now),
        waited=_waited(values, question.now),
        seal=seal,
        pick=pick(values["id"], values["revision"], values["status"]),
    )


def _who(name: str, question: Question) -> Link | None:
    if not name:
        return None
    # A name that fills the column was perhaps cut, and a part of a name finds nothing.
    url = question.with_("actors", name) if len(name) < _LONGEST_NAME else ""
    return Link(label=shown(name, 40), value=shown(name, 200), url=url)


def _took(values: dict[str, Any], now: datetime) -> str:
    started, finished = values["started_at"], values["finished_at"]
    if started and finished:
        return span(finished - started)
    if values["status"] == Status.EXECUTING and started:
        return _("running %(span)s") % {"span": span(max(now - started, timedelta(0)))}
    return "—"


def _waited(values: dict[str, Any], now: datetime) -> str:
    created, started = values["created_at"], values["started_at"]
    if started:
        return _("waited %(span)s") % {"span": span(started - created)}
    if values["finished_at"] is None:
        return _("waiting %(span)s") % {"span": span(max(now - created, timedelta(0)))}
    return ""
