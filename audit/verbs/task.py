"""The verbs of a task. Each is one statement whose WHERE holds its conditions.

When the statement changes no row, the task is read once and the reason is raised: `TaskFrozen`, `LeaseLost`,
`IllegalTransition` or `StaleTask`, whichever holds first. A trigger never has to refuse, so the caller's
transaction is never aborted.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from audit.exceptions import IllegalTransition, InvalidValue
from audit.leases.arguments import lease_of
from audit.statements.rows import columns, execute
from audit.status import FINISHED, PauseReason, Status
from audit.values import validation
from audit.values.failures import REJECTION, described
from audit.verbs.log import LogVerbs
from audit.verbs.move import HELD, UNCLAIMED
from audit.verbs.runner import acting, adopt, async_twin, explain, jsonb, writes_to

if TYPE_CHECKING:
    from audit.models.pause import PauseQueueEntry

__all__ = ["TaskVerbs"]


class TaskVerbs(LogVerbs):
    """Moves a task along; mixed into `Task`.

    Every verb takes `using`, the database alias to write through (the router's choice when left out); those that
    name an `actor` take the `actor` block's name when it is left out, and the claim's worker after that.
    """

    class Meta:
        abstract = True

    # Decisions of people

    def approve(self, *, actor: str | None = None, using: str | None = None) -> None:
        """Approve pending work: pending → approved.

        Raises:
            TaskFrozen, IllegalTransition: it is not pending. Paused work goes on through its pause entry.
            InvalidValue: an actor that cannot be stored.
        """
        hint = "Resume its pause entry instead." if self.status == Status.PAUSED else ""
        self._move(Status.APPROVED, "", [], (Status.PENDING,), actor, using, hint=hint)

    def reject(self, *, reason: str = "", actor: str | None = None, using: str | None = None) -> None:
        """Reject work that is pending, approved or paused; the reason becomes its outcome.

        Raises:
            TaskFrozen, IllegalTransition: it is finished, or executing (then ask it to stop: `request_cancel`).
            InvalidValue: a text that cannot be stored.
        """
        outcome = {
            "success": False,
            "error_type": REJECTION,
            "output_summary": validation.text("reason", reason),
        }
        self._move(Status.REJECTED, "outcome = %s::jsonb", [jsonb("outcome", outcome)], UNCLAIMED, actor, using)

    def request_cancel(self, *, reason: str = "", actor: str | None = None, using: str | None = None) -> None:
        """Ask executing work to stop; its next heartbeat tells the worker, and the log keeps the reason.

        Asked twice, the first moment stays.

        Raises:
            TaskFrozen, IllegalTransition: it is not executing (reject it instead).
            InvalidValue: a text that cannot be stored.
        """
        from audit.models.log import ExecutionLog

        db = writes_to(self, using)
        name = acting(actor)
        sql = f"""
WITH asked AS (
    UPDATE audit_task AS task
    SET cancel_requested_at = coalesce(task.cancel_requested_at, statement_timestamp()), actor = %s,
        revision = task.revision + 1
    WHERE task.id = %s AND task.status = 'executing'
    RETURNING task.*
), noted AS (
    INSERT INTO audit_executionlog (task_id, kind, revision, actor, attempt, action, output_summary)
    SELECT asked.id, 'note', asked.revision, asked.actor, asked.attempt, 'request-cancel', %s FROM asked
    RETURNING *
)
SELECT {columns(type(self), "asked")}, {columns(ExecutionLog, "noted")} FROM asked CROSS JOIN noted
"""  # noqa: S608 - column names of our own models; every value is a parameter
        rows = execute([type(self), ExecutionLog], db, sql, [name, self.pk, validation.text("reason", reason)])
        if not rows:
            hint = "Only executing work can be asked to stop; reject work that waits."
            current = self._current(db)
            if current.status in FINISHED:
                raise explain(current)
            raise IllegalTransition(current.pk, current.status, "", hint)
        adopt(self, rows[0][0])

    # What the holder of the claim does

    def heartbeat(self, *, lease: timedelta | None = None, actor: str | None = None, using: str | None = None) -> bool:
        """Prolong the lease: it ends `lease` from now, or when it would have ended anyway, if that is later.

        Returns:
            Whether somebody has asked this work to stop.

        Raises:
            TaskFrozen, LeaseLost, IllegalTransition: the claim is gone; stop working.
            InvalidValue: a lease that is not positive.
        """
        sets = "lease_expires_at = greatest(lease_expires_at, statement_timestamp() + %s)"
        self._as_holder(sets, [lease_of(lease)], actor, using)
        return self.cancel_requested_at is not None

    def touch(self, *services: str, actor: str | None = None, using: str | None = None) -> None:
        """Add services to those the task touched; names already there stay where they are.

        Raises:
            TaskFrozen, LeaseLost: finished, or executing under another claim.
            InvalidValue: no service, or a name that cannot be stored.
        """
        names = validation.services("services", services)
        if not names:
            raise InvalidValue("services", services, "name at least one service")
        sets = (
            "services_touched = services_touched || ARRAY(SELECT given.name"
            " FROM unnest(%s::text[]) WITH ORDINALITY AS given (name, place)"
            " WHERE given.name <> ALL (services_touched) ORDER BY given.place)"
        )
        if self.claim_token:
            self._as_holder(sets, [names], actor, using)
        else:
            self._move(None, sets, [names], UNCLAIMED, actor, using, fenced=True)

    def release(self, *, actor: str | None = None, using: str | None = None) -> None:
        """Give the claim back: executing → approved, for any worker to take.

        Raises:
            TaskFrozen, LeaseLost, IllegalTransition: the claim is gone.
        """
        self._prepared("release")
        self._as_holder("", [], actor, using, to=Status.APPROVED)

    def complete(
        self,
        outcome: Any = None,
        *,
        resources: Any = None,
        suggestions: Sequence[Any] | None = None,
        actor: str | None = None,
        using: str | None = None,
    ) -> None:
        """Finish the work well: executing → completed, and the task is frozen.

        Called again with the token that finished it, it succeeds and changes nothing.

        Args:
            outcome: JSON; `"success": true` is added to an object that does not say.
            resources: what was used, such as `{"wall_s": 12.5, "peak_rss_bytes": 80000000}`.
            suggestions: replaces the task's suggestions; left out, they stay.
            actor: who finished it.
            using: the alias to write through.

        Raises:
            TaskFrozen, LeaseLost, IllegalTransition: the claim is gone, or it ended otherwise.
            InvalidValue: a document that cannot be stored.
        """
        outcome, resources, suggestions = self._prepared("complete", outcome, resources, suggestions)
        stated = {"success": True} if outcome is None else outcome
        if isinstance(stated, dict):
            stated = {"success": True, **stated}
        self._finish(Status.COMPLETED, stated, resources, suggestions, actor, using)

    def fail(
        self,
        error: BaseException | str = "",
        *,
        outcome: Any = None,
        resources: Any = None,
        suggestions: Sequence[Any] | None = None,
        actor: str | None = None,
        using: str | None = None,
    ) -> None:
        """Finish the work badly: executing → failed, or paused → failed without a claim.

        Called again with the token that finished it, it succeeds and changes nothing.

        Args:
            error: what went wrong; an exception gives type, message and the end of its traceback.
            outcome: a JSON object laid over what `error` gives.
            resources: what was used.
            suggestions: replaces the task's suggestions; left out, they stay.
            actor: who says so.
            using: the alias to write through.

        Raises:
            TaskFrozen, LeaseLost, IllegalTransition: the claim is gone, or it ended otherwise.
            InvalidValue: a value that cannot be stored, or an outcome that is not an object.
        """
        error, outcome, resources, suggestions = self._prepared("fail", error, outcome, resources, suggestions)
        if outcome is not None and not isinstance(outcome, dict):
            raise InvalidValue("outcome", outcome, "must be an object when work fails")
        self._finish(Status.FAILED, described(error) | (outcome or {}), resources, suggestions, actor, using)

    def pause(
        self,
        *,
        reason: str = PauseReason.MANUAL_PAUSE,
        work_plan: Any = None,
        resume_after: datetime | timedelta | None = None,
        priority: int | None = None,
        held: bool | None = None,
        note: str = "",
        actor: str | None = None,
        using: str | None = None,
    ) -> PauseQueueEntry:
        """Put the work aside: executing or approved → paused, with an entry in the pause queue.

        Args:
            reason: one of `PauseReason`.
            work_plan: what remains to be done, any JSON; it becomes the task's plan when it is resumed.
            resume_after: not due before this moment, or before this span of time has passed.
            priority: 1 (highest) to 5; the task's own when left out.
            held: whether only a person or an event may release it; when left out, all reasons but
                `insufficient_capacity` are held unless a resume time is given.
            note: in words.
            actor: who pauses.
            using: the alias to write through.

        Returns:
            The entry.

        Raises:
            TaskFrozen, LeaseLost, IllegalTransition: the claim is gone, or it is neither executing nor approved.
            InvalidValue: a value that cannot be stored.
        """
        from audit.models.pause import PauseQueueEntry

        self._prepared("pause")
        if reason not in PauseReason.values:
            raise InvalidValue("reason", reason, f"must be one of {', '.join(PauseReason.values)}")
        at, after = resume_after, None
        if isinstance(resume_after, timedelta):
            at, after = None, validation.span("resume_after", resume_after)
        elif resume_after is not None:
            validation.moment("resume_after", resume_after)
        if held is not None and not isinstance(held, bool):
            raise InvalidValue("held", held, "must be True, False or None")
        if held is None:
            held = resume_after is None and reason != PauseReason.INSUFFICIENT_CAPACITY
        if priority is not None:
            validation.priority("priority", priority)
        db = writes_to(self, using)
        name = acting(actor, self.claimed_by)
        where = HELD if self.claim_token else "status = 'approved'"
        sql = f"""
WITH paused AS (
    UPDATE audit_task AS task
    SET status = 'paused', actor = %s, revision = task.revision + 1
    WHERE task.id = %s AND task.{where}
    RETURNING task.*
), entry AS (
    INSERT INTO audit_pause_queue (task_id, work_plan, reason, note, paused_by, resume_after, held, priority, actor)
    SELECT paused.id, %s::jsonb, %s, %s, paused.actor, coalesce(%s, statement_timestamp() + %s), %s,
           coalesce(%s, paused.priority), paused.actor
    FROM paused
    RETURNING *
)
SELECT {columns(type(self), "paused")}, {columns(PauseQueueEntry, "entry")} FROM paused CROSS JOIN entry
"""  # noqa: S608 - column names of our own models; every value is a parameter
        params = [
            name,
            self.pk,
            *([self.claim_token] if self.claim_token else []),
            jsonb("work_plan", work_plan),
            str(reason),
            validation.text("note", note),
            at,
            after,
            held,
            priority,
        ]
        rows = execute([type(self), PauseQueueEntry], db, sql, params)
        if not rows:
            raise explain(
                self._current(db),
                to=Status.PAUSED,
                token=self.claim_token,
                fenced=True,
                revision=self.revision,
            )
        task: Self
        entry: PauseQueueEntry
        task, entry = rows[0]
        adopt(self, task)
        entry.task = self  # type: ignore[assignment]
        return entry

    def _finish(
        self,
        to: Status,
        outcome: Any,
        resources: Any,
        suggestions: Sequence[Any] | None,
        actor: str | None,
        using: str | None,
    ) -> None:
        if suggestions is not None and not isinstance(suggestions, list | tuple):
            raise InvalidValue("suggestions", suggestions, "must be a list")
        sets = (
            "outcome = %s::jsonb, resources_used = coalesce(%s::jsonb, resources_used),"
            " suggestions = coalesce(%s::jsonb, suggestions)"
        )
        params = [
            jsonb("outcome", outcome),
            jsonb("resources", resources),
            jsonb("suggestions", suggestions),
        ]
        if to == Status.FAILED and self.claim_token is None:
            self._move(to, sets, params, (Status.PAUSED,), actor, using, fenced=True)
        else:
            self._as_holder(sets, params, actor, using, to=to)

    aapprove = async_twin(approve)
    areject = async_twin(reject)
    arequest_cancel = async_twin(request_cancel)
    aheartbeat = async_twin(heartbeat)
    atouch = async_twin(touch)
    arelease = async_twin(release)
    acomplete = async_twin(complete)
    afail = async_twin(fail)
    apause = async_twin(pause)
