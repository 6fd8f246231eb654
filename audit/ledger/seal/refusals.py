"""Why nothing is sealed."""

from audit.exceptions import AuditError

__all__ = ["Busy", "CannotSeal", "RefusesToSeal"]


class CannotSeal(AuditError):
    """What was given is nothing to seal with, or nothing can be sealed now: `problem`. Nothing was changed."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class RefusesToSeal(CannotSeal):
    """Signing on would hide something: `problem`. Nothing was changed."""


class Busy(CannotSeal):
    """Another session holds what the sealer needs, as another sealer does: `problem`. Nothing was changed."""
