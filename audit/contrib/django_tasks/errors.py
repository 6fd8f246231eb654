"""Errors of tasks that ended without an exception of their own."""

from audit.exceptions import AuditError

__all__ = ["TaskLost", "TaskRejected"]


class TaskRejected(AuditError):
    """A person refused the task; it never ran to its end."""


class TaskLost(AuditError):
    """The task ended without an exception: its process died, or its workers lost it."""
