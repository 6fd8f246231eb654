"""Why a task waits, on its page: the sentences of `audit.pausing.waiting`, with links and the evidence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlencode

from django.http import HttpRequest
from django.utils.translation import gettext as _

from audit.admin.shared.links import filter_url
from audit.admin.shared.panels import panel
from audit.admin.shared.read_only_admin import ReadOnlyAdmin
from audit.admin.shared.wording import ago, grouped, moment, shown, span
from audit.admin.task.evidence import Evidence, evidence, read_evidence
from audit.models import Agent, Event
from audit.pausing import waiting
from audit.reading.filters import TaskFilter
from audit.status import PauseReason, Status

__all__ = ["Reason", "Waits", "waits"]

Row = Mapping[str, Any]
T = TypeVar("T")

_STYLE = waiting.Style(moment=moment, ago=ago, span=span, count=grouped, text=shown, name=partial(shown, name=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """A sentence, and where to go on."""

    text: str
    url: str = ""
    link: str = ""
    """What the link says."""
    stands_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Why a task waits."""

    reasons: Sequence[Reason]
    evidence: Evidence | None = None
    """What the judgement about capacity was made of."""
    judged: str = ""
    """When it was made."""


def waits(page: ReadOnlyAdmin, request: HttpRequest, task: Row, entry: Row | None, now: datetime) -> Waits | None:
    """Say why a task waits.

    Args:
        page: whose links to use.
        request: who asks; agents are named to who may see them.
        task: what `read_task` read.
        entry: what `read_entry` read, of paused work.
        now: when the page is read.

    Returns:
        The reasons; None for a task that does not wait.
    """
    using, names = page.using, page.sees(request, Agent)

    def ask(read: Callable[[], T], /) -> T | None:
        return panel(using, read).value

    found = waiting.waits(using, {**task, "estimate": _estimate(task)}, entry, now, _STYLE, ask, names)
    if found is None:
        return None
    reasons = [
        Reason(text=each.text, stands_out=each.stands_out, **_link(page, request, each.about, entry))
        for each in found.reasons
    ]
    if names and found.verdict:
        judged_now = evidence(found.verdict.evidence)
        return Waits(reasons=reasons, evidence=judged_now, judged=_("as it is now") if judged_now else "")
    if names and entry and entry["reason"] == PauseReason.INSUFFICIENT_CAPACITY:
        at, given = panel(using, partial(read_evidence, using, task["id"])).value or (None, None)
        return Waits(reasons=reasons, evidence=evidence(given), judged=ago(at, now) if at else "")
    return Waits(reasons=reasons)


def _estimate(task: Row) -> Any:
    try:
        return json.loads(task["estimated_resources_text"] or "null")
    except ValueError:
        return None  # longer than is read


def _link(page: ReadOnlyAdmin, request: HttpRequest, about: str, entry: Row | None) -> dict[str, str]:
    if about == "approved":
        url = page.url("changelist") + filter_url(TaskFilter(statuses=(Status.APPROVED,), all_time=True))
        return {"url": url, "link": _("show them")}
    if about == "agents" and page.sees(request, Agent):
        return {"url": page.url("changelist", model="agent"), "link": _("agents")}
    if about == "event" and entry and page.sees(request, Event):
        url = f"{page.url('changelist', model='event')}?{urlencode({'name': entry['event']})}"
        return {"url": url, "link": _("events")}
    return {}
