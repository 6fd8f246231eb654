"""The verbs that put work aside or keep what remains of it, and what a wait for an event came to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import connections, transaction
from django.db.models import Q

from audit import conf
from audit.exceptions import InvalidValue
from audit.leases.wakeup import announce
from audit.statements.retry import persistently
from audit.statements.rows import table
from audit.status import LogKind, PauseReason, Status
from audit.values import validation
from audit.values.plans import is_remainder
from audit.verbs.arguments import acting, async_twin, jsonb, writes_to
from audit.verbs.end_waits import EMITTED, PausedWork, resume_waits
from audit.verbs.hook import adopt
from audit.verbs.log import LogVerbs
from audit.verbs.move import Move, run

if TYPE_CHECKING:
    from audit.models.pause import PauseQueueEntry

__all__ = ["MAX_EVENT_NAME", "AwaitedEvent", "PauseVerbs"]

MAX_EVENT_NAME = 200
"""How many characters the name of an event may have."""

_THIS_ONE = PausedWork(where=f"entry.id = %s AND {EMITTED}")
_CHANGED_PLAN = "The work plan is not a remainder of the approved plan."
_QUEUE = (
    "INSERT INTO audit_pause_queue"
    " (task_id, work_plan, reason, note, event, paused_by, resume_after, held, priority, actor)"
    " SELECT moved.id, coalesce(%s::jsonb, moved.work_plan), %s, %s, %s, moved.actor,"
    " coalesce(%s, statement_timestamp() + %s), %s, coalesce(%s, moved.priority), moved.actor FROM moved"
)
_PAUSE_BY_HOLDER = Move(
    sources=(Status.EXECUTING,),
    to=Status.PAUSED,
    needs_token=True,
    fenced=True,
    inserts="PauseQueueEntry",
    insert=_QUEUE,
)
_PAUSE = Move(sources=(Status.APPROVED,), to=Status.PAUSED, fenced=True, inserts="PauseQueueEntry", insert=_QUEUE)
_CHECKPOINT = Move(
    sources=(Status.EXECUTING,),
    sets="work_plan = %s::jsonb",
    changes=("work_plan", "cancel_requested_at"),
    needs_token=True,
    fenced=True,
    repeatable=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedEvent:
    """What a wait for an event came to."""

    name: str
    payload: Any
    """What the event brought; None when it was not emitted."""
    timed_out: bool
    """Whether the time of the wait passed first."""
    emitted: bool
    """Whether the event was emitted."""

    @property
    def reason(self) -> str:
        """Why the work goes on: `emitted`, `timed_out`, or `resumed` by a person who did not wait for either."""
        if self.emitted:
            return "emitted"
        return "timed_out" if self.timed_out else "resumed"


class PauseVerbs(LogVerbs):
    """Puts work aside; mixed into `Task`."""

    class Meta:
        abstract = True

    def pause(
        self,
        *,
        reason: str = PauseReason.MANUAL_PAUSE,
        work_plan: Any = None,
        resume_after: datetime | timedelta | None = None,
        priority: int | None = None,
        held: bool | None = None,
        note: str = "",
        event: str = "",
        actor: str | None = None,
        using: str | None = None,
    ) -> PauseQueueEntry:
        """Put the work aside: executing or approved → paused, with an entry in the pause queue.

        With `AUDIT["REAPPROVE_CHANGED_PLANS"]`, a work plan that is not a remainder of the approved plan makes it
        `awaiting_approval`, held, whatever reason, event and time were given.

        Args:
            reason: one of `PauseReason`.
            work_plan: what remains to be done, any JSON. When the task is resumed, it is in its `work_plan`, beside the
                approved plan. Without it, the work plan stays as it is.
            resume_after: a moment, or a span of time from now. The work goes on then. If it waits for an event, the
                wait times out. If it awaits an approval, it is rejected (`ApprovalExpired`).
            priority: 1 (highest) to 5; the task's own when left out.
            held: whether only a person or an event may release it; when left out, all reasons but
                `insufficient_capacity` are held unless a resume time is given. What awaits an approval always is.
            note: in words.
            event: the name of an event to wait for, at most 200 characters; the reason is `awaiting_event` then.
                `awaited_event` says afterwards what came of it. If the event was emitted before, the work goes on at
                once: the task is approved again, and the entry is gone.
            actor: who pauses.
            using: the alias to write through.

        Returns:
            The entry, as it was made.

        Raises:
            TaskFrozen, LeaseLost, IllegalTransition: the claim is gone, or it is neither executing nor approved.
            InvalidValue: a value that cannot be stored, or values that exclude each other.
        """
        self._prepared("pause")
        reason = _reason(reason, event)
        at, after = resume_after, None
        if isinstance(resume_after, timedelta):
            at, after = None, validation.span("resume_after", resume_after)
        elif resume_after is not None:
            at = validation.moment("resume_after", resume_after, or_span=True)
        held = _held(held, reason, timed=resume_after is not None)
        if priority is not None:
            validation.priority("priority", priority)
        validation.text("note", note)
        remains = jsonb("work_plan", work_plan)
        if self._changes_plan(work_plan, using):
            if reason != PauseReason.AWAITING_APPROVAL:
                reason, at, after = PauseReason.AWAITING_APPROVAL, None, None
            held, event, note = True, "", f"{_CHANGED_PLAN} {note}".rstrip()
        entry: PauseQueueEntry = run(
            self,
            _PAUSE_BY_HOLDER if self.claim_token else _PAUSE,
            actor=actor,
            using=using,
            insert_params=[remains, str(reason), note, event, at, after, held, priority],
        )
        entry.task = self  # type: ignore[assignment]
        if event:
            self._go_on_if_emitted(entry, writes_to(self, using), acting(actor, entry.paused_by))
        return entry

    def _go_on_if_emitted(self, entry: PauseQueueEntry, db: str, actor: str) -> None:
        """Let the work go on if its event is there; see Note [Emit and pause at the same moment] in `audit.events`."""
        connection = connections[db]

        def look() -> None:
            found = persistently(connection, lambda: resume_waits(db, _THIS_ONE, [entry.pk], limit=1, actor=actor))
            if found:
                adopt(self, found[0])
                announce(db, [self.action])

        if connection.in_atomic_block:
            look()
        # Outside of a transaction the pause is committed: what goes wrong now is logged, and left to recovery.
        transaction.on_commit(look, using=db, robust=True)

    def checkpoint(
        self, work_plan: Any, *, actor: str | None = None, using: str | None = None
    ) -> PauseQueueEntry | None:
        """Keep what remains to be done in the task's `work_plan`: whoever claims it next goes on from there.

        Args:
            work_plan: what remains, any JSON.
            actor: who does the work.
            using: the alias to write through.

        Returns:
            None: go on. Or, with `AUDIT["REAPPROVE_CHANGED_PLANS"]` and a work plan that is not a remainder of the
            approved plan, the pause entry under which the work now awaits approval: stop.

        Raises:
            TaskFrozen, LeaseLost, IllegalTransition: the claim is gone.
            InvalidValue: a work plan that cannot be stored, or None.
        """
        self._prepared("checkpoint")
        if work_plan is None:
            raise InvalidValue("work_plan", None, "is required; an empty list says that nothing remains")
        remains = jsonb("work_plan", work_plan)
        if self._changes_plan(work_plan, using):
            return self.pause(reason=PauseReason.AWAITING_APPROVAL, work_plan=work_plan, actor=actor, using=using)
        run(self, _CHECKPOINT, [remains], actor=actor, using=using)
        return None

    def awaited_event(self, *, using: str | None = None) -> AwaitedEvent | None:
        """Say what the last pause of this task came to, if it waited for an event.

        Args:
            using: the alias to read from; the one that verbs write through when left out.

        Returns:
            Name, payload and why the work goes on. None if the task was never paused, if its last pause was for
            something else, or if that lasts.
        """
        db = writes_to(self, using)
        last = Q(kind=LogKind.NOTE, action="event") | Q(kind=LogKind.TRANSITION, to_status=Status.PAUSED)
        rows = table("ExecutionLog")._base_manager.using(db).filter(last, task_id=self.pk).order_by("-id")
        found = persistently(connections[db], rows.first)
        if found is None or found.kind != LogKind.NOTE:
            return None
        detail = found.detail
        return AwaitedEvent(
            name=detail["event"],
            payload=detail["payload"],
            timed_out=detail["timed_out"],
            emitted=detail["emitted"],
        )

    def _changes_plan(self, work_plan: Any, using: str | None) -> bool:
        """Whether a work plan has to be approved first, compared with the row: a handler may change its instance."""
        if work_plan is None or not conf.settings().REAPPROVE_CHANGED_PLANS:
            return False
        db = writes_to(self, using)
        rows = table("Task")._base_manager.using(db).filter(pk=self.pk).values_list("plan", "work_plan")
        approved = persistently(connections[db], rows.get)
        # What stands in the work plan is a remainder, or was approved when it was none.
        return not any(plan is not None and is_remainder(plan, work_plan) for plan in approved)

    apause = async_twin(pause)
    acheckpoint = async_twin(checkpoint)
    aawaited_event = async_twin(awaited_event)


def _reason(reason: str, event: str) -> str:
    """Check a reason beside the event that is waited for."""
    if reason not in PauseReason.values:
        raise InvalidValue("reason", reason, f"must be one of {', '.join(PauseReason.values)}")
    if validation.text("event", event, max_length=MAX_EVENT_NAME) == "":
        return reason
    if reason not in (PauseReason.MANUAL_PAUSE, PauseReason.AWAITING_EVENT):
        raise InvalidValue("reason", reason, "must be awaiting_event, or left out, where an event is waited for")
    return PauseReason.AWAITING_EVENT


def _held(held: bool | None, reason: str, *, timed: bool) -> bool:
    """Choose whether only a person or an event releases it."""
    if held is not None and not isinstance(held, bool):
        raise InvalidValue("held", held, "must be True, False or None")
    if reason == PauseReason.AWAITING_APPROVAL:
        if held is False:
            raise InvalidValue("held", held, "must not be False for awaiting_approval, which a person ends")
        return True
    return held if held is not None else not timed and reason != PauseReason.INSUFFICIENT_CAPACITY
