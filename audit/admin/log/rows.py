"""One line of the execution log, as text."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

from django.db.models.functions import Left
from django.utils.translation import gettext as _

from audit.admin.shared.seal_badge import Seal
from audit.admin.shared.wording import ago, milliseconds, moment, shown
from audit.reading.filters.values import short_id
from audit.status import LogKind, Status

__all__ = ["LogRow", "list_columns", "log_row"]


def list_columns(rows: Any) -> Any:
    """Read of each row what a list shows, and no more, whatever its size."""
    return rows.values(
        "id",
        "at",
        "task_id",
        "kind",
        "from_status",
        "to_status",
        "step_number",
        "duration_ms",
        who=Left("actor", 400),
        role=Left("db_role", 100),
        name=Left("action", 200),
        output=Left("output_summary", 300),
    )


class LogRow(TypedDict):
    """One line of the log, as text."""

    id: int
    kind: str
    kind_label: str
    before: str
    after: str
    before_label: str
    after_label: str
    when: str
    exact: str
    iso: str
    title: str
    short: str
    url: str
    who: str
    who_title: str
    role: str
    action: str
    output: str
    took: str
    seal: Seal


def log_row(values: dict[str, Any], titles: Mapping[UUID, str], seal: Seal, now: datetime, task_url: str) -> LogRow:
    """Write a row of `list_columns` as text.

    Args:
        values: the row.
        titles: what the tasks of the page are called.
        seal: of the row.
        now: when the page is read.
        task_url: of its task's page; empty for who may not see it.
    """
    task = values["task_id"]
    before, after = values["from_status"] or "", values["to_status"] or ""
    return LogRow(
        id=values["id"],
        kind=values["kind"],
        kind_label=_kind(values),
        before=before,
        after=after,
        before_label=str(Status(before).label) if before else "",
        after_label=str(Status(after).label) if after else "",
        when=ago(values["at"], now),
        exact=moment(values["at"], now),
        iso=values["at"].isoformat(),
        title=titles.get(task, ""),
        short=short_id(task),
        url=f"{task_url}#log-{values['id']}" if task_url else "",
        who=shown(values["who"], 60, name=True),
        who_title=shown(values["who"], 400),
        role=shown(values["role"], 60),
        action=shown(values["name"], 120),
        output=shown(values["output"], 240),
        took=milliseconds(values["duration_ms"]),
        seal=seal,
    )


def _kind(values: dict[str, Any]) -> str:
    if values["kind"] == LogKind.STEP and values["step_number"] is not None:
        return _("Step %(number)s") % {"number": values["step_number"]}
    return str(LogKind(values["kind"]).label)
