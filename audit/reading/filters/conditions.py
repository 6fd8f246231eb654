"""The conditions of the search box and of the commands, each in a line, and what to suggest for an unknown one."""

from __future__ import annotations

import re
from difflib import get_close_matches

from django.utils.translation import gettext_lazy as _

from audit.reading.filters.values import BY_NAME, GROUPS, ROOTS
from audit.status import FailureClass, Status

__all__ = ["CONDITIONS", "looks_like_condition", "suggestion"]

CONDITIONS = {
    "status": _(
        "has one of these statuses: pending, approved, executing, paused (`live` means these four), completed, failed, "
        "rejected (`finished` means these three)"
    ),
    "service": _("touched all of these services"),
    "any_service": _("touched at least one of these services"),
    "action": _("is one of these kinds of work"),
    "actor": _("requested, decided or last changed by one of these; `*` stands for any characters: `*bert-jan*`"),
    "since": _(
        "created at or after: 2026-11-24, 2026-11-24T05:48+01:00, a span back from now (30m, 24h, 7d, 2w), or `all`"
    ),
    "until": _("created before"),
    "finished_since": _("finished at or after"),
    "finished_until": _("finished before"),
    "correlation_id": _("has one of these request, trace or batch ids"),
    "id": _("has this id, or an id that begins with these hexadecimal digits"),
    "parent": _("belongs to this task, or retries it"),
    "failure": _(
        "failed because a resource was short (`resource`), or with an error of the application (`application`)"
    ),
    "seal": _("`failed`: the newest stored verification of the ledger found a problem with the task or its log"),
    "error_type": _("failed with one of these error types"),
}
"""What each condition means; beside them there are paths into documents, such as `outcome.exit_code`."""

# Words that people try, beside those that are merely mistyped.
_MEANT = {
    "after": "since",
    "before": "until",
    "by": "actor",
    "cause": "failure",
    "class": "failure",
    "correlation": "correlation_id",
    "created": "since",
    "decided_by": "actor",
    "error": "error_type",
    "exception": "error_type",
    "exit_code": "outcome.exit_code",
    "from": "since",
    "host": "service",
    "kind": "action",
    "reason": "failure",
    "request": "correlation_id",
    "requested_by": "actor",
    "requester": "actor",
    "state": "status",
    "tag": "service",
    "task": "id",
    "to": "until",
    "trace": "correlation_id",
    "type": "action",
    "user": "actor",
    "who": "actor",
}
_SHAPE = re.compile(r"[A-Za-z][A-Za-z_-]*|[A-Za-z_]+(?:\.[A-Za-z0-9_-]+)+")


def looks_like_condition(key: str, value: str) -> bool:
    """Whether `key:value` was perhaps meant as a condition: an address, an ARN, a port and a drive were not."""
    return bool(_SHAPE.fullmatch(key)) and ":" not in value and not re.match(r"[/\\]|[0-9]+$", value)


def suggestion(key: str, value: str) -> str:
    """Return the name of the condition that an unknown one was perhaps meant as; empty for none."""
    name = key.lower().replace("-", "_")
    root, dot, rest = key.partition(".")
    if dot:
        close = get_close_matches(root.lower(), ROOTS, n=1, cutoff=0.75)
        return f"{close[0]}.{rest}" if close else ""
    if close := get_close_matches(name, BY_NAME, n=1, cutoff=0.75):
        return close[0]
    if not looks_like_condition(key, value):
        return ""
    meant = _MEANT.get(name, "")
    if value.lower() in FailureClass.values and meant in ("", "failure", "error_type"):
        return "failure"
    if not meant and (value.lower() in Status.values or value.lower() in GROUPS):
        return "status"
    return "error_type" if meant == "failure" else meant
