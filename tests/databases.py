"""Databases that live for one block."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, connections

__all__ = ["temporary_database"]


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
