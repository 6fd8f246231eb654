"""How the queue is doing: what waits longest, what nobody recovers, and what keeps VACUUM from its work."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connections, router
from django.utils.translation import gettext_lazy

from audit import conf
from audit.models import Task
from audit.statements.retry import persistently

__all__ = ["FEW_DEAD", "LONG_SNAPSHOT", "STUCK_LEASES", "QueueHealth", "health"]

STUCK_LEASES = 3
"""A lease that ended so many lease lengths (`AUDIT["LEASE_SECONDS"]`) ago is one that nobody recovers."""

FEW_DEAD = 50_000
"""So many dead rows slow no claim down."""
LONG_SNAPSHOT = timedelta(minutes=10)
"""An open transaction is old after this time."""

_ADVICE = {
    "oldest_approved": gettext_lazy("start workers, or undrain agents"),
    "oldest_due": gettext_lazy("run a worker, or audit_resume"),
    "expired": gettext_lazy("run audit_recover or a worker"),
    "oldest_snapshot": gettext_lazy("it keeps VACUUM from its work; end it (see pg_stat_activity)"),
    "dead_tuples": gettext_lazy("VACUUM should run more often"),
}

# Each number by its own index, and each subquery stops at the first row.
_SQL = """
SELECT
    statement_timestamp(),
    (SELECT min(due_at) FROM audit_pause_queue
        WHERE NOT held AND id > 0 AND due_at <= statement_timestamp()
        AND (lease_expires_at IS NULL OR lease_expires_at <= statement_timestamp())),
    (SELECT min(first.available_at) FROM generate_series(1, 5) AS class (priority) CROSS JOIN LATERAL (
        SELECT available_at FROM audit_task
        WHERE status = 'approved' AND audit_task.priority = class.priority AND available_at <= statement_timestamp()
        ORDER BY available_at LIMIT 1) AS first),
    count(*) FILTER (WHERE lease_expires_at <= statement_timestamp()),
    count(*) FILTER (WHERE lease_expires_at <= statement_timestamp() - %s * interval '1 second'),
    min(lease_expires_at) FILTER (WHERE lease_expires_at <= statement_timestamp()),
    (SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables
        WHERE relid IN ('audit_task'::regclass, 'audit_pause_queue'::regclass)),
    (SELECT coalesce(sum(n_live_tup), 0)::bigint FROM pg_stat_user_tables
        WHERE relid IN ('audit_task'::regclass, 'audit_pause_queue'::regclass)),
    least(
        (SELECT min(xact_start) FROM pg_stat_activity
            WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client backend'
            AND datname = current_database()),
        (SELECT min(prepared) FROM pg_prepared_xacts WHERE database = current_database()))
FROM audit_task WHERE status = 'executing'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueHealth:
    """The numbers, all of one moment of the database's clock; None where there is none."""

    at: datetime
    oldest_due: datetime | None
    """Since when the entry that waits longest has been due, and nobody has claimed it."""
    oldest_approved: datetime | None
    """Since when the approved task that waits longest could have been claimed."""
    expired: int
    """How many leases have run out and are not recovered yet."""
    stuck: int
    """How many of them so long ago that nobody seems to recover; see `STUCK_LEASES`."""
    oldest_expired: datetime | None
    """When the first of them ended."""
    dead_tuples: int
    """Rows of tasks and entries that VACUUM has not removed, as the server estimates."""
    live_tuples: int
    oldest_snapshot: datetime | None
    """When the oldest open transaction of this database began that keeps VACUUM from removing rows; None also where
    this role may not see those of others (`pg_read_all_stats`)."""

    @property
    def is_bloated(self) -> bool:
        """Whether dead rows are so many that they slow claims down: more than live ones, and more than a few."""
        return self.dead_tuples > max(self.live_tuples, FEW_DEAD)

    @property
    def snapshot_is_old(self) -> bool:
        """Whether the oldest open transaction has kept VACUUM from its work for longer than `LONG_SNAPSHOT`."""
        return self._is_older(self.oldest_snapshot, LONG_SNAPSHOT)

    def advice(self) -> dict[str, str]:
        """Say what to do about each number that stands out, by its name.

        Returns:
            Some of `oldest_approved`, `oldest_due`, `expired`, `oldest_snapshot` and `dead_tuples`, in this order. A
            wait stands out after `AUDIT["QUEUE_MAX_WAIT_SECONDS"]`.
        """
        wait = timedelta(seconds=conf.settings().QUEUE_MAX_WAIT_SECONDS)
        stands_out = {
            "oldest_approved": self._is_older(self.oldest_approved, wait),
            "oldest_due": self._is_older(self.oldest_due, wait),
            "expired": self.stuck > 0,
            "oldest_snapshot": self.snapshot_is_old,
            "dead_tuples": self.is_bloated,
        }
        return {name: str(_ADVICE[name]) for name, does in stands_out.items() if does}

    def _is_older(self, since: datetime | None, limit: timedelta) -> bool:
        return since is not None and self.at - since > limit


def health(using: str | None = None) -> QueueHealth:
    """Read how the queue is doing, in one statement that costs as much as there is executing work.

    Args:
        using: the alias to read from; the one that is written to when left out.
    """
    db = using or router.db_for_write(Task)
    connection = connections[db]

    def read() -> QueueHealth:
        with connection.cursor() as cursor:
            cursor.execute(_SQL, [STUCK_LEASES * conf.settings().LEASE_SECONDS])
            at, due, approved, expired, stuck, oldest, dead, live, snapshot = cursor.fetchone()
        return QueueHealth(
            at=at,
            oldest_due=due,
            oldest_approved=approved,
            expired=expired,
            stuck=stuck,
            oldest_expired=oldest,
            dead_tuples=dead,
            live_tuples=live,
            oldest_snapshot=snapshot,
        )

    return persistently(connection, read)
