"""How long a task waited, ran and was paused, apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from audit.status import FINISHED, Status

__all__ = ["COLUMNS", "Spans", "spans"]

COLUMNS = (*("status", "status_since", "created_at", "started_at", "finished_at", "executing_ms", "paused_ms"),)
"""The columns of a task that `spans` reads."""

_NOTHING = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """The life of a task, from its request to its end or to now."""

    waited: timedelta
    """For a decision, for its time to come, for a worker."""
    ran: timedelta | None
    """Executing; None for work that never started."""
    paused: timedelta
    total: timedelta


def spans(task: Mapping[str, Any], now: datetime) -> Spans:
    """Measure a task.

    Args:
        task: its `COLUMNS` by name.
        now: until when a live task is measured.
    """
    status = task["status"]
    total = max((task["finished_at"] or now) - task["created_at"], _NOTHING)
    going_on = max(now - task["status_since"], _NOTHING) if status not in FINISHED else _NOTHING
    ran = timedelta(milliseconds=task["executing_ms"]) + (going_on if status == Status.EXECUTING else _NOTHING)
    paused = timedelta(milliseconds=task["paused_ms"]) + (going_on if status == Status.PAUSED else _NOTHING)
    return Spans(
        waited=max(total - ran - paused, _NOTHING),
        ran=ran if task["started_at"] else None,
        paused=paused,
        total=total,
    )
