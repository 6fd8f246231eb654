"""Runs the statements of this app, prepared where that is safe: planning anew takes a third of a single claim.

Note [Poolers]
    A pooler in transaction mode gives each transaction another session of the server, so a statement prepared in one
    is unknown in the next, and Django prepares nothing unless told to. Here it is found out: a connection's process
    number comes from the pooler when there is one, and `pg_backend_pid()` from the server. When the two differ,
    nothing is prepared. What the project says in DATABASES goes first: `OPTIONS["prepare_threshold"]`, where None
    means never and a number means always, as for a pooler that keeps track of prepared statements; and
    `DISABLE_SERVER_SIDE_CURSORS`, Django's own word for a pooler in transaction mode.
"""

from collections.abc import Sequence
from datetime import UTC
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.base import Cursor
from django.db.backends.postgresql.psycopg_any import register_tzloader
from psycopg.pq import TransactionStatus
from psycopg.types.datetime import TimestamptzLoader

__all__ = ["PATIENCE", "run"]

PATIENCE = 5
"""How many statements a connection runs before any is prepared: a short request is over by then."""

# A cursor that is kept knows how to read the columns of its statement, and still holds its last values and rows.
_KEPT = 30
_KEPT_CHARS = 10_000

_Rows = list[tuple[Any, ...]]


class _PreparingCursor(psycopg.Cursor[Any]):
    """Binds on the server and prepares what comes a second time.

    The connection is told so for one statement only: while its threshold is set, psycopg remembers the text of
    whatever runs, and Django's statements have their values in the text.
    """

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        connection, before = self.connection, self.connection.prepare_threshold
        connection.prepare_threshold = 1
        try:
            return super().execute(query, params, **options)
        finally:
            connection.prepare_threshold = before


class _Session:
    """What is known of the server's session behind a connection."""

    __slots__ = ("kept", "prepares", "raw", "seen")

    def __init__(self, raw: psycopg.Connection[Any]) -> None:
        self.raw = raw
        self.seen = 0
        self.prepares: bool | None = None
        self.kept: dict[tuple[str, Any], tuple[str, _PreparingCursor]] = {}


_sessions: WeakKeyDictionary[BaseDatabaseWrapper, _Session] = WeakKeyDictionary()


def run(using: str, sql: str, params: Sequence[Any], prepare: bool) -> _Rows:
    """Run a statement and return its rows.

    Django's cursor stays around a prepared statement, with its `execute_wrapper`s and errors. A cursor that is not
    Django's own (bound on the server by the project's wish, or measured by a tool) runs it as it is, and so does one
    whose statements are logged, as with DEBUG: the log would not show what a prepared statement was given.

    Args:
        using: the alias of the database.
        sql: the statement.
        params: for its placeholders.
        prepare: whether it may be prepared; not when Django compiled a part of it, for values bound by the client.
    """
    connection = connections[using]
    with connection.cursor() as cursor:
        if prepare and type(cursor.cursor) is Cursor and not connection.queries_logged:
            session = _session(connection)
            if _prepares(connection, session):
                try:
                    return _run_prepared(connection, cursor, session, sql, params)
                except DatabaseError as error:
                    if not _gave_up(connection, session, error):
                        raise
        if connection.timezone is UTC:
            _read_utc(cursor)
        cursor.execute(sql, params)
        return cursor.fetchall()  # type: ignore[no-any-return]


def _session(connection: Any) -> _Session:
    session = _sessions.get(connection)
    if session is None or session.raw is not connection.connection:
        session = _sessions[connection] = _Session(connection.connection)
    return session


def _prepares(connection: Any, session: _Session) -> bool:
    """See Note [Poolers]."""
    if session.prepares is None:
        session.seen += 1
        if session.seen <= PATIENCE or session.raw.info.transaction_status == TransactionStatus.INERROR:
            return False
        settings = connection.settings_dict
        if "prepare_threshold" in settings["OPTIONS"]:
            session.prepares = settings["OPTIONS"]["prepare_threshold"] is not None
        elif settings.get("DISABLE_SERVER_SIDE_CURSORS"):
            session.prepares = False
        else:
            with connection.wrap_database_errors:
                found = session.raw.execute("SELECT pg_backend_pid()").fetchone()
            session.prepares = found == (session.raw.info.backend_pid,)
    return session.prepares


def _run_prepared(connection: Any, cursor: Any, session: _Session, sql: str, params: Sequence[Any]) -> _Rows:
    # psycopg keeps what it knows of a statement as long as it is the same string, on the same cursor.
    key = (sql, connection.timezone)
    sql, prepared = session.kept.pop(key) if key in session.kept else (sql, _cursor(connection, session))
    plain, cursor.cursor = cursor.cursor, prepared
    try:
        cursor.execute(sql, params)
        rows: _Rows = cursor.fetchall()
    finally:
        cursor.cursor = plain
    small = len(rows) < 2 and all(len(value) <= _KEPT_CHARS for value in chain(params, *rows) if isinstance(value, str))
    if small:
        session.kept[key] = (sql, prepared)
        if len(session.kept) > _KEPT:
            del session.kept[next(iter(session.kept))]
    return rows


def _cursor(connection: Any, session: _Session) -> _PreparingCursor:
    cursor = _PreparingCursor(session.raw)
    if connection.timezone is UTC:
        _read_utc(cursor)
    else:
        register_tzloader(connection.timezone, cursor)
    return cursor


def _read_utc(cursor: Any) -> None:
    # Django's own loader is a subclass in Python, for other time zones, and takes six times as long as this one, in C.
    # A claim of a hundred tasks brings five hundred moments.
    cursor.adapters.register_loader("timestamptz", TimestamptzLoader)


def _gave_up(connection: Any, session: _Session, error: DatabaseError) -> bool:
    """Say whether a statement should run again, not prepared, for the session has forgotten what was prepared.

    So after `DISCARD ALL`, behind a pooler that lends the server's own process number, and when a migration has
    changed the type of a column. Nothing is prepared on this connection any more. In a transaction, which the error
    has aborted, it must be raised.
    """
    forgotten = (
        psycopg.errors.InvalidSqlStatementName,
        psycopg.errors.DuplicatePreparedStatement,
        psycopg.errors.FeatureNotSupported,
    )
    if not isinstance(error.__cause__, forgotten):
        return False
    session.prepares = False
    session.kept.clear()
    return bool(connection.get_autocommit())
