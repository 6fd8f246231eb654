"""That somebody has asked executing work to stop: who, when and why, and what the worker does about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.db.models.functions import Left
from django.utils.translation import gettext as _

from audit.admin.shared.panels import panel
from audit.admin.shared.wording import ago, moment, shown
from audit.models import ExecutionLog
from audit.status import FINISHED, LogKind, Status

__all__ = ["Stopping", "stopping"]

_ACTION = "request-cancel"
_LONGEST = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """A request to stop, as text."""

    text: str
    """Who asked, and when."""
    exact: str
    reason: str
    next: str
    """What happens now; empty for work that no worker has."""


def stopping(using: str, task: Mapping[str, Any], now: datetime) -> Stopping | None:
    """Say who asked a task to stop; None where nobody did, or it has ended.

    Args:
        using: the alias to read from.
        task: what `read_task` read.
        now: when the page is read.
    """
    at = task["cancel_requested_at"]
    if at is None or task["status"] in FINISHED:
        return None
    who, reason = panel(using, partial(_asked, using, task)).value or ("", "")
    words = {"who": shown(who, 100, name=True), "when": ago(at, now)}
    said = _("%(who)s asked this work to stop, %(when)s.") if who else _("Somebody asked this work to stop, %(when)s.")
    return Stopping(
        text=said % words,
        exact=moment(at, now),
        reason=shown(reason, _LONGEST),
        next=_next(task) if task["status"] == Status.EXECUTING else "",
    )


def _next(task: Mapping[str, Any]) -> str:
    text = _(
        "%(worker)s learns of it with its next heartbeat. Then the handler decides how the work ends: at once, later,"
        " or not at all. It is not tried again, and it fails if its lease runs out."
    )
    return text % {"worker": shown(task["claimed_by"], 80, name=True) or _("Its worker")}


def _asked(using: str, task: Mapping[str, Any]) -> tuple[str, str]:
    """The first request, which `cancel_requested_at` is the moment of."""
    notes = ExecutionLog.objects.using(using).filter(task=task["id"], kind=LogKind.NOTE, action=_ACTION)
    for who, reason in notes.order_by("id").values_list(Left("actor", 400), Left("output_summary", _LONGEST + 1))[:1]:
        return who, reason
    return "", ""
