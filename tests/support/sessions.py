"""Sessions beside the test's own, under a role that may do plain DML, at any isolation level."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import psycopg
from django.db import connection

from tests.support.factories import sql

__all__ = ["ISOLATION", "Background", "application_role", "session"]

ISOLATION = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


@contextmanager
def application_role() -> Iterator[str]:
    """A role of the application, as long as the block lasts; outside of a transaction."""
    name = f"audit_app_{os.getpid()}"
    sql(f"CREATE ROLE {name} LOGIN")
    try:
        sql(f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO {name}")
        sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {name}")
        yield name
    finally:
        sql(f"DROP OWNED BY {name}; DROP ROLE {name}")


@contextmanager
def session(role: str, isolation: str) -> Iterator[psycopg.Connection]:
    """A session of a role, in a transaction of this isolation level that is rolled back unless it is committed."""
    wanted = ("dbname", "user", "host", "port", "password")
    settings = {key: value for key, value in connection.get_connection_params().items() if key in wanted}
    with psycopg.connect(**settings, autocommit=True) as opened:
        opened.execute(f"SET SESSION AUTHORIZATION {role}")
        opened.execute(f"BEGIN ISOLATION LEVEL {isolation}")
        yield opened
        opened.execute("ROLLBACK")


class Background:
    """A statement that waits for a lock, in a thread; `answer` is the SQLSTATE of its refusal, if any."""

    def __init__(self, opened: psycopg.Connection, statement: str) -> None:
        self.answer = ""
        self._opened, self._statement = opened, statement
        self._thread = Thread(target=self._run)
        self._thread.start()
        until = time.monotonic() + 120
        blocked = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
        while sql(blocked, [opened.info.backend_pid]) == [(False,)]:
            assert self._thread.is_alive(), f"it waited for nobody: {self.answer}"
            assert time.monotonic() < until
            time.sleep(0.01)

    def _run(self) -> None:
        try:
            self._opened.execute(self._statement)
        except psycopg.Error as error:
            self.answer = error.sqlstate or "?"

    def wait(self) -> str:
        """Wait for its end, and return the answer."""
        self._thread.join(120)
        assert not self._thread.is_alive()
        return self.answer
