"""What stands around the objects and decides whether they count: schemas, owners, settings, replication."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from audit.inspection.flaws import Flaw, quoted
from audit.inspection.session import Place

__all__ = ["surroundings"]

_INTERNAL = """
SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE t.tgisinternal AND t.tgenabled IN ('D', 'R') AND c.oid = ANY(%s) ORDER BY 1, 2
"""
_OWNERS = """
SELECT c.relname, c.relowner::regrole::text, 'TABLE ' || c.oid::regclass::text
FROM pg_class c WHERE c.oid = ANY(%(tables)s)
UNION ALL
SELECT p.proname, p.proowner::regrole::text, 'FUNCTION ' || p.oid::regprocedure::text
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.proname = ANY(%(functions)s) AND p.pronargs = 0 AND n.nspname = %(schema)s
ORDER BY 1
"""
# Names of settings are kept as PostgreSQL spells them, values as somebody typed them.
_SETTINGS = """
SELECT coalesce(d.datname, ''), coalesce(r.rolname, '')
FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole
WHERE 'session_replication_role=replica' = ANY(lower(s.setconfig::text)::text[])
    AND (s.setdatabase = 0 OR d.datname = current_database())
ORDER BY 1, 2
"""
_PUBLICATIONS = """
SELECT p.pubname, c.relname FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
    JOIN pg_class c ON c.oid = r.prrelid
WHERE (r.prattrs IS NOT NULL OR r.prqual IS NOT NULL) AND c.oid = ANY(%s) ORDER BY 1, 2
"""
_LOGIN = "SELECT evtname FROM pg_event_trigger WHERE evtevent = 'login' AND evtenabled <> 'D' ORDER BY 1"


def surroundings(cursor: Any, place: Place, functions: Sequence[str]) -> Iterator[Flaw]:
    """Find what makes the guards count for nothing although each stands as it should.

    Args:
        cursor: of a session inside `plainly`.
        place: what that gave.
        functions: names of this app's functions.
    """
    tables = [oid for oid, _ in place.tables.values()]
    yield from _schemas(place)
    cursor.execute(_OWNERS, {"tables": tables, "functions": list(functions), "schema": place.schema})
    yield from _owners(cursor.fetchall())
    cursor.execute(_INTERNAL, [tables])
    for table, name in cursor.fetchall():
        yield Flaw(
            kind="trigger-disabled",
            table=table,
            name=name,
            problem=f"The foreign key trigger {name} on {table} is disabled.",
            remedy=f"ALTER TABLE {table} ENABLE TRIGGER ALL; then ENABLE ALWAYS those that need it.",
        )
    cursor.execute(_SETTINGS)
    yield from _settings(cursor.fetchall())
    cursor.execute("SELECT current_setting('session_replication_role')")
    if cursor.fetchone() == ("replica",):
        yield Flaw(
            kind="settings",
            table="",
            name="session_replication_role",
            problem="This session is a replica session: what it writes is neither stamped nor logged.",
            remedy="Take session_replication_role out of the connection's options and the server's configuration.",
        )
    cursor.execute(_PUBLICATIONS, [tables])
    for publication, table in cursor.fetchall():
        yield Flaw(
            kind="replication",
            table=table,
            name=publication,
            problem=f"The publication {publication} leaves out rows or columns of {table}.",
            remedy="Unless the replica needs no whole trail: "
            f"ALTER PUBLICATION {quoted(publication)} DROP TABLE {table}; "
            f"ALTER PUBLICATION {quoted(publication)} ADD TABLE {table};",
            minor=True,
        )
    cursor.execute(_LOGIN)
    for (name,) in cursor.fetchall():
        yield Flaw(
            kind="login",
            table="",
            name=name,
            problem=f"The event trigger {name} runs at each login and can change the settings of every session.",
            remedy="See what it does; it must leave session_replication_role alone.",
            minor=True,
        )


def _schemas(place: Place) -> Iterator[Flaw]:
    before = [name for name in place.path[: place.path.index("pg_catalog")] if not name.startswith("pg_temp")]
    if before:
        yield Flaw(
            kind="table-replaced",
            table="",
            name=before[0],
            problem=f"The search_path puts {', '.join(before)} before pg_catalog: functions and operators of "
            "PostgreSQL may be others there.",
            remedy="Take pg_catalog out of search_path, where it comes first by itself (ALTER ROLE or ALTER DATABASE).",
        )
    for table, (_, schema) in sorted(place.tables.items()):
        if schema != place.schema:
            yield Flaw(
                kind="table-replaced",
                table=table,
                name=table,
                problem=f"{table} is found in the schema {schema}, and the tables beside it in {place.schema}.",
                remedy="Find out who put it there; look at the search_path of this connection.",
            )


def _owners(rows: list[Any]) -> Iterator[Flaw]:
    owners = Counter(owner for _, owner, _ in rows)
    usual = max(owners, key=lambda owner: owners[owner], default="")
    for name, owner, what in rows:
        if owner != usual:
            yield Flaw(
                kind="owner",
                table=name if what.startswith("TABLE") else "",
                name=name,
                problem=f"{name} belongs to {owner}, and what is beside it to {usual}: an owner can change it.",
                remedy=f"ALTER {what} OWNER TO {usual};",
            )


def _settings(rows: list[tuple[str, str]]) -> Iterator[Flaw]:
    for database, role in rows:
        where = " in the ".join(
            part for part in (f"role {role}" if role else "", f"database {database}" if database else "") if part
        )
        if role:
            within = f" IN DATABASE {quoted(database)}" if database else ""
            remedy = f"ALTER ROLE {quoted(role)}{within} RESET session_replication_role;"
        elif database:
            remedy = f"ALTER DATABASE {quoted(database)} RESET session_replication_role;"
        else:
            remedy = "ALTER ROLE ALL RESET session_replication_role;"
        yield Flaw(
            kind="settings",
            table="",
            name=role or database or "ALL",
            problem=f"The settings of the {where or 'whole server'} switch triggers off (session_replication_role).",
            remedy=remedy,
        )
