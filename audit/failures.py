"""An exception as the outcome of a task: bounded, redacted, and storable whatever it holds."""

import traceback as tracebacks
from typing import Any

from audit import conf, redaction, validation

__all__ = ["described", "storable"]


def described(error: BaseException | str) -> dict[str, Any]:
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
    message = redaction.redact_text(storable(message[: 2 * limit]))
    trace = redaction.redact_text(storable(trace[-2 * limit :]))
    told = {
        "success": False,
        "error_type": type(error).__qualname__,
        "output_summary": message if length <= limit else f"{message[:limit]}… ({length} characters)",
        "traceback": trace if len(trace) <= limit else f"…{trace[-limit:]}",
    }
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        told["exit_status"] = error.code
    return told


def storable(text: str) -> str:
    """Make any text storable: a foreign message must not keep the failure from being written."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
