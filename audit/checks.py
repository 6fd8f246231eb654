"""System checks: is this project and its database fit to keep an audit trail?

`manage.py check` looks at settings; `manage.py check --database default`, `migrate` and the test runners look into
the database as well.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as Caution
from django.db import DatabaseError, connections, router, transaction

from audit import conf, inspection, pausing
from audit.exceptions import AuditError
from audit.inspection.rights import said
from audit.ledger.tlog import keys
from audit.ledger.tlog.errors import InvalidKey
from audit.ledger.verify.unsealed import backlog
from audit.models import (
    Agent,
    Event,
    ExecutionLog,
    LedgerCheckpoint,
    LedgerHead,
    LedgerVerification,
    PauseQueueEntry,
    ResourceMetric,
    Task,
)
from audit.reading.health import STUCK_LEASES, QueueHealth, health
from audit.values import moments, redaction

__all__ = ["MINIMUM_SERVER", "check_database", "check_deployment", "check_settings"]

MINIMUM_SERVER = 15
"""The oldest major version of PostgreSQL that this app is made for."""

_ROLES = (
    "The role that checks needs SELECT on the audit tables. "
    "The page 'Database roles' of the documentation has a script for each role."
)
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


@register
def check_settings(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check what can be seen without a connection: E001 (database), E003 (apps), E004 (`AUDIT`), W003 (key)."""
    found: list[CheckMessage] = []
    alias = router.db_for_write(Task)
    if connections[alias].vendor != "postgresql":
        found.append(_not_postgresql(alias))
    if not apps.is_installed("django.contrib.postgres"):
        found.append(
            Error(
                "django.contrib.postgres is not installed.",
                hint="Add 'django.contrib.postgres' to INSTALLED_APPS. The filters of services need its lookups.",
                id="audit.E003",
            )
        )
    found += [Error(problem, hint=conf.WHERE, id="audit.E004") for problem in _settings()]
    if keys.is_configured():  # audit_seal, which needs it, runs no checks
        found.append(
            Caution(
                "The key that signs the ledger is in the environment of this process.",
                hint="Give it only to audit_seal. Whoever breaks into a process with this key can sign a forged log.",
                id="audit.W003",
            )
        )
    return found


@register(Tags.database, deploy=True)
def check_deployment(
    app_configs: Sequence[Any] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check with `--deploy` how this process connects to each of `databases`: W021 (as the owner of the tables)."""
    found: list[CheckMessage] = []
    for alias in databases or ():
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


@register(Tags.database)
def check_database(
    app_configs: Sequence[Any] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Look into each of `databases` that keeps audit tables: E001, E002 (server), W001, W002 (sealer), E010 to E037 and
    W010 to W013 (what stands there against what should), W014 (tables that the routers do not use),
    W015 to W017 (the queue), W018 (ids), W020 (seals that nobody here can check)."""
    found: list[CheckMessage] = []
    for alias in databases or ():
        if not inspection.keeps_audit(alias):
            continue
        connection: Any = connections[alias]
        if connection.vendor != "postgresql":
            # check_settings has said it of the one that is written to.
            if alias != router.db_for_write(Task):
                found.append(_not_postgresql(alias))
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


def _settings() -> list[str]:
    problems = conf.problems() or list(_bad_keys())
    if not problems:
        try:
            redaction.check()
            pausing.gate()
        except AuditError as error:
            problems = [str(error)]
    return problems


def _bad_keys() -> Iterator[str]:
    """Name the verifier keys that are none, such as an example that was copied from the documentation."""
    for place, key in enumerate(conf.settings().LEDGER_VERIFIERS):
        try:
            keys.verifier_of(key)
        except InvalidKey as error:
            yield f"AUDIT['LEDGER_VERIFIERS'][{place}]: {error} audit_keygen prints the key that belongs there."


def _ledger(alias: str) -> list[CheckMessage]:
    """W002, W020: a log that is in use, and whose sealer has fallen behind or whose verifier keys are not known."""
    try:
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s) IS NULL", [LedgerHead._meta.db_table])
            if cursor.fetchone() == (True,):
                return []  # not migrated yet
            head = LedgerHead.objects.using(alias).filter(id=1, sealed_at__isnull=False).first()
            if head is None:
                return []
            left = backlog(cursor, head)
    except DatabaseError as error:
        return [
            Caution(
                f"Whether the sealer of {alias!r} is behind is not known: {said(error, alias).rstrip('.')}.",
                hint=_ROLES,
                id="audit.W002",
            )
        ]
    found: list[CheckMessage] = []
    if not conf.settings().LEDGER_VERIFIERS:
        found.append(
            Caution(
                f"{alias!r} has seals, and AUDIT['LEDGER_VERIFIERS'] names no key to check them with.",
                hint="Set it to what audit_keygen printed. audit_seal prints the line for the settings.",
                id="audit.W020",
            )
        )
    limit = conf.settings().LEDGER_MAX_AGE_SECONDS
    if left.oldest is None or (moments.now() - left.oldest).total_seconds() <= limit:
        return found
    return [
        *found,
        Caution(
            f"{left.count} finished rows of {alias!r} are not sealed, the oldest of {left.oldest:%Y-%m-%d %H:%M} UTC.",
            hint="The owner of the database can still rewrite them unnoticed. Find out whether audit_seal runs, and "
            "what it says: another session may block it.",
            id="audit.W002",
        ),
    ]


def _queue(alias: str) -> list[CheckMessage]:
    """W015 to W017: what nobody recovers, what waits too long, dead rows that stay and what makes them stay."""
    try:
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            cursor.execute("SELECT to_regclass(quote_ident(%s)) IS NULL", [Task._meta.db_table])
            if cursor.fetchone() == (True,):
                return []  # not migrated yet
            found = health(alias)
    except DatabaseError as error:
        hint = _ROLES
        return [Caution(f"The queue of {alias!r} cannot be read: {said(error, alias)}.", hint=hint, id="audit.W015")]
    return [*_stuck(alias, found), *_waits(alias, found), *_dead(alias, found)]


def _stuck(alias: str, found: QueueHealth) -> list[CheckMessage]:
    if not found.stuck:
        return []
    return [
        Caution(
            f"{found.stuck} leases of {alias!r} ended more than {STUCK_LEASES} lease lengths ago, the first at"
            f" {found.oldest_expired:%Y-%m-%d %H:%M} UTC, and nobody recovers them.",
            hint="Run manage.py audit_recover now. From then on, run a worker or audit_recover --loop.",
            id="audit.W015",
        )
    ]


def _waits(alias: str, found: QueueHealth) -> list[CheckMessage]:
    waits = {
        "oldest_approved": ("Approved work", "Check that workers run which claim this kind of work"),
        "oldest_due": ("A due pause entry", "Check that a worker or audit_resume --loop runs"),
    }
    return [
        Caution(
            f"{waits[name][0]} of {alias!r} has waited since {getattr(found, name):%Y-%m-%d %H:%M} UTC.",
            hint=f'{waits[name][1]}. If such a wait is normal, raise AUDIT["QUEUE_MAX_WAIT_SECONDS"].',
            id="audit.W016",
        )
        for name in found.advice()
        if name in waits
    ]


def _dead(alias: str, found: QueueHealth) -> list[CheckMessage]:
    since = f"{found.oldest_snapshot:%Y-%m-%d %H:%M} UTC" if found.snapshot_is_old else ""
    if found.is_bloated:
        problem = f"The queue of {alias!r} has {found.dead_tuples} dead rows and {found.live_tuples} live ones."
        hint = "Check that autovacuum runs, and run VACUUM audit_task, audit_pause_queue."
        if since:
            hint = f"End the transaction that is open since {since} (pg_stat_activity, pg_prepared_xacts). {hint}"
    elif since:
        problem = f"A transaction in {alias!r} is open since {since}. VACUUM cannot remove what it could still see."
        hint = "End the transaction (pg_stat_activity, pg_prepared_xacts). Until then dead rows slow claims down."
    else:
        return []
    return [Caution(problem, hint=hint, id="audit.W017")]


_SEQUENCE = """
SELECT pg_sequence_last_value(found.sequence) FROM (
    SELECT to_regclass(pg_get_serial_sequence(quote_ident(%s), 'id')) AS sequence) AS found
WHERE has_sequence_privilege(found.sequence, 'SELECT') AND has_table_privilege(to_regclass(quote_ident(%s)), 'SELECT')
"""


_WITH_SEQUENCE = (ExecutionLog, PauseQueueEntry, Event, Agent, ResourceMetric, LedgerCheckpoint, LedgerVerification)


def _sequences(alias: str) -> list[CheckMessage]:
    """W018: ids that are given already would be given once more; a role that may not look is not asked."""
    found: list[CheckMessage] = []
    for model in _WITH_SEQUENCE:
        table = model._meta.db_table
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT to_regclass(quote_ident(%s)) IS NOT NULL", [table])
            if cursor.fetchone() != (True,):
                continue
            cursor.execute(_SEQUENCE, [table, table])
            row = cursor.fetchone()
        newest = model._base_manager.using(alias).order_by("-pk").values_list("pk", flat=True).first() if row else None
        if row and newest is not None and newest > (row[0] or 0):
            found.append(
                Caution(
                    f"The sequence of {table} in {alias!r} is at {row[0] or 'its beginning'}, but the table has the id "
                    f"{newest}. The next row would be refused as a duplicate.",
                    hint="Logical replication does not copy sequences. As the owner of the table, run: "  # noqa: S608 - for a person
                    f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table};",
                    id="audit.W018",
                )
            )
    return found


def _not_postgresql(alias: str) -> Error:
    return Error(
        f"The database {alias!r} is {connections[alias].vendor}. Only PostgreSQL can enforce the trail.",
        hint="Add a PostgreSQL database to DATABASES, and a router that sends the app 'audit' to it.",
        id="audit.E001",
    )


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
        found += [*_ledger(alias), *_queue(alias), *_sequences(alias)]
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
