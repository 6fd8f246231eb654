"""A session whose settings do not colour what the catalog says."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, transaction

__all__ = ["plainly"]

_SETTINGS = {"TimeZone": "UTC", "DateStyle": "ISO, YMD", "quote_all_identifiers": "off"}
_CHANGE = """
SELECT pg_catalog.set_config(name, value, true)
FROM ROWS FROM (pg_catalog.unnest(%s::text[]), pg_catalog.unnest(%s::text[])) AS setting (name, value)
"""


@contextmanager
def plainly(alias: str) -> Iterator[None]:
    """Let definitions be worded alike whatever the session's settings are, which are put back at the end.

    Args:
        alias: the database whose session it is.
    """
    names = list(_SETTINGS)
    # In a transaction, so that behind a pooler no setting stays with a session that others use.
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_catalog.current_setting(name) FROM pg_catalog.unnest(%s::text[]) AS name", [names])
        before = [value for (value,) in cursor.fetchall()]
        cursor.execute(_CHANGE, [names, list(_SETTINGS.values())])
        yield
        cursor.execute(_CHANGE, [names, before])
