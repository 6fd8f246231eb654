"""The verbs of a pause entry. If one changes no row, it raises the reason, as `audit.verbs.move` does.

Locks are taken task first, then entry: the order of the triggers that keep the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import connections, models

from audit.exceptions import ApprovalExpired, IllegalTransition, LeaseLost, StaleTask, TaskFrozen
from audit.leases.wakeup import announce
from audit.statements.retry import persistently
from audit.statements.rows import adopt, columns, fetch, table
from audit.status import FINISHED, PauseReason, Status
from audit.values import validation
from audit.values.failures import CANCELLED
from audit.verbs.arguments import acting, async_twin, jsonb, writes_to

if TYPE_CHECKING:
    from audit.models.task import Task

__all__ = ["PauseQueueEntryVerbs"]

_IN_TIME = "AND NOT (reason = 'awaiting_approval' AND coalesce(resume_after <= statement_timestamp(), false))"
# The time of what awaits an approval is a deadline: it stays held.
_DEFERRED = "held = (reason = 'awaiting_approval'), resume_after ="


class PauseQueueEntryVerbs(models.Model):
    """The verbs of a pause entry; mixed into `PauseQueueEntry`.

    An entry from `PauseQueueEntry.objects.claim` carries its claim's token. Its verbs raise `LeaseLost` if another
    worker holds the claim now. An entry that was only read carries none: it acts for a person, who may overrule a
    worker.
    """

    if TYPE_CHECKING:
        # Fields of `PauseQueueEntry`, which mixes this in.
        claim_token: Any
        claimed_by: Any
        revision: Any
        task_id: Any

    class Meta:
        abstract = True

    def resume(self, *, actor: str | None = None, using: str | None = None) -> Task:
        """Let the work go on: paused → approved. The entry is removed.

        The entry's work plan (what remains to be done) becomes the task's `work_plan`. The approved plan stays. A
        worker must claim the task again.

        Returns:
            The task, equal to its row.

        Raises:
            TaskFrozen, LeaseLost, IllegalTransition, StaleTask: the entry is gone, or claimed by another.
            ApprovalExpired: it awaited an approval, and the time for it has passed.
        """
        sets = "work_plan = coalesce(entry.work_plan, task.work_plan),"
        task = self._end(Status.APPROVED, sets, [], actor, using, _IN_TIME)
        announce(task._state.db or "", [task.action])
        return task

    def cancel(self, *, reason: str = "", actor: str | None = None, using: str | None = None) -> Task:
        """Give the work up: paused → rejected, with the reason as its outcome. The entry is removed.

        Returns:
            The task, equal to its row.

        Raises:
            TaskFrozen, LeaseLost, IllegalTransition, StaleTask: the entry is gone, or claimed by another.
            InvalidValue: a reason that cannot be stored.
        """
        outcome = {
            "success": False,
            "error_type": CANCELLED,
            "output_summary": validation.text("reason", reason),
        }
        return self._end(Status.REJECTED, "outcome = %s::jsonb,", [jsonb("outcome", outcome)], actor, using)

    def defer(
        self,
        until: datetime | timedelta,
        *,
        actor: str | None = None,
        using: str | None = None,
    ) -> None:
        """Make the entry due later. A held entry is then no longer held.

        Args:
            until: a moment with a time zone, or a span of time from now. What awaits an approval stays held: until then
                it may be approved.
            actor: who defers it.
            using: the alias to write through.

        Raises:
            TaskFrozen, LeaseLost, StaleTask: the entry is gone, or claimed by another.
            ApprovalExpired: it awaited an approval, and the time for it has passed.
            InvalidValue: a moment that cannot be stored.
        """
        if isinstance(until, timedelta):
            span = validation.span("until", until)
            self._change(f"{_DEFERRED} statement_timestamp() + %s", [span], actor, using, _IN_TIME)
        else:
            moment = validation.moment("until", until, or_span=True)
            self._change(f"{_DEFERRED} %s", [moment], actor, using, _IN_TIME)

    def hold(self, *, actor: str | None = None, using: str | None = None) -> None:
        """Keep the entry from becoming due until a person or an event releases it.

        Raises:
            TaskFrozen, LeaseLost, StaleTask: the entry is gone, or claimed by another.
        """
        self._change("held = true", [], actor, using)

    def release(self, *, actor: str | None = None, using: str | None = None) -> None:
        """Give the claim of this entry back. The entry stays in the queue.

        Raises:
            TaskFrozen, LeaseLost, StaleTask: the entry is gone, or claimed by another.
        """
        self._change("attempt = attempt", [], actor, using)

    def _change(
        self, sets: str, params: Sequence[Any], actor: str | None, using: str | None, condition: str = ""
    ) -> None:
        """Change the entry and give its claim back."""
        db = writes_to(self, using)
        fence, fence_params = self._fence("audit_pause_queue")
        sql = (
            f"UPDATE audit_pause_queue SET {sets}, claimed_by = '', claim_token = NULL, lease_expires_at = NULL,"  # noqa: S608 - column names of our own models; every value is a parameter
            f" actor = %s, revision = revision + 1 WHERE id = %s {fence} {condition}"
            f" RETURNING {columns(type(self), 'audit_pause_queue')}"
        )
        rows = fetch(type(self), db, sql, [*params, acting(actor, self.claimed_by), self.pk, *fence_params])
        if not rows:
            raise self._explain(db, [])
        adopt(self, rows[0])

    def _end(
        self,
        to: Status,
        sets: str,
        params: Sequence[Any],
        actor: str | None,
        using: str | None,
        condition: str = "",
    ) -> Task:
        db = writes_to(self, using)
        task_model = table("Task")
        fence, fence_params = self._fence("queued")
        sql = f"""
WITH locked AS MATERIALIZED (
    SELECT id FROM audit_task WHERE id = %s AND status = 'paused' FOR NO KEY UPDATE
), entry AS MATERIALIZED (
    SELECT queued.task_id, queued.work_plan FROM audit_pause_queue AS queued
    WHERE queued.task_id = (SELECT id FROM locked) AND queued.id = %s {fence} {condition}
    FOR UPDATE
)
UPDATE audit_task AS task
SET status = '{to}', {sets} actor = %s, revision = task.revision + 1
FROM entry
WHERE task.id = entry.task_id AND task.status = 'paused'
RETURNING {columns(task_model, "task")}
"""  # noqa: S608 - column names of our own models; every value is a parameter
        name = acting(actor, self.claimed_by)
        rows: list[Task] = fetch(task_model, db, sql, [self.task_id, self.pk, *fence_params, *params, name])
        if not rows:
            raise self._explain(db, [to])
        return rows[0]

    def _fence(self, table: str) -> tuple[str, list[Any]]:
        return (f"AND {table}.claim_token = %s", [self.claim_token]) if self.claim_token else ("", [])

    def _explain(self, db: str, to: list[Status]) -> Exception:
        connection = connections[db]
        task = persistently(connection, lambda: table("Task")._base_manager.using(db).get(pk=self.task_id))
        if task.status in FINISHED:
            return TaskFrozen(task.pk, task.status, task.finished_at)
        entries = table("PauseQueueEntry")._base_manager.using(db).filter(task_id=task.pk)
        entry = persistently(connection, entries.first)
        if (
            entry is not None
            and (entry.pk, entry.claim_token) == (self.pk, self.claim_token)
            and (entry.reason == PauseReason.AWAITING_APPROVAL and entry.resume_after is not None)
        ):
            return ApprovalExpired(task.pk, task.status, to[0] if to else Status.PAUSED, entry.resume_after)
        if self.claim_token is not None:
            holder = entry.claimed_by if entry and entry.pk == self.pk else ""
            return LeaseLost(task.pk, task.status, holder, self.claim_token)
        if task.status != Status.PAUSED:
            return IllegalTransition(task.pk, task.status, to[0] if to else Status.PAUSED, "It is not paused any more.")
        # Resumed and paused anew meanwhile: another entry.
        return StaleTask(task.pk, self.revision, None, entry=True)

    aresume = async_twin(resume)
    acancel = async_twin(cancel)
    adefer = async_twin(defer)
    ahold = async_twin(hold)
    arelease = async_twin(release)
