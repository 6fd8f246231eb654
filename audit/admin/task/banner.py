"""What went wrong with a task, as the banner of its page says it."""

from __future__ import annotations

import json
from typing import Any

from audit.admin.shared.wording import shown
from audit.status import Status
from audit.values.failures import CLASSES, REJECTION, failure_class

__all__ = ["banner"]


def banner(task: dict[str, Any]) -> dict[str, str]:
    """What went wrong, from the outcome of a task that did not end well."""
    if task["status"] not in (Status.FAILED, Status.REJECTED):
        return {}
    words = {"kind": "", "text": ""} | _outcome(task)
    if task["status"] == Status.REJECTED and words["kind"] == REJECTION:
        words["kind"] = ""
    reason = failure_class(task["status"], words["kind"])
    return words | {"reason": str(reason.label), "means": str(CLASSES[reason])} if reason else words | {"reason": ""}


def _outcome(task: dict[str, Any]) -> dict[str, str]:
    try:
        outcome = json.loads(task["outcome_text"] or "null")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(outcome, dict):
        return {}
    return {
        "kind": shown(outcome.get("error_type") or "", 200),
        "text": shown(outcome.get("output_summary") or "", 2000),
    }
