"""The verbs of a task: each is one move (`audit.verbs.move`), made in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from audit.exceptions import InvalidValue
from audit.leases.arguments import lease_of
from audit.leases.wakeup import announce, nudge
from audit.status import Status
from audit.values import validation
from audit.values.failures import REJECTION, failure_outcome
from audit.verbs.arguments import async_twin, jsonb, writes_to
from audit.verbs.move import UNCLAIMED, Move, run
from audit.verbs.pausing import PauseVerbs

if TYPE_CHECKING:
    from audit.models.log import ExecutionLog

__all__ = ["TaskVerbs"]

_SUMMARY_CHARS = 16_384
"""How much of a message stands in the column of the log; its detail has all of it."""
_APPROVE = Move(
    sources=(Status.PENDING,),
    to=Status.APPROVED,
    condition="(task.approve_before IS NULL OR task.approve_before > statement_timestamp())",
)
_REJECT = Move(sources=UNCLAIMED, to=Status.REJECTED, sets="outcome = %s::jsonb", changes=("outcome",))
_REQUEST_CANCEL = Move(
    sources=(Status.EXECUTING,),
    sets="cancel_requested_at = coalesce(task.cancel_requested_at, statement_timestamp())",
    inserts="ExecutionLog",
    insert="INSERT INTO audit_executionlog (task_id, kind, revision, actor, attempt, action, output_summary)"
    " SELECT moved.id, 'note', moved.revision, moved.actor, moved.attempt, 'request-cancel', %s FROM moved",
)
_HEARTBEAT = Move(
    sources=(Status.EXECUTING,),
    sets="lease_expires_at = greatest(task.lease_expires_at, statement_timestamp() + %s)",
    changes=("lease_expires_at", "cancel_requested_at"),
    needs_token=True,
    fenced=True,
    repeatable=True,
)
_ADD_SERVICES = (
    "services_touched = task.services_touched || ARRAY(SELECT given.name"
    " FROM unnest(%s::text[]) WITH ORDINALITY AS given (name, place)"
    " WHERE given.name <> ALL (task.services_touched) ORDER BY given.place)"
)
_TOUCH_HELD = Move(
    sources=(Status.EXECUTING,), sets=_ADD_SERVICES, changes=("services_touched",), needs_token=True, fenced=True
)
_TOUCH = Move(sources=UNCLAIMED, sets=_ADD_SERVICES, changes=("services_touched",), fenced=True)
_ONE_MORE_FAILURE = "failures = least(task.failures, 2147483646) + 1"
_RETRY = Move(
    sources=(Status.EXECUTING,),
    to=Status.APPROVED,
    sets=f"available_at = statement_timestamp() + %s, {_ONE_MORE_FAILURE}",
    needs_token=True,
    fenced=True,
    inserts="ExecutionLog",
    insert="INSERT INTO audit_executionlog (task_id, kind, revision, actor, attempt, action, output_summary, detail)"
    " SELECT moved.id, 'note', moved.revision, moved.actor, moved.attempt, 'retry', %s,"
    " %s::jsonb || jsonb_build_object('attempt', moved.attempt, 'failures', moved.failures, 'delay_s', %s::float8)"
    " FROM moved",
)
_RELEASE = Move(sources=(Status.EXECUTING,), to=Status.APPROVED, needs_token=True, fenced=True)
_RELEASE_WITH_REASON = Move(
    sources=(Status.EXECUTING,),
    to=Status.APPROVED,
    needs_token=True,
    fenced=True,
    inserts="ExecutionLog",
    insert="INSERT INTO audit_executionlog (task_id, kind, revision, actor, attempt, action, output_summary)"
    " SELECT moved.id, 'note', moved.revision, moved.actor, moved.attempt, 'release', %s FROM moved",
)
_RESULTS = (
    "outcome = %s::jsonb, resources_used = coalesce(%s::jsonb, task.resources_used),"
    " suggestions = coalesce(%s::jsonb, task.suggestions)"
)
_RESULT_COLUMNS = ("outcome", "resources_used", "suggestions")
_COMPLETE = Move(
    sources=(Status.EXECUTING,),
    to=Status.COMPLETED,
    sets=_RESULTS,
    changes=_RESULT_COLUMNS,
    needs_token=True,
    fenced=True,
    repeatable=True,
)
_FAIL = Move(
    sources=(Status.EXECUTING,),
    to=Status.FAILED,
    sets=f"{_RESULTS}, {_ONE_MORE_FAILURE}",
    changes=(*_RESULT_COLUMNS, "failures"),
    needs_token=True,
    fenced=True,
    repeatable=True,
)
_FAIL_PAUSED = Move(sources=(Status.PAUSED,), to=Status.FAILED, sets=_RESULTS, changes=_RESULT_COLUMNS, fenced=True)


class TaskVerbs(PauseVerbs):
    """The verbs of a task; mixed into `Task`.

    Every verb takes `using`, the database alias to write through. Without it, the routers choose. Every verb takes
    `actor`. Without it, the `actor` block's name counts, then the worker that claimed the task.
    """

    class Meta:
        abstract = True

    # Decisions of people

    def approve(self, *, actor: str | None = None, using: str | None = None) -> None:
        """Approve pending work: pending → approved.

        Raises:
            TaskFrozen, IllegalTransition: it is not pending. Paused work goes on through its pause entry.
            ApprovalExpired: its `approve_before` has passed.
            InvalidValue: an actor that cannot be stored.
        """
        hint = "Resume its pause entry instead." if self.status == Status.PAUSED else ""
        run(self, _APPROVE, actor=actor, using=using, hint=hint)
        announce(writes_to(self, using), [self.action])

    def reject(self, *, reason: str = "", actor: str | None = None, using: str | None = None) -> None:
        """Reject work that is pending, approved or paused. The reason becomes its outcome.

        Raises:
            TaskFrozen, IllegalTransition: it is finished, or executing (then ask it to stop: `request_cancel`).
            InvalidValue: a text that cannot be stored.
        """
        outcome = {
            "success": False,
            "error_type": REJECTION,
            "output_summary": validation.text("reason", reason),
        }
        run(self, _REJECT, [jsonb("outcome", outcome)], actor=actor, using=using)

    def request_cancel(self, *, reason: str = "", actor: str | None = None, using: str | None = None) -> None:
        """Ask executing work to stop. Its worker hears it at once, or learns it from the next heartbeat.

        The log keeps the reason. Nothing forces the work to end; see `Run.cancelled`.

        If it is asked twice, `cancel_requested_at` keeps the first moment.

        Raises:
            TaskFrozen, IllegalTransition: it is not executing (reject it instead).
            InvalidValue: a text that cannot be stored.
        """
        said = validation.text("reason", reason)
        hint = "Only executing work can be asked to stop; reject work that waits."
        run(self, _REQUEST_CANCEL, actor=actor, using=using, insert_params=[said], hint=hint)
        nudge(writes_to(self, using), self.claimed_by)

    # What the holder of the claim does

    def heartbeat(self, *, lease: timedelta | None = None, actor: str | None = None, using: str | None = None) -> bool:
        """Prolong the lease. It then ends `lease` from now, or at its old end if that is later.

        Args:
            lease: how long from now; `AUDIT["LEASE_SECONDS"]` when left out.
            actor: who works.
            using: the alias to write through.

        Returns:
            Whether somebody has asked this work to stop.

        Raises:
            TaskFrozen, LeaseLost, IllegalTransition: the claim is gone; stop working.
            InvalidValue: a lease that is not positive.
        """
        run(self, _HEARTBEAT, [lease_of(lease)], actor=actor, using=using)
        return self.cancel_requested_at is not None

    def touch(self, *services: str, actor: str | None = None, using: str | None = None) -> None:
        """Add services to those that the task touched. Names that are already there keep their place.

        Raises:
            TaskFrozen, LeaseLost: finished, or executing under another claim.
            InvalidValue: no service, or a name that cannot be stored.
        """
        [given] = self._prepared("touch", services)
        names = validation.services("services", given)
        if not names:
            raise InvalidValue("services", services, "name at least one service")
        run(self, _TOUCH_HELD if self.claim_token else _TOUCH, [names], actor=actor, using=using)

    def release(self, *, reason: str = "", actor: str | None = None, using: str | None = None) -> None:
        """Give the claim back: executing → approved, for any worker to take.

        Args:
            reason: why, in words; the log keeps it as a note with the action `release`.
            actor: who gives it back.
            using: the alias to write through.

        Raises:
            TaskFrozen, LeaseLost, IllegalTransition: the claim is gone.
            InvalidValue: a text that cannot be stored.
        """
        (reason,) = self._prepared("release", reason)
        if validation.text("reason", reason):
            run(self, _RELEASE_WITH_REASON, actor=actor, using=using, insert_params=[reason])
        else:
            run(self, _RELEASE, actor=actor, using=using)
        announce(writes_to(self, using), [self.action])

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

        Called again with the same outcome and the token that finished it, it succeeds and changes nothing.

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
        run(self, _COMPLETE, _results(stated, resources, suggestions), actor=actor, using=using)

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
        """Finish the work badly: executing → failed, which `failures` counts; or paused → failed without a claim.

        Called again with the same outcome and the token that finished it, it succeeds and changes nothing.

        Args:
            error: what went wrong; an exception gives type, message and the end of its traceback.
            outcome: a JSON object. Its members replace those made from `error`.
            resources: what was used.
            suggestions: replaces the task's suggestions; left out, they stay.
            actor: who says so.
            using: the alias to write through.

        Raises:
            TaskFrozen, LeaseLost, IllegalTransition: the claim is gone, or it ended otherwise.
            InvalidValue: a value that cannot be stored, or an outcome that is not an object.
        """
        error, outcome, resources, suggestions = self._prepared("fail", error, outcome, resources, suggestions)
        results = _results(_failure(error, outcome), resources, suggestions)
        run(self, _FAIL_PAUSED if self.claim_token is None else _FAIL, results, actor=actor, using=using)

    def retry(
        self,
        error: BaseException | str = "",
        *,
        delay: timedelta | None = None,
        outcome: Any = None,
        actor: str | None = None,
        using: str | None = None,
    ) -> ExecutionLog:
        """Give work that went wrong back to be tried again: executing → approved, and `failures` counts one more.

        Args:
            error: what went wrong; an exception gives type, message and the end of its traceback.
            delay: not claimable before this span of time has passed, by the database's clock; at once when left out.
            outcome: a JSON object laid over what `error` gives.
            actor: who says so.
            using: the alias to write through.

        Returns:
            The note in the log (action `retry`): its detail has `error_type`, `message`, `traceback` where there is
            one, `attempt`, `failures` and `delay_s`.

        Raises:
            TaskFrozen, LeaseLost, IllegalTransition: the claim is gone.
            InvalidValue: a value that cannot be stored, an outcome that is not an object, or a negative delay.
        """
        error, outcome = self._prepared("retry", error, outcome)
        delay = timedelta(0) if not delay and isinstance(delay, timedelta | None) else validation.span("delay", delay)
        detail = _failure(error, outcome)
        message = detail.pop("output_summary")
        if not isinstance(message, str):
            raise InvalidValue("outcome", message, "needs a text as its output_summary")
        validation.text("outcome", message, max_length=None)
        said = [message[:_SUMMARY_CHARS], jsonb("outcome", detail | {"message": message})]
        written: ExecutionLog = run(
            self, _RETRY, [delay], actor=actor, using=using, insert_params=[*said, delay.total_seconds()]
        )
        if not delay:
            announce(writes_to(self, using), [self.action])
        return written

    aapprove = async_twin(approve)
    areject = async_twin(reject)
    arequest_cancel = async_twin(request_cancel)
    aheartbeat = async_twin(heartbeat)
    atouch = async_twin(touch)
    arelease = async_twin(release)
    acomplete = async_twin(complete)
    afail = async_twin(fail)
    aretry = async_twin(retry)


def _failure(error: BaseException | str, outcome: Any) -> dict[str, Any]:
    """Describe an error as an outcome, with a further one laid over it."""
    if outcome is not None and not isinstance(outcome, dict):
        raise InvalidValue("outcome", outcome, "must be an object when work fails")
    return failure_outcome(error) | (outcome or {})


def _results(outcome: Any, resources: Any, suggestions: Sequence[Any] | None) -> list[str | None]:
    """Check what finished work hands in, and return the values of `_RESULTS`."""
    if suggestions is not None and not isinstance(suggestions, list | tuple):
        raise InvalidValue("suggestions", suggestions, "must be a list")
    return [jsonb("outcome", outcome), jsonb("resources", resources), jsonb("suggestions", suggestions)]
