"""Databases that live for one block."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, connections

from tests.support.factories import sql

__all__ = ["ended", "temporary_database"]


@contextmanager
def temporary_database(suffix: str, options: str = "") -> Iterator[str]:
    """Let the alias `other` lead to a new, empty database on the server of the tests, until the block ends.

    The test needs `django_db(transaction=True, databases=["default", "other"])`.

    Args:
        suffix: makes the name of the database unique among those of this test run.
        options: of CREATE DATABASE.

    Returns:
        The alias.
    """
    other = connections["other"]
    usual = other.settings_dict["NAME"]
    name = f"{usual}_{suffix}"
    with connection.cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}"')
        cursor.execute(f'CREATE DATABASE "{name}" {options}')
    other.close()
    other.settings_dict["NAME"] = name
    try:
        yield "other"
    finally:
        other.close()
        other.settings_dict["NAME"] = usual
        with connection.cursor() as cursor:
            cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def ended() -> None:
    """Wait until every transaction of the server that is open now has ended, in whatever database of its.

    What goes by the oldest open transaction stays below it, and a test next door may have one.
    """
    [(upper_end,)] = sql("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
    until = time.monotonic() + 300
    while sql("SELECT pg_snapshot_xmin(pg_current_snapshot()) < %s::xid8", [upper_end]) == [(True,)]:
        assert time.monotonic() < until, "a transaction has been open for five minutes"
        time.sleep(0.02)
