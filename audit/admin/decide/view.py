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
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, router
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext_lazy

from audit.admin.decide.items import Item, items, why_not
from audit.admin.decide.offers import way_back
from audit.admin.log.page import titles
from audit.admin.shared.panels import panel, sqlstate
from audit.admin.shared.wording import moment, shown
from audit.decisions import MAX_REASON, Decision, Seen, decide
from audit.exceptions import AuditError, InvalidValue
from audit.models import Task
from audit.reading.filters.values import short_id
from audit.values import validation

if TYPE_CHECKING:
    from audit.admin.shared.base import ReadOnlyAdmin

__all__ = ["MOST_ITEMS", "receive"]

MOST_ITEMS = 200
"""How many tasks one decision may be about."""

_FEW = 5
"""Up to this many plans are shown unfolded."""
_PATIENCE = timedelta(seconds=5)
_SHORTEST_PATIENCE = timedelta(milliseconds=100)
# Lock not available, deadlock, not serializable, cancelled by a time limit.
_BUSY = frozenset({"55P03", "40P01", "40001", "57014"})

_logger = logging.getLogger("audit.admin")

_TITLES = {
    Decision.APPROVE: ngettext_lazy("Approve this task?", "Approve %(count)d tasks?", "count"),
    Decision.REJECT: ngettext_lazy("Reject this task?", "Reject %(count)d tasks?", "count"),
    Decision.RESUME: ngettext_lazy("Resume this task?", "Resume %(count)d tasks?", "count"),
    Decision.HOLD: ngettext_lazy("Hold this task?", "Hold %(count)d tasks?", "count"),
    Decision.DEFER: ngettext_lazy("Defer this task?", "Defer %(count)d tasks?", "count"),
    Decision.CANCEL: ngettext_lazy("Cancel this task?", "Cancel %(count)d tasks?", "count"),
}
_BUTTONS = {
    Decision.APPROVE: ngettext_lazy("Approve", "Approve %(count)d", "count"),
    Decision.REJECT: ngettext_lazy("Reject", "Reject %(count)d", "count"),
    Decision.RESUME: ngettext_lazy("Resume", "Resume %(count)d", "count"),
    Decision.HOLD: ngettext_lazy("Hold", "Hold %(count)d", "count"),
    Decision.DEFER: ngettext_lazy("Defer", "Defer %(count)d", "count"),
    Decision.CANCEL: ngettext_lazy("Cancel the work", "Cancel the work of %(count)d", "count"),
}
_EFFECTS = {
    Decision.APPROVE: ngettext_lazy(
        "Any worker may then claim it and carry out its plan.",
        "Any worker may then claim them and carry out their plans.",
        "count",
    ),
    Decision.REJECT: ngettext_lazy(
        "It ends here, with your reason as its outcome. What is finished never changes again.",
        "They end here, with your reason as their outcome. What is finished never changes again.",
        "count",
    ),
    Decision.RESUME: ngettext_lazy(
        "It is approved again, for any worker to claim; a work plan becomes its plan.",
        "They are approved again, for any worker to claim; a work plan becomes the plan.",
        "count",
    ),
    Decision.HOLD: ngettext_lazy(
        "It stays paused until a person or the awaited event releases it.",
        "They stay paused until a person or the awaited event releases them.",
        "count",
    ),
    Decision.DEFER: ngettext_lazy(
        "It becomes due at this time; if it is held, that ends.",
        "They become due at this time; where they are held, that ends.",
        "count",
    ),
    Decision.CANCEL: ngettext_lazy(
        "The work is given up, with your reason as its outcome. What is finished never changes again.",
        "The work is given up, with your reason as the outcome. What is finished never changes again.",
        "count",
    ),
}
_DONE = {
    Decision.APPROVE: ngettext_lazy("“%(title)s”: approved.", "%(count)d tasks approved.", "count"),
    Decision.REJECT: ngettext_lazy("“%(title)s”: rejected.", "%(count)d tasks rejected.", "count"),
    Decision.RESUME: ngettext_lazy("“%(title)s”: resumed, and approved again.", "%(count)d tasks resumed.", "count"),
    Decision.HOLD: ngettext_lazy("“%(title)s”: held.", "%(count)d tasks held.", "count"),
    Decision.DEFER: ngettext_lazy("“%(title)s”: deferred.", "%(count)d tasks deferred.", "count"),
    Decision.CANCEL: ngettext_lazy("“%(title)s”: cancelled.", "%(count)d tasks cancelled.", "count"),
}


class Unusable(Exception):
    """What was sent is no choice; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """What was sent: a decision, what it is about, and the way back."""

    decision: Decision
    seen: Sequence[Seen]
    back: str

    @classmethod
    def read(cls, request: HttpRequest, back: str) -> Ballot:
        """Read the form of a list, of a task's page or of the confirmation.

        Raises:
            Unusable: an unknown decision, nothing chosen, too much, or not what the decision is about.
        """
        name, texts = request.POST.get("decision", ""), list(dict.fromkeys(request.POST.getlist("item")))
        if name not in Decision.values:
            raise Unusable(_("There is no decision “%(name)s”.") % {"name": shown(name, 80)})
        decision = Decision(name)
        if not texts:
            raise Unusable(_("Nothing was chosen. Choose at least one row, then decide."))
        if len(texts) > MOST_ITEMS:
            raise Unusable(
                _("%(count)d were chosen; at most %(most)d can be decided at once. Choose fewer.")
                % {"count": len(texts), "most": MOST_ITEMS}
            )
        try:
            seen = [Seen.read(text) for text in texts]
        except InvalidValue as error:
            raise Unusable(_("“%(item)s” is nothing to decide about.") % {"item": shown(error.value, 80)}) from None
        if any((each.entry is not None) != decision.on_entry for each in seen):
            wrong = _("%(decision)s is about paused work.") if decision.on_entry else _("%(decision)s is about tasks.")
            raise Unusable(wrong % {"decision": decision.label})
        return cls(decision=decision, seen=seen, back=back)


class ReasonForm(forms.Form):
    """Why, in words."""

    reason = forms.CharField(
        max_length=MAX_REASON,
        widget=forms.Textarea(attrs={"rows": 3, "autocomplete": "off"}),
        error_messages={"required": gettext_lazy("Give a reason; it stays in the record.")},
    )

    def clean_reason(self) -> str:
        """Check what the database could not store."""
        try:
            return validation.label("reason", self.cleaned_data["reason"], max_length=MAX_REASON)
        except InvalidValue as error:
            raise forms.ValidationError(error.problem) from None

    def __init__(self, data: Mapping[str, Any] | None = None, **options: Any) -> None:
        if data is not None:
            given = {name: data.get(name, "") for name in self.base_fields}
            # A browser sends line ends as two characters and counts them as one.
            given["reason"] = given["reason"].replace("\r\n", "\n")
            data = given
        super().__init__(data, **options)
        for name, field in self.fields.items():
            field.widget.attrs["aria-describedby"] = f"audit-{name}-help"
            if self.is_bound and name in self.errors:
                field.widget.attrs |= {"aria-invalid": "true", "autofocus": True}

    def kept(self) -> str:
        """What was typed, to go on from: never more than would do."""
        return shown(self["reason"].value(), MAX_REASON + 500) if self.is_bound else ""


class DeferForm(ReasonForm):
    """Why, and until when."""

    until = forms.DateTimeField(
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        error_messages={
            "required": gettext_lazy("Give the time it becomes due."),
            "invalid": gettext_lazy("That is no date and time."),
        },
    )

    def clean_until(self) -> datetime:
        """Check that the time lies ahead, and within what can be stored."""
        value: datetime = self.cleaned_data["until"]
        try:
            validation.moment("until", value)
        except InvalidValue as error:
            raise forms.ValidationError(error.problem) from None
        if validation.is_past(value):
            raise forms.ValidationError(_("That time is past; to let it go on now, resume it."))
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What became of one item."""

    title: str
    url: str
    level: int
    text: str

    @property
    def tag(self) -> str:
        """The name that the admin colours a message by."""
        return messages.DEFAULT_TAGS[self.level]


def receive(page: ReadOnlyAdmin, request: HttpRequest) -> HttpResponse:
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
        ballot = Ballot.read(request, back)
    except Unusable as error:
        messages.error(request, str(error))
        return HttpResponseRedirect(back)
    kind = DeferForm if ballot.decision == Decision.DEFER else ReasonForm
    if "confirmed" not in request.POST:
        return _confirmation(page, request, ballot, kind(initial={"until": _in_an_hour()}))
    form = kind(request.POST)
    if not form.is_valid():
        return _confirmation(page, request, ballot, form)
    primary = router.db_for_write(Task)
    try:
        # Nothing depends on what tasks are called: what is slow to name is decided all the same.
        found = panel(primary, partial(titles, primary, {seen.task for seen in ballot.seen})).value or {}
    except DatabaseError as error:
        return page.unread(request, error, primary)
    return _answer(page, request, ballot, _carry_out(page, request, ballot, form.cleaned_data, found))


def _in_an_hour() -> datetime:
    return timezone.localtime(timezone.now() + timedelta(hours=1)).replace(second=0, microsecond=0)


def _confirmation(page: ReadOnlyAdmin, request: HttpRequest, ballot: Ballot, form: ReasonForm) -> HttpResponse:
    primary = router.db_for_write(Task)

    def build() -> dict[str, Any]:
        asked: list[Item] = items(page, primary, ballot.decision, ballot.seen, request.user.get_username())
        fit = [each for each in asked if not each.problem]
        count = {"count": len(fit)}
        name = str(ballot.decision.label)
        return {
            "title": str(_TITLES[ballot.decision] % (count if fit else {"count": len(asked)})),
            "back": ballot.back,
            "decide_url": page.url("decide", model="task"),
            "decision": ballot.decision,
            "decision_name": name,
            "button": str(_BUTTONS[ballot.decision] % count) if fit else "",
            "effect": str(_EFFECTS[ballot.decision] % count) if fit else "",
            "ends": ballot.decision in (Decision.REJECT, Decision.CANCEL),
            "fit": fit,
            "open": ballot.decision.lets_run and len(fit) <= _FEW,
            "unfit": [each for each in asked if each.problem],
            "form": form,
            "most": MAX_REASON,
            "me": shown(request.user.get_username(), 100),
            "zone": timezone.get_current_timezone_name(),
            "is_detail": True,
        }

    return page.answer(request, "audit/admin/decide/confirm.html", build, using=primary)


def _carry_out(
    page: ReadOnlyAdmin, request: HttpRequest, ballot: Ballot, given: Mapping[str, Any], found: Mapping[UUID, str]
) -> list[Told]:
    """Decide item by item; what cannot be done is told and leaves the others alone."""
    primary, me, now = router.db_for_write(Task), request.user.get_username(), timezone.now()
    patience = max(_PATIENCE / len(ballot.seen), _SHORTEST_PATIENCE)
    told = {}
    # In one order for everybody, so that two people who decide the same tasks cannot block each other.
    for seen in sorted(ballot.seen, key=lambda each: each.task):
        level = messages.WARNING
        try:
            decide(
                ballot.decision,
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
            text = why_not(ballot.decision, error, me)
            if isinstance(error, InvalidValue):
                level = messages.ERROR
        except DatabaseError as error:
            if sqlstate(error) in _BUSY:
                text = _("Somebody else is changing it at this moment; nothing was done. Try again.")
            else:
                level = messages.ERROR
                text = _("The database did not do it, and nothing was changed: %(error)s") % {
                    "error": shown(str(error).strip().split("\n", 1)[0], 200)
                }
                _logger.warning("A decision about task %s failed: %s", seen.task, error)
        else:
            level = messages.SUCCESS
            text = str(ballot.decision.label)
            if ballot.decision == Decision.DEFER:
                text = _("Due %(moment)s") % {"moment": moment(given["until"], now)}
        title = found.get(seen.task, "") or short_id(seen.task)
        told[seen] = Told(title=title, url=page.url("change", seen.task, model="task"), level=level, text=text)
    return [told[seen] for seen in ballot.seen]


def _answer(page: ReadOnlyAdmin, request: HttpRequest, ballot: Ballot, results: Sequence[Told]) -> HttpResponse:
    """Go back with a message; where something of several was not done, list what was and what was not."""
    done = [told for told in results if told.level == messages.SUCCESS]
    undone = [told for told in results if told.level != messages.SUCCESS]
    summary = ""
    if done:
        words = {"count": len(done), "title": done[0].title}
        summary = str(_DONE[ballot.decision] % words)
        if ballot.decision == Decision.DEFER:
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
            "back": ballot.back,
            "is_detail": True,
        }
        return TemplateResponse(request, "audit/admin/decide/results.html", {**page.frame(request), **context})
    for told in undone:
        messages.add_message(request, told.level, f"“{told.title}”: {told.text}")
    if done:
        messages.success(request, f"{summary} {lag}".strip())
    return HttpResponseRedirect(ballot.back)
