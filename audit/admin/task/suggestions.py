"""Suggestions as people read them: what to do, why, and when somebody said so.

A task has those of its column, which freeze with it. Those that came later are rows of its log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from audit.admin.shared.wording import moment, shown
from audit.status import LogKind

__all__ = ["MOST", "Suggestion", "column_suggestions", "log_suggestions"]

MOST = 50
"""How many are drawn; the raw JSON and the log have them all."""

_LONGEST = 2000
_KEYS = {"suggestion", "reason", "created_at"}
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """One card."""

    text: str
    reason: str
    when: str
    who: str = ""
    anchor: str = ""
    """Its row of the log on the same page; empty for one of the task's own column."""
    later: bool = False
    """Whether it came when the task was finished."""


def column_suggestions(text: str, length: int, now: datetime) -> list[Suggestion] | None:
    """Read the suggestions of a task's column.

    Args:
        text: the document, or its beginning.
        length: how many characters the whole document has.
        now: when the page is read.

    Returns:
        All of them; None where the document is not a list of `{"suggestion", "reason", "created_at"}`, the last two of
        which may be missing, or too long to be read.
    """
    if length > len(text):
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, list) or not document or not all(map(_is_one, document)):
        return None
    return [
        Suggestion(
            text=shown(each["suggestion"], _LONGEST),
            reason=shown(each.get("reason"), _LONGEST),
            when=_when(each.get("created_at"), now),
        )
        for each in document
    ]


def log_suggestions(
    log: Sequence[Row], column: Sequence[Suggestion] | None, finished: datetime | None, now: datetime
) -> Iterator[Suggestion]:
    """Read from the log what the column does not have: what was suggested after the end, or replaced before it.

    Args:
        log: rows as the timeline has them.
        column: what `column_suggestions` returned.
        finished: when the task was, or None.
        now: when the page is read.
    """
    texts = None if column is None else {each.text for each in column}
    for row in log:
        if row["kind"] != LogKind.SUGGESTION:
            continue
        text = shown(row["output"], _LONGEST) + ("…" if row["output_length"] > _LONGEST else "")
        later = finished is not None and row["at"] > finished
        if later or (texts is not None and text not in texts):
            yield Suggestion(
                text=text,
                reason=_reason(row),
                when=moment(row["at"], now),
                who=shown(row["who"], 100, name=True),
                anchor=f"log-{row['id']}",
                later=later,
            )


def _is_one(value: Any) -> bool:
    if not isinstance(value, dict) or not value.keys() <= _KEYS:
        return False
    optional = (value.get("reason"), value.get("created_at"))
    return isinstance(value.get("suggestion"), str) and all(each is None or isinstance(each, str) for each in optional)


def _reason(row: Row) -> str:
    try:
        reason = json.loads(row["detail_text"] or "null")["reason"]
    except (ValueError, TypeError, KeyError, RecursionError):  # cut, or written by hand
        return ""
    return shown(reason, _LONGEST) if isinstance(reason, str) else ""


def _when(text: str | None, now: datetime) -> str:
    """Write a moment that somebody else wrote; what is none stands as it is."""
    try:
        at = datetime.fromisoformat(text or "")
        return moment(at if at.tzinfo else timezone.make_aware(at), now)
    except (ValueError, OverflowError):
        return shown(text, 40)
