"""The verbs of a task. Each is one statement whose WHERE holds its conditions.

When the statement changes no row, the task is read once and the reason is raised: `TaskFrozen`, `LeaseLost`,
`IllegalTransition` or `StaleTask`, whichever holds first. A trigger never has to refuse, so the caller's
transaction is never aborted.
"""

from __future__ import annotations

import traceback as tracebacks
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from audit import conf, validation
from audit.exceptions import InvalidValue
from audit.models.statements import acting, adopt, async_twin, explain, jsonb, writes_to
from audit.querysets.filters import lease_of
from audit.querysets.rows import columns, execute, fetch
from audit.status import PauseReason, Status

if TYPE_CHECKING:
    from audit.models.log import ExecutionLog
    from audit.models.pause import PauseQueueEntry
    from audit.models.task import Task

__all__ = ["TaskVerbs"]

_UNCLAIMED = (Status.PENDING, Status.APPROVED, Status.PAUSED)
_HELD = "status = 'executing' AND claim_token = %s"


def _in(sources: tuple[Status, ...]) -> str:
    """Write the condition on the statuses a verb starts from; executing work is its holder's (one parameter)."""
    if sources == (Status.EXECUTING,):
        return _HELD
    return f"status IN ({', '.join(repr(str(status)) for status in sources)})"


class TaskVerbs:
    """Moves a task along; mixed into `Task`.

    Every verb takes `using`, the database alias to write through (the router's choice when left out); those that
    name an `actor` take the `actor` block's name when it is left out, and the claim's worker after that.
    """

    if TYPE_CHECKING:
        id: UUID
        claim_token: UUID | None
        claimed_by: str
        cancel_requested_at: datetime | None
        priority: int
        revision: int
        status: str

    # Decisions of people

    def approve(self: Task, *, actor: str | None = None, using: str | None = None) -> None:
        """Approve pending work: pending → approved.

        Raises:
            TaskFrozen, IllegalTransition: it is not pending. Paused work goes on through its pause entry.
            InvalidValue: an actor that cannot be stored.
        """
        hint = "Resume its pause entry instead." if self.status == Status.PAUSED else ""
        self._move(Status.APPROVED, "", [], (Status.PENDING,), actor, using, hint=hint)

    def reject(self: Task, *, reason: str = "", actor: str | None = None, using: str | None = None) -> None:
        """Reject work that is pending, approved or paused; the reason becomes its outcome.

        Raises:
            TaskFrozen, IllegalTransition: it is finished, or executing (then ask it to stop: `request_cancel`).
            InvalidValue: a text that cannot be stored.
        """
        outcome = {
            "success": False,
            "error_type": "Rejected",
            "output_summary": validation.text("reason", reason),
        }
        self._move(Status.REJECTED, "outcome = %s::jsonb", [jsonb("outcome", outcome)], _UNCLAIMED, actor, using)

    def request_cancel(self: Task, *, reason: str = "", actor: str | None = None, using: str | None = None) -> None:
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
            raise explain(self._current(db), to=Status.COMPLETED, revision=self.revision, hint=hint)
        adopt(self, rows[0][0])

    # What the holder of the claim does

    def heartbeat(
        self: Task, *, lease: timedelta | None = None, actor: str | None = None, using: str | None = None
    ) -> bool:
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

    def touch(self: Task, *services: str, actor: str | None = None, using: str | None = None) -> None:
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
            self._move(None, sets, [names], _UNCLAIMED, actor, using, fenced=True)

    def log(
        self: Task,
        action: str,
        *,
        duration_ms: int | None = None,
        output_summary: str = "",
        detail: Any = None,
        step_number: int | None = None,
        actor: str | None = None,
        using: str | None = None,
    ) -> ExecutionLog:
        """Write a step of the work into the execution log.

        Args:
            action: what was done.
            duration_ms: how long it took, in milliseconds.
            output_summary: what it said.
            detail: any JSON.
            step_number: its number; the next one when left out.
            actor: who did it.
            using: the alias to write through.

        Returns:
            The row that was written.

        Raises:
            TaskFrozen, LeaseLost: finished (then write a `note`), or executing under another claim.
            InvalidValue: a value that cannot be stored.
        """
        db = writes_to(self, using)
        for name, number in (("duration_ms", duration_ms), ("step_number", step_number)):
            if number is not None:
                validation.whole(name, number, lowest=0)
        where = f"task.{_HELD if self.claim_token else _in(_UNCLAIMED)}"
        written = self._write(
            db,
            "step",
            where,
            [self.claim_token] if self.claim_token else [],
            actor=acting(actor, self.claimed_by),
            action=validation.label("action", action, max_length=None),
            duration_ms=duration_ms,
            output_summary=validation.text("output_summary", output_summary),
            detail=jsonb("detail", detail),
            step_number=step_number,
        )
        if written is None:
            raise explain(self._current(db), token=self.claim_token, fenced=True, revision=self.revision)
        return written

    def release(self: Task, *, actor: str | None = None, using: str | None = None) -> None:
        """Give the claim back: executing → approved, for any worker to take.

        Raises:
            TaskFrozen, LeaseLost, IllegalTransition: the claim is gone.
        """
        self._as_holder("", [], actor, using, to=Status.APPROVED)

    def complete(
        self: Task,
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
        stated = {"success": True} if outcome is None else outcome
        if isinstance(stated, dict):
            stated = {"success": True, **stated}
        self._finish(Status.COMPLETED, stated, resources, suggestions, actor, using)

    def fail(
        self: Task,
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
        if outcome is not None and not isinstance(outcome, dict):
            raise InvalidValue("outcome", outcome, "must be an object when work fails")
        self._finish(Status.FAILED, _told(error) | (outcome or {}), resources, suggestions, actor, using)

    def pause(
        self: Task,
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
        where = _HELD if self.claim_token else "status = 'approved'"
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
        task, entry = rows[0]
        adopt(self, task)
        entry.task = self
        return entry

    # What anybody may add, also to a finished task

    def note(
        self: Task,
        text: str,
        *,
        detail: Any = None,
        actor: str | None = None,
        using: str | None = None,
    ) -> ExecutionLog:
        """Write a note into the log, also after the task is finished; `at` tells when it came.

        Raises:
            InvalidValue: a text or detail that cannot be stored.
        """
        written = self._write(
            writes_to(self, using),
            "note",
            "true",
            [],
            actor=acting(actor),
            output_summary=validation.label("text", text, max_length=None),
            detail=jsonb("detail", detail),
        )
        if written is None:
            raise type(self).DoesNotExist(f"There is no task {self.pk}.")
        return written

    def suggest(
        self: Task, suggestion: str, *, reason: str = "", actor: str | None = None, using: str | None = None
    ) -> ExecutionLog:
        """Write a suggestion: into the log, and while the task lives also into its `suggestions`.

        Raises:
            InvalidValue: a text that cannot be stored.
        """
        from audit.models.log import ExecutionLog

        validation.label("suggestion", suggestion, max_length=None)
        validation.text("reason", reason)
        db = writes_to(self, using)
        name = acting(actor)
        sql = f"""
WITH live AS (
    UPDATE audit_task AS task
    SET suggestions = coalesce(task.suggestions, '[]'::jsonb) || jsonb_build_array(jsonb_build_object(
            'suggestion', %s::text, 'reason', %s::text,
            'created_at', to_char(statement_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))),
        actor = %s, revision = task.revision + 1
    WHERE task.id = %s AND task.status IN ('pending', 'approved', 'executing', 'paused')
    RETURNING task.*
), written AS (
    INSERT INTO audit_executionlog (task_id, kind, revision, actor, attempt, output_summary, detail)
    SELECT task.id, 'suggestion', coalesce(live.revision, task.revision), %s, task.attempt, %s,
           jsonb_build_object('suggestion', %s::text, 'reason', %s::text)
    FROM audit_task AS task LEFT JOIN live ON live.id = task.id
    WHERE task.id = %s
    RETURNING *
)
SELECT {columns(ExecutionLog, "written")}, {columns(type(self), "live")} FROM written LEFT JOIN live ON true
"""  # noqa: S608 - column names of our own models; every value is a parameter
        params = [suggestion, reason, name, self.pk, name, suggestion, suggestion, reason, self.pk]
        rows = execute([ExecutionLog, type(self)], db, sql, params)
        if not rows:
            raise type(self).DoesNotExist(f"There is no task {self.pk}.")
        written, live = rows[0]
        if live.pk is not None:
            adopt(self, live)
        return written  # type: ignore[no-any-return]

    # How it is done

    def _finish(
        self: Task,
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

    def _as_holder(
        self: Task,
        sets: str,
        params: Sequence[Any],
        actor: str | None,
        using: str | None,
        *,
        to: Status | None = None,
    ) -> None:
        self._move(to, sets, params, (Status.EXECUTING,), actor, using, fenced=True)

    def _move(
        self: Task,
        to: Status | None,
        sets: str,
        params: Sequence[Any],
        sources: tuple[Status, ...],
        actor: str | None,
        using: str | None,
        *,
        fenced: bool = False,
        hint: str = "",
    ) -> None:
        db = writes_to(self, using)
        name = acting(actor, self.claimed_by if fenced else "")
        held = [self.claim_token] if sources == (Status.EXECUTING,) else []
        assignments = [f"status = '{to}'"] if to else []
        assignments += [sets] if sets else []
        sql = (
            f"UPDATE audit_task SET {', '.join(assignments)}{',' if assignments else ''}"  # noqa: S608 - as above
            f" actor = %s, revision = revision + 1 WHERE id = %s AND {_in(sources)}"
            f" RETURNING {columns(type(self), 'audit_task')}"
        )
        rows = fetch(type(self), db, sql, [*params, name, self.pk, *held])
        if rows:
            adopt(self, rows[0])
            return
        current = self._current(db)
        if to and fenced and current.status == to and current.claim_token == self.claim_token is not None:
            adopt(self, current)
            return
        raise explain(
            current,
            to=to,
            sources=sources,
            token=self.claim_token,
            fenced=fenced,
            revision=self.revision,
            hint=hint,
        )

    def _current(self: Task, db: str) -> Task:
        return type(self)._base_manager.using(db).get(pk=self.pk)

    def _write(
        self: Task,
        db: str,
        kind: str,
        where: str,
        where_params: Sequence[Any],
        *,
        actor: str,
        action: str = "",
        duration_ms: int | None = None,
        output_summary: str = "",
        detail: str | None = None,
        step_number: int | None = None,
    ) -> ExecutionLog | None:
        """Insert a row of the log under a condition on the task; None when the condition does not hold."""
        from audit.models.log import ExecutionLog

        number = "NULL"
        if kind == "step":
            number = (
                "coalesce(%s, 1 + coalesce((SELECT step.step_number FROM audit_executionlog AS step"
                " WHERE step.task_id = task.id AND step.kind = 'step' ORDER BY step.id DESC LIMIT 1), 0))"
            )
        sql = f"""
INSERT INTO audit_executionlog
    (task_id, kind, revision, attempt, actor, action, duration_ms, output_summary, detail, step_number)
SELECT task.id, %s, task.revision, task.attempt, %s, %s, %s::bigint, %s, %s::jsonb, {number}
FROM audit_task AS task
WHERE task.id = %s AND {where}
RETURNING {columns(ExecutionLog, "audit_executionlog")}
"""  # noqa: S608 - column names of our own models; every value is a parameter
        params: list[Any] = [kind, actor, action, duration_ms, output_summary, detail]
        params += [step_number] if kind == "step" else []
        rows = fetch(ExecutionLog, db, sql, [*params, self.pk, *where_params])
        return rows[0] if rows else None

    aapprove = async_twin(approve)
    areject = async_twin(reject)
    arequest_cancel = async_twin(request_cancel)
    aheartbeat = async_twin(heartbeat)
    atouch = async_twin(touch)
    alog = async_twin(log)
    arelease = async_twin(release)
    acomplete = async_twin(complete)
    afail = async_twin(fail)
    apause = async_twin(pause)
    anote = async_twin(note)
    asuggest = async_twin(suggest)


def _told(error: BaseException | str) -> dict[str, Any]:
    """Describe an error as an outcome: type, message, and the end of the traceback."""
    if isinstance(error, BaseException):
        limit = conf.settings().TRACEBACK_CHARS
        lines = "".join(tracebacks.format_exception(error))
        said = str(error)
        return {
            "success": False,
            "error_type": type(error).__qualname__,
            "output_summary": storable(said if len(said) <= limit else f"{said[:limit]}… ({len(said)} characters)"),
            "traceback": storable(lines if len(lines) <= limit else f"…{lines[-limit:]}"),
        }
    return {"success": False, "error_type": "Error", "output_summary": validation.text("error", error)}


def storable(text: str) -> str:
    """Make any text storable: a foreign error message must not keep the failure from being written."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
