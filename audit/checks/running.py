"""How the trail of a database runs: its sealer, its queue and its ids."""

from django.core.checks import CheckMessage
from django.core.checks import Warning as Caution
from django.db import DatabaseError, connections, transaction

from audit import conf
from audit.inspection.rights import said
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
from audit.values import moments

__all__ = ["check_ledger", "check_queue", "check_sequences"]

_ROLES = (
    "The role that checks needs SELECT on the audit tables. "
    "The page 'Database roles' of the documentation has a script for each role."
)


def check_ledger(alias: str) -> list[CheckMessage]:
    """W002, W020: a log that is in use, and whose sealer has fallen behind or whose verifier keys are not known."""
    try:
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            cursor.execute("SELECT to_regclass(quote_ident(%s)) IS NULL", [LedgerHead._meta.db_table])
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


def check_queue(alias: str) -> list[CheckMessage]:
    """W015 to W017: what nobody recovers, what waits too long, dead rows that stay and what makes them stay."""
    try:
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            cursor.execute("SELECT to_regclass(quote_ident(%s)) IS NULL", [Task._meta.db_table])
            if cursor.fetchone() == (True,):
                return []  # not migrated yet
            found = health(alias)
    except DatabaseError as error:
        problem = f"The queue of {alias!r} cannot be read: {said(error, alias).rstrip('.')}."
        return [Caution(problem, hint=_ROLES, id="audit.W015")]
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
        "oldest_approved": (
            "Approved work",
            "Look at it (audit_list --status approved), and run workers that have handlers for it",
        ),
        "oldest_due": (
            "A due pause entry",
            "Look at it (audit_queue --state due), and run a worker or audit_resume --loop",
        ),
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


_MAY_LOOK = """
SELECT has_sequence_privilege(to_regclass(pg_get_serial_sequence(quote_ident(%s), 'id')), 'SELECT')
    AND has_table_privilege(to_regclass(quote_ident(%s)), 'SELECT')
"""
_SEQUENCE = "SELECT pg_sequence_last_value(to_regclass(pg_get_serial_sequence(quote_ident(%s), 'id')))"


_WITH_SEQUENCE = (ExecutionLog, PauseQueueEntry, Event, Agent, ResourceMetric, LedgerCheckpoint, LedgerVerification)


def check_sequences(alias: str) -> list[CheckMessage]:
    """W018: ids that are given already would be given once more; a role that may not look is not asked."""
    found: list[CheckMessage] = []
    for model in _WITH_SEQUENCE:
        table = model._meta.db_table
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT to_regclass(quote_ident(%s)) IS NOT NULL", [table])
            if cursor.fetchone() != (True,):
                continue
            cursor.execute(_MAY_LOOK, [table, table])
            if cursor.fetchone() != (True,):
                continue
            # Before the sequence: what is inserted in between must not look like a sequence that is behind.
            newest = model._base_manager.using(alias).order_by("-pk").values_list("pk", flat=True).first()
            cursor.execute(_SEQUENCE, [table])
            row = cursor.fetchone()
        if newest is not None and newest > (row[0] or 0):
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
