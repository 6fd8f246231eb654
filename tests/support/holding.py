"""Statements that wait at the server for as long as a test wants."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
from django.db import connections

__all__ = ["OTHERS", "held", "is_held", "server_session"]

OTHERS = (
    "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND backend_type = 'client backend'"
)
"""The sessions of everybody else."""
_HELD = f"SELECT 1 {OTHERS} AND wait_event_type = 'Lock' AND wait_event = 'advisory'"


@contextlib.contextmanager
def server_session(name: str = "", *, using: str = "default") -> Iterator[psycopg.Connection]:
    """A session of its own, in the test's database or in another of the server."""
    wanted = ("dbname", "user", "host", "port", "password")
    settings = {key: value for key, value in connections[using].get_connection_params().items() if key in wanted}
    with psycopg.connect(**settings | ({"dbname": name} if name else {}), autocommit=True) as opened:
        yield opened


@contextlib.contextmanager
def held(status: str, *, at_commit: bool = False, using: str = "default") -> Iterator[None]:
    """Keep every task that comes to a status from being committed so, until the block ends.

    Args:
        status: which.
        at_commit: hold the commit, when the statement has answered; the statement itself otherwise.
        using: the alias of the database. A server that dies in the block keeps no lock.
    """
    kind = "CONSTRAINT TRIGGER zz_hold AFTER" if at_commit else "TRIGGER zz_hold BEFORE"
    when = "DEFERRABLE INITIALLY DEFERRED" if at_commit else ""
    try:
        with server_session(using=using) as other:
            # Before the trigger: nothing passes that while nobody has the lock.
            other.execute("SELECT pg_advisory_lock(4712)")
            _run(
                using,
                "CREATE FUNCTION zz_hold() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN PERFORM pg_advisory_xact_lock(4712); RETURN NEW; END $$;"
                f" CREATE {kind} UPDATE ON audit_task {when} FOR EACH ROW"
                f" WHEN (NEW.status = '{status}' AND OLD.status <> NEW.status) EXECUTE FUNCTION zz_hold()",
            )
            yield
    finally:
        # Waits for the statement that it has held up, but not for ever for a transaction that nobody ends.
        _run(using, "SET lock_timeout = '120s'; DROP FUNCTION IF EXISTS zz_hold() CASCADE; RESET lock_timeout")


def is_held(using: str = "default") -> bool:
    """Whether somebody waits there."""
    return bool(_run(using, _HELD))


def _run(using: str, statement: str) -> list[Any]:
    with connections[using].cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []
