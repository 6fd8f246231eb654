"""Failures: an exception as the outcome of a task, bounded and redacted, and what kind of failure an outcome is."""

import errno
import traceback as tracebacks
from typing import Any

from django.utils.translation import gettext_lazy as _

from audit import conf
from audit.status import FailureClass, Status
from audit.values import redaction, validation

__all__ = [
    "APPROVAL_EXPIRED",
    "CANCELLED",
    "CLASSES",
    "LEASE_EXPIRED",
    "REJECTION",
    "RESOURCE_ERRORS",
    "WORKER_RESTARTED",
    "failure_class",
    "failure_outcome",
    "lacking",
    "resource_errors",
]

RESOURCE_ERRORS = (
    "ConfigurationLimitExceeded",
    "DiskFull",
    "InsufficientCapacity",
    "InsufficientResources",
    "LimitExceededException",
    "MemoryError",
    "MemoryLimitExceeded",
    "NoSpaceLeft",
    "OOMKilled",
    "OutOfMemory",
    "OutOfMemoryError",
    "QuotaExceeded",
    "ResourceExhausted",
    "ThrottlingException",
    "TooManyConnections",
    "TooManyOpenFiles",
)
"""The `outcome.error_type`s that mean a lack of resources, not a fault. A timeout does not say what was missing."""

CLASSES = {
    FailureClass.RESOURCE: _(
        "Something was missing that may be there later: memory, disk space, capacity, connections or a quota."
    ),
    FailureClass.APPLICATION: _(
        "Every other failure: an error in the work itself or in what it used, timeouts included."
    ),
}
"""What each class of failures means."""

# What the operating system says for a lack, by the name that is stored as the error type.
_LACKS = {
    "NoSpaceLeft": (errno.ENOSPC, errno.EDQUOT),
    "OutOfMemory": (errno.ENOMEM,),
    "TooManyOpenFiles": (errno.EMFILE, errno.ENFILE),
}
_NO_SPACE = ("No space left on device", "Disk quota exceeded")

LEASE_EXPIRED = "LeaseExpired"
"""The `outcome.error_type` of a task that recovery failed."""
WORKER_RESTARTED = "WorkerRestarted"
"""The `outcome.error_type` of a task that a restarted worker left behind and that must not run again."""
NOT_STORED = "NotStored"
"""The `outcome.error_type` of a task whose end, as the worker had it, the database refused."""
APPROVAL_EXPIRED = "ApprovalExpired"
"""The `outcome.error_type` of a task that was rejected because nobody approved it in time."""
CANCELLED = "Cancelled"
"""The `outcome.error_type` of a task that ended because a person had asked it to stop, or had given it up."""
REJECTION = "Rejected"
"""The `outcome.error_type` of a task that was rejected, which its status says already."""


def resource_errors() -> tuple[str, ...]:
    """The error types that count as a resource constraint: `RESOURCE_ERRORS` and those that `AUDIT` adds."""
    return tuple(dict.fromkeys((*RESOURCE_ERRORS, *conf.settings().RESOURCE_ERRORS)))


def failure_class(status: str, error_type: str | None) -> FailureClass | None:
    """Return why a task failed; None for a task that did not. A rejected task was refused and has not failed."""
    if status != Status.FAILED:
        return None
    return FailureClass.RESOURCE if error_type in resource_errors() else FailureClass.APPLICATION


def failure_outcome(error: BaseException | str) -> dict[str, Any]:
    """Describe an error as an outcome: type, message, and the end of its traceback, bounded and redacted.

    Args:
        error: an exception, or a text (stored as it is, with the type `Error`).

    Raises:
        InvalidValue: a text that cannot be stored.
    """
    if not isinstance(error, BaseException):
        text = validation.text("error", error, max_length=None)
        return {"success": False, "error_type": lacking(text) or "Error", "output_summary": text}
    limit = conf.settings().TRACEBACK_CHARS
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ must not keep the failure from being written
        message = "(its message could not be made)"
    trace = "".join(tracebacks.format_exception(error))
    length = len(message)
    # Redacted before it is cut, with room to spare: half a secret is not recognised.
    message = redaction.redact_text(validation.storable_text(message[: 2 * limit]))
    trace = redaction.redact_text(validation.storable_text(trace[-2 * limit :]))
    outcome = {
        "success": False,
        "error_type": _missing(error) or type(error).__qualname__,
        "output_summary": message if length <= limit else f"{message[:limit]}… ({length} characters)",
        "traceback": trace if len(trace) <= limit else f"…{trace[-limit:]}",
    }
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        outcome["exit_status"] = error.code
    return outcome


def lacking(text: str) -> str:
    """Return the error type of a message that says the disk is full; empty for any other message."""
    return "NoSpaceLeft" if any(each.lower() in text.lower() for each in _NO_SPACE) else ""


def _missing(error: BaseException) -> str:
    """Name the lack of resources that an exception is about and that its class does not name."""
    if isinstance(error, OSError):
        return next((name for name, codes in _LACKS.items() if error.errno in codes), "")
    cause = error.__cause__
    # Of PostgreSQL's insufficient resources, which Django raises as an OperationalError.
    return type(cause).__qualname__ if (getattr(cause, "sqlstate", None) or "").startswith("53") else ""
