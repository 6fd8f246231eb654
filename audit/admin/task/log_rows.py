"""The log of one task, of each text and document no more than its timeline shows."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import F, TextField
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Left, Length

from audit.models import ExecutionLog

__all__ = ["LOG_ROWS", "read_log"]

LOG_ROWS = 500
"""How many rows of the log a page shows."""


def read_log(using: str, key: UUID) -> list[Any]:
    """Read the rows of a task's log, in order: those that a page shows and, where there are more, one of these."""
    rows = (
        ExecutionLog.objects.using(using)
        .of(key)
        .values(
            "id",
            "at",
            "kind",
            "from_status",
            "to_status",
            "attempt",
            "step_number",
            "duration_ms",
            "action",
            who=Left("actor", 400),
            role=Left("db_role", 100),
            output=Left("output_summary", 2000),
            output_length=Length("output_summary"),
            detail_text=Left(Cast(F("detail"), TextField()), 4000),
            detail_length=Length(Cast(F("detail"), TextField())),
            why=Left(KeyTextTransform("reason", "detail"), 100),
            noted=Left(KeyTextTransform("note", "detail"), 300),
            success=Left(KeyTextTransform("success", "detail"), 10),
        )
    )
    return list(rows[: LOG_ROWS + 1])
