"""The INSERT of tasks that come from elsewhere, with their pause entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import connections

from audit.columns import Column
from audit.verbs.differences import GIVEN_ENTRY, arrays
from audit.verbs.inserts import statement

__all__ = ["insert_imported"]

Row = Mapping[str, Any]


def insert_imported(using: str, rows: Sequence[Row], entries: Mapping[UUID, Row]) -> set[UUID]:
    """Insert tasks whose ids are free, with the pause entries of those that are paused, in one statement.

    Args:
        using: the alias to write through.
        rows: checked values by the names of `audit.verbs.inserts.GIVEN`; documents as the text of their JSON.
        entries: checked values by the names of `GIVEN_ENTRY`, by the id of their task.

    Returns:
        The ids that were inserted.
    """
    # In one order, as `audit.verbs.inserts.insert_ids`.
    sql, params = statement(sorted(rows, key=lambda row: row["id"]), "audit_task.id")
    if entries:
        # In the statement that inserts the task: a trigger at its end would make an entry of its own otherwise.
        names = ", ".join(GIVEN_ENTRY)
        picked = ", ".join(_picked(column) for column in GIVEN_ENTRY.values())
        given, more = arrays(GIVEN_ENTRY, list(entries.values()), keys=list(entries))
        sql = f"""
WITH inserted AS ({sql}), entry AS (
    INSERT INTO audit_pause_queue (task_id, {names})
    SELECT inserted.id, {picked} FROM {given} JOIN inserted ON inserted.id = given.id
)
SELECT id FROM inserted
"""  # noqa: S608 - column names are this app's own; every value is a parameter
        params = [*params, *more]
    with connections[using].cursor() as cursor:
        cursor.execute(sql, params)
        return {key for (key,) in cursor.fetchall()}


def _picked(column: Column) -> str:
    value = f"given.{column.name}" + ("" if column.travels_as == column.type else f"::{column.type}")
    return f"coalesce({value}, statement_timestamp())" if column.name == "paused_at" else value
