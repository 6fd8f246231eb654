"""What people look for first on the page of a task: the facts above its timeline."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.utils.translation import gettext as _

from audit.admin.shared.facts import Fact
from audit.admin.shared.links import filter_url
from audit.admin.shared.wording import ago, moment, shown, span
from audit.admin.task.columns import label_of
from audit.reading.filters import TaskFilter
from audit.reading.spans import spans
from audit.status import Status

__all__ = ["facts"]


def facts(task: dict[str, Any], now: datetime, list_url: str, agents_url: str = "") -> Iterator[Fact]:
    """List what people look for first.

    Args:
        task: what `read_task` read.
        now: when the page is read.
        list_url: of the list of tasks, for links into it.
        agents_url: of the page of agents; empty for who may not see it.
    """
    created, finished = task["created_at"], task["finished_at"]
    yield Fact(label=label_of("created_at"), value=moment(created, now), title=created.isoformat())
    life = spans(task, now)
    yield Fact(label=_("Waited"), value=span(life.waited))
    yield Fact(label=_("Ran"), value=span(life.ran))
    if life.paused:
        yield Fact(label=_("Was paused"), value=span(life.paused))
    yield Fact(label=_("Total") if finished else _("Age"), value=span(life.total))
    yield Fact(label=_("Attempt"), value=str(task["attempt"]))
    if task["status"] == Status.EXECUTING:
        yield from _claim(task, now, agents_url)
    for name in ("requested_by", "decided_by"):
        yield Fact(label=label_of(name), value=shown(task[name], 80, name=True) or "—")
    if correlation := task["correlation_id"]:
        try:
            url = list_url + filter_url(TaskFilter(correlation_ids=(correlation,)))
        except ValueError:
            url = ""
        yield Fact(
            label=label_of("correlation_id"), value=shown(correlation, 80), title=shown(correlation, 500), url=url
        )


def _claim(task: dict[str, Any], now: datetime, agents_url: str) -> Iterator[Fact]:
    """Who works on it, and until when the claim lasts."""
    worker, lease = task["claimed_by"], task["lease_expires_at"]
    if worker:
        url = f"{agents_url}?{urlencode({'agent': worker})}" if agents_url else ""
        yield Fact(label=_("Worker"), value=shown(worker, 80, name=True), title=shown(worker, 500), url=url)
    if lease:
        ends = _("ends %(when)s") if lease > now else _("ended %(when)s")
        yield Fact(label=_("Lease"), value=ends % {"when": ago(lease, now)}, title=moment(lease, now))
