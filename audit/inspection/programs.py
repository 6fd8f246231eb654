"""Flaws of what runs when rows are written or read: functions, triggers, rules, policies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from audit.inspection.catalog import Facts
from audit.inspection.flaws import Flaw, flaw, quoted

__all__ = ["builtin", "function", "policy", "rule", "trigger"]

_FIRES = {"O": "only in ordinary sessions", "A": "also in replica sessions", "R": "only in replica sessions"}
_RESTORE = "Find out who changed it, then run the statements of its file in audit/sql/ again."

# Bits of pg_trigger.tgtype
_ROW, _BEFORE = 1, 2


def function(_: str, name: str, wanted: Facts | None, has: Facts | None) -> Iterator[Flaw]:
    """Word what differs of a function of this app."""
    if wanted is None:
        return
    if has is None:
        yield flaw(
            "function-missing",
            "",
            name,
            f"The function {name}() does not exist.",
            "Find out who dropped it, then run the statements of its file in audit/sql/ again.",
        )
        return
    if any(has[fact] != wanted[fact] for fact in ("body", "language", "returns")):
        yield flaw(
            "function-changed",
            "",
            name,
            f"The body of {name}() differs from the one that this app installed.",
            _RESTORE,
        )
    if any(has[fact] != wanted[fact] for fact in ("definer", "config", "volatility", "strict", "leakproof")):
        yield flaw(
            "function-config",
            "",
            name,
            f"{name}() runs as {_config(has)}; this app installed it as {_config(wanted)}.",
            _RESTORE,
        )
    if has["public"] and not wanted["public"]:
        yield flaw(
            "function-public",
            "",
            name,
            f"Every role may call {name}().",
            f"REVOKE ALL ON FUNCTION {name}() FROM PUBLIC;",
        )
    if has["granted"] != wanted["granted"]:
        roles = ", ".join(has["granted"])
        yield flaw(
            "function-granted",
            "",
            name,
            f"Roles other than its owner may call {name}(): {roles}.",
            f"REVOKE ALL ON FUNCTION {name}() FROM {roles};",
        )


def _config(function: Facts) -> str:
    rights = "its owner (SECURITY DEFINER)" if function["definer"] else "its caller (SECURITY INVOKER)"
    volatility = {"v": "volatile", "s": "stable", "i": "immutable"}[function["volatility"]]
    marks = [volatility, *(mark for mark in ("strict", "leakproof") if function[mark])]
    return f"{rights}, {', '.join(marks)}, with {', '.join(function['config']) or 'no settings'}"


def builtin(_: str, name: str, wanted: Facts | None, has: Facts | None) -> Iterator[Flaw]:
    """Word what differs of a function of PostgreSQL's own."""
    # A newer PostgreSQL may have functions of its own that are not listed, or lack one that is.
    if has is None or (wanted is None and has["own"]):
        return
    yield flaw(
        "function-changed",
        "",
        name,
        f"pg_catalog.{name} is not PostgreSQL's own. Rules, seals and checks inside this server rely on it.",
        "Find out who replaced or added it. Do not trust what this server computes.",
    )


def trigger(table: str, name: str, wanted: Facts | None, has: Facts | None) -> Iterator[Flaw]:
    """Word what differs of a trigger."""
    if wanted is None:
        if has is not None:
            yield from _stranger(table, name, has)
        return
    if has is None:
        yield flaw(
            "trigger-missing",
            table,
            name,
            f"The trigger {name} on {table} does not exist.",
            f"Find out who dropped it, then {_made(table, name, wanted)}",
        )
        return
    where = f"The trigger {name} on {table}"
    if has["enabled"] != wanted["enabled"]:
        remedy = _enabled(table, name, wanted)
        if has["enabled"] == "D":
            yield flaw("trigger-disabled", table, name, f"{where} is disabled.", remedy)
        else:
            yield flaw(
                "trigger-mode",
                table,
                name,
                f"{where} fires {_FIRES[has['enabled']]}; it must fire {_FIRES[wanted['enabled']]}.",
                f"{remedy} (ENABLE TRIGGER ALL removes ALWAYS; pg_dump --disable-triggers writes that too.)",
            )
    if has["definition"] != wanted["definition"] or has["function"] != wanted["function"]:
        yield flaw(
            "trigger-changed",
            table,
            name,
            f"{where} was replaced. It now calls {has['function']}(): {has['definition']}",
            f"Find out who replaced it, then DROP TRIGGER {name} ON {table}; {_made(table, name, wanted)}",
        )


def _made(table: str, name: str, trigger: Facts) -> str:
    # A new one fires in ordinary sessions.
    return f"{trigger['definition']};" + (f" {_enabled(table, name, trigger)}" if trigger["enabled"] != "O" else "")


def _enabled(table: str, name: str, trigger: Facts) -> str:
    return f"ALTER TABLE {table} ENABLE {'ALWAYS ' if trigger['enabled'] == 'A' else ''}TRIGGER {name};"


def _stranger(table: str, name: str, has: Facts) -> Iterator[Flaw]:
    """Word a trigger of somebody else, unless it is disabled or an AFTER ROW trigger of ordinary sessions."""
    if has["enabled"] == "D":
        return
    remedy = f"Make it an AFTER ROW trigger, which cannot change the row, or DROP TRIGGER {quoted(name)} ON {table};"
    if has["tgtype"] & _ROW and has["tgtype"] & _BEFORE:
        yield flaw(
            "trigger-foreign",
            table,
            name,
            f"The trigger {name} on {table} does not belong to this app, and runs before rows are written. It can "
            "change what was stamped, or keep a row out.",
            remedy,
        )
    elif not has["tgtype"] & _ROW:
        yield flaw(
            "trigger-beside",
            table,
            name,
            f"The trigger {name} on {table} does not belong to this app, and runs once for each statement, beside the "
            "triggers that log. It can change the settings that they run under.",
            remedy,
        )
    elif has["enabled"] != "O":
        yield flaw(
            "trigger-beside",
            table,
            name,
            f"The trigger {name} on {table} does not belong to this app, and fires {_FIRES[has['enabled']]}, where the "
            "writing triggers of this app do not.",
            f"ALTER TABLE {table} ENABLE TRIGGER {quoted(name)};",
        )


def rule(table: str, name: str, wanted: Any, has: Any) -> Iterator[Flaw]:
    """Word a rule, which should not be there."""
    yield flaw(
        "rule",
        table,
        name,
        f"The rule {name} rewrites statements on {table} before any trigger sees them.",
        f"DROP RULE {quoted(name)} ON {table};",
    )


def policy(table: str, name: str, wanted: Any, has: Any) -> Iterator[Flaw]:
    """Word a policy, which should not be there."""
    yield flaw(
        "row-security",
        table,
        name,
        f"The policy {name} can hide rows of {table}.",
        f"DROP POLICY {quoted(name)} ON {table};",
    )
