"""How a verb changes a task: a `Move` describes the change, and `run` makes it in one UPDATE or raises the reason.

Note [One statement]
    The conditions of a verb stand in the WHERE of its statement. When the statement changes no row, the task is read
    once and the reason is raised: `TaskFrozen`, `LeaseLost`, `IllegalTransition`, `ApprovalExpired` or `StaleTask`,
    whichever holds first.
    A trigger never has to refuse, so the caller's transaction is never aborted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from django.db import connections, models

from audit.exceptions import ApprovalExpired, IllegalTransition, LeaseLost, StaleTask, TaskFrozen
from audit.statements import rows as statements
from audit.statements.retry import persistently, reconnecting
from audit.statements.rows import columns, execute, table, update
from audit.status import FINISHED, TRANSITIONS, Status
from audit.values.failures import LEASE_EXPIRED, WORKER_RESTARTED
from audit.verbs.arguments import acting, writes_to
from audit.verbs.hook import Hooked, adopt

__all__ = ["UNCLAIMED", "Move", "Moved", "current", "refusal", "run"]

UNCLAIMED = (Status.PENDING, Status.APPROVED, Status.PAUSED)
"""The statuses of live work that nobody has claimed."""

# What the database writes into a row when it changes, and when its status does (audit/sql/task_write_v1.sql): by the
# statuses that are left, and at the end.
_STAMPS = ("revision", "actor", "status", "status_was", "status_since")
_LEAVING = {
    Status.PENDING: ("decided_at", "decided_by"),
    Status.EXECUTING: ("executing_ms", "claimed_by", "claim_token", "lease_expires_at"),
    Status.PAUSED: ("paused_ms",),
}
_ENDING = ("finished_at", "row_version", "finished_xid")


_ENDED_BY_RECOVERY = (LEASE_EXPIRED, WORKER_RESTARTED)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Move:
    """A change of a task by a verb. Each is a constant, so they are compared by identity."""

    sources: tuple[Status, ...]
    """The statuses that it starts from."""
    to: Status | None = None
    """The status that it leads to; None leaves the status as it is."""
    sets: str = ""
    """Further assignments of its UPDATE of `audit_task AS task`, each value a placeholder."""
    changes: tuple[str, ...] = ()
    """The columns that `sets` assigns."""
    condition: str = ""
    """A further condition on `task`, in literals."""
    needs_token: bool = False
    """Whether it takes the token of the claim: only the holder makes it."""
    fenced: bool = False
    """Whether the worker makes it: if another holds the claim, it raises `LeaseLost`."""
    repeatable: bool = False
    """Whether the holder may make it twice with the same effect, as when the answer to the first was lost."""
    inserts: str = ""
    """The model of a row that is inserted in the same statement."""
    insert: str = ""
    """The INSERT of that row, which selects FROM moved, the task as it has become."""


class Moved(Hooked):
    """The columns of a task that moves read; mixed into `Task`."""

    if TYPE_CHECKING:
        # Fields of `Task`, which mixes this in.
        id: Any
        action: Any
        cancel_requested_at: Any
        claim_token: Any
        claimed_by: Any
        revision: Any
        status: Any

    class Meta:
        abstract = True


def run(
    task: Moved,
    move: Move,
    params: Sequence[Any] = (),
    *,
    actor: str | None,
    using: str | None,
    insert_params: Sequence[Any] = (),
    hint: str = "",
) -> Any:
    """Move a task, and leave the instance equal to its row.

    Args:
        task: the task.
        move: the change.
        params: the values of `move.sets`.
        actor: who makes it, as given to the verb.
        using: the alias, as given to the verb.
        insert_params: the values of `move.insert`.
        hint: what to do instead, for a step that is not legal.

    Returns:
        The row that was inserted along; None where the move inserts none.

    Raises:
        TaskFrozen, LeaseLost, IllegalTransition, StaleTask: it changed no row; see Note [One statement].
        Task.DoesNotExist: there is no such task.
    """
    db = writes_to(task, using)
    name = acting(actor, task.claimed_by if move.fenced else "")
    values = [*params, name, task.pk, *([task.claim_token] if move.needs_token else []), *insert_params]
    kind = type(task)
    if move.inserts:
        rows = execute([kind, table(move.inserts)], db, _statement(kind, move), values)
        if rows:
            moved, inserted = rows[0]
            adopt(task, moved)
            return inserted
    else:
        attempt = partial(statements.run, db, _statement(kind, move), values)
        returned = reconnecting(connections[db], attempt) if move.repeatable else attempt()
        if returned:
            _take(task, db, move, returned[0])
            return None
    now = current(task, db)
    if _repeats(task, move, now) and _same_outcome(move, params, now, db):
        adopt(task, now)
        return None
    raise refusal(task, move, now, hint)


@cache
def _statement(kind: type[models.Model], move: Move) -> str:
    status = f"status = '{move.to}', " if move.to else ""
    sets = f"{move.sets}, " if move.sets else ""
    statuses = ", ".join(f"'{status}'" for status in move.sources)
    condition = f" AND {move.condition}" if move.condition else ""
    token = " AND task.claim_token = %s" if move.needs_token else ""
    update_sql = (
        f"UPDATE audit_task AS task SET {status}{sets}actor = %s, revision = task.revision + 1"  # noqa: S608 - constants of this app; every value is a parameter
        f" WHERE task.id = %s AND task.status IN ({statuses}){condition}{token}"
    )
    if not move.inserts:
        return f"{update_sql} RETURNING {', '.join(f'task.{name}' for name in _returned(move))}"
    return (
        f"WITH moved AS ({update_sql} RETURNING task.*), inserted AS ({move.insert} RETURNING *)"  # noqa: S608 - as above
        f" SELECT {columns(kind, 'moved')}, {columns(table(move.inserts), 'inserted')} FROM moved CROSS JOIN inserted"
    )


@cache
def _returned(move: Move) -> tuple[str, ...]:
    """The columns that a move can have changed, in the row or by the rule."""
    left = move.sources if move.to else ()
    stamps = (
        *_STAMPS,
        *(name for status in left for name in _LEAVING.get(status, ())),
        *(_ENDING if move.to in FINISHED else ()),
    )
    return (*stamps, *(name for name in move.changes if name not in stamps))


def _take(task: Moved, db: str, move: Move, returned: Sequence[Any]) -> None:
    """Copy what the statement returned to the instance. If the instance was out of date, read the whole row."""
    if returned[0] == _read_at(task) + 1:
        update(task, db, _returned(move), returned)
    else:
        adopt(task, current(task, db))


def _read_at(task: Moved) -> int:
    """The revision at which an instance was read, or 0 if that column was not read."""
    revision = task.__dict__.get("revision")
    return revision if isinstance(revision, int) else 0


def _repeats(task: Moved, move: Move, now: Any) -> bool:
    """Whether a move was made already, with the same claim; what recovery ended, the holder has not."""
    recovered = isinstance(now.outcome, dict) and now.outcome.get("error_type") in _ENDED_BY_RECOVERY
    return bool(
        move.to
        and move.fenced
        and now.status == move.to
        and now.claim_token == task.claim_token is not None
        and not recovered
    )


def _same_outcome(move: Move, params: Sequence[Any], now: Any, db: str) -> bool:
    """Whether a task ended with what a repeated move hands in: the outcome is the first value of those that set it."""
    if "outcome" not in move.changes:
        return True
    sql = "SELECT outcome IS NOT DISTINCT FROM %s::jsonb FROM audit_task WHERE id = %s"
    [(same,)] = statements.run(db, sql, [params[0], now.pk])
    return bool(same)


def current(task: Moved, db: str) -> Any:
    """Read a task as it is now."""
    return persistently(connections[db], lambda: type(task)._base_manager.using(db).get(pk=task.pk))


def refusal(task: Moved, move: Move, now: Any, hint: str = "") -> Exception:
    """Find why a move changed no row: the first that holds of frozen, lease lost, illegal, stale.

    Args:
        task: the task as the caller had it.
        move: what was wanted.
        now: the task as it is.
        hint: what to do instead, for a step that is not legal.
    """
    if now.status in FINISHED:
        return TaskFrozen(now.pk, now.status, now.finished_at)
    token = task.claim_token
    if move.fenced and now.claim_token != token and (token is not None or now.status == Status.EXECUTING):
        return LeaseLost(now.pk, now.status, now.claimed_by, token)
    if move.to and (move.to not in TRANSITIONS[Status(now.status)] or hint):
        return IllegalTransition(now.pk, now.status, move.to, hint)
    if now.status not in move.sources:
        # The rules have the step, and this verb does not make it.
        if move.fenced:
            return LeaseLost(now.pk, now.status, now.claimed_by, token)
        return IllegalTransition(now.pk, now.status, move.to or "", hint or "Another verb makes this step.")
    if move.to == Status.APPROVED and now.approve_before is not None:
        return ApprovalExpired(now.pk, now.status, move.to, now.approve_before)
    return StaleTask(now.pk, task.revision, now.revision)
