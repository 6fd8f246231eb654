"""What an inspection finds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import models, router

from audit.models import Task

__all__ = ["Flaw", "flaw", "keeps_audit", "kept_models", "quoted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """One thing that is not as this app installed it."""

    kind: str
    """`table-missing`, `table-replaced`, `row-security`, `owner`, `column-missing`, `column-retyped` (or NULL is
    allowed), `column-changed` (its default, identity, generation or collation), `column-unknown`, `sequence`,
    `trigger-missing`, `trigger-disabled`, `trigger-mode`, `trigger-changed`, `trigger-foreign`, `trigger-beside`,
    `function-missing`, `function-changed`, `function-config`, `function-public`, `function-granted`, `check-missing`,
    `check-changed`, `check-unproven` (each also of a unique index), `foreign-key`, `constraint-foreign`, `rule`,
    `settings` or `unreleased`; of those that weaken nothing `index`, `unfinished`, `replication` or `login`."""
    table: str
    """The table concerned; empty for a function, a role or the whole database."""
    name: str
    """The trigger, function, column, constraint, index, rule or setting."""
    problem: str
    """What is wrong, in one sentence."""
    remedy: str
    """What to do; SQL where that is enough."""
    minor: bool = False
    """Whether the guards are in force nevertheless."""


def flaw(kind: str, table: str, name: str, problem: str, remedy: str, *, minor: bool = False) -> Flaw:
    """Make a flaw; the arguments are those of `Flaw`, in its order."""
    return Flaw(kind=kind, table=table, name=name, problem=problem, remedy=remedy, minor=minor)


def keeps_audit(alias: str) -> bool:
    """Return whether the routers let the audit tables live in the database of `alias`."""
    return bool(router.allow_migrate_model(alias, Task))


def kept_models() -> list[type[models.Model]]:
    """Every model of this app that has a table."""
    found: Any = apps.get_app_config("audit").get_models()
    return [model for model in found if model._meta.managed and not model._meta.proxy]


def quoted(name: str) -> str:
    """Write a name as SQL takes it, so that a remedy can be run whatever somebody called the thing."""
    return name if re.fullmatch("[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'
