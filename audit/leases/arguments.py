"""The arguments of the claims: worker, limit and lease."""

from datetime import timedelta
from typing import NamedTuple

from audit import conf
from audit.context import get_actor
from audit.exceptions import InvalidValue
from audit.values import validation

__all__ = ["ClaimArguments", "claim_arguments", "lease_of"]


class ClaimArguments(NamedTuple):
    """Who claims how much, checked."""

    worker: str
    """Whose claim it is."""
    limit: int
    """How many rows at most."""
    lease: timedelta
    """How long it lasts without a heartbeat."""
    actor: str
    """Who acts."""


def claim_arguments(worker: str, limit: int, lease: timedelta | None) -> ClaimArguments:
    """Check worker, limit and lease, and return them with the actor: the named one, else the worker.

    Raises:
        InvalidValue: an empty worker, a limit or lease that is not positive.
    """
    validation.label("worker", worker)
    return ClaimArguments(worker, validation.whole("limit", limit), lease_of(lease), get_actor() or worker)


def lease_of(lease: timedelta | None) -> timedelta:
    """Return the lease, or the configured one when there is none.

    Raises:
        InvalidValue: not a timedelta, or not positive.
    """
    if lease is None:
        return timedelta(seconds=conf.settings().LEASE_SECONDS)
    if not isinstance(lease, timedelta) or not timedelta(0) < lease <= timedelta(seconds=conf.LONGEST_S):
        raise InvalidValue("lease", lease, "must be a timedelta between zero and ten years")
    return lease
