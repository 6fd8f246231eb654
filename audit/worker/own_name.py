"""Takes over what the last worker of this name left, before its leases run out.

Note [One name]
    Every worker holds a shared advisory lock on its name, in the session of its clerk, from before its first claim.
    Whoever can have the lock for itself alone has no other worker of its name beside it. But a session also ends when
    somebody cuts it or the server restarts, and its process lives on: that one is back in `QUIET_SECONDS`, or cannot
    reach the database. Where the network drops what it is given, the server keeps the session, and the lock with it.
    So a claim is taken over only when, for that long, every look found this worker alone, and the claim there with the
    same token and a lease that nobody prolonged. Claims of this process are never taken. While two workers of one name
    live, neither takes over, and leases decide. A worker that nobody gave a name has that of its process, which never
    comes back: it takes nothing over.

    Behind a pooler that lends sessions out, a lock would prove nothing. It is not taken there, and leases decide.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections

from audit import conf
from audit.leases.recover_sql import own_sql, release_own_sql
from audit.leases.wakeup import ANY, announce
from audit.recovery import ACTOR
from audit.statements.connections import is_direct
from audit.statements.rows import run

__all__ = ["QUIET_SECONDS", "OwnName"]

QUIET_SECONDS = 10.0
"""Longer than a worker needs to notice that its session was cut and to open another one."""
_LOOKS = 4
_LIMIT = 100

_Claim = tuple[UUID, UUID, datetime]

_NOT_MINE = "AND task.claim_token <> ALL (%s::uuid[])"
_ALONE = "AND (SELECT pg_try_advisory_xact_lock(%s))"
_UNCHANGED = (
    "AND (task.id, task.claim_token, task.lease_expires_at)"
    " IN (SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::timestamptz[]))"
)


class OwnName:
    """The lock on a worker's name, and what it allows; all of it in the clerk's thread.

    Args:
        using: the alias of the database.
        name: of the worker.
        tokens: returns the claim tokens of all that this process works on.
    """

    def __init__(self, using: str, name: str, tokens: Callable[[], Collection[UUID]]) -> None:
        self._using = using
        self._name = name
        self._tokens = tokens
        digest = hashlib.sha256(b"audit_worker\0" + name.encode()).digest()
        self._key = int.from_bytes(digest[:8], "big", signed=True)
        self._session: Any = None
        self._seen: set[_Claim] = set()
        self._since = 0.0

    def hold(self) -> bool:
        """Take the shared lock in this session; returns whether it is held, which a pooler prevents."""
        self._seen = set()
        self._session = None
        if not is_direct(self._using):
            return False
        run(self._using, "SELECT pg_advisory_lock_shared(%s)", [self._key])
        self._session = connections[self._using].connection
        return True

    def next_look(self, usual: float) -> float:
        """Seconds until the next look: `usual`, or less while something may have to be taken over."""
        return QUIET_SECONDS / _LOOKS if self._seen else usual

    def take_over(self) -> list[UUID]:
        """Look for claims that a dead worker of this name left; returns those that were taken over by this look."""
        if self._session is None or self._session is not connections[self._using].connection:
            return []  # this session does not hold the lock yet, or cannot
        left = self._left()
        now = time.monotonic()
        if not self._seen or not left & self._seen:
            self._seen, self._since = left, now
            return []
        self._seen &= left
        if now - self._since < QUIET_SECONDS:
            return []
        taken, self._seen = self._take(self._seen), set()
        return taken

    def _left(self) -> set[_Claim]:
        [(alone,)] = run(self._using, "SELECT pg_try_advisory_xact_lock(%s)", [self._key])
        if not alone:
            return set()
        sql = own_sql(_LIMIT, _NOT_MINE, "task.id, task.claim_token, task.lease_expires_at")
        return {(key, token, end) for key, token, end in run(self._using, sql, [self._name, list(self._tokens())])}

    def _take(self, claims: set[_Claim]) -> list[UUID]:
        # In one statement of its own transaction: whoever waits for the shared lock waits no longer than that.
        sql = release_own_sql(_LIMIT, conf.settings().MAX_EXPIRIES, f"{_UNCHANGED} {_ALONE}")
        ids, tokens, ends = (list(column) for column in zip(*claims, strict=True))
        taken = [key for (key,) in run(self._using, sql, [self._name, ids, tokens, ends, self._key, ACTOR])]
        if taken:
            announce(self._using, [ANY])
        return taken
