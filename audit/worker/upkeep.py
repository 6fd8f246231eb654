"""What every worker does beside its work, regularly and in bounded passes: no leader is needed for it."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from typing import Any

from django.db import connections

from audit.models import Task

__all__ = ["OwnName", "Upkeep"]

_LIMIT = 100
_JITTER = (0.75, 1.25)


class Upkeep:
    """The passes, each with the moment at which it is due.

    Args:
        using: the alias of the database.
        recover_seconds: between two looks for expired leases.
    """

    def __init__(self, using: str, recover_seconds: float) -> None:
        self._using = using
        self._passes: list[tuple[Callable[[], str], float]] = [(self._recover, recover_seconds)]
        self._due = [0.0 for _ in self._passes]

    def wakes_at(self) -> float:
        """When the next pass is due, on the monotonic clock."""
        return min(self._due)

    def due(self) -> list[Callable[[], str]]:
        """Return the passes that are due now; each returns a line for the person, or nothing."""
        now = time.monotonic()
        found = []
        for index, (each, seconds) in enumerate(self._passes):
            if self._due[index] <= now:
                self._due[index] = now + seconds * random.uniform(*_JITTER)  # noqa: S311 - a wait, no secret
                found.append(each)
        return found

    def _recover(self) -> str:
        try:
            from audit.recovery import recover
        except ImportError:
            recovered = Task.objects.using(self._using).recover_expired(limit=_LIMIT)
            return f"Recovered {len(recovered)} expired leases." if recovered else ""
        return str(recover(limit=_LIMIT, using=self._using))

    def take_over(self, name: str) -> str:
        """Give back what the last worker of a name left executing; only under the lock of `OwnName`."""
        try:
            from audit.recovery import recover
        except ImportError:
            return ""
        return str(recover(worker=name, limit=_LIMIT, using=self._using))


class OwnName:
    """The advisory lock on a worker's name, held by the session of its clerk as long as that lasts.

    Who holds it is the only worker of the name, so executing work of the name that it has not claimed is left from
    before a restart. Behind a pooler that lends sessions out, the lock would prove nothing, and is not taken.
    """

    def __init__(self, using: str, name: str) -> None:
        self._using = using
        self._key = int.from_bytes(hashlib.sha256(b"audit_worker\0" + name.encode()).digest()[:8], signed=True)

    def take(self) -> bool:
        """Try to take the lock; returns whether this session holds it."""
        connection: Any = connections[self._using]
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            if cursor.fetchone()[0] != connection.connection.info.backend_pid:
                return False
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [self._key])
            return bool(cursor.fetchone()[0])
