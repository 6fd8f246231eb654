"""Decisions of people: a decision counts only if the task is still as the person saw it, and it needs a reason.

The verbs of `audit.models` do the deciding. This module adds what a person needs and a worker does not: the check that
nothing changed, and the reason in the log, in one transaction.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connections, models, router, transaction
from django.utils.translation import gettext_lazy as _

from audit import conf
from audit.exceptions import IllegalTransition, InvalidValue, OwnRequest, StaleTask
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.statements.clock import database_now
from audit.status import LogKind, Status
from audit.values import moments, validation

__all__ = ["MAX_REASON", "Decision", "Seen", "carry_out", "decide"]

MAX_REASON = 2000
"""How many characters a reason may have."""

_PATIENCE = timedelta(seconds=5)
_WRITTEN = re.compile(r"([0-9a-f]{32})\.([0-9]{1,10})(?:\.([0-9]{1,18})\.([0-9]{1,10}))?")
# A lock needs the columns that verbs look at, never a document of megabytes.
_DOCUMENTS = ("plan", "work_plan", "estimated_resources", "resources_used", "outcome", "suggestions", "origin")


class Decision(models.TextChoices):
    """What a person may decide about a task, or about the pause entry of one."""

    APPROVE = "approve", _("Approve")
    REJECT = "reject", _("Reject")
    RESUME = "resume", _("Resume")
    HOLD = "hold", _("Hold")
    DEFER = "defer", _("Defer")
    CANCEL = "cancel", _("Cancel the work")
    REQUEST_CANCEL = "request_cancel", _("Ask to stop")
    PAUSE = "pause", _("Pause")

    @property
    def on_entry(self) -> bool:
        """Whether it is about a pause entry."""
        return self in (Decision.RESUME, Decision.HOLD, Decision.DEFER, Decision.CANCEL)

    @property
    def lets_run(self) -> bool:
        """Whether work may go on because of it, now or later."""
        return self in (Decision.APPROVE, Decision.RESUME, Decision.DEFER)

    @property
    def ends(self) -> bool:
        """Whether it ends the work, or asks for that."""
        return self in (Decision.REJECT, Decision.CANCEL, Decision.REQUEST_CANCEL)

    @property
    def sources(self) -> tuple[Status, ...]:
        """The statuses that a task may be decided in."""
        if self == Decision.APPROVE:
            return (Status.PENDING,)
        if self == Decision.REJECT:
            return (Status.PENDING, Status.APPROVED, Status.PAUSED)
        if self == Decision.REQUEST_CANCEL:
            return (Status.EXECUTING,)
        if self == Decision.PAUSE:
            return (Status.APPROVED,)
        return (Status.PAUSED,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What somebody saw: a task at a revision and, for paused work, its entry at the entry's revision.

    Written as `<task>.<revision>` or `<task>.<revision>.<entry>.<entry's revision>`; `read` is the inverse.
    """

    task: UUID
    revision: int
    entry: int | None = None
    entry_revision: int = 0

    @classmethod
    def read(cls, text: str) -> Seen:
        """Read what `str` wrote.

        Raises:
            InvalidValue: nobody wrote it.
        """
        match = _WRITTEN.fullmatch(text)
        if match is None:
            raise InvalidValue("seen", text, "is not a task and the revision it was seen at")
        task, revision, entry, entry_revision = match.groups()
        return cls(
            task=UUID(task),
            revision=int(revision),
            entry=int(entry) if entry else None,
            entry_revision=int(entry_revision or 0),
        )

    def __str__(self) -> str:
        entry = "" if self.entry is None else f".{self.entry}.{self.entry_revision}"
        return f"{self.task.hex}.{self.revision}{entry}"


def decide(
    decision: str,
    seen: Seen,
    *,
    reason: str,
    actor: str,
    until: datetime | None = None,
    using: str | None = None,
    patience: timedelta = _PATIENCE,
) -> Task:
    """Carry out a decision if task and entry are still as they were seen. Otherwise change nothing.

    A rejection or a cancellation makes the reason the outcome, and a pause makes it the note of its entry. The other
    decisions write it to the log as a note, in the same transaction. Executing work that is asked to stop may have had
    heartbeats since it was seen; it counts as seen while its status lasts.

    Args:
        decision: a `Decision`.
        seen: what was decided about, and the revisions it was seen at.
        reason: why, in words; at most `MAX_REASON` characters.
        actor: who decides, as the application claims it.
        until: with `defer`, when the entry becomes due. With `pause`, when the work goes on by itself; without it, it
            is held.
        using: the alias to write through; the router's choice when left out.
        patience: how long to wait for another transaction that is changing the same task; rounded to milliseconds.

    Returns:
        The task as it is after the decision.

    Raises:
        StaleTask: task or entry changed since; the error has the current status and actor.
        OwnRequest: `AUDIT["DECIDE_OWN"]` is off, and the actor requested the task and would let it run.
        TaskFrozen, IllegalTransition: the status rules have no such step.
        InvalidValue: a reason, an actor or a moment that cannot be stored, or an entry missing or too many.
        Task.DoesNotExist: there is no such task.
        django.db.OperationalError: somebody else held the task for longer than `patience` (SQLSTATE 55P03).
    """
    if decision not in Decision.values:
        raise InvalidValue("decision", decision, f"must be one of {', '.join(Decision.values)}")
    what = Decision(decision)
    if what.on_entry != (seen.entry is not None):
        raise InvalidValue("seen", str(seen), f"{what} is about {'an entry' if what.on_entry else 'a task'}")
    validation.label("actor", actor)
    validation.label("reason", reason, max_length=MAX_REASON)
    if what == Decision.DEFER or (what == Decision.PAUSE and until is not None):
        _moment_or_span(until)
    db = using or router.db_for_write(Task)
    with transaction.atomic(using=db), _waiting(db, patience):
        # Task first, then entry: the order in which the verbs and the triggers take them.
        task = _locked(Task, db, *_DOCUMENTS).get(pk=seen.task)
        entry = None
        if seen.entry is not None:
            entry = _locked(PauseQueueEntry, db, "work_plan").filter(pk=seen.entry, task_id=task.pk).first()
        _as_seen(what, seen, task, entry, db)
        return carry_out(what, task, entry, reason=reason, actor=actor, until=until, using=db)


def carry_out(
    what: Decision,
    task: Task,
    entry: PauseQueueEntry | None,
    *,
    reason: str,
    actor: str,
    until: datetime | timedelta | None = None,
    using: str,
) -> Task:
    """Do what was decided about rows that were just read, and write the reason. Call it inside a transaction.

    Args:
        what: the decision.
        task: the task. For a decision about its entry, only its key and who requested it are needed.
        entry: its pause entry, if the decision is about one.
        reason: why. If it is empty, no note is written.
        actor: who decides.
        until: with `defer`, when the entry becomes due: a moment, or a span of time from now. With `pause`, when the
            work goes on by itself; without it, it is held.
        using: the alias to write through.

    Returns:
        The task. If the decision moved it, it equals its row.

    Raises:
        OwnRequest: `AUDIT["DECIDE_OWN"]` is off, and who requested the task would let it run.
        TaskFrozen, IllegalTransition, StaleTask: the status rules have no such step.
        InvalidValue: a reason or a moment that cannot be stored, or a moment that is past.
    """
    if what.lets_run and task.requested_by == actor and not conf.settings().DECIDE_OWN:
        raise OwnRequest(task.pk, actor)
    if what == Decision.REJECT:
        task.reject(reason=reason, actor=actor, using=using)
        return task
    if what == Decision.REQUEST_CANCEL:
        task.request_cancel(reason=reason, actor=actor, using=using)
        return task
    if what == Decision.PAUSE:
        if task.status != Status.APPROVED:  # the holder of a claim may pause it; this is somebody else
            hint = "Only approved work that has not begun can be paused. Ask executing work to stop."
            raise IllegalTransition(task.pk, task.status, Status.PAUSED, hint)
        resume_after = None if until is None else _ahead(until, using)
        task.pause(note=reason, resume_after=resume_after, actor=actor, using=using)
        return task
    detail = {"decision": str(what)}
    if what == Decision.APPROVE:
        task.approve(actor=actor, using=using)
    elif entry is None:
        raise InvalidValue("entry", None, f"must be given to {what} paused work")
    elif what == Decision.CANCEL:
        return entry.cancel(reason=reason, actor=actor, using=using)
    elif what == Decision.RESUME:
        task = entry.resume(actor=actor, using=using)
    elif what == Decision.HOLD:
        entry.hold(actor=actor, using=using)
    else:
        entry.defer(_ahead(until, using), actor=actor, using=using)
        detail["until"] = moments.with_zone(entry.due_at).isoformat()
    if reason:
        task.note(reason, detail=detail, actor=actor, using=using)
    return task


def _moment_or_span(until: object) -> datetime | timedelta:
    if isinstance(until, timedelta):
        return validation.span("until", until)
    return validation.moment("until", until, or_span=True)


def _ahead(until: object, using: str) -> datetime | timedelta:
    moment = _moment_or_span(until)
    if isinstance(moment, datetime) and moment <= database_now(using):
        raise InvalidValue("until", moment, "is past; name a moment to come, or a span from now")
    return moment


def _as_seen(what: Decision, seen: Seen, task: Task, entry: PauseQueueEntry | None, db: str) -> None:
    if what == Decision.REQUEST_CANCEL:
        # Each heartbeat raises the revision of executing work; what counts is whether its status is still the same.
        moves = ExecutionLog.objects.using(db).filter(task=task.pk, kind=LogKind.TRANSITION)
        changed = moves.filter(revision__gt=seen.revision).exists()
    else:
        changed = task.revision != seen.revision
    if changed:
        raise StaleTask(task.pk, seen.revision, task.revision, status=task.status, actor=task.actor)
    if seen.entry is None:
        return
    if entry is None:
        raise StaleTask(task.pk, seen.entry_revision, None, status=task.status, actor=task.actor, entry=True)
    if entry.revision != seen.entry_revision:
        raise StaleTask(task.pk, seen.entry_revision, entry.revision, status=task.status, actor=entry.actor, entry=True)


def _locked(model: type[models.Model], db: str, *documents: str) -> Any:
    # NO KEY: pause entries, whose foreign key takes KEY SHARE, need not wait.
    return model._base_manager.using(db).select_for_update(no_key=True).defer(*documents)


@contextmanager
def _waiting(db: str, patience: timedelta) -> Iterator[None]:
    """Wait for locks no longer than this, and put the caller's own limit back (a rollback does it too)."""
    with connections[db].cursor() as cursor:
        limit = f"{max(patience // timedelta(milliseconds=1), 1)}ms"
        cursor.execute("SELECT current_setting('lock_timeout'), set_config('lock_timeout', %s, true)", [limit])
        [(before, _limit)] = cursor.fetchall()
        yield
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])
