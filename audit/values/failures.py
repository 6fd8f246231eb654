"""Failures: an exception as the outcome of a task, bounded and redacted, and what kind of failure an outcome is."""

import traceback as tracebacks
from typing import Any

from audit import conf
from audit.status import FailureClass, Status
from audit.values import redaction, validation

__all__ = [
    "APPROVAL_EXPIRED",
    "LEASE_EXPIRED",
    "REJECTION",
    "RESOURCE_ERRORS",
    "WORKER_RESTARTED",
    "failure_class",
    "failure_outcome",
    "resource_errors",
]

RESOURCE_ERRORS = (
    "DiskFull",
    "InsufficientCapacity",
    "InsufficientResources",
    "LimitExceededException",
    "MemoryError",
    "MemoryLimitExceeded",
    "OOMKilled",
    "OutOfMemory",
    "OutOfMemoryError",
    "QuotaExceeded",
    "ResourceExhausted",
    "ThrottlingException",
    "TimeoutError",
    "TimeoutExpired",
    "TooManyConnections",
)
"""The `outcome.error_type`s that mean a lack of resources, not a fault."""


LEASE_EXPIRED = "LeaseExpired"
"""The `outcome.error_type` of a task that recovery failed."""
WORKER_RESTARTED = "WorkerRestarted"
"""The `outcome.error_type` of a task that a restarted worker left behind and that must not run again."""
APPROVAL_EXPIRED = "ApprovalExpired"
"""The `outcome.error_type` of a task that was rejected because nobody approved it in time."""
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
        return {"success": False, "error_type": "Error", "output_summary": validation.text("error", error)}
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
        "error_type": type(error).__qualname__,
        "output_summary": message if length <= limit else f"{message[:limit]}… ({length} characters)",
        "traceback": trace if len(trace) <= limit else f"…{trace[-limit:]}",
    }
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        outcome["exit_status"] = error.code
    return outcome
