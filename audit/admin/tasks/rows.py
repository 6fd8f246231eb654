"""One line of the list of tasks, as text; its markup is the template `audit/admin/tasks/rows.html`.

Rows of lists are dictionaries: a template looks a key up in a fraction of the time that an attribute takes, and the
rows are most of a page.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypedDict
from uuid import UUID

from django.db.models import Case, F, IntegerField, Q, TextField, Value, When
from django.db.models.expressions import Func
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Left
from django.template.loader import render_to_string
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from audit.admin.decide.offers import checkbox
from audit.admin.shared.query import ListQuery
from audit.admin.shared.seal_badge import Seal
from audit.admin.shared.titles import task_title
from audit.admin.shared.wording import ago, moment, shown, span
from audit.reading.filters.values import short_id
from audit.reading.spans import COLUMNS as SPAN_COLUMNS
from audit.reading.spans import Spans, spans
from audit.status import Status
from audit.values.failures import CLASSES, REJECTION, failure_class

__all__ = ["LIST_COLUMNS", "TaskRow", "list_columns", "task_row"]

_SERVICES_SHOWN = 2
_LONGEST_NAME = 200

# No JSON column, no text in full: a row may hold megabytes that no list shows.
LIST_COLUMNS = (
    "id",
    "action",
    "priority",
    "attempt",
    "revision",
    "lease_expires_at",
    *SPAN_COLUMNS,
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


class TaskRow(TypedDict):
    """One line of the list, as text."""

    id: UUID
    url: str
    title: str
    short: str
    """The beginning of the id, as a search finds it."""
    action: str
    status: str
    status_label: str
    failure: str
    """The class of the failure, in words."""
    failure_means: str
    error_type: str
    when: str
    exact: str
    iso: str
    services: SafeString
    """The first of them, drawn: each a link to the list with it."""
    more_services: int
    actor: str
    """Empty where nobody is named."""
    actor_title: str
    actor_url: str
    """To the list of what they did last; empty where a filter could not hold the name."""
    took: str
    waited: str
    paused: str
    """Empty where it never was."""
    lease_over: str
    """How long ago the lease of executing work ended; empty while it lasts."""
    seal: Seal
    checkbox: str
    """What its check box stands for; empty where nothing can be decided."""


def task_row(values: dict[str, Any], query: ListQuery, seal: Seal, url: str, actors: Mapping[str, str]) -> TaskRow:
    """Write a row of `list_columns` as text.

    Args:
        values: the row.
        query: of the list; gives the links that narrow it, and the moment of the page.
        seal: the task's.
        url: of its page.
        actors: short forms of the names that the page has.
    """
    who = values["who"]
    kind = failure_class(values["status"], values["failure"])
    life = spans(values, query.now)
    return TaskRow(
        id=values["id"],
        url=url,
        title=task_title(values["title"], values["action"], 160),
        short=short_id(values["id"]),
        action=shown(values["action"]),
        status=values["status"],
        status_label=str(Status(values["status"]).label),
        failure=str(kind.label) if kind else "",
        failure_means=str(CLASSES[kind]) if kind else "",
        error_type="" if values["failure"] == REJECTION else shown(values["failure"], 60),
        when=ago(values["created_at"], query.now),
        exact=moment(values["created_at"], query.now),
        iso=values["created_at"].isoformat(),
        services=format_html_join(
            "",
            "{}",
            [
                (_service(shown(name, 30, name=True), shown(name, 200), query.links.adding("services", name)),)
                for name in values["some_services"]
            ],
        ),
        more_services=max(values["service_count"] - _SERVICES_SHOWN, 0),
        actor=shown(actors[who]),
        actor_title=shown(who, 200),
        # A name that fills the column was perhaps cut, and a part of a name finds nothing.
        actor_url=query.links.adding("actors", who) if 0 < len(who) < _LONGEST_NAME else "",
        took=_took(values, life),
        waited=_waited(values, life),
        paused=_paused(life),
        lease_over=_lease_over(values, query),
        seal=seal,
        checkbox=checkbox(values["id"], values["revision"], values["status"]),
    )


@lru_cache(maxsize=1024)
def _service(name: str, whole: str, url: str) -> SafeString:
    """Draw a service; a list has the same few in many rows."""
    return render_to_string("audit/admin/tasks/service.html", {"name": name, "whole": whole, "url": url})


def _took(values: dict[str, Any], life: Spans) -> str:
    if life.ran is None:
        return "—"
    if values["status"] == Status.EXECUTING:
        return _("running %(span)s") % {"span": span(life.ran)}
    return span(life.ran)


def _lease_over(values: dict[str, Any], query: ListQuery) -> str:
    lease = values["lease_expires_at"]
    if values["status"] != Status.EXECUTING or lease is None or lease > query.now:
        return ""
    return _("lease ended %(when)s") % {"when": ago(lease, query.now)}


def _waited(values: dict[str, Any], life: Spans) -> str:
    waiting = values["status"] in (Status.PENDING, Status.APPROVED)
    return (_("waiting %(span)s") if waiting else _("waited %(span)s")) % {"span": span(life.waited)}


def _paused(life: Spans) -> str:
    return _("paused %(span)s") % {"span": span(life.paused)} if life.paused else ""
