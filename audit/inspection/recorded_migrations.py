"""Which migrations are recorded, and what follows from it: a migration under way, or a database of the unreleased past.

A record proves nothing, because it is an ordinary row. It only excuses what stands nowhere yet.
"""

from __future__ import annotations

import pkgutil
from typing import Any

from django.core.management.base import CommandError
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from audit import migrations
from audit.models import Task

__all__ = ["REMEDY", "applied_migrations", "refuse_unreleased", "shipped_migrations", "unreleased"]

REMEDY = "Use a new, empty database; the old version's audit_export keeps what should be kept."
"""What to do about a database of the unreleased past."""

_UNRELEASED = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = pg_catalog.to_regclass(pg_catalog.quote_ident(%(table)s)) AND a.attname = 'row_hash'
        AND NOT a.attisdropped),
    pg_catalog.to_regclass(pg_catalog.quote_ident(%(table)s)) IS NOT NULL
"""
_READABLE = """
SELECT coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass(pg_catalog.quote_ident(%s)), 'SELECT'), false)
"""


def applied_migrations(alias: str) -> frozenset[str]:
    """Name this app's migrations that a database records; none where the record is missing or may not be read."""
    connection = connections[alias]
    recorder = MigrationRecorder(connection)
    with connection.cursor() as cursor:
        cursor.execute(_READABLE, [recorder.Migration._meta.db_table])
        (readable,) = cursor.fetchone()
    if not readable:
        return frozenset()
    return frozenset(recorder.migration_qs.filter(app="audit").values_list("name", flat=True))


def shipped_migrations() -> list[str]:
    """Name this app's migrations, in order."""
    return sorted(module.name for module in pkgutil.iter_modules(migrations.__path__))


def unreleased(alias: str) -> str:
    """Tell whether a database holds tables of a version before the first release.

    Args:
        alias: a PostgreSQL database.

    Returns:
        One sentence about it; empty when it does not.
    """
    with connections[alias].cursor() as cursor:
        cursor.execute(_UNRELEASED, {"table": Task._meta.db_table})
        hashed, there = cursor.fetchone()
    applied, shipped = applied_migrations(alias), shipped_migrations()
    if hashed or (there and applied.difference(shipped) and shipped[0] not in applied):
        return f"The audit tables of {alias!r} are of a version before the first release, which this one cannot use."
    return ""


def refuse_unreleased(sender: Any, *, using: str, plan: Any = (), **kwargs: Any) -> None:
    """Stop `migrate` before it meets tables that it cannot build upon; a receiver of `pre_migrate`.

    Raises:
        CommandError: the database is of a version before the first release.
    """
    if connections[using].vendor != "postgresql" or not any(each.app_label == "audit" for each, _ in plan):
        return
    if problem := unreleased(using):
        raise CommandError(f"{problem} {REMEDY}")
