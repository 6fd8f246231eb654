"""What was chosen in a list or on a page: a decision and the rows it is about, read from the form that sent them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.http import HttpRequest
from django.utils.translation import gettext as _

from audit.admin.shared.wording import shown
from audit.decisions import Decision, Seen
from audit.exceptions import InvalidValue

__all__ = ["MOST_ITEMS", "BadSelection", "Selection"]

MOST_ITEMS = 200
"""How many tasks one decision may be about."""


class BadSelection(Exception):
    """What was sent is not a selection; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What was sent: a decision, what it is about, and the way back."""

    decision: Decision
    seen: Sequence[Seen]
    back: str

    @classmethod
    def read(cls, request: HttpRequest, back: str) -> Selection:
        """Read the form of a list, of a task's page or of the confirmation.

        Raises:
            BadSelection: an unknown decision, nothing chosen, too much, or not what the decision is about.
        """
        name, texts = request.POST.get("decision", ""), list(dict.fromkeys(request.POST.getlist("item")))
        if name not in Decision.values:
            raise BadSelection(_("There is no decision “%(name)s”.") % {"name": shown(name, 80)})
        decision = Decision(name)
        if not texts:
            raise BadSelection(_("Nothing was chosen. Choose at least one row, then decide."))
        if len(texts) > MOST_ITEMS:
            raise BadSelection(
                _("%(count)d were chosen; at most %(most)d can be decided at once. Choose fewer.")
                % {"count": len(texts), "most": MOST_ITEMS}
            )
        try:
            seen = [Seen.read(text) for text in texts]
        except InvalidValue as error:
            raise BadSelection(_("“%(item)s” is nothing to decide about.") % {"item": shown(error.value, 80)}) from None
        if any((each.entry is not None) != decision.on_entry for each in seen):
            wrong = _("%(decision)s is about paused work.") if decision.on_entry else _("%(decision)s is about tasks.")
            raise BadSelection(wrong % {"decision": decision.label})
        return cls(decision=decision, seen=seen, back=back)
