"""A flush after each transactional test that empties what the test wrote to, and nothing else.

Django's own empties every table, and makes the content types and permissions anew; that takes six times as long, for
more than a thousand tests. `tests/project/test_testing.py` and the host project flush as Django does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.management.color import no_style
from django.db import connections, transaction
from django.test import TransactionTestCase

__all__ = ["flush_what_was_written"]

# Made by the signal after a migration, for the models and not for a test.
_KEPT = ("django_content_type", "auth_permission")
# A table that no row was written to since it was made or emptied has no page; rows that were rolled back count.
_WRITTEN = """
WITH RECURSIVE written (oid) AS (
    SELECT oid FROM pg_class WHERE relname = ANY (%s) AND pg_table_is_visible(oid) AND pg_relation_size(oid) > 0
    UNION SELECT conrelid FROM pg_constraint JOIN written ON confrelid = written.oid WHERE contype = 'f'
) SELECT relname FROM pg_class JOIN written USING (oid) WHERE relname = ANY (%s)
"""
_CONTENT = " || ".join(f"(SELECT coalesce(md5(string_agg(t::text, ',' ORDER BY id)), '') FROM {t} t)" for t in _KEPT)


def flush_what_was_written() -> None:
    """Let the tests of this process that pytest runs in a transaction of their own be followed by the quick flush."""
    base: Any = TransactionTestCase  # the method is private
    base._fixture_teardown = _quick(base._fixture_teardown)


def _quick(teardown: Callable[[Any], None]) -> Callable[[Any], None]:
    known: dict[str, str] = {}  # what the kept tables held after a flush of Django's, by database

    @wraps(teardown)
    def _fixture_teardown(case: Any) -> None:
        usual = type(case).__name__ == "PytestDjangoTestCase" and not (
            case.available_apps or case.reset_sequences or case.serialized_rollback
        )
        aliases = case._databases_names(include_mirrors=False)
        names = [connections[alias].settings_dict["NAME"] for alias in aliases]
        if usual and all(known.get(name) == _content(alias) for name, alias in zip(names, aliases, strict=True)):
            for alias in aliases:
                _flush(alias)
            return
        teardown(case)
        known.update((name, _content(alias)) for name, alias in zip(names, aliases, strict=True))

    return _fixture_teardown


def _content(alias: str) -> str:
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT {_CONTENT}")
        [(found,)] = cursor.fetchall()
    return str(found)


def _flush(alias: str) -> None:
    connection = connections[alias]
    tables = [each for each in connection.introspection.django_table_names() if each not in _KEPT]
    with transaction.atomic(using=alias), connection.cursor() as cursor:
        cursor.execute(_WRITTEN, [tables, tables])
        written = [name for (name,) in cursor.fetchall()]
        for statement in connection.ops.sql_flush(no_style(), written):
            cursor.execute(statement)
