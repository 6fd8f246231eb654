"""Every error this app raises on purpose, each with its data as attributes."""

from datetime import datetime
from uuid import UUID

from django.db import IntegrityError

from audit.values.terminal import brief

__all__ = [
    "AppendOnly",
    "ApprovalExpired",
    "AuditError",
    "ConflictingTask",
    "IllegalTransition",
    "InvalidFilter",
    "InvalidValue",
    "LeaseLost",
    "NotDurable",
    "OwnRequest",
    "StaleTask",
    "TaskFrozen",
]


class AuditError(Exception):
    """Base of every error of this app."""


class InvalidValue(AuditError, ValueError):
    """A value that the database cannot store, or that nobody could read back: `field`, `value`, `problem`."""

    def __init__(self, field: str, value: object, problem: str) -> None:
        self.field = field
        self.value = value
        self.problem = problem
        super().__init__(f"{field}: {problem} (got {brief(value)})")


class InvalidFilter(InvalidValue):
    """A filter that cannot be used: `field`, `value`, `problem`, which says what to write instead."""

    @classmethod
    def of(cls, error: InvalidValue) -> "InvalidFilter":
        """Take over what another check found."""
        return cls(error.field, error.value, error.problem)


class TaskFrozen(AuditError):
    """The task is finished, and a finished task never changes: `task_id`, `status`, `finished_at`."""

    def __init__(self, task_id: UUID, status: str, finished_at: datetime | None) -> None:
        self.task_id = task_id
        self.status = status
        self.finished_at = finished_at
        super().__init__(
            f"Task {task_id} has been {status} since {finished_at} and can no longer change. "
            "Add a note or a suggestion, or request a new task with this one as its parent."
        )


class LeaseLost(AuditError):
    """The caller no longer holds the claim it acts under: `task_id`, `status`, `claimed_by`, `claim_token`.

    `claim_token` is the token that the caller presented, `claimed_by` whoever holds the claim now, if anyone.
    """

    def __init__(self, task_id: UUID, status: str, claimed_by: str, claim_token: UUID | None) -> None:
        self.task_id = task_id
        self.status = status
        self.claimed_by = claimed_by
        self.claim_token = claim_token
        holder = f"now claimed by {claimed_by!r}" if claimed_by else "claimed by nobody"
        presented = f"token {claim_token} is no longer valid" if claim_token else "this instance holds no claim"
        super().__init__(
            f"Task {task_id} is {status}, {holder}; {presented}. "
            "Stop this work: its lease ran out, or its claim was released. Claim the task again to continue."
        )


class IllegalTransition(AuditError):
    """The status rules have no such step: `task_id`, `from_status`, `to_status` (empty if the verb leads to none)."""

    def __init__(self, task_id: UUID, from_status: str, to_status: str, hint: str = "") -> None:
        self.task_id = task_id
        self.from_status = from_status
        self.to_status = to_status
        message = f"Task {task_id} is {from_status}" + (f" and cannot become {to_status}." if to_status else ".")
        super().__init__(f"{message} {hint}" if hint else message)


class ApprovalExpired(IllegalTransition):
    """The time in which the task could be approved has passed: `task_id`, `from_status`, `to_status`, `deadline`."""

    def __init__(self, task_id: UUID, from_status: str, to_status: str, deadline: datetime | None) -> None:
        self.deadline = deadline
        super().__init__(
            task_id,
            from_status,
            to_status,
            f"Its deadline for approval was {deadline}. Request the work again, with this task as the parent.",
        )


class StaleTask(AuditError):
    """The row changed since this instance was read: `task_id`, `revision` (read), `current_revision`.

    For a pause entry, both revisions are the entry's. `current_revision` is None when the entry is gone; another entry
    may have taken its place. A decision that came too late also has the task's current `status` and the `actor` who
    changed it last.
    """

    def __init__(
        self,
        task_id: UUID,
        revision: int,
        current_revision: int | None,
        *,
        status: str = "",
        actor: str = "",
        entry: bool = False,
    ) -> None:
        self.task_id = task_id
        self.revision = revision
        self.current_revision = current_revision
        self.status = status
        self.actor = actor
        now = "is gone" if current_revision is None else f"is at revision {current_revision}"
        super().__init__(
            f"{'The pause entry of task' if entry else 'Task'} {task_id} {now}, but "
            f"this instance was read at revision {revision}. Nothing was saved. Read it again and decide again."
        )


class OwnRequest(AuditError):
    """Whoever requested a task may not decide that it runs (`AUDIT["DECIDE_OWN"]` is off): `task_id`, `actor`."""

    def __init__(self, task_id: UUID, actor: str) -> None:
        self.task_id = task_id
        self.actor = actor
        super().__init__(f"Task {task_id} was requested by {actor!r}, so somebody else must decide it.")


class ConflictingTask(AuditError):
    """A task with this id exists and says something else: `task_id`, `fields` (the names that differ)."""

    def __init__(self, task_id: UUID, fields: tuple[str, ...]) -> None:
        self.task_id = task_id
        self.fields = fields
        super().__init__(
            f"Task {task_id} already exists, with other content in: {', '.join(fields)}. "
            "Repeat the first request exactly, or use a new id."
        )


class AppendOnly(AuditError, IntegrityError):
    """The database refused to rewrite or remove history: `table`, `operation`; `__cause__` is its answer."""

    def __init__(self, table: str, operation: str, hint: str) -> None:
        self.table = table
        self.operation = operation
        super().__init__(f"{table} takes no {operation}. {hint}")


class NotDurable(AuditError, RuntimeError):
    """A record was opened inside a transaction. A rollback would remove the record."""
