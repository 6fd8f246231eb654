"""What a database should be, and whether what stands there is what the migrations made."""

import sys
from collections.abc import Iterable
from typing import Any

from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as Caution
from django.db import connections, router

from audit import conf, inspection
from audit.checks import MINIMUM_SERVER
from audit.checks.running import check_ledger, check_queue, check_sequences
from audit.checks.settings import not_postgresql
from audit.models import Task

__all__ = ["look", "look_at_roles"]

_IDS = {
    "table-missing": "audit.E010",
    "trigger-missing": "audit.E011",
    "trigger-disabled": "audit.E012",
    "trigger-mode": "audit.E013",
    "trigger-changed": "audit.E014",
    "trigger-foreign": "audit.E015",
    "function-missing": "audit.E016",
    "function-changed": "audit.E017",
    "function-config": "audit.E018",
    "function-public": "audit.E019",
    "check-missing": "audit.E020",
    "check-unproven": "audit.E021",
    "rule": "audit.E022",
    "table-replaced": "audit.E023",
    "row-security": "audit.E024",
    "column-missing": "audit.E025",
    "column-retyped": "audit.E026",
    "column-unknown": "audit.E027",
    "check-changed": "audit.E028",
    "trigger-beside": "audit.E029",
    "constraint-foreign": "audit.E030",
    "column-changed": "audit.E031",
    "foreign-key": "audit.E032",
    "owner": "audit.E033",
    "settings": "audit.E034",
    "function-granted": "audit.E035",
    "sequence": "audit.E036",
    "unreleased": "audit.E037",
    "index": "audit.W010",
    "unfinished": "audit.W011",
    "replication": "audit.W012",
    "login": "audit.W013",
}


def look_at_roles(databases: Iterable[str]) -> list[CheckMessage]:
    """Return what `audit.checks.check_deployment` does."""
    found: list[CheckMessage] = []
    for alias in databases:
        connection: Any = connections[alias]
        if not inspection.keeps_audit(alias) or connection.vendor != "postgresql":
            continue
        with connection.cursor() as cursor:
            cursor.execute(_OWNER, [Task._meta.db_table])
            row = cursor.fetchone()
        if row:
            found.append(
                Caution(
                    f"This process connects to {alias!r} as the role {row[0]!r}, which owns the audit tables, or may "
                    "act as their owner. It could drop the guards.",
                    hint="Run migrations as the owner, and the application as a role that owns nothing. "
                    "The page 'Database roles' of the documentation has a script for each role.",
                    id="audit.W021",
                )
            )
    return found


_OWNER = """
SELECT current_user::text FROM pg_class
WHERE oid = to_regclass(quote_ident(%s)) AND pg_has_role(current_user, relowner, 'MEMBER')
"""


def look(databases: Iterable[str]) -> list[CheckMessage]:
    """Return what `audit.checks.check_database` does."""
    if conf.problems():
        return []  # check_settings says what is wrong; without settings nothing here can be judged
    found: list[CheckMessage] = []
    for alias in databases:
        if not inspection.keeps_audit(alias):
            continue
        connection: Any = connections[alias]
        if connection.vendor != "postgresql":
            # check_settings has said it of the one that is written to.
            if alias != router.db_for_write(Task):
                found.append(not_postgresql(alias))
            continue
        found += _server(alias, connection) or [*_unrouted(alias), *_guards(alias)]
    return found


def _unrouted(alias: str) -> list[CheckMessage]:
    """W014: tables in a database that the routers send nothing to; a standby is another one's copy."""
    named = conf.settings()
    used = {router.db_for_write(Task), router.db_for_read(Task), named.RECORD_USING, named.BROWSER_USING}
    if not router.routers or alias in used:
        return []
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT to_regclass(quote_ident(%s)) IS NOT NULL AND NOT pg_is_in_recovery()", [Task._meta.db_table]
        )
        (stands,) = cursor.fetchone()
    if not stands:
        return []
    return [
        Caution(
            f"{alias!r} has audit tables, but DATABASE_ROUTERS send the trail to {router.db_for_write(Task)!r}.",
            hint=f"These tables record nothing. Let the router's allow_migrate keep 'audit' out of {alias!r}, and drop "
            "the empty tables there. If you want both, silence this check.",
            id="audit.W014",
        )
    ]


def _server(alias: str, connection: Any) -> list[CheckMessage]:
    version = _server_version(connection)
    if version // 10_000 < MINIMUM_SERVER:
        return [
            Error(
                f"The server of {alias!r} is PostgreSQL {version // 10_000}; at least {MINIMUM_SERVER} is needed.",
                hint="Upgrade the server.",
                id="audit.E002",
            )
        ]
    return []


def _server_version(connection: Any) -> int:
    return int(connection.pg_version)


def _guards(alias: str) -> list[CheckMessage]:
    flaws = inspection.inspect(alias, minor=True)
    if sys.argv[1:2] == ["migrate"]:  # which runs this check before it does what is missing
        flaws = [flaw for flaw in flaws if flaw.kind != "unfinished"]
    found: list[CheckMessage] = [
        (Caution if flaw.minor else Error)(
            f"{flaw.problem} (database {alias!r})", hint=flaw.remedy, obj=flaw.name, id=_IDS[flaw.kind]
        )
        for flaw in flaws
    ]
    # What the tables are not, no query on them can count.
    if not any(flaw.kind.startswith(("table-", "column-", "unreleased")) for flaw in flaws):
        found += [*check_ledger(alias), *check_queue(alias), *check_sequences(alias)]
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT current_setting('server_encoding')")
        (encoding,) = cursor.fetchone()
    if encoding != "UTF8":
        found.append(
            Caution(
                f"The database {alias!r} stores text as {encoding}, so some characters cannot be recorded.",
                hint="Create the database with ENCODING 'UTF8'.",
                id="audit.W001",
            )
        )
    return found
