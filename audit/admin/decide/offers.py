"""What a page offers to people who may decide: which decisions, about what, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

from django.http import HttpRequest
from django.urls import Resolver404, get_script_prefix, resolve
from django.utils.http import url_has_allowed_host_and_scheme

from audit.decisions import Decision, Seen
from audit.models import Task
from audit.status import Status

if TYPE_CHECKING:
    from audit.admin.shared.read_only_admin import ReadOnlyAdmin

__all__ = ["ON_ENTRIES", "ON_TASKS", "Choice", "Offer", "about_one", "checkbox", "offer", "way_back"]

ON_TASKS = (Decision.APPROVE, Decision.REJECT)
_ON_ONE = (*ON_TASKS, Decision.PAUSE, Decision.REQUEST_CANCEL)
ON_ENTRIES = (Decision.RESUME, Decision.HOLD, Decision.DEFER, Decision.CANCEL)
_LONGEST_WAY = 4000
_PAGES = {
    f"audit_{model}_{page}"
    for model in ("task", "executionlog", "pausequeueentry", "agent", "event")
    for page in ("changelist", "change")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A button: what it decides, what it says, and whether it ends the work."""

    value: str
    label: Any
    ends: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Buttons that ask for a confirmation, and where the person is now."""

    url: str
    back: str
    choices: Sequence[Choice]
    item: str = ""
    """What it is about, on the page of one task; in a list the rows say it."""


def offer(page: ReadOnlyAdmin, request: HttpRequest, decisions: Sequence[Decision], item: str = "") -> Offer | None:
    """Offer decisions; None to whoever may not decide, and where there is nothing to decide."""
    if not decisions or not page.has_decide_permission(request) or not page.sees(request, Task):
        return None
    return Offer(
        url=page.url("decide", model="task"),
        back=request.get_full_path()[:_LONGEST_WAY],
        choices=[Choice(value=each, label=each.label, ends=each.ends) for each in decisions],
        item=item,
    )


def checkbox(task: UUID, revision: int, status: str, entry: int | None = None, entry_revision: int = 0) -> str:
    """Write what a check box stands for; empty where nothing can be decided."""
    if entry is None and status not in Decision.REJECT.sources:
        return ""
    return _about(task, revision, entry, entry_revision)


def _about(task: UUID, revision: int, entry: int | None = None, entry_revision: int = 0) -> str:
    return str(Seen(task=task, revision=revision, entry=entry, entry_revision=entry_revision))


def about_one(
    page: ReadOnlyAdmin, request: HttpRequest, task: dict[str, Any], entry: dict[str, Any] | None
) -> Offer | None:
    """Offer what can be decided about one task, on its page."""
    key, revision, status = task["id"], task["revision"], task["status"]
    if status == Status.PAUSED:
        if entry is None:
            return None
        decisions = [each for each in ON_ENTRIES if each != Decision.HOLD or not entry["held"]]
        return offer(page, request, decisions, checkbox(key, revision, status, entry["id"], entry["revision"]))
    decisions = [each for each in _ON_ONE if status in each.sources]
    if task["cancel_requested_at"] is not None:
        decisions = [each for each in decisions if each != Decision.REQUEST_CANCEL]
    return offer(page, request, decisions, _about(key, revision))


def way_back(page: ReadOnlyAdmin, request: HttpRequest, wanted: str, home: str = "task") -> str:
    """Where to go after a decision: the page of this browser, on this very admin site, that the person came from.

    Anything else, another host or another part of the site, is answered with the list of `home`, a model's name.
    """
    home = page.url("changelist", model=home)
    if len(wanted) > _LONGEST_WAY or not wanted.startswith("/") or not wanted.isprintable():
        return home
    if not url_has_allowed_host_and_scheme(wanted, allowed_hosts=None):
        return home
    try:
        path = urlsplit(wanted).path
        match = resolve("/" + path.removeprefix(get_script_prefix()).removeprefix("/"))
    except (ValueError, Resolver404):
        return home
    if match.namespaces[-1:] != [page.admin_site.name] or match.url_name not in _PAGES:
        return home
    return wanted
