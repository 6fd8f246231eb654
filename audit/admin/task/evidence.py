"""What a judgement about capacity was made of: each agent with what it had free, and how old its reading was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import F, TextField
from django.db.models.functions import Cast, Left
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit.admin.shared.drawing import meter
from audit.admin.shared.wording import shown, span
from audit.agents.needs import RESOURCES
from audit.models import ExecutionLog
from audit.pausing.pause_manager import EVIDENCE
from audit.status import LogKind

__all__ = ["Evidence", "Judged", "Room", "evidence", "read_evidence"]

_LABELS = {
    "cpu": gettext_lazy("CPU free"),
    "memory": gettext_lazy("Memory free"),
    "gpu": gettext_lazy("GPU free"),
    "gpu_memory": gettext_lazy("GPU memory free"),
}
_LONGEST = 64 * 1024
_AGENTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How much of a resource an agent had free."""

    text: str
    drawn: SafeString | str
    short: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """An agent, as it was judged."""

    name: str
    rooms: Sequence[Room]
    age: str
    """How old its reading was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was judged, as text."""

    resources: Sequence[str]
    agents: Sequence[Judged]
    more: int
    threshold: str


def read_evidence(using: str, task: UUID) -> tuple[Any, Any]:
    """Read when the capacity of a task was judged last, and by what, from its log; twice None where it never was."""
    notes = ExecutionLog.objects.using(using).filter(task_id=task, kind=LogKind.NOTE, action=EVIDENCE)
    newest = notes.order_by("-id").values_list("at", Left(Cast(F("detail"), TextField()), _LONGEST))
    for at, text in newest[:1]:
        try:
            return at, json.loads(text or "null")
        except ValueError:
            return at, None
    return None, None


def evidence(given: Any) -> Evidence | None:
    """Write evidence as text; None for what is none, for anybody may log anything under this name."""
    agents = given.get("agents") if isinstance(given, dict) else None
    if not isinstance(agents, list):
        return None
    lines = [each for each in agents if isinstance(each, dict) and isinstance(each.get("free"), dict)]
    asked = [each for each in RESOURCES if any(each in line["free"] for line in lines)]
    if not asked:
        return None
    threshold = _ratio(given.get("threshold"))
    return Evidence(
        resources=[str(_LABELS[each]) for each in asked],
        agents=[_judged(line, asked) for line in lines[:_AGENTS]],
        more=max(len(lines) - _AGENTS, 0),
        threshold="" if threshold is None else f"{threshold:.0%}",
    )


def _judged(line: Mapping[str, Any], asked: Sequence[str]) -> Judged:
    short = line.get("short")
    age = line.get("reading_age_s")
    known = isinstance(age, int | float) and 0 <= age < 1e9
    return Judged(
        name=shown(line.get("agent"), 80, name=True),
        rooms=[_room(line["free"].get(each), isinstance(short, list) and each in short) for each in asked],
        age=span(timedelta(seconds=float(age))) if known else "—",  # type: ignore[arg-type]  # a number, as was seen
    )


def _room(value: Any, short: bool) -> Room:
    free = _ratio(value)
    if free is None:
        return Room(text=_("unknown"), drawn="", short=False)
    return Room(text=f"{free:.0%}", drawn=meter(free, "failed" if short else "completed"), short=short)


def _ratio(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)
