"""The columns of a task, of its pause entry and of its log, each described once.

Inserts, comparisons, interchange, exports and pages read them here. The models declare the same columns for Django, and
a test holds the two together. The canonical form of a sealed row (`audit.ledger.tlog.canonical`) keeps a list of its
own, because it never changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

__all__ = ["ENTRY", "LOG", "TASK", "Column", "Source", "by_name"]


class Source(Enum):
    """Who says what a column holds when its row is made."""

    REQUEST = auto()
    """Whoever requests, records or imports the work."""
    RECORD = auto()
    """Whoever records or imports work that is done or under way."""
    DATABASE = auto()
    """The database alone. Of an imported task, what the other database wrote travels in `origin`."""
    TABLE = auto()
    """The table: keys that mean something in this database only, and what follows from other columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column."""

    name: str
    type: str
    """Its type in PostgreSQL."""
    source: Source
    default: Any = None
    """What the row holds when nothing is given; None is NULL."""
    filled: bool = False
    """Whether the database fills it in when nothing is given: then not giving it is not a difference."""

    @property
    def is_document(self) -> bool:
        """Whether it holds JSON."""
        return self.type == "jsonb"

    @property
    def is_list(self) -> bool:
        """Whether it holds a list."""
        return self.type.endswith("[]")

    @property
    def travels_as(self) -> str:
        """The type that values of it are sent as, one array a column.

        Lists and documents are sent as text: arrays of arrays would have to be rectangular, and a document's text
        reaches JSONB as it is.
        """
        return "text" if self.is_document or self.is_list else self.type


def _column(source: Source, kind: str, name: str, default: Any = None, *, filled: bool = False) -> Column:
    return Column(name=name, type=kind, source=source, default=default, filled=filled)


_REQUEST, _RECORD, _DATABASE, _TABLE = Source

TASK = (
    _column(_REQUEST, "uuid", "id"),
    _column(_REQUEST, "text", "action"),
    _column(_REQUEST, "text", "summary", ""),
    _column(_RECORD, "text", "status", "pending"),
    _column(_REQUEST, "smallint", "priority", 3),
    _column(_REQUEST, "text[]", "services_touched", []),
    _column(_REQUEST, "jsonb", "plan"),
    _column(_RECORD, "jsonb", "work_plan"),
    _column(_REQUEST, "jsonb", "estimated_resources"),
    _column(_RECORD, "jsonb", "resources_used"),
    _column(_RECORD, "jsonb", "outcome"),
    _column(_REQUEST, "jsonb", "suggestions"),
    _column(_RECORD, "text", "requested_by", ""),
    _column(_RECORD, "text", "decided_by", ""),
    _column(_REQUEST, "uuid", "parent"),
    _column(_REQUEST, "text", "correlation_id", ""),
    _column(_RECORD, "timestamptz", "created_at", filled=True),
    _column(_DATABASE, "timestamptz", "recorded_at"),
    _column(_REQUEST, "timestamptz", "available_at", filled=True),
    _column(_REQUEST, "timestamptz", "approve_before"),
    _column(_RECORD, "timestamptz", "decided_at"),
    _column(_RECORD, "timestamptz", "started_at"),
    _column(_RECORD, "timestamptz", "finished_at", filled=True),
    _column(_RECORD, "bigint", "executing_ms", filled=True),
    _column(_RECORD, "bigint", "paused_ms", filled=True),
    _column(_RECORD, "text", "claimed_by", "", filled=True),
    _column(_RECORD, "uuid", "claim_token", filled=True),
    _column(_RECORD, "timestamptz", "lease_expires_at", filled=True),
    _column(_RECORD, "integer", "attempt", 0),
    _column(_RECORD, "integer", "expiries", 0),
    _column(_RECORD, "integer", "failures", 0),
    _column(_REQUEST, "text", "on_expiry", "requeue"),
    _column(_RECORD, "timestamptz", "cancel_requested_at"),
    _column(_RECORD, "text", "actor", "", filled=True),
    _column(_DATABASE, "integer", "revision"),
    _column(_DATABASE, "text", "status_was"),
    _column(_DATABASE, "timestamptz", "status_since"),
    _column(_RECORD, "jsonb", "origin"),
    _column(_DATABASE, "smallint", "row_version"),
    _column(_DATABASE, "xid8", "finished_xid"),
)

ENTRY = (
    _column(_TABLE, "bigint", "id"),
    _column(_TABLE, "uuid", "task_id"),
    _column(_RECORD, "jsonb", "work_plan"),
    _column(_RECORD, "text", "reason", "manual_pause"),
    _column(_RECORD, "text", "note", ""),
    _column(_RECORD, "text", "event", ""),
    _column(_RECORD, "text", "paused_by", "", filled=True),
    _column(_RECORD, "timestamptz", "paused_at", filled=True),
    _column(_RECORD, "timestamptz", "resume_after"),
    _column(_TABLE, "timestamptz", "due_at"),
    _column(_RECORD, "boolean", "held", True),
    _column(_RECORD, "smallint", "priority", 3),
    _column(_RECORD, "text", "claimed_by", "", filled=True),
    _column(_RECORD, "uuid", "claim_token", filled=True),
    _column(_RECORD, "timestamptz", "lease_expires_at", filled=True),
    _column(_RECORD, "integer", "attempt", 0),
    _column(_RECORD, "text", "actor", "", filled=True),
    _column(_DATABASE, "integer", "revision"),
)

LOG = (
    _column(_DATABASE, "bigint", "id"),
    _column(_TABLE, "uuid", "task_id"),
    _column(_DATABASE, "timestamptz", "at"),
    _column(_RECORD, "text", "kind"),
    _column(_DATABASE, "text", "from_status"),
    _column(_DATABASE, "text", "to_status"),
    _column(_RECORD, "integer", "revision"),
    _column(_RECORD, "text", "actor", ""),
    _column(_DATABASE, "text", "db_role", ""),
    _column(_RECORD, "integer", "attempt"),
    _column(_RECORD, "integer", "step_number"),
    _column(_RECORD, "text", "action", ""),
    _column(_RECORD, "bigint", "duration_ms"),
    _column(_RECORD, "text", "output_summary", ""),
    _column(_RECORD, "jsonb", "detail"),
    _column(_DATABASE, "smallint", "row_version"),
    _column(_DATABASE, "xid8", "xid"),
)


def by_name(columns: tuple[Column, ...], *sources: Source) -> dict[str, Column]:
    """Return the columns that these sources say (all of them, where none is named) by their names, in order."""
    return {column.name: column for column in columns if not sources or column.source in sources}
