"""Questions to the pause queue, and the claim of what is due."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from asgiref.sync import sync_to_async
from django.core.exceptions import EmptyResultSet
from django.db import models
from django.db.models.functions import Now

from audit.leases.arguments import claim_arguments
from audit.leases.claim import ENTRIES, claim
from audit.leases.queryset_where import queryset_where

if TYPE_CHECKING:
    from audit.models import PauseQueueEntry

__all__ = ["PauseQueueManager", "PauseQueueQuerySet"]


class PauseQueueQuerySet(models.QuerySet["PauseQueueEntry"]):
    """What `PauseQueueEntry.objects` and its querysets offer."""

    def due(self) -> Self:
        """Narrow to entries that are not held and whose time has come."""
        return self.filter(held=False, due_at__lte=Now())

    def listed(self) -> Self:
        """Order by due time, through an index of its own for `held` true or false (see `PauseQueueEntry.Meta`)."""
        return self.filter(id__gt=0).order_by("due_at", "id")

    def claim(self, worker: str, limit: int = 1, lease: timedelta | None = None) -> list[PauseQueueEntry]:
        """Lease due entries to a worker, each to one worker at a time (SKIP LOCKED).

        The worker then calls `resume`, `defer`, `hold`, `cancel` or `release` on each entry. If the worker dies, the
        entry is due again when the lease has run out. Filters narrow a claim, as they do for tasks.

        Args:
            worker: the name of the worker.
            limit: how many entries at most.
            lease: how long the claim lasts; `AUDIT["LEASE_SECONDS"]` when left out.

        Returns:
            The claimed entries, most urgent first.

        Raises:
            InvalidValue: an empty worker, a limit or lease that is not positive.
        """
        given = claim_arguments(worker, limit, lease)
        self._for_write = True
        try:
            where, params = queryset_where(self, self.db, "claim")
        except EmptyResultSet:
            return []
        return claim(self.model, ENTRIES, self.db, given, where=where, params=params)

    async def aclaim(self, *args: Any, **kwargs: Any) -> list[PauseQueueEntry]:
        """Claim from async code; see `claim`."""
        return await sync_to_async(self.claim)(*args, **kwargs)


PauseQueueManager = models.Manager.from_queryset(PauseQueueQuerySet, "PauseQueueManager")
