"""What is written into a task's execution log: steps, notes and suggestions."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from audit.statements.rows import columns, execute, fetch, table
from audit.status import Status
from audit.values import validation
from audit.verbs.arguments import acting, async_twin, jsonb, writes_to
from audit.verbs.hook import adopt
from audit.verbs.move import UNCLAIMED, Move, Moved, current, refusal

if TYPE_CHECKING:
    from audit.models.log import ExecutionLog

__all__ = ["LogVerbs"]

# What the writer of a step must be: the holder of the claim, or anybody while nobody has claimed the task.
_STEP_BY_HOLDER = Move(sources=(Status.EXECUTING,), needs_token=True, fenced=True)
_STEP = Move(sources=UNCLAIMED, fenced=True)
# A note or a suggestion is anybody's, also of a finished task.
_ANYBODY = Move(sources=tuple(Status))


class LogVerbs(Moved):
    """The verbs that write to the execution log; mixed into `Task`."""

    class Meta:
        abstract = True

    def log(
        self,
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
            action: what was done, at most 500 characters.
            duration_ms: how long it took, in milliseconds.
            output_summary: what it printed or found, at most 16 384 characters.
            detail: any JSON.
            step_number: its number, from 0; the next one when left out.
            actor: who did it.
            using: the alias to write through.

        Returns:
            The row that was written.

        Raises:
            TaskFrozen, LeaseLost: finished (then write a `note`), or executing under another claim.
            InvalidValue: a value that cannot be stored.
        """
        action, output_summary, detail = self._prepared("log", action, output_summary, detail)
        db = writes_to(self, using)
        if step_number is not None:
            validation.whole("step_number", step_number, lowest=0)
        if duration_ms is not None:
            validation.whole(
                "duration_ms", duration_ms, lowest=0, highest=validation.LONGEST_SPAN // timedelta(milliseconds=1)
            )
        writer = _STEP_BY_HOLDER if self.claim_token else _STEP
        written = self._write(
            db,
            "step",
            writer,
            actor=acting(actor, self.claimed_by),
            action=validation.label("action", action),
            duration_ms=duration_ms,
            output_summary=validation.text("output_summary", output_summary),
            detail=jsonb("detail", detail),
            step_number=step_number,
        )
        if written is None:
            raise refusal(self, writer, current(self, db))
        return written

    # What anybody may add, also to a finished task

    def note(
        self,
        text: str,
        *,
        detail: Any = None,
        actor: str | None = None,
        using: str | None = None,
    ) -> ExecutionLog:
        """Write a note to the log, also after the task is finished. The row's `at` says when it came.

        Raises:
            InvalidValue: a text or detail that cannot be stored.
        """
        text, detail = self._prepared("note", text, detail)
        written = self._write(
            writes_to(self, using),
            "note",
            _ANYBODY,
            actor=acting(actor),
            output_summary=validation.label("text", text, max_length=validation.MAX_TEXT),
            detail=jsonb("detail", detail),
        )
        if written is None:
            raise type(self).DoesNotExist(f"There is no task {self.pk}.")
        return written

    def suggest(
        self, suggestion: str, *, reason: str = "", actor: str | None = None, using: str | None = None
    ) -> ExecutionLog:
        """Write a suggestion to the log, and while the task is live also to its `suggestions`.

        Raises:
            InvalidValue: a text that cannot be stored.
        """
        suggestion, reason = self._prepared("suggest", suggestion, reason)
        validation.label("suggestion", suggestion, max_length=validation.MAX_TEXT)
        validation.text("reason", reason)
        db = writes_to(self, using)
        name = acting(actor)
        log = table("ExecutionLog")
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
SELECT {columns(log, "written")}, {columns(type(self), "live")} FROM written LEFT JOIN live ON true
"""  # noqa: S608 - column names of our own models; every value is a parameter
        params = [suggestion, reason, name, self.pk, name, suggestion, suggestion, reason, self.pk]
        rows = execute([log, type(self)], db, sql, params)
        if not rows:
            raise type(self).DoesNotExist(f"There is no task {self.pk}.")
        written, live = rows[0]
        if live.pk is not None:
            adopt(self, live)
        return written  # type: ignore[no-any-return]

    def _write(
        self,
        db: str,
        kind: str,
        writer: Move,
        *,
        actor: str,
        action: str = "",
        duration_ms: int | None = None,
        output_summary: str = "",
        detail: str | None = None,
        step_number: int | None = None,
    ) -> ExecutionLog | None:
        """Insert a row of the log if the task is where `writer` starts; None when it is not."""
        log = table("ExecutionLog")
        statuses = ", ".join(f"'{status}'" for status in writer.sources)
        token = " AND task.claim_token = %s" if writer.needs_token else ""
        number = "NULL"
        if kind == "step":
            number = (
                "coalesce(%s, 1 + least(2147483646, coalesce((SELECT step.step_number FROM audit_executionlog AS step"
                " WHERE step.task_id = task.id AND step.kind = 'step' ORDER BY step.id DESC LIMIT 1), 0)))"
            )
        sql = f"""
INSERT INTO audit_executionlog
    (task_id, kind, revision, attempt, actor, action, duration_ms, output_summary, detail, step_number)
SELECT task.id, %s, task.revision, task.attempt, %s, %s, %s::bigint, %s, %s::jsonb, {number}
FROM audit_task AS task
WHERE task.id = %s AND task.status IN ({statuses}){token}
RETURNING {columns(log, "audit_executionlog")}
"""  # noqa: S608 - column names of our own models; every value is a parameter
        params: list[Any] = [kind, actor, action, duration_ms, output_summary, detail]
        params += [step_number] if kind == "step" else []
        params += [self.pk, *([self.claim_token] if writer.needs_token else [])]
        rows: list[ExecutionLog] = fetch(log, db, sql, params)
        return rows[0] if rows else None

    alog = async_twin(log)
    anote = async_twin(note)
    asuggest = async_twin(suggest)
