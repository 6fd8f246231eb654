"""What a decision is called, what it will do and did, and why it was not carried out, in words."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import ngettext_lazy

from audit.admin.shared.wording import shown
from audit.decisions import Decision
from audit.exceptions import AuditError, IllegalTransition, OwnRequest, StaleTask, TaskFrozen
from audit.status import Status

__all__ = ["BUTTONS", "DONE", "EFFECTS", "TITLES", "changed", "why_not", "wrong_status"]

TITLES = {
    Decision.APPROVE: ngettext_lazy("Approve this task?", "Approve %(count)d tasks?", "count"),
    Decision.REJECT: ngettext_lazy("Reject this task?", "Reject %(count)d tasks?", "count"),
    Decision.RESUME: ngettext_lazy("Resume this task?", "Resume %(count)d tasks?", "count"),
    Decision.HOLD: ngettext_lazy("Hold this task?", "Hold %(count)d tasks?", "count"),
    Decision.DEFER: ngettext_lazy("Defer this task?", "Defer %(count)d tasks?", "count"),
    Decision.CANCEL: ngettext_lazy("Cancel this task?", "Cancel %(count)d tasks?", "count"),
    Decision.REQUEST_CANCEL: ngettext_lazy("Ask this task to stop?", "Ask %(count)d tasks to stop?", "count"),
    Decision.PAUSE: ngettext_lazy("Pause this task?", "Pause %(count)d tasks?", "count"),
}
BUTTONS = {
    Decision.APPROVE: ngettext_lazy("Approve", "Approve %(count)d", "count"),
    Decision.REJECT: ngettext_lazy("Reject", "Reject %(count)d", "count"),
    Decision.RESUME: ngettext_lazy("Resume", "Resume %(count)d", "count"),
    Decision.HOLD: ngettext_lazy("Hold", "Hold %(count)d", "count"),
    Decision.DEFER: ngettext_lazy("Defer", "Defer %(count)d", "count"),
    Decision.CANCEL: ngettext_lazy("Cancel the work", "Cancel the work of %(count)d", "count"),
    Decision.REQUEST_CANCEL: ngettext_lazy("Ask to stop", "Ask %(count)d to stop", "count"),
    Decision.PAUSE: ngettext_lazy("Pause", "Pause %(count)d", "count"),
}
EFFECTS = {
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
    Decision.REQUEST_CANCEL: ngettext_lazy(
        "Its worker learns of it with its next heartbeat, and the work ends how its handler decides: at once, later,"
        " or not at all. It is not tried again, and it fails if its lease runs out.",
        "Their workers learn of it with their next heartbeats, and each ends how its handler decides: at once, later,"
        " or not at all. They are not tried again, and they fail if their leases run out.",
        "count",
    ),
    Decision.PAUSE: ngettext_lazy(
        "No worker may claim it until a person resumes it.",
        "No worker may claim them until a person resumes them.",
        "count",
    ),
}
DONE = {
    Decision.APPROVE: ngettext_lazy("“%(title)s”: approved.", "%(count)d tasks approved.", "count"),
    Decision.REJECT: ngettext_lazy("“%(title)s”: rejected.", "%(count)d tasks rejected.", "count"),
    Decision.RESUME: ngettext_lazy("“%(title)s”: resumed, and approved again.", "%(count)d tasks resumed.", "count"),
    Decision.HOLD: ngettext_lazy("“%(title)s”: held.", "%(count)d tasks held.", "count"),
    Decision.DEFER: ngettext_lazy("“%(title)s”: deferred.", "%(count)d tasks deferred.", "count"),
    Decision.CANCEL: ngettext_lazy("“%(title)s”: cancelled.", "%(count)d tasks cancelled.", "count"),
    Decision.REQUEST_CANCEL: ngettext_lazy("“%(title)s”: asked to stop.", "%(count)d tasks asked to stop.", "count"),
    Decision.PAUSE: ngettext_lazy("“%(title)s”: paused.", "%(count)d tasks paused.", "count"),
}


def why_not(decision: Decision, error: AuditError, username: str) -> str:
    """Say for people why a decision was not carried out.

    Args:
        decision: what was to be done.
        error: what `decide` raised.
        username: who decided; called `you`.
    """
    if isinstance(error, StaleTask):
        return changed(error.status, error.actor, username)
    if isinstance(error, TaskFrozen):
        return _("It is finished (%(status)s) and can no longer change.") % {"status": _label(error.status)}
    if isinstance(error, IllegalTransition):
        return wrong_status(decision, error.from_status)
    if isinstance(error, OwnRequest):
        return _("You requested it; somebody else has to decide that it runs.")
    return shown(error, 300)


def changed(status: str, actor: str, username: str) -> str:
    """Say that a task is not as it was seen: its status now, and who changed it; `username` is called `you`."""
    words = {"status": _label(status), "actor": shown(actor, 100)}
    if actor == username:
        return _("It changed since you opened it: now %(status)s, by you. Nothing was done.") % words
    return _("It changed since you opened it: now %(status)s, by %(actor)s. Nothing was done.") % words


def wrong_status(decision: Decision, status: str) -> str:
    """Say that a task in this status cannot be decided so."""
    words = {"status": _label(status)}
    if decision == Decision.APPROVE:
        if status == Status.PAUSED:
            return _("It is paused; resume it in the pause queue or on its page.")
        return _("Only pending tasks can be approved; this one is %(status)s.") % words
    if decision == Decision.REJECT:
        return _("Only work that waits can be rejected; this is %(status)s.") % words
    if decision == Decision.REQUEST_CANCEL:
        return _("Only executing work can be asked to stop; this is %(status)s.") % words
    if decision == Decision.PAUSE:
        return _("Only approved work that has not begun can be paused; this is %(status)s.") % words
    return _("It is not paused any more, but %(status)s.") % words


def _label(status: str) -> str:
    return str(Status(status).label).lower() if status in Status.values else shown(status, 40)
