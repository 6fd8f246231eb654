"""Stores that recorded work starts: one INSERT of a task that is executing, under a lease."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import connections

from audit.leases.prolong import Session
from audit.statements.retry import reconnecting
from audit.statements.rows import columns, fetch_and
from audit.verbs.inserts import GIVEN, placeholder

if TYPE_CHECKING:
    from audit.models import Task

__all__ = ["insert_executing"]

_SESSION = "current_setting('search_path'), current_setting('role')"


def insert_executing(
    model: type[Task], using: str, values: Mapping[str, Any], lease: timedelta
) -> tuple[Task, Session]:
    """Insert one task as executing, claimed by whoever records it.

    Args:
        model: `Task`.
        using: the alias to write through.
        values: what `audit.verbs.inserts.recorded` has checked.
        lease: how long it lasts without a heartbeat.

    Returns:
        The task, equal to its row, and what the session is set to that inserted it.
    """
    given = {name: values[name] for name in GIVEN if name in values}
    sql = f"""
INSERT INTO audit_task ({", ".join(given)}, status, attempt, on_expiry,
    created_at, started_at, claim_token, lease_expires_at)
VALUES ({", ".join(placeholder(GIVEN[name]) for name in given)}, 'executing', 1, 'fail',
    statement_timestamp(), statement_timestamp(), gen_random_uuid(), statement_timestamp() + %s)
RETURNING {columns(model, "audit_task")}, {_SESSION}
"""  # noqa: S608 - column names are this module's own; every value is a parameter

    def attempt() -> list[tuple[Task, tuple[str, str]]]:
        return fetch_and(model, using, sql, [*given.values(), lease])

    def again() -> list[tuple[Task, tuple[str, str]]]:
        # Perhaps the server carried the first one out, and only its answer was lost.
        here = f"SELECT {columns(model, 'audit_task')}, {_SESSION} FROM audit_task WHERE id = %s"  # noqa: S608 - as above
        return fetch_and(model, using, here, [values["id"]]) or attempt()

    [(task, (search_path, role))] = reconnecting(connections[using], attempt, again)
    return task, Session(search_path=search_path, role=role)
