"""Fixtures of Django cannot hold a trail: the database writes the log itself."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError

__all__ = ["refuse_fixture"]


def refuse_fixture(sender: Any, *, raw: bool, **kwargs: Any) -> None:
    """Stop `loaddata` at the first row of this app; a receiver of `pre_save`.

    Raises:
        CommandError: the row comes from a fixture.
    """
    if raw:
        raise CommandError(
            "loaddata cannot load the audit trail: the database writes the execution log itself. Use audit_export and "
            "audit_import, or pg_dump and pg_restore for the whole database; leave it out of fixtures with "
            "dumpdata --exclude audit."
        )
