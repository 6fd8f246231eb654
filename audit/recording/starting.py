"""Stores that recorded work starts: one INSERT of a task that is executing, under a lease."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import connections

from audit.statements.retry import reconnecting
from audit.statements.rows import columns, fetch
from audit.verbs.inserts import GIVEN, placeholder

if TYPE_CHECKING:
    from audit.models import Task

__all__ = ["insert_executing"]


def insert_executing(model: type[Task], using: str, values: Mapping[str, Any], lease: timedelta) -> Task:
    """Insert one task as executing, claimed by whoever records it, and return it, equal to its row.

    Args:
        model: `Task`.
        using: the alias to write through.
        values: what `audit.verbs.inserts.recorded` has checked.
        lease: how long it lasts without a sign of life.
    """
    given = {name: values[name] for name in GIVEN if name in values}
    sql = f"""
INSERT INTO audit_task ({", ".join(given)}, status, attempt, on_expiry,
    created_at, started_at, claim_token, lease_expires_at)
VALUES ({", ".join(placeholder(GIVEN[name]) for name in given)}, 'executing', 1, 'fail',
    statement_timestamp(), statement_timestamp(), gen_random_uuid(), statement_timestamp() + %s)
RETURNING {columns(model, "audit_task")}
"""  # noqa: S608 - column names are this module's own; every value is a parameter

    def attempt() -> list[Task]:
        return fetch(model, using, sql, [*given.values(), lease])

    def again() -> list[Task]:
        # Perhaps the server carried the first one out, and only its answer was lost.
        here = f"SELECT {columns(model, 'audit_task')} FROM audit_task WHERE id = %s"  # noqa: S608 - as above
        return fetch(model, using, here, [values["id"]]) or attempt()

    (task,) = reconnecting(connections[using], attempt, again)
    return task
