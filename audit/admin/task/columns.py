"""Which columns of a task its page reads, and how each is called and written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import F, IntegerField, TextField
from django.db.models.expressions import Func
from django.db.models.functions import Cast, Left, Length
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

from audit.admin.shared.facts import Fact
from audit.admin.shared.jsontree import LIMIT
from audit.admin.shared.read_only_admin import NotThere
from audit.admin.shared.wording import moment, shown, span
from audit.columns import TASK
from audit.models import Task
from audit.status import OnExpiry

__all__ = ["COLUMNS", "DOCUMENTS", "SERVICES_SHOWN", "Column", "column_facts", "completed", "label_of", "read_task"]

SERVICES_SHOWN = 200
_LONGEST_TEXT = 500


def _plain(value: Any, now: datetime) -> tuple[str, str]:
    return ("—" if value is None else str(value)), ""


def _moment(value: datetime | None, now: datetime) -> tuple[str, str]:
    return (moment(value, now), value.isoformat()) if value else ("—", "")


def _text(value: str, now: datetime) -> tuple[str, str]:
    return shown(value, _LONGEST_TEXT) or "—", ""


def _milliseconds(value: int, now: datetime) -> tuple[str, str]:
    return span(timedelta(milliseconds=value)), f"{value} ms"


def _on_expiry(value: str, now: datetime) -> tuple[str, str]:
    return str(OnExpiry(value).label), ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column that the page lists among all fields."""

    name: str
    label: Any
    write: Callable[[Any, datetime], tuple[str, str]] = _plain
    """Its value as text, and what that says when it is pointed at."""
    finished: bool = False
    """Whether only a finished task has it; it is not listed before."""


_LABELLED = (
    Column(name="id", label=_("Id")),
    Column(name="parent", label=_("Parent")),
    Column(name="created_at", label=_("Created"), write=_moment),
    Column(name="recorded_at", label=_("Recorded here"), write=_moment),
    Column(name="available_at", label=_("Available from"), write=_moment),
    Column(name="approve_before", label=_("Approve before"), write=_moment),
    Column(name="decided_at", label=_("Decided"), write=_moment),
    Column(name="started_at", label=_("Started"), write=_moment),
    Column(name="finished_at", label=_("Finished"), write=_moment),
    Column(name="executing_ms", label=_("Executing"), write=_milliseconds),
    Column(name="paused_ms", label=_("Paused"), write=_milliseconds),
    Column(name="status_since", label=_("In this status since"), write=_moment),
    Column(name="status_was", label=_("Status before")),
    Column(name="lease_expires_at", label=_("Lease ends"), write=_moment),
    Column(name="cancel_requested_at", label=_("Asked to stop"), write=_moment),
    Column(name="priority", label=_("Priority")),
    Column(name="requested_by", label=_("Requested by"), write=_text),
    Column(name="decided_by", label=_("Decided by"), write=_text),
    Column(name="claimed_by", label=_("Claimed by"), write=_text),
    Column(name="actor", label=_("Last change by"), write=_text),
    Column(name="correlation_id", label=_("Correlation"), write=_text),
    Column(name="claim_token", label=_("Claim token")),
    Column(name="attempt", label=_("Attempts")),
    Column(name="expiries", label=_("Lost leases")),
    Column(name="failures", label=_("Failed attempts")),
    Column(name="on_expiry", label=_("When a lease is lost"), write=_on_expiry),
    Column(name="revision", label=_("Revision")),
    Column(name="finished_xid", label=_("Finished in transaction"), finished=True),
    Column(name="row_version", label=_("Version of the hashed form"), finished=True),
)
_HEADINGS = {
    "outcome": _("Outcome"),
    "suggestions": _("Suggestions"),
    "plan": _("Plan"),
    "work_plan": _("What remained of the plan"),
    "resources_used": _("Resources used"),
    "estimated_resources": _("Estimated resources"),
    "origin": _("Origin"),
}
_ABOVE = ("action", "status")
"""What is read too, and stands above all that."""
_WRITERS: dict[str, Callable[[Any, datetime], tuple[str, str]]] = {"text": _text, "timestamptz": _moment}


def completed(labelled: Sequence[Column], headings: Mapping[str, Any]) -> tuple[tuple[Column, ...], dict[str, Any]]:
    """Add the columns of a task that have no label here, each with the name that the model gives it.

    Args:
        labelled: columns with their labels.
        headings: documents with their headings.

    Returns:
        All columns, and all documents with their headings; the added ones last.
    """
    plain, documents = list(labelled), dict(headings)
    known = {*documents, *_ABOVE, "summary", "services_touched", *(column.name for column in plain)}
    for described in TASK:
        if described.name in known:
            continue
        label = capfirst(Task._meta.get_field(described.name).verbose_name)  # type: ignore[union-attr]
        if described.is_document:
            documents[described.name] = label
        else:
            plain.append(Column(name=described.name, label=label, write=_WRITERS.get(described.type, _plain)))
    return tuple(plain), documents


COLUMNS, DOCUMENTS = completed(_LABELLED, _HEADINGS)
"""What is listed among all fields, and the JSON columns that are shown with their headings, each in this order. Of a
text, which may be of any length, the beginning is read."""

_LABELS = {column.name: column.label for column in COLUMNS}


def label_of(name: str) -> Any:
    """What a column is called."""
    return _LABELS[name]


def read_task(using: str, key: UUID) -> dict[str, Any]:
    """Read one task, of each text and document no more than a page shows.

    Args:
        using: the database alias.
        key: its id.

    Returns:
        `COLUMNS`, action and status under their names; of each of `DOCUMENTS` the `<name>_text` and its whole
        `<name>_length`; `title` and `title_length`, the summary; `some_services` and their `service_count`.

    Raises:
        NotThere: no task has this id.
    """
    plain = [column.name for column in COLUMNS if column.write is not _text]
    # Under another name each, for an annotation must not be called as a column is.
    texts: dict[str, Any] = {
        f"{column.name}_label": Left(column.name, _LONGEST_TEXT) for column in COLUMNS if column.write is _text
    }
    documents: dict[str, Any] = {f"{name}_text": Left(Cast(F(name), TextField()), LIMIT) for name in DOCUMENTS}
    documents |= {f"{name}_length": Length(Cast(F(name), TextField())) for name in DOCUMENTS}
    rows = (
        Task.objects.using(using)
        .filter(pk=key)
        .values(*plain, *_ABOVE)
        .annotate(
            **documents,
            **texts,
            title=Left("summary", LIMIT),
            title_length=Length("summary"),
            some_services=F(f"services_touched__0_{SERVICES_SHOWN}"),
            service_count=Func(F("services_touched"), function="cardinality", output_field=IntegerField()),
        )[:1]
    )
    for row in rows:
        return {name.removesuffix("_label"): value for name, value in row.items()}
    raise NotThere


def column_facts(task: dict[str, Any], now: datetime, parent_url: str) -> Iterator[Fact]:
    """List every column, for those who want all of it.

    Args:
        task: what `read_task` read.
        now: when the page is read.
        parent_url: of its parent's page; empty without one.
    """
    for column in COLUMNS:
        value = task[column.name]
        if column.finished and value is None:
            continue
        text, title = column.write(value, now)
        yield Fact(label=column.label, value=text, title=title, url=parent_url if column.name == "parent" else "")
