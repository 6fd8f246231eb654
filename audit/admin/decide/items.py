"""What a decision is about, as a person who confirms it must see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db.models import F, IntegerField, TextField
from django.db.models.expressions import Func
from django.db.models.functions import Cast, Left, Length
from django.utils.translation import gettext as _

from audit import conf
from audit.admin.decide.wording import changed, why_not, wrong_status
from audit.admin.shared.jsontree import LIMIT, Tree, tree
from audit.admin.shared.titles import task_title
from audit.admin.shared.wording import ago, moment, shown, size, span
from audit.decisions import Decision, Seen
from audit.exceptions import OwnRequest
from audit.models import PauseQueueEntry, Task
from audit.reading.filters.values import short_id
from audit.status import PauseReason, Status
from audit.values import moments

if TYPE_CHECKING:
    from audit.admin.shared.read_only_admin import ReadOnlyAdmin

__all__ = ["Item", "items"]

_SERVICES_SHOWN = 20
# All plans of a page together: one alone is shown as on the page of the task.
_PLANS = 512 * 1024
_SMALLEST_PLAN = 4 * 1024

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A task to decide about, as text."""

    token: str
    title: str
    url: str
    short: str
    action: str
    status: str
    status_label: str
    requested_by: str
    own: bool
    """Whether the person who decides requested it."""
    when: str
    exact: str
    services: Sequence[str]
    more_services: int
    plan: Tree | None
    plan_size: str
    is_work_plan: bool
    """Whether the plan is what remains of paused work, which becomes the task's plan."""
    paused: str
    note: str
    worker: str
    problem: str
    """Why it is left out; empty when it is not."""


def items(page: ReadOnlyAdmin, using: str, decision: Decision, seen: Sequence[Seen], username: str) -> list[Item]:
    """Read what would be decided, in two queries, inside `reading`.

    Args:
        page: whose links to use.
        using: the alias to read from: the primary, where it will be decided.
        decision: what would be decided.
        seen: about what, as it was seen; what changed since is left out and says so.
        username: who decides.
    """
    now = moments.now()
    limit = min(max(_PLANS // len(seen), _SMALLEST_PLAN), LIMIT)
    tasks = {row["id"]: row for row in _tasks(using, [each.task for each in seen], limit)}
    keys = [each.entry for each in seen if each.entry is not None]
    entries = {row["id"]: row for row in _entries(using, keys, limit)} if keys else {}
    return [_item(page, decision, each, tasks.get(each.task), entries.get(each.entry), username, now) for each in seen]


def _item(
    page: ReadOnlyAdmin,
    decision: Decision,
    seen: Seen,
    task: Row | None,
    entry: Row | None,
    username: str,
    now: datetime,
) -> Item:
    task = task or {"id": seen.task, "status": "", "created_at": now, "service_count": 0, "some_services": []}
    entry = entry if entry and entry["task_id"] == seen.task else None
    document = entry if entry and entry["document_length"] else task
    has_plan = bool(document.get("document_length"))
    action = shown(task.get("action"))
    return Item(
        token=str(seen),
        title=task_title(task.get("title"), task.get("action"), 160) or short_id(seen.task),
        url=page.url("change", seen.task, model="task"),
        short=short_id(seen.task),
        action=action,
        status=task["status"],
        status_label=str(Status(task["status"]).label) if task["status"] else "",
        requested_by=shown(task.get("who"), 100),
        own=bool(task.get("who")) and task["who"] == username,
        when=ago(task["created_at"], now),
        exact=moment(task["created_at"], now),
        services=[shown(name, 60) for name in task["some_services"]],
        more_services=max(task["service_count"] - _SERVICES_SHOWN, 0),
        plan=tree(document["document"], document["document_length"]) if has_plan else None,
        plan_size=size(document["document_length"]) if has_plan else "",
        is_work_plan=document is entry,
        paused=_paused(entry, now) if entry else "",
        note=shown(entry["words"], 500) if entry else "",
        worker=shown(entry["worker"], 100) if entry and _leased(entry, now) else "",
        problem=_problem(decision, seen, task, entry, username),
    )


def _problem(decision: Decision, seen: Seen, task: Row, entry: Row | None, username: str) -> str:
    if not task["status"]:
        return _("There is no such task.")
    if task["revision"] != seen.revision or (seen.entry is not None and entry is None):
        return changed(task["status"], task["changed_by"], username)
    if entry is not None and entry["revision"] != seen.entry_revision:
        return changed(task["status"], entry["changed_by"], username)
    if task["status"] not in decision.sources:
        return wrong_status(decision, task["status"])
    if decision == Decision.HOLD and entry is not None and entry["held"]:
        return _("It is held already.")
    if decision.lets_run and task["who"] == username and not conf.settings().DECIDE_OWN:
        return why_not(decision, OwnRequest(task["id"], username), username)
    return ""


def _paused(entry: Row, now: datetime) -> str:
    parts = [
        str(PauseReason(entry["reason"]).label),
        _("paused for %(span)s") % {"span": span(now - entry["paused_at"])},
    ]
    if entry["who"]:
        parts.append(_("by %(actor)s") % {"actor": shown(entry["who"], 100)})
    if entry["held"]:
        parts.append(_("held"))
    else:
        parts.append(_("due %(when)s") % {"when": moment(entry["due_at"], now)})
    return ", ".join(parts)


def _leased(entry: Row, now: datetime) -> bool:
    return bool(entry["lease_expires_at"] and entry["lease_expires_at"] > now)


def _tasks(using: str, keys: Sequence[UUID], limit: int) -> Any:
    return (
        Task.objects.using(using)
        .filter(pk__in=keys)
        .values(
            "id",
            "action",
            "status",
            "revision",
            "created_at",
            title=Left("summary", 200),
            who=Left("requested_by", 600),
            changed_by=Left("actor", 600),
            some_services=F(f"services_touched__0_{_SERVICES_SHOWN}"),
            service_count=Func(F("services_touched"), function="cardinality", output_field=IntegerField()),
            document=Left(Cast(F("plan"), TextField()), limit),
            document_length=Length(Cast(F("plan"), TextField())),
        )
    )


def _entries(using: str, keys: Sequence[int], limit: int) -> Any:
    return (
        PauseQueueEntry.objects.using(using)
        .filter(pk__in=keys)
        .values(
            "id",
            "task_id",
            "revision",
            "reason",
            "paused_at",
            "due_at",
            "held",
            "lease_expires_at",
            words=Left("note", 600),
            who=Left("paused_by", 200),
            changed_by=Left("actor", 600),
            worker=Left("claimed_by", 200),
            document=Left(Cast(F("work_plan"), TextField()), limit),
            document_length=Length(Cast(F("work_plan"), TextField())),
        )
    )
