"""Flushing a test database whose audit tables refuse TRUNCATE.

Note [Guards of a flush]
    Django composes a flush with `connection.ops.sql_flush()` and runs the statements in one transaction. Inside
    `flushable` that list gets two frames: the owner's DDL that disables the guards in front of the TRUNCATE, and the
    one that arms them behind it. The transaction makes it all or nothing: no failed flush and no killed process
    leaves a guard off, and no other session ever sees it off. Signals sent after the flush meet armed guards.
    Only TRUNCATE is let through. UPDATE and DELETE are refused throughout.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

from django.db import connections

from audit.exceptions import AuditError

__all__ = ["GuardedFlushMixin", "every_teardown_flushable", "flushable"]

# Whatever the schema: the tables that a flush of this connection, which names them without one, would find.
_GUARDS = """
SELECT c.relname, t.tgname
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid
WHERE NOT t.tgisinternal AND f.proname LIKE 'audit\\_truncate\\_guard\\_v%' AND pg_catalog.pg_table_is_visible(c.oid)
ORDER BY c.relname, t.tgname
"""


@contextmanager
def flushable(*aliases: str) -> Iterator[None]:
    """Let a flush inside the block also empty the audit tables of test databases.

    >>> with flushable():
    ...     call_command("flush", interactive=False)

    Args:
        aliases: the databases; all of `DATABASES` when left out. Databases without audit tables, or on another system
            than PostgreSQL, are flushed as usual.

    Raises:
        AuditError: inside the block, by the flush of a database that has audit tables and is not a test database.
            Nothing was changed.
    """
    with ExitStack() as stack:
        for alias in aliases or tuple(connections):
            connection = connections[alias]
            # Blocks nest (the mixin inside the plugin): the outer one does the work.
            if connection.vendor == "postgresql" and "sql_flush" not in vars(connection.ops):
                vars(connection.ops)["sql_flush"] = _with_guards_off(connection)
                stack.callback(vars(connection.ops).pop, "sql_flush")
        yield


@contextmanager
def every_teardown_flushable() -> Iterator[None]:
    """Make the flush after every `TransactionTestCase` `flushable`, for the length of the block."""
    from django.test import TransactionTestCase

    base: Any = TransactionTestCase  # the method is private, and stubs do not know it
    original = base._fixture_teardown
    base._fixture_teardown = _flushing(original)
    try:
        yield
    finally:
        base._fixture_teardown = original


class GuardedFlushMixin:
    """Lets the flush after each test empty the audit tables. Put it in front of `TransactionTestCase`.

    >>> class OrderTests(GuardedFlushMixin, TransactionTestCase): ...
    """

    def _fixture_teardown(self) -> None:
        with flushable(*self._databases_names(include_mirrors=False)):  # type: ignore[attr-defined]
            super()._fixture_teardown()  # type: ignore[misc]


def _flushing(teardown: Callable[[Any], None]) -> Callable[[Any], None]:
    @wraps(teardown)
    def _fixture_teardown(case: Any) -> None:
        with flushable(*case._databases_names(include_mirrors=False)):
            teardown(case)

    return _fixture_teardown


def _with_guards_off(connection: Any) -> Callable[..., list[str]]:
    """Make the `sql_flush` of Note [Guards of a flush]."""
    compose = connection.ops.sql_flush
    quote = connection.ops.quote_name

    def sql_flush(style: Any, tables: list[str], *, allow_cascade: bool = False, **options: Any) -> list[str]:
        statements: list[str] = compose(style, tables, allow_cascade=allow_cascade, **options)
        if not statements:
            return statements
        with connection.cursor() as cursor:
            cursor.execute(_GUARDS)
            guards = [each for each in cursor.fetchall() if allow_cascade or each[0] in tables]
        if not guards:
            return statements
        _insist_on_test_database(connection)
        named = [(quote(table), quote(trigger)) for table, trigger in guards]
        # The strongest lock first: TRUNCATE needs it, and raising a weaker one later invites a deadlock.
        locked = ", ".join(dict.fromkeys(table for table, _ in named))
        return [
            f"LOCK TABLE {locked} IN ACCESS EXCLUSIVE MODE",
            *(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}" for table, trigger in named),
            *statements,
            *(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}" for table, trigger in named),
        ]

    return sql_flush


def _insist_on_test_database(connection: Any) -> None:
    """Raise AuditError unless a test runner is at work and the database bears the name it gives to those it makes."""
    from django.db.backends.base.creation import TEST_DATABASE_PREFIX
    from django.test import utils

    settings = connection.settings_dict
    own = settings["TEST"]["NAME"]
    # Parallel workers have clones of it, with a suffix.
    named = settings["NAME"] == own or settings["NAME"].startswith(f"{own}_" if own else TEST_DATABASE_PREFIX)
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        (actual,) = cursor.fetchone()
    if named and actual == settings["NAME"] and hasattr(utils._TestState, "saved_data"):
        return
    raise AuditError(
        f"The database {actual!r} of alias {connection.alias!r} is not one that a test runner made, so its audit "
        "tables are not emptied. Let the runner create the test database: one named by DATABASES[…]['TEST']['NAME'], "
        f"or with the prefix {TEST_DATABASE_PREFIX!r}."
    )
