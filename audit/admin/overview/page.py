"""The overview, at the app's own address in the admin: each line leads into a list.

Django has this page already and gives it a name of its own template (`admin/audit/app_index.html`), so it works on
every admin site; that template asks for what is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from functools import partial
from typing import Any, TypeVar

from django.contrib.admin import AdminSite
from django.db import DatabaseError
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.admin.overview.cards import Card, agents_card, ended_card, integrity_card, needs_card, queue_card, runs_card
from audit.admin.shared.links import Link
from audit.admin.shared.panels import NOT_MIGRATED, Panel, noting_denied, panel, reading, sqlstate
from audit.admin.shared.read_only_admin import ReadOnlyAdmin
from audit.agents.listing import states
from audit.models import Agent, Event, ExecutionLog, LedgerVerification, PauseQueueEntry, Task
from audit.reading import now as trail
from audit.reading.health import health
from audit.values import moments

__all__ = ["overview"]

_PAGES = (Task, ExecutionLog, PauseQueueEntry, Agent, Event, LedgerVerification)

T = TypeVar("T")


@dataclass(kw_only=True)
class _Reader:
    """Reads each thing once, within the time of a panel, if the person may see it."""

    using: str
    degraded: bool = field(default=False)

    def read(self, work: Callable[[], T]) -> T | None:
        found: Panel[T] = panel(self.using, work)
        self.degraded = self.degraded or found.degraded
        return found.value


def overview(request: HttpRequest, site: AdminSite) -> dict[str, Any]:
    """Read what the overview of a site shows to a person.

    Args:
        request: who asks.
        site: the admin site.

    Returns:
        `pages`, `cards`, `degraded`, `denied` and `zone`; or a `problem`: the alias whose tables are missing.
    """
    admins = {model: site.get_model_admin(model) for model in _PAGES if site.is_registered(model)}
    seen = {
        model: page
        for model, page in admins.items()
        if isinstance(page, ReadOnlyAdmin) and page.has_view_permission(request)
    }
    if not seen:
        return {"pages": [], "cards": []}
    page = next(iter(seen.values()))
    reader = _Reader(using=page.using)
    try:
        with noting_denied() as denied, reading(page.using):
            cards = list(_cards(reader, {model: each.url("changelist") for model, each in seen.items()}, page))
    except DatabaseError as error:
        if sqlstate(error) not in NOT_MIGRATED:
            raise
        return {"pages": [], "cards": [], "problem": page.using}
    return {
        "pages": list(_links(seen)),
        "cards": cards,
        "degraded": reader.degraded and not denied,
        "denied": denied,
        "zone": timezone.get_current_timezone_name(),
    }


def _links(seen: dict[Any, ReadOnlyAdmin]) -> Iterator[Link]:
    for model, page in seen.items():
        yield Link(label=str(page.opts.verbose_name_plural).capitalize(), url=page.url("changelist"))
        if model is Task:
            yield Link(label=_("Statistics"), url=page.url("statistics"))


def _cards(reader: _Reader, urls: dict[Any, str], page: ReadOnlyAdmin) -> Iterator[Card]:
    using, now = reader.using, moments.now()
    tasks, queue = urls.get(Task, ""), urls.get(PauseQueueEntry, "")
    standing = reader.read(partial(trail.standing, using)) if tasks else None
    waiting = reader.read(partial(trail.waiting, using)) if queue else None
    if standing or waiting:
        yield needs_card(standing, waiting, tasks, queue, now)
    if standing:
        yield runs_card(standing, tasks, now)
    if tasks and (counted := reader.read(partial(_ended, using, now))):
        total, actions, complete, today = counted
        yield ended_card(total, actions, complete, today, tasks)
    if (tasks or queue) and (state := reader.read(partial(health, using))):
        yield queue_card(state, waiting, standing, tasks, queue)
    if Agent in urls and (counts := reader.read(partial(states, using))) is not None:
        yield agents_card(counts, urls[Agent])
    if LedgerVerification in urls:
        newest = reader.read(partial(_newest, using))
        if newest is not None:
            yield integrity_card(newest, urls[LedgerVerification], tasks, now)


def _ended(using: str, now: datetime) -> tuple[trail.Ended, Sequence[trail.Ended], bool, datetime]:
    today, yesterday = _midnight(now, 0), _midnight(now, 1)
    # The same time by the clock's count: where clocks change at night, these days differ in length.
    by_now = min(yesterday + (now - today), today)
    found = trail.ended(using, yesterday=yesterday, by_now=by_now, today=today, now=now)
    return (*found, today)


def _midnight(now: datetime, days_ago: int) -> datetime:
    day = timezone.localtime(now).date() - timedelta(days=days_ago)
    return timezone.make_aware(datetime.combine(day, time.min))


def _newest(using: str) -> list[Any]:
    rows = LedgerVerification.objects.using(using).order_by("-finished_at", "-id")
    return list(rows.values("verdict", "finished_at", "size", "unsealed")[:1])
