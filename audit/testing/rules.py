"""The rules in a test database whose tables were made without migrations.

`pytest --no-migrations` and `TEST: {"MIGRATE": False}` make tables from the models. Triggers are in no model: without
them nothing is stamped, logged or refused, and a test would meet another trail than production has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from django.apps import apps
from django.db import connections, migrations, transaction
from django.db.models.signals import post_migrate

from audit.inspection import keeps_audit
from audit.inspection.recorded_migrations import applied_migrations, shipped_migrations
from audit.models import Task

__all__ = ["rules_without_migrations"]

_UNRULED = """
SELECT pg_catalog.to_regclass(pg_catalog.quote_ident(%(table)s)) IS NOT NULL AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_trigger t
    WHERE t.tgrelid = pg_catalog.to_regclass(pg_catalog.quote_ident(%(table)s)) AND NOT t.tgisinternal)
"""


@contextmanager
def rules_without_migrations() -> Iterator[None]:
    """Install the rules wherever `migrate` makes this app's tables without its migrations, for the length of the block.

    Nothing is done where the app's migrations are recorded or a trigger stands on the table of tasks.
    """
    config = apps.get_app_config("audit")
    post_migrate.connect(_install, sender=config, dispatch_uid="audit.testing.rules")
    try:
        yield
    finally:
        post_migrate.disconnect(sender=config, dispatch_uid="audit.testing.rules")


def _install(sender: Any, *, using: str, **kwargs: Any) -> None:
    connection = connections[using]
    if connection.vendor != "postgresql" or not keeps_audit(using) or applied_migrations(using):
        return
    with transaction.atomic(using=using), connection.cursor() as cursor:
        cursor.execute(_UNRULED, {"table": Task._meta.db_table})
        if cursor.fetchone() == (True,):
            for statement in _statements():
                cursor.execute(statement)


def _statements() -> Iterator[str]:
    """Yield the SQL of the migrations, in their order."""
    for name in shipped_migrations():
        for operation in import_module(f"audit.migrations.{name}").Migration.operations:
            if isinstance(operation, migrations.RunSQL):
                yield from map(str, operation.sql)
