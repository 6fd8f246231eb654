"""One stored verification as text: its verdict, what it covered, and its findings with the way to their rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models.functions import Left
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from audit.admin.integrity.reports import FINDINGS, StoredFinding, StoredVerification, without_ids
from audit.admin.shared.facts import Fact
from audit.admin.shared.panels import panel
from audit.admin.shared.read_only_admin import ReadOnlyAdmin
from audit.admin.shared.titles import task_title
from audit.admin.shared.wording import ago, grouped, moment, shown, span
from audit.models import ExecutionLog, LedgerVerification, Task, Verdict
from audit.reading.filters.values import short_id

__all__ = ["OLD", "Verification", "alarms", "growth", "list_columns", "verification", "verification_row"]

OLD = timedelta(hours=24)
"""From which age on a verification stands out."""

_TONES = {Verdict.INTACT: "completed", Verdict.TAMPERING: "failed", Verdict.UNCHECKED: "paused"}
_COVERED = {
    "tasks": gettext_lazy("Tasks"),
    "log_rows": gettext_lazy("Log rows"),
    "epochs": gettext_lazy("Later epochs"),
    "checkpoints": gettext_lazy("Checkpoints here"),
    "external_checkpoints": gettext_lazy("Checkpoints kept outside"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRow:
    """One finding with the way to what it is about."""

    finding: StoredFinding
    title: str
    url: str
    leaf: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
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


def verification(page: ReadOnlyAdmin, request: HttpRequest, stored: StoredVerification, now: datetime) -> Verification:
    """Write a stored verification as text.

    Args:
        page: whose links to use.
        request: who asks; the rows of findings are named to who may see them.
        stored: what `audit.admin.integrity.reports` read.
        now: when the page is read.
    """
    tasks = page.sees(request, Task)
    named = panel(page.using, partial(_names, page.using, stored.findings)) if tasks else None
    names = named.value if named and named.value else {}
    logs = tasks and page.sees(request, ExecutionLog)
    rows = [_finding_row(page, each, names, tasks, logs) for each in stored.findings]
    first = next((place for place, each in enumerate(stored.findings) if each is stored.first_row), None)
    return Verification(
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
        first=None if first is None else rows[first],
        not_covered=[each if tasks else without_ids(each) for each in stored.not_covered],
        report_url=page.url("report", stored.id),
    )


def _finding_row(
    page: ReadOnlyAdmin, finding: StoredFinding, names: Mapping[UUID | int, str], tasks: bool, logs: bool
) -> FindingRow:
    title = url = ""
    if not tasks:
        finding = replace(finding, message=without_ids(finding.message))
    if finding.task and not tasks:
        title = _("a task")
    elif finding.task:
        title = names.get(finding.task) or _("task %(id)s") % {"id": short_id(finding.task)}
        url = page.url("change", finding.task, model="task")
    elif finding.log is not None:
        name = names.get(finding.log, "")
        number = _("log row %(id)s") % {"id": finding.log}
        title = f"{name} ({number})" if name else number
        url = page.url("change", finding.log, model="executionlog") if logs else ""
    return FindingRow(finding=finding, title=title, url=url, leaf="" if finding.leaf is None else grouped(finding.leaf))


_NAMES = """
SELECT id, NULL::bigint, left(summary, 120), left(action, 100) FROM audit_task WHERE id = ANY(%s::uuid[])
UNION ALL
SELECT NULL, log.id, left(task.summary, 120), left(task.action, 100)
FROM audit_executionlog AS log JOIN audit_task AS task ON task.id = log.task_id WHERE log.id = ANY(%s::bigint[])
"""


def _names(using: str, findings: Sequence[StoredFinding]) -> dict[UUID | int, str]:
    """Read what the tasks of findings are called, those of log rows too, in one query."""
    tasks = list({each.task for each in findings if each.task})
    logs = list({each.log for each in findings if each.log is not None})
    if not tasks and not logs:
        return {}
    with connections[using].cursor() as cursor:
        cursor.execute(_NAMES, [tasks, logs])
        rows = cursor.fetchall()
    return {task or log: task_title(summary, action) for task, log, summary, action in rows}


def _facts(stored: StoredVerification, now: datetime) -> Iterator[Fact]:
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


def growth(last: StoredVerification, size: int | None) -> str:
    """What came since a verification: `size` leaves are in the newest checkpoint now, if that is known."""
    if size is None or size <= last.size:
        return ""
    words = ngettext(
        "%(count)s leaf was added since and never verified: %(then)s then, %(now)s in the newest checkpoint.",
        "%(count)s leaves were added since and never verified: %(then)s then, %(now)s in the newest checkpoint.",
        size - last.size,
    )
    return words % {"count": grouped(size - last.size), "then": grouped(last.size), "now": grouped(size)}


def alarms(last: StoredVerification, size: int | None, now: datetime) -> list[str]:
    """Why the newest verification is not a comfort; arguments as those of `growth`."""
    texts = []
    if now - last.finished_at > OLD:
        texts.append(_("The last verification is %(age)s old.") % {"age": span(now - last.finished_at)})
    if size is not None and size < last.size:
        words = _(
            "The newest checkpoint has %(now)s leaves, and the last verification saw %(then)s: "
            "the ledger was cut or set back. Verify it now."
        )
        texts.append(words % {"then": grouped(last.size), "now": grouped(size)})
    return texts


def list_columns(using: str) -> Any:
    """Read of each verification what a list shows."""
    return LedgerVerification.objects.using(using).values(
        "id", "started_at", "finished_at", "verdict", "size", "unsealed", who=Left("actor", 400)
    )


def verification_row(values: dict[str, Any], now: datetime, url: str) -> dict[str, Any]:
    """Write a row of `list_columns` as text; `url` is of its page."""
    return {
        "url": url,
        "label": _label(values["verdict"]),
        "tone": _tone(values["verdict"]),
        "when": ago(values["finished_at"], now),
        "exact": moment(values["finished_at"], now),
        "iso": values["finished_at"].isoformat(),
        "took": span(values["finished_at"] - values["started_at"]),
        "size": grouped(values["size"]),
        "unsealed": grouped(values["unsealed"]),
        "actor": shown(values["who"], 60, name=True),
    }


def _label(verdict: str) -> str:
    return str(Verdict(verdict).label).capitalize() if verdict in Verdict.values else shown(verdict, 60)


def _tone(verdict: str) -> str:
    return _TONES.get(verdict, "pending")  # type: ignore[call-overload, no-any-return]  # a str enum
