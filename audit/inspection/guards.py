"""Whether the guards are in force: functions, triggers and CHECKs as installed, and no rule in front of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from typing import Any

from django.db import connections
from django.db.migrations.operations import RunSQL
from django.db.models import CheckConstraint

from audit.inspection import installed
from audit.inspection.flaws import Flaw, applied_migrations, kept_models, shipped_migrations
from audit.sql import parts

__all__ = ["inspect_guards"]


def inspect_guards(alias: str) -> list[Flaw]:
    """Compare functions, triggers, CHECKs and rules; arguments and answer as those of `inspect`."""
    connection = connections[alias]
    applied = applied_migrations(alias)
    if not applied:
        return []
    expected = _expected(applied)
    found = _Catalog.read(connection, expected)
    return [
        *_functions(expected, found),
        *_triggers(expected, found),
        *_checks(expected, found),
        *_rules(found),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Expected:
    tables: tuple[str, ...]
    installed: parts.Installed
    newest: bool
    """Whether every migration is applied."""


@cache
def _expected(applied: frozenset[str]) -> _Expected:
    shipped = shipped_migrations()
    statements: list[str] = []
    for name in shipped:
        if name in applied:
            for operation in import_module(f"audit.migrations.{name}").Migration.operations:
                if isinstance(operation, RunSQL):
                    statements += map(str, operation.sql if isinstance(operation.sql, list) else [operation.sql])
    left = parts.replay(statements)
    newest = applied.issuperset(shipped)
    # The models say what the newest migration leaves; an older state has its own CHECKs, which nobody kept.
    if newest:
        modelled = {
            (model._meta.db_table, constraint.name)
            for model in kept_models()
            for constraint in model._meta.constraints
            if isinstance(constraint, CheckConstraint)
        }
        left = replace(left, checks=left.checks | modelled)
    return _Expected(tables=tuple(model._meta.db_table for model in kept_models()), installed=left, newest=newest)


_TABLES = """
SELECT c.oid, c.relname, c.relnamespace FROM pg_catalog.pg_class c
WHERE c.oid IN (
    SELECT pg_catalog.to_regclass(pg_catalog.quote_ident(name))::oid FROM pg_catalog.unnest(%s::text[]) AS name)
"""
_FUNCTIONS = """
SELECT p.oid, p.proname, p.prosrc, p.prosecdef, coalesce(p.proconfig, '{}'), EXISTS (
    SELECT FROM pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) AS right_of
    WHERE right_of.grantee = 0 AND right_of.privilege_type = 'EXECUTE')
FROM pg_catalog.pg_proc p
WHERE p.proname = ANY(%s) AND p.pronargs = 0 AND p.pronamespace = ANY(%s)
"""
_TRIGGERS = """
SELECT c.relname, t.tgname, t.tgenabled, t.tgfoid, t.tgisinternal, t.tgtype,
    CASE WHEN NOT t.tgisinternal THEN pg_catalog.pg_get_triggerdef(t.oid, true) END
FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
WHERE t.tgrelid = ANY(%s) ORDER BY c.relname, t.tgname
"""
_CHECKS = """
SELECT c.relname, k.conname, k.convalidated, pg_catalog.pg_get_constraintdef(k.oid)
FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
WHERE k.contype = 'c' AND k.conrelid = ANY(%s)
"""
_RULES = """
SELECT c.relname, r.rulename FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
WHERE r.ev_class = ANY(%s) AND r.rulename <> '_RETURN' ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trigger:
    state: str
    """`tgenabled`: `O` for ordinary, `A` always, `R` in replica sessions only, `D` disabled."""
    function: int
    internal: bool
    kind: int
    """`tgtype`: bit 0 for each row, bit 1 before, bits 2 to 5 INSERT, DELETE, UPDATE, TRUNCATE."""
    definition: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Catalog:
    tables: frozenset[str]
    functions: dict[str, tuple[int, parts.Function]]
    triggers: dict[tuple[str, str], _Trigger]
    checks: dict[tuple[str, str], tuple[bool, str]]
    """Whether older rows keep it, and what it says."""
    rules: list[tuple[str, str]]

    @classmethod
    def read(cls, connection: Any, expected: _Expected) -> "_Catalog":
        with connection.cursor() as cursor:
            tables = _rows(cursor, _TABLES, list(expected.tables))
            oids = [oid for oid, _, _ in tables]
            schemas = [schema for _, _, schema in tables]
            functions = _rows(cursor, _FUNCTIONS, list(expected.installed.functions), schemas)
            triggers = _rows(cursor, _TRIGGERS, oids)
            checks = _rows(cursor, _CHECKS, oids)
            rules = _rows(cursor, _RULES, oids)
        return cls(
            tables=frozenset(name for _, name, _ in tables),
            functions={
                name: (
                    oid,
                    parts.Function(name=name, body=body, definer=definer, config=frozenset(config), public=public),
                )
                for oid, name, body, definer, config, public in functions
            },
            triggers={
                (table, name): _Trigger(state=state, function=function, internal=internal, kind=kind, definition=text)
                for table, name, state, function, internal, kind, text in triggers
            },
            checks={(table, name): (valid, installed.worded(words)) for table, name, valid, words in checks},
            rules=rules,
        )


def _rows(cursor: Any, query: str, *parameters: object) -> list[Any]:
    cursor.execute(query, parameters)
    return list(cursor.fetchall())


def _functions(expected: _Expected, found: _Catalog) -> Iterator[Flaw]:
    restore = "Find out who replaced it, then run the statements of its file in audit/sql/ again."
    for name, function in expected.installed.functions.items():
        if name not in found.functions:
            yield Flaw(
                kind="function-missing",
                table="",
                name=name,
                problem=f"The function {name}() is not there.",
                remedy="Find out who dropped it, then run the statements of its file in audit/sql/ again.",
            )
            continue
        _, actual = found.functions[name]
        if actual.body != function.body:
            yield Flaw(
                kind="function-changed",
                table="",
                name=name,
                problem=f"The body of {name}() is not the one that this app installed.",
                remedy=restore,
            )
        if (actual.definer, actual.config) != (function.definer, function.config):
            yield Flaw(
                kind="function-config",
                table="",
                name=name,
                problem=f"{name}() runs as {_config(actual)}; this app installed it as {_config(function)}.",
                remedy=restore,
            )
        if actual.public and not function.public:
            yield Flaw(
                kind="function-public",
                table="",
                name=name,
                problem=f"Everybody may call {name}().",
                remedy=f"REVOKE ALL ON FUNCTION {name}() FROM PUBLIC;",
            )


def _config(function: parts.Function) -> str:
    rights = "its owner (SECURITY DEFINER)" if function.definer else "its caller (SECURITY INVOKER)"
    return f"{rights} with {', '.join(sorted(function.config)) or 'no settings'}"


def _triggers(expected: _Expected, found: _Catalog) -> Iterator[Flaw]:
    for trigger in expected.installed.triggers.values():
        if trigger.table not in found.tables:
            continue
        actual = found.triggers.get((trigger.table, trigger.name))
        if actual is None:
            yield Flaw(
                kind="trigger-missing",
                table=trigger.table,
                name=trigger.name,
                problem=f"The trigger {trigger.name} on {trigger.table} is not there.",
                remedy="Find out who dropped it, then run the statements of its file in audit/sql/ again.",
            )
            continue
        yield from _state(trigger, actual)
        if not _as_installed(trigger, actual, found):
            yield Flaw(
                kind="trigger-changed",
                table=trigger.table,
                name=trigger.name,
                problem=f"The trigger {trigger.name} on {trigger.table} is another one now: {actual.definition}",
                remedy="Find out who replaced it, then drop it and run the statements of its file in audit/sql/ again.",
            )
    for (table, name), actual in found.triggers.items():
        if actual.internal and actual.state == "D":
            yield Flaw(
                kind="trigger-disabled",
                table=table,
                name=name,
                problem=f"The foreign key trigger {name} on {table} is disabled.",
                remedy=f"ALTER TABLE {table} ENABLE TRIGGER ALL; then ENABLE ALWAYS those that need it.",
            )
    yield from _strangers(expected, found)


def _state(trigger: parts.Trigger, actual: _Trigger) -> Iterator[Flaw]:
    wanted = "A" if trigger.always else "O"
    if actual.state == wanted:
        return
    remedy = f"ALTER TABLE {trigger.table} ENABLE {'ALWAYS ' if trigger.always else ''}TRIGGER {trigger.name};"
    where = f"The trigger {trigger.name} on {trigger.table}"
    if actual.state == "D":
        yield Flaw(
            kind="trigger-disabled",
            table=trigger.table,
            name=trigger.name,
            problem=f"{where} is disabled.",
            remedy=remedy,
        )
        return
    fires = {"O": "only in ordinary sessions", "A": "also in replica sessions", "R": "only in replica sessions"}
    yield Flaw(
        kind="trigger-mode",
        table=trigger.table,
        name=trigger.name,
        problem=f"{where} fires {fires[actual.state]}; it must fire {fires[wanted]}.",
        remedy=f"{remedy} (ENABLE TRIGGER ALL, which pg_dump --disable-triggers writes too, takes ALWAYS away.)",
    )


def _as_installed(trigger: parts.Trigger, actual: _Trigger, found: _Catalog) -> bool:
    oid, _ = found.functions.get(trigger.function, (None, None))
    try:
        read = parts.trigger(actual.definition or "")
    except ValueError:
        return False
    # The function is compared by its oid: another schema may have one of the same name.
    return actual.function == oid and replace(read, table=trigger.table, function=trigger.function) == replace(
        trigger, always=False
    )


def _strangers(expected: _Expected, found: _Catalog) -> Iterator[Flaw]:
    """Find BEFORE ROW triggers of somebody else: each can change a row after it was stamped, or keep it out."""
    # Also those of migrations that are not recorded as applied.
    newest = _expected(frozenset(shipped_migrations()))
    ours = {
        (trigger.table, trigger.name) for each in (expected, newest) for trigger in each.installed.triggers.values()
    }
    for (table, name), actual in found.triggers.items():
        if (table, name) not in ours and not actual.internal and actual.kind & 3 == 3 and actual.state != "D":
            yield Flaw(
                kind="trigger-foreign",
                table=table,
                name=name,
                problem=f"The trigger {name} on {table} is not of this app and runs before rows are written: it can "
                "change what this app stamped or sealed, and let rows vanish.",
                remedy="Find out who made it; drop it, or make it an AFTER trigger.",
            )


def _checks(expected: _Expected, found: _Catalog) -> Iterator[Flaw]:
    for table, name in sorted(expected.installed.checks):
        if table not in found.tables:
            continue
        if (table, name) not in found.checks:
            yield Flaw(
                kind="check-missing",
                table=table,
                name=name,
                problem=f"The CHECK {name} of {table} is not there.",
                remedy="Find out who dropped it, and add it again as the migrations do (manage.py sqlmigrate).",
            )
            continue
        valid, words = found.checks[table, name]
        if expected.newest and words != installed.checks().get((table, name), words):
            yield Flaw(
                kind="check-changed",
                table=table,
                name=name,
                problem=f"The CHECK {name} of {table} is another one now: {words}",
                remedy="Find out who replaced it, and make it again as the migrations do (manage.py sqlmigrate).",
            )
        if not valid:
            yield Flaw(
                kind="check-unproven",
                table=table,
                name=name,
                problem=f"The CHECK {name} of {table} is NOT VALID: older rows may break it.",
                remedy=f"ALTER TABLE {table} VALIDATE CONSTRAINT {name};",
            )


def _rules(found: _Catalog) -> Iterator[Flaw]:
    for table, name in found.rules:
        yield Flaw(
            kind="rule",
            table=table,
            name=name,
            problem=f"The rule {name} rewrites statements on {table} before any trigger sees them.",
            remedy=f"DROP RULE {name} ON {table};",
        )
