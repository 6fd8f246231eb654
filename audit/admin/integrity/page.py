"""The Integrity page: what verifications found, how old that is, and what was signed. It hashes nothing itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models.functions import Left
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from audit.admin.integrity.reports import FINDINGS, Found, Stored, newest, read, report
from audit.admin.shared.base import NotThere, ReadOnlyAdmin
from audit.admin.shared.paging import BadCursor, Cursor, Order, turn
from audit.admin.shared.panels import panel
from audit.admin.shared.wording import ago, grouped, moment, shown, span
from audit.ledger.tlog.errors import LedgerError
from audit.ledger.tlog.note import Note, to_base64
from audit.models import (
    ExecutionLog,
    LedgerCheckpoint,
    LedgerEpoch,
    LedgerHead,
    LedgerVerification,
    Task,
    Verdict,
)
from audit.reading.filters.values import short_id

__all__ = ["OLD", "LedgerVerificationAdmin", "integrity_url"]

ORDER = Order(moment="finished_at", key=int)
OLD = timedelta(hours=24)
"""From which age on a verification stands out."""
_VERIFICATIONS = 20
_CHECKPOINTS = 10
_EPOCHS = 20
_LONGEST_NOTE = 64 * 1024

TONES = {Verdict.INTACT: "completed", Verdict.TAMPERING: "failed", Verdict.UNCHECKED: "paused"}
_COVERED = {
    "tasks": gettext_lazy("Tasks"),
    "log_rows": gettext_lazy("Log rows"),
    "epochs": gettext_lazy("Later epochs"),
    "checkpoints": gettext_lazy("Checkpoints here"),
    "external_checkpoints": gettext_lazy("Checkpoints kept outside"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something about a verification in two words."""

    label: str
    value: str
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRow:
    """One finding with the way to what it is about."""

    found: Found
    title: str
    url: str
    leaf: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A verification, as text."""

    id: int
    verdict: str
    label: str
    tone: str
    when: str
    exact: str
    iso: str
    actor: str
    facts: list[Fact]
    counts: list[Fact]
    findings: list[FindingRow]
    more: int
    first: FindingRow | None
    not_covered: list[str]
    report_url: str


class LedgerVerificationAdmin(ReadOnlyAdmin):
    """What verifications of the ledger found, and what it signed; the page of a row is one verification."""

    list_template = "audit/admin/integrity/page.html"
    detail_template = "audit/admin/integrity/verification.html"

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        using, now = self.using, timezone.now()
        problems: list[str] = []
        try:
            cursor = Cursor.read(request.GET, ORDER)
        except BadCursor as error:
            cursor = None
            problems.append(_("The place %(place)s means nothing; this is the first page.") % {"place": shown(error)})
        last = panel(using, partial(newest, using))
        head = panel(using, partial(_head, using))
        listed = panel(using, partial(turn, _verifications(using), ORDER, cursor, _VERIFICATIONS))
        checkpoints = panel(using, partial(_checkpoints, using))
        epochs = panel(using, partial(_epochs, using))
        page = listed.value
        signed = checkpoints.value[0]["size"] if checkpoints.value else None
        return {
            "title": _("Integrity"),
            "now": now,
            "problems": problems,
            "last": self._told(request, last.value, now) if last.value else None,
            "last_degraded": last.degraded,
            "grown": _grown(last.value, signed) if last.value else "",
            "alarms": _alarms(last.value, signed, now) if last.value else [],
            "ledger": _ledger(head.value, now),
            "verifications": [self._line(each, now) for each in page.rows] if page else [],
            "verifications_degraded": page is None,
            "newer": f"?before={page.before}" if page and page.before else "",
            "older": f"?after={page.after}" if page and page.after else "",
            "newest": "" if page is None or page.first else "?",
            "checkpoints": [self._checkpoint(each, now) for each in checkpoints.value or ()],
            "checkpoints_degraded": checkpoints.degraded,
            "checkpoints_shown": _CHECKPOINTS,
            "epochs": [_epoch(each, now) for each in epochs.value or ()],
            "epochs_degraded": epochs.degraded,
            "zone": timezone.get_current_timezone_name(),
        }

    def detail_context(self, request: HttpRequest, object_id: str) -> dict[str, Any]:
        now = timezone.now()
        stored = read(self.using, object_id)
        told = self._told(request, stored, now)
        return {
            "title": _("Verification of %(when)s") % {"when": told.exact},
            "last": told,
            "is_detail": True,
            "zone": timezone.get_current_timezone_name(),
        }

    def more_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("checkpoint/<str:object_id>/note/", view(self.checkpoint_view), name="audit_ledgercheckpoint_note"),
            path("<str:object_id>/report/", view(self.report_view), name="audit_ledgerverification_report"),
        ]

    def report_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send the whole report of a verification as JSON."""
        return self.page(request, "", lambda: report(self.using, object_id))

    def checkpoint_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send a checkpoint's signed note as a file."""
        return self.page(request, "", lambda: _note(self.using, object_id))

    def _told(self, request: HttpRequest, stored: Stored, now: datetime) -> Told:
        tasks = self.sees(request, Task)
        titles = panel(self.using, partial(_titles, self.using, stored.findings)) if tasks else None
        names = titles.value if titles and titles.value else {}
        logs = tasks and self.sees(request, ExecutionLog)
        rows = [self._finding(each, names, tasks, logs) for each in stored.findings]
        bad = stored.first_row
        return Told(
            id=stored.id,
            verdict=stored.verdict,
            label=_label(stored.verdict),
            tone=_tone(stored.verdict),
            when=ago(stored.finished_at, now),
            exact=moment(stored.finished_at, now),
            iso=stored.finished_at.isoformat(),
            actor=stored.actor,
            facts=list(_facts(stored, now)),
            counts=[Fact(label=str(label), value=grouped(number), title=code) for code, label, number in stored.counts],
            findings=rows,
            more=max(stored.total - len(rows), 0) if len(rows) >= FINDINGS else 0,
            first=next((row for row in rows if row.found is bad), None),
            not_covered=list(stored.not_covered),
            report_url=self.url("report", stored.id),
        )

    def _finding(self, found: Found, names: dict[UUID | int, str], tasks: bool, logs: bool) -> FindingRow:
        title = url = ""
        if found.task:
            title = names.get(found.task) or _("task %(id)s") % {"id": short_id(found.task)}
            url = self.url("change", found.task, model="task") if tasks else ""
        elif found.log is not None:
            told = names.get(found.log, "")
            number = _("log row %(id)s") % {"id": found.log}
            title = f"{told} ({number})" if told else number
            url = self.url("change", found.log, model="executionlog") if logs else ""
        return FindingRow(found=found, title=title, url=url, leaf="" if found.leaf is None else grouped(found.leaf))

    def _line(self, values: dict[str, Any], now: datetime) -> dict[str, Any]:
        return {
            "url": self.url("change", values["id"]),
            "label": _label(values["verdict"]),
            "tone": _tone(values["verdict"]),
            "when": ago(values["finished_at"], now),
            "exact": moment(values["finished_at"], now),
            "iso": values["finished_at"].isoformat(),
            "took": span(values["finished_at"] - values["started_at"]),
            "size": grouped(values["size"]),
            "unsealed": grouped(values["unsealed"]),
            "actor": shown(values["who"], 60),
        }

    def _checkpoint(self, values: dict[str, Any], now: datetime) -> dict[str, Any]:
        root = to_base64(bytes(values["root"]))
        return {
            "id": values["id"],
            "epoch": values["epoch"],
            "size": grouped(values["size"]),
            "root": root,
            "short": root[:16],
            "when": ago(values["created_at"], now),
            "exact": moment(values["created_at"], now),
            "iso": values["created_at"].isoformat(),
            "signers": _signers(values["text"]),
            "text": shown(values["text"], 4_000),
            "url": self._checkpoint_url(values["id"]),
        }

    def _checkpoint_url(self, key: int) -> str:
        return reverse("admin:audit_ledgercheckpoint_note", args=[key], current_app=self.admin_site.name)


def integrity_url(page: ReadOnlyAdmin, request: HttpRequest) -> str:
    """Link to the Integrity page, for who may see it; empty for the others, and where the site does not have it."""
    return page.url("changelist", model="ledgerverification") if page.sees(request, LedgerVerification) else ""


# Reading, each inside a panel

_TITLES = """
SELECT id, NULL::bigint, left(summary, 120), left(action, 100) FROM audit_task WHERE id = ANY(%s::uuid[])
UNION ALL
SELECT NULL, log.id, left(task.summary, 120), left(task.action, 100)
FROM audit_executionlog AS log JOIN audit_task AS task ON task.id = log.task_id WHERE log.id = ANY(%s::bigint[])
"""


def _titles(using: str, found: Sequence[Found]) -> dict[UUID | int, str]:
    """Read what the tasks of findings are called, those of log rows too, in one query."""
    tasks = list({each.task for each in found if each.task})
    logs = list({each.log for each in found if each.log is not None})
    if not tasks and not logs:
        return {}
    with connections[using].cursor() as cursor:
        cursor.execute(_TITLES, [tasks, logs])
        rows = cursor.fetchall()
    return {task or log: shown(summary, 100).strip() or shown(action) for task, log, summary, action in rows}


def _head(using: str) -> dict[str, Any] | None:
    # The size of the tree without counting a leaf.
    for row in LedgerHead.objects.using(using).filter(id=1).values("size", "epoch", "sealed_at")[:1]:
        return dict(row)
    return None


def _verifications(using: str) -> Any:
    return LedgerVerification.objects.using(using).values(
        "id", "started_at", "finished_at", "verdict", "size", "unsealed", who=Left("actor", 100)
    )


def _checkpoints(using: str) -> Any:
    rows = LedgerCheckpoint.objects.using(using).order_by("-epoch", "-size")
    return list(
        rows.values("id", "epoch", "size", "root", "created_at", text=Left("note", _LONGEST_NOTE))[:_CHECKPOINTS]
    )


def _epochs(using: str) -> Any:
    rows = LedgerEpoch.objects.using(using).order_by("-number")
    columns = {name: Left(column, 2_000) for name, column in (("why", "reason"), ("who", "actor"), ("name", "origin"))}
    return list(rows.values("number", "size", "started_at", **columns)[:_EPOCHS])


def _note(using: str, object_id: str) -> HttpResponse:
    if not object_id.isascii() or not object_id.isdigit() or len(object_id) > 18:
        raise NotThere
    found = LedgerCheckpoint.objects.using(using).filter(pk=int(object_id)).values_list("epoch", "size", "note")[:1]
    for epoch, size, text in found:
        response = HttpResponse(text, content_type="text/plain; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="{epoch}-{size}.checkpoint"'
        response["X-Content-Type-Options"] = "nosniff"
        return response
    raise NotThere


# Telling


def _label(verdict: str) -> str:
    return str(Verdict(verdict).label).capitalize() if verdict in Verdict.values else shown(verdict, 60)


def _tone(verdict: str) -> str:
    return TONES.get(verdict, "pending")  # type: ignore[call-overload, no-any-return]  # a str enum


def _facts(stored: Stored, now: datetime) -> Iterator[Fact]:
    yield Fact(label=_("Took"), value=span(stored.finished_at - stored.started_at))
    yield Fact(label=_("By"), value=stored.actor or "—")
    yield Fact(label=_("Leaves read"), value=grouped(stored.size))
    if stored.signed is not None:
        yield Fact(label=_("of them signed"), value=grouped(stored.signed))
    for name, label in _COVERED.items():
        if name in stored.covered:
            yield Fact(label=str(label), value=grouped(stored.covered[name]))
    yield Fact(label=_("Not sealed then"), value=grouped(stored.unsealed))
    if stored.oldest_unsealed:
        yield Fact(
            label=_("the oldest, then"),
            value=span(stored.finished_at - stored.oldest_unsealed),
            title=moment(stored.oldest_unsealed, now),
        )


def _grown(last: Stored, size: int | None) -> str:
    """What came since a verification: `size` leaves are in the newest checkpoint now, if that is known."""
    if size is None or size <= last.size:
        return ""
    told = ngettext(
        "%(count)s leaf was added since and never verified: %(then)s then, %(now)s in the newest checkpoint.",
        "%(count)s leaves were added since and never verified: %(then)s then, %(now)s in the newest checkpoint.",
        size - last.size,
    )
    return told % {"count": grouped(size - last.size), "then": grouped(last.size), "now": grouped(size)}


def _alarms(last: Stored, size: int | None, now: datetime) -> list[str]:
    """Why the newest verification is no comfort; arguments as those of `_grown`."""
    said = []
    if now - last.finished_at > OLD:
        said.append(_("The last verification is %(age)s old.") % {"age": span(now - last.finished_at)})
    if size is not None and size < last.size:
        told = _(
            "The newest checkpoint has %(now)s leaves, and the last verification saw %(then)s: "
            "the ledger was cut or set back. Verify it now."
        )
        said.append(told % {"then": grouped(last.size), "now": grouped(size)})
    return said


def _ledger(head: dict[str, Any] | None, now: datetime) -> list[Fact]:
    """Where sealing stands now, as the sealer left it."""
    if head is None:
        return []
    sealed = head["sealed_at"]
    return [
        Fact(label=_("Leaves now"), value=grouped(head["size"])),
        Fact(label=_("Epoch"), value=str(head["epoch"])),
        Fact(
            label=_("Last sealed"),
            value=ago(sealed, now) if sealed else _("never"),
            title=moment(sealed, now) if sealed else "",
        ),
    ]


def _signers(text: str) -> list[str]:
    """The names that a note bears; whether they signed it is for a verification to say."""
    try:
        return [shown(each.name, 100) for each in Note.parse(text).signatures]
    except LedgerError:
        return []


def _epoch(values: dict[str, Any], now: datetime) -> dict[str, Any]:
    return {
        "number": values["number"],
        "size": grouped(values["size"]),
        "when": ago(values["started_at"], now),
        "exact": moment(values["started_at"], now),
        "iso": values["started_at"].isoformat(),
        "reason": shown(values["why"], 1_000),
        "actor": shown(values["who"], 100),
        "origin": shown(values["name"], 300),
    }
