"""Which rights this app needs on its tables, and which one a role lacks when the database refuses it."""

from __future__ import annotations

import re

from django.db import Error, connections

from audit.inspection.flaws import quoted

__all__ = ["NEEDED", "missing_right", "said"]

NEEDED = {
    "audit_task": ("SELECT", "INSERT", "UPDATE"),
    "audit_executionlog": ("SELECT", "INSERT"),
    "audit_pause_queue": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "audit_event": ("SELECT", "INSERT"),
    "audit_agent": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "audit_resource_metric": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "audit_ledger_head": ("SELECT", "INSERT", "UPDATE"),
    "audit_ledger_leaf": ("SELECT", "INSERT"),
    "audit_ledger_tile": ("SELECT", "INSERT", "UPDATE"),
    "audit_ledger_checkpoint": ("SELECT", "INSERT"),
    "audit_ledger_epoch": ("SELECT", "INSERT"),
    "audit_ledger_verification": ("SELECT", "INSERT"),
    "django_migrations": ("SELECT",),
}
"""What some role of this app does with each table; the triggers do the rest with the owner's rights."""

_DENIED, _MISSING = "42501", "42P01"
_LACKS = """
SELECT current_user, ARRAY(SELECT wanted FROM unnest(%s::text[]) AS wanted WHERE NOT coalesce(
    has_table_privilege(to_regclass(quote_ident(%s)), wanted), false))
"""
_HIDDEN = """
SELECT current_user, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = %s AND NOT has_schema_privilege(n.oid, 'USAGE')
"""


def missing_right(error: BaseException, alias: str) -> str:
    """Name the right that a role lacks: "role x lacks SELECT on table y", with the statement that grants it.

    Args:
        error: what the database refused; the transaction that it ended is over.
        alias: the database.

    Returns:
        The sentence, or an empty text for every other error.
    """
    state = getattr(error.__cause__, "sqlstate", None) or getattr(error, "sqlstate", None)
    if state not in (_DENIED, _MISSING):
        return ""
    # The message may be in any language, and has the table's name in all of them.
    message = str(error).partition("\n")[0]
    table = next((each for each in NEEDED if re.search(rf"\b{each}\b", message)), "")
    if not table:
        return ""
    try:
        with connections[alias].cursor() as cursor:
            if state == _MISSING:
                cursor.execute(_HIDDEN, [table])
                role, schema = cursor.fetchone() or ("", "")
                return _sentence(role, ["USAGE"], f"schema {quoted(schema)}") if role else ""
            cursor.execute(_LACKS, [list(NEEDED[table]), table])
            role, lacks = cursor.fetchone()
    except Error:  # the connection may be gone, or in a transaction that failed
        return ""
    # Who may not even read was refused that first.
    return _sentence(role, ["SELECT"] if "SELECT" in lacks else lacks, f"table {table}") if lacks else ""


def _sentence(role: str, rights: list[str], place: str) -> str:
    return (
        f"role {quoted(role)} lacks {' or '.join(rights)} on {place}. If it should do this: "
        f"GRANT {', '.join(rights)} ON {place} TO {quoted(role)}; the page 'Database roles' of the documentation has "
        "the rights of each role."
    )


def said(error: BaseException, alias: str) -> str:
    """Say why a database refused: the right that is missing, else the first line of its message."""
    return missing_right(error, alias) or str(error).partition("\n")[0]
