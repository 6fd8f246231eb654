"""The statuses of a task and the steps between them; the database enforces the same table (`sql/task_write_v1.sql`)."""

from django.db import models
from django.utils.translation import gettext_lazy as _

__all__ = [
    "FINISHED",
    "LIVE",
    "TRANSITIONS",
    "AgentState",
    "FailureClass",
    "LogKind",
    "OnExpiry",
    "PauseReason",
    "Status",
]


class Status(models.TextChoices):
    """The status of a task."""

    PENDING = "pending", _("Pending")
    APPROVED = "approved", _("Approved")
    EXECUTING = "executing", _("Executing")
    PAUSED = "paused", _("Paused")
    COMPLETED = "completed", _("Completed")
    FAILED = "failed", _("Failed")
    REJECTED = "rejected", _("Rejected")


FINISHED = (Status.COMPLETED, Status.FAILED, Status.REJECTED)
LIVE = (Status.PENDING, Status.APPROVED, Status.EXECUTING, Status.PAUSED)

TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.APPROVED, Status.REJECTED}),
    Status.APPROVED: frozenset({Status.EXECUTING, Status.PAUSED, Status.REJECTED}),
    Status.EXECUTING: frozenset({Status.COMPLETED, Status.FAILED, Status.PAUSED, Status.APPROVED}),
    Status.PAUSED: frozenset({Status.APPROVED, Status.REJECTED, Status.FAILED}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.REJECTED: frozenset(),
}


class FailureClass(models.TextChoices):
    """Why a task failed: each failed task is in one of these classes."""

    RESOURCE = "resource", _("Resource constraint")
    APPLICATION = "application", _("Application error")


class LogKind(models.TextChoices):
    """The kinds of rows in the execution log."""

    TRANSITION = "transition", _("Transition")
    STEP = "step", _("Step")
    NOTE = "note", _("Note")
    SUGGESTION = "suggestion", _("Suggestion")


class PauseReason(models.TextChoices):
    """Why work was paused. By default, only `insufficient_capacity` goes on by itself; the others are held."""

    INSUFFICIENT_CAPACITY = "insufficient_capacity", _("Insufficient capacity")
    MANUAL_PAUSE = "manual_pause", _("Paused by hand")
    AWAITING_APPROVAL = "awaiting_approval", _("Awaiting approval")
    AWAITING_EVENT = "awaiting_event", _("Awaiting an event")


class OnExpiry(models.TextChoices):
    """What happens to executing work whose lease ran out."""

    REQUEUE = "requeue", _("Back to approved")
    FAIL = "fail", _("Failed")


class AgentState(models.TextChoices):
    """How an agent is, by the database's clock; the first that holds (see `Agent.objects.with_state`)."""

    DRAINING = "draining", _("Draining")
    OFFLINE = "offline", _("Offline")
    STALE = "stale", _("Stale")
    BUSY = "busy", _("Busy")
    AVAILABLE = "available", _("Available")
