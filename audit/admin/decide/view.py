"""Deciding in the browser: only by POST, asked twice, and each item on its own.

The first POST shows what would change, as the primary database has it now; the second, with a reason, changes it.
Every item says at which revision it was seen, so that a page somebody left open decides nothing that moved on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, router
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.admin.decide.forms import DeferForm, ReasonForm
from audit.admin.decide.items import Item, items
from audit.admin.decide.offers import way_back
from audit.admin.decide.selection import BadSelection, Selection
from audit.admin.decide.wording import BUTTONS, DONE, EFFECTS, TITLES, why_not
from audit.admin.shared.panels import panel, sqlstate
from audit.admin.shared.read_only_admin import ReadOnlyAdmin
from audit.admin.shared.titles import task_titles
from audit.admin.shared.wording import moment, shown
from audit.decisions import MAX_REASON, Decision, decide
from audit.exceptions import AuditError, InvalidValue
from audit.inspection.rights import said
from audit.models import Task
from audit.reading.filters.values import short_id
from audit.values import moments

__all__ = ["DecidingAdmin"]

_FEW = 5
"""Up to this many plans are shown unfolded."""
_PATIENCE = timedelta(seconds=5)
_SHORTEST_PATIENCE = timedelta(milliseconds=100)
# Lock not available, deadlock, not serializable, cancelled by a time limit.
_BUSY = frozenset({"55P03", "40P01", "40001", "57014"})

_logger = logging.getLogger("audit.admin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one item."""

    title: str
    url: str
    level: int
    text: str

    @property
    def tag(self) -> str:
        """The name that the admin colours a message by."""
        return messages.DEFAULT_TAGS[self.level]


class DecidingAdmin(ReadOnlyAdmin):
    """The address of a model's pages that takes decisions."""

    def more_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_decide"
        return [*super().more_urls(), path("decide/", self.admin_site.admin_view(self.decide_view), name=name)]

    def decide_view(self, request: HttpRequest) -> HttpResponse:
        """Take a decision about tasks or pause entries; by POST alone."""
        return _receive(self, request)


def _receive(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
    """Take a decision: show what it would change, or carry it out when it comes back confirmed.

    Raises:
        PermissionDenied: the person may not see tasks, or not decide about them.
    """
    if not (page.has_view_permission(request) and page.has_decide_permission(request)):
        raise PermissionDenied
    if request.method != "POST":
        return page.problem(request, 405, "post", headers={"Allow": "POST"})
    back = way_back(page, request, request.POST.get("next", ""))
    try:
        selection = Selection.read(request, back)
    except BadSelection as error:
        messages.error(request, str(error))
        return HttpResponseRedirect(back)
    kind = DeferForm if selection.decision == Decision.DEFER else ReasonForm
    if "confirmed" not in request.POST:
        return _confirmation(page, request, selection, kind(initial={"until": _in_an_hour()}))
    form = kind(request.POST)
    if not form.is_valid():
        return _confirmation(page, request, selection, form)
    primary = router.db_for_write(Task)
    try:
        # Nothing depends on what tasks are called: what is slow to name is decided all the same.
        titles = panel(primary, partial(task_titles, primary, {seen.task for seen in selection.seen})).value or {}
    except DatabaseError as error:
        return page.unread(request, error, primary)
    return _answer(page, request, selection, _carry_out(page, request, selection, form.cleaned_data, titles))


def _in_an_hour() -> datetime:
    return moments.local(moments.now() + timedelta(hours=1)).replace(second=0, microsecond=0)


def _confirmation(page: ReadOnlyAdmin, request: HttpRequest, selection: Selection, form: ReasonForm) -> HttpResponse:
    primary = router.db_for_write(Task)

    def build() -> dict[str, Any]:
        chosen: list[Item] = items(page, primary, selection.decision, selection.seen, request.user.get_username())
        fit = [each for each in chosen if not each.problem]
        count = {"count": len(fit)}
        name = str(selection.decision.label)
        return {
            "title": str(TITLES[selection.decision] % (count if fit else {"count": len(chosen)})),
            "back": selection.back,
            "decide_url": page.url("decide", model="task"),
            "decision": selection.decision,
            "decision_name": name,
            "button": str(BUTTONS[selection.decision] % count) if fit else "",
            "effect": str(EFFECTS[selection.decision] % count) if fit else "",
            "ends": selection.decision in (Decision.REJECT, Decision.CANCEL),
            "fit": fit,
            "open": selection.decision.lets_run and len(fit) <= _FEW,
            "unfit": [each for each in chosen if each.problem],
            "form": form,
            "most": MAX_REASON,
            "me": shown(request.user.get_username(), 100),
            "zone": timezone.get_current_timezone_name(),
            "is_detail": True,
        }

    return page.answer(request, "audit/admin/decide/confirm.html", build, using=primary)


def _carry_out(
    page: ReadOnlyAdmin,
    request: HttpRequest,
    selection: Selection,
    given: Mapping[str, Any],
    titles: Mapping[UUID, str],
) -> list[Result]:
    """Decide item by item; what cannot be done is reported and leaves the others alone."""
    primary, me, now = router.db_for_write(Task), request.user.get_username(), moments.now()
    patience = max(_PATIENCE / len(selection.seen), _SHORTEST_PATIENCE)
    results = {}
    # In one order for everybody, so that two people who decide the same tasks cannot block each other.
    for seen in sorted(selection.seen, key=lambda each: each.task):
        level = messages.WARNING
        try:
            decide(
                selection.decision,
                seen,
                reason=given["reason"],
                until=given.get("until"),
                actor=me,
                using=primary,
                patience=patience,
            )
        except Task.DoesNotExist:
            text = _("There is no such task.")
        except AuditError as error:
            text = why_not(selection.decision, error, me)
            if isinstance(error, InvalidValue):
                level = messages.ERROR
        except DatabaseError as error:
            if sqlstate(error) in _BUSY:
                text = _("Somebody else is changing it at this moment; nothing was done. Try again.")
            else:
                level = messages.ERROR
                text = _("The database did not do it, and nothing was changed: %(error)s") % {
                    "error": shown(said(error, primary), 300)
                }
                _logger.warning("A decision about task %s failed: %s", seen.task, error)
        else:
            level = messages.SUCCESS
            text = str(selection.decision.label)
            if selection.decision == Decision.DEFER:
                text = _("Due %(moment)s") % {"moment": moment(given["until"], now)}
        title = titles.get(seen.task, "") or short_id(seen.task)
        results[seen] = Result(title=title, url=page.url("change", seen.task, model="task"), level=level, text=text)
    return [results[seen] for seen in selection.seen]


def _answer(page: ReadOnlyAdmin, request: HttpRequest, selection: Selection, results: Sequence[Result]) -> HttpResponse:
    """Go back with a message; where something of several was not done, list what was and what was not."""
    done = [each for each in results if each.level == messages.SUCCESS]
    undone = [each for each in results if each.level != messages.SUCCESS]
    summary = ""
    if done:
        words = {"count": len(done), "title": done[0].title}
        summary = str(DONE[selection.decision] % words)
        if selection.decision == Decision.DEFER:
            summary = f"{summary} {done[0].text}."
    lag = ""
    if page.using != router.db_for_write(Task):
        lag = _("Pages read from “%(alias)s”, which may show it a little later.") % {"alias": page.using}
    if undone and len(results) > 1:
        context = {
            "title": _("%(done)d done, %(undone)d not") % {"done": len(done), "undone": len(undone)},
            "summary": summary,
            "done": done,
            "undone": undone,
            "lag": lag if done else "",
            "back": selection.back,
            "is_detail": True,
        }
        return TemplateResponse(request, "audit/admin/decide/results.html", {**page.frame(request), **context})
    for each in undone:
        messages.add_message(request, each.level, f"“{each.title}”: {each.text}")
    if done:
        messages.success(request, f"{summary} {lag}".strip())
    return HttpResponseRedirect(selection.back)
