"""System checks: is this project and its database fit to keep an audit trail?

`manage.py check` looks at settings; `manage.py check --database default`, `migrate` and the test runners look into
the database as well. Every process registers the checks, and few run them: each imports what it needs when it runs.
"""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Tags, register

__all__ = ["MINIMUM_SERVER", "check_database", "check_deployment", "check_settings"]

MINIMUM_SERVER = 15
"""The oldest major version of PostgreSQL that this app is made for."""


@register
def check_settings(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check what can be seen without a connection: E001 (database), E003 (apps), E004 (`AUDIT`), W003 (key)."""
    from audit.checks import settings

    return settings.look()


@register(Tags.database)
def check_database(
    app_configs: Sequence[Any] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Look into each of `databases` that keeps audit tables: E001, E002 (server), W001 (encoding), W002 (sealer), E010
    to E037 and W010 to W013 (what stands there against what should), W014 (tables that the routers do not use), W015
    to W017 (the queue), W018 (ids), W020 (seals that nobody here can check)."""
    from audit.checks import database

    return database.look(databases or ())


@register(Tags.database, deploy=True)
def check_deployment(
    app_configs: Sequence[Any] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check with `--deploy` how this process connects to each of `databases`: W021 (as the owner of the tables)."""
    from audit.checks import database

    return database.look_at_roles(databases or ())
