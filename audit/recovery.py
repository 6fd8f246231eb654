"""What a restarted orchestrator does: puts right what was left behind, in bounded passes, as often as it likes.

Leases alone decide: whether a worker is registered, or looks alive, is never asked. Rows that somebody has locked are
skipped, so several may recover at once and share the work, and nobody who completes or resumes at that moment waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connections, router

from audit import conf
from audit.context import get_actor
from audit.leases.recover_sql import ACTOR, expired_sql, overdue_sql, own_sql, reject_overdue_sql, release_own_sql
from audit.leases.wakeup import ANY, announce
from audit.models import Task
from audit.statements.retry import reconnecting
from audit.statements.rows import run
from audit.values import validation
from audit.values.failures import APPROVAL_EXPIRED
from audit.verbs import entry_repair
from audit.verbs.arguments import jsonb
from audit.verbs.end_waits import EMITTED, PausedWork, end_waits, waits_sql

__all__ = ["ACTOR", "RecoveryReport", "Sweep", "arecover", "next_moment", "recover", "recover_due"]

logger = logging.getLogger("audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryReport:
    """What a pass of recovery did, or would do: the ids of the tasks, by kind."""

    dry_run: bool
    """Whether it only looked."""
    leases: tuple[UUID, ...] = ()
    """Executing work whose lease had run out: back to approved, or failed."""
    restarted: tuple[UUID, ...] = ()
    """Executing work that was claimed under the worker's own name: back to approved, or failed."""
    entries_made: tuple[UUID, ...] = ()
    """Paused work without an entry in the queue: it has one now, held."""
    entries_removed: tuple[UUID, ...] = ()
    """Entries of work that is not paused: they are gone."""
    events: tuple[UUID, ...] = ()
    """Paused work whose event has been emitted: back to approved."""
    timeouts: tuple[UUID, ...] = ()
    """Paused work whose wait for an event timed out: back to approved."""
    approvals: tuple[UUID, ...] = ()
    """Pending or paused work that nobody approved in time: rejected (`ApprovalExpired`)."""

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        return {name: len(getattr(self, name)) for name in _KINDS}

    @property
    def total(self) -> int:
        """How many in all."""
        return sum(self.counts.values())

    def is_full(self, limit: int) -> bool:
        """Whether a kind reached the limit, so that there may be more."""
        return max(self.counts.values()) >= limit


_Statement = tuple[str, list[Any]]
_Step = _Statement | Callable[[], list[UUID]]
_FIRST, _LAST = UUID(int=0), UUID(int=2**128 - 1)
_NEWEST = 1000
_RESUMED = ("leases", "restarted", "events", "timeouts")
"""Some failed and cannot be claimed: waking workers for those is harmless."""
_KINDS = tuple(field.name for field in fields(RecoveryReport) if field.name != "dry_run")

_EMITTED = PausedWork(where=EMITTED)
# With a sweep, a pass looks at one part and at the newest entries: an event may have come just before the pause.
_EMITTED_IN_PART = PausedWork(
    where=f"{EMITTED} AND entry.task_id > %s AND entry.task_id <= %s", order="entry.task_id, entry.id"
)
_EMITTED_TO_NEWEST = PausedWork(where=f"{EMITTED} AND entry.id > (SELECT max(id) FROM audit_pause_queue) - %s")  # noqa: S608 - constants
# Whoever has claimed the entry decides about it. The reason is in the words of the index audit_pause_queue_timed.
_TIMED_OUT = PausedWork(
    where="NOT entry.held AND entry.reason IN ('manual_pause', 'awaiting_event') AND entry.event <> ''"
    " AND entry.due_at <= statement_timestamp()"
    " AND (entry.lease_expires_at IS NULL OR entry.lease_expires_at <= statement_timestamp())",
    order="entry.due_at, entry.id",
    by_priority=True,
)
_UNAPPROVED = PausedWork(
    where="entry.reason = 'awaiting_approval' AND entry.held AND entry.resume_after IS NOT NULL"
    " AND entry.due_at <= statement_timestamp()",
    order="entry.due_at, entry.id",
)
# What a moment makes due: deadlines of approvals, and the times of what waits for an event or was paused by hand.
_MOMENTS = """
SELECT bool_or(found.passed), min(found.seconds) FILTER (WHERE NOT found.passed)
FROM (
    SELECT moment.at <= statement_timestamp(), extract(epoch FROM moment.at - statement_timestamp())::double precision
    FROM (
        {looks}
    ) AS moment (at)
) AS found (passed, seconds)
"""
_APPROVALS = """
    SELECT task.approve_before AS at FROM audit_task AS task
    WHERE task.status = 'pending' AND task.approve_before {than} statement_timestamp()
    ORDER BY task.approve_before, task.id LIMIT 1
"""
_DEADLINES = """
    SELECT entry.due_at AS at FROM audit_pause_queue AS entry
    WHERE entry.reason = 'awaiting_approval' AND entry.resume_after IS NOT NULL
      AND entry.due_at {than} statement_timestamp()
    ORDER BY entry.due_at, entry.id LIMIT 1
"""
_TIMES = """
    SELECT timed.at FROM generate_series(1, 5) AS class (priority) CROSS JOIN LATERAL (
        SELECT entry.due_at AS at FROM audit_pause_queue AS entry
        WHERE NOT entry.held AND entry.reason IN ('manual_pause', 'awaiting_event')
          AND entry.priority = class.priority AND entry.due_at {than} statement_timestamp()
        ORDER BY entry.due_at, entry.id LIMIT 1
    ) AS timed
"""
_MOMENTS_SQL = _MOMENTS.format(
    looks=" UNION ALL ".join(
        f"({each.format(than=than)})" for each in (_APPROVALS, _DEADLINES, _TIMES) for than in ("<=", ">")
    )
)
_REJECTED = "status = 'rejected', outcome = %s::jsonb"


@dataclass(slots=True)
class Sweep:
    """How far repeated passes have come in looking at all that is paused.

    Tasks and entries seldom miss each other, and who emits an event lets go on who waits for it. So passes that share a
    sweep each look for such cases in a part of what is paused, and among the newest entries. After the last part they
    begin anew.
    """

    size: int = 2000
    """At how many paused tasks a pass looks."""
    after: UUID = _FIRST
    """The task behind which the next pass begins."""


def recover(
    *,
    worker: str | None = None,
    limit: int = 100,
    dry_run: bool = False,
    sweep: Sweep | None = None,
    using: str | None = None,
) -> RecoveryReport:
    """Put right what was left behind: one bounded pass, each kind a statement of its own.

    Leases that ran out, work whose event came or whose wait timed out, approvals whose time has passed, and paused
    tasks and entries that miss each other. Each change is logged. Repeat it while `report.is_full(limit)`.

    Args:
        worker: the name of a worker that has just started and has claimed nothing yet: what is executing under this
            very name was left by its predecessor, and is released at once. Another live worker of the same name loses
            its leases by that.
        limit: how many of each kind at most.
        dry_run: only look.
        sweep: for passes that are repeated, the same for all of them: each then looks at a part of what is paused. At
            all of it when left out.
        using: the alias to write through.

    Returns:
        The ids by kind.

    Raises:
        InvalidValue: an empty worker, or a limit that is not positive.
    """
    validation.whole("limit", limit)
    if worker is not None:
        validation.label("worker", worker)
    db = using or router.db_for_write(Task)
    part = _part(db, sweep) if sweep else []
    look = _looks(worker, limit, part) if dry_run else _acts(db, worker, limit, part, get_actor() or ACTOR)
    report = _carried_out(db, look, dry_run)
    if sweep and max(len(report.entries_made), len(report.entries_removed)) < limit:
        sweep.after = part[1] if part[1] != _LAST else _FIRST
    return report


def recover_due(*, limit: int = 100, using: str | None = None) -> RecoveryReport:
    """Do the part of `recover` that the clock alone makes due: approvals that expired, and waits that timed out.

    Args:
        limit: how many of each kind at most.
        using: the alias to write through.

    Returns:
        The ids by kind: `approvals` and `timeouts`.

    Raises:
        InvalidValue: a limit that is not positive.
    """
    validation.whole("limit", limit)
    db = using or router.db_for_write(Task)
    return _carried_out(db, _due(db, limit, get_actor() or ACTOR), dry_run=False)


def next_moment(*, using: str | None = None) -> tuple[bool, float | None]:
    """Ask when the clock makes something due: a deadline of an approval, or the time of a pause.

    Args:
        using: the alias to read from; the one that is written through when left out.

    Returns:
        Whether something is due already, and the seconds until the next moment; None where there is no other.
    """
    db = using or router.db_for_write(Task)
    [(passed, seconds)] = reconnecting(connections[db], partial(run, db, _MOMENTS_SQL, []))
    return bool(passed), seconds


def _carried_out(db: str, steps: Iterable[tuple[str, _Step]], dry_run: bool) -> RecoveryReport:
    found: dict[str, list[UUID]] = {}
    for kind, step in steps:
        keys = step() if callable(step) else _ids(db, *step)
        found.setdefault(kind, []).extend(keys)
    report = RecoveryReport(dry_run=dry_run, **{kind: tuple(dict.fromkeys(keys)) for kind, keys in found.items()})
    if not dry_run and any(getattr(report, kind) for kind in _RESUMED):
        announce(db, [ANY])
    if report.total:
        counts = ", ".join(f"{count} {kind}" for kind, count in report.counts.items() if count)
        logger.info("Recovery of %r %s: %s.", db, "would take on" if dry_run else "took on", counts)
    return report


async def arecover(*args: Any, **kwargs: Any) -> RecoveryReport:
    """Recover from async code; see `recover`."""
    return await sync_to_async(recover)(*args, **kwargs)


def _part(db: str, sweep: Sweep) -> list[UUID]:
    """The ends of the part that is looked at."""
    last = _ids(db, entry_repair.part_sql(sweep.size), [sweep.after])
    return [sweep.after, last[0] if last else _LAST]


def _emitted(part: list[UUID]) -> list[tuple[PausedWork, list[Any]]]:
    """Whose events may have come: of all that wait, or of those that this pass looks at."""
    return [(_EMITTED_TO_NEWEST, [_NEWEST]), (_EMITTED_IN_PART, part)] if part else [(_EMITTED, [])]


def _looks(worker: str | None, limit: int, part: list[UUID]) -> Iterator[tuple[str, _Statement]]:
    """What there is of each kind, without a lock."""
    yield "leases", (expired_sql(limit), [])
    if worker is not None:
        yield "restarted", (own_sql(limit), [worker])
    yield "entries_made", (entry_repair.without_entry_sql(limit, bool(part)), [*part, *part])
    yield "entries_removed", (entry_repair.without_pause_sql(limit, bool(part)), [*part, *part])
    yield "approvals", (waits_sql(_UNAPPROVED, limit), [])
    yield "approvals", (overdue_sql(limit), [])
    for waits, params in _emitted(part):
        yield "events", (waits_sql(waits, limit), params)
    yield "timeouts", (waits_sql(_TIMED_OUT, limit), [])


def _acts(db: str, worker: str | None, limit: int, part: list[UUID], actor: str) -> Iterator[tuple[str, _Step]]:
    """What is done about each kind. Rejections come first, so that an event does not resume work that is rejected."""
    end = partial(end_waits, db, limit=limit, actor=actor)
    yield "leases", lambda: [task.pk for task in Task.objects.using(db).recover_expired(limit)]
    if worker is not None:
        yield "restarted", (release_own_sql(limit, conf.settings().MAX_EXPIRIES), [worker, actor])
    yield "entries_made", (entry_repair.make_entries_sql(limit, bool(part)), [*part, *part, actor, actor, actor])
    yield "entries_removed", (entry_repair.remove_entries_sql(limit, bool(part)), [*part, *part, actor])
    *approvals, timeouts = _due(db, limit, actor)
    yield from approvals
    for waits, params in _emitted(part):
        yield "events", partial(end, waits, params)
    yield timeouts


def _due(db: str, limit: int, actor: str) -> list[tuple[str, _Step]]:
    """What is done about approvals that expired, and then about waits that timed out."""
    outcome = jsonb(
        "outcome",
        {"success": False, "error_type": APPROVAL_EXPIRED, "output_summary": "Nobody approved it in time."},
    )
    end = partial(end_waits, db, limit=limit, actor=actor)
    return [
        ("approvals", partial(end, _UNAPPROVED, [], to=_REJECTED, to_params=[outcome])),
        ("approvals", (reject_overdue_sql(limit), [outcome, actor])),
        ("timeouts", partial(end, _TIMED_OUT, [])),
    ]


def _ids(db: str, sql: str, params: Sequence[Any]) -> list[UUID]:
    # Repeated, a statement finds nothing left of what it did.
    return [row[0] for row in reconnecting(connections[db], partial(run, db, sql, params))]
