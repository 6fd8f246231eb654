"""What an inspection finds, and which part of the database it looks at."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import connections, models, router
from django.db.migrations.recorder import MigrationRecorder

from audit import migrations
from audit.models import Task

__all__ = ["Flaw", "applied_migrations", "keeps_audit", "kept_models", "shipped_migrations"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """One thing that is not as this app installed it."""

    kind: str
    """`table-missing`, `table-replaced`, `row-security`, `column-missing`, `column-retyped` (or NULL is allowed),
    `column-unknown`, `trigger-missing`, `trigger-disabled`, `trigger-mode`, `trigger-changed`, `trigger-foreign`,
    `function-missing`, `function-changed`, `function-config`, `function-public`, `check-missing`,
    `check-changed`, `check-unproven` or `rule`."""
    table: str
    """The table concerned; empty for a function."""
    name: str
    """The trigger, function, column, CHECK or rule."""
    problem: str
    """What is wrong, in one sentence."""
    remedy: str
    """What to do; SQL where that is enough."""


def keeps_audit(alias: str) -> bool:
    """Tell whether the routers let the audit tables live in the database of `alias`."""
    return bool(router.allow_migrate_model(alias, Task))


def applied_migrations(alias: str) -> frozenset[str]:
    """Name this app's migrations that a database has."""
    applied = MigrationRecorder(connections[alias]).applied_migrations()
    return frozenset(name for label, name in applied if label == "audit")


def shipped_migrations() -> list[str]:
    """Name this app's migrations, in order."""
    return sorted(module.name for module in pkgutil.iter_modules(migrations.__path__))


def kept_models() -> list[type[models.Model]]:
    """Every model of this app that has a table."""
    found: Any = apps.get_app_config("audit").get_models()
    return [model for model in found if model._meta.managed and not model._meta.proxy]
