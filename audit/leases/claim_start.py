"""Where a claim begins to look, after one that had to read past many rows that were claimed before.

Note [Start]
    While somebody holds an old snapshot, VACUUM removes nothing, and each claim reads again past every row that was
    claimed before: 20 ms for 50 000, on a machine that claims in one. So the claim after one that took long counts what
    its index gives it. After one that was given many more rows than it took, claims of the same session and of the same
    rows begin where that one found its own, for at most four times as long as that one took, and at most a second. Then
    one looks at all again, and counts. A claim may be slow for another reason, such as a disk that takes its time for
    the commit: after one that counted few rows, none counts for a second.

    A row that becomes claimable in front of the start meanwhile (released, recovered, approved late) waits for so long,
    if there are others behind it. A claim that finds too few behind the start looks at all at once. Inside of a
    transaction there is no start: its rollback would bring rows back in front of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

from django.db.backends.base.base import BaseDatabaseWrapper

from audit.statements.rows import run

__all__ = ["SessionClaims", "Start", "index_reads", "session_claims"]

_MANY = 1000
"""So many more rows than were taken are many."""
_SLOW_SECONDS = 0.005
"""A claim that took so long is slow: the next one counts what it reads."""
_SLOW_SECONDS_PER_ROW = 0.0001
"""How much longer it may take for each row that it took."""
_TIMES_AS_LONG = 4
_LONGEST_SECONDS = 1.0
_PRIORITIES = range(1, 6)
_EARLIEST = datetime(2, 1, 1)  # noqa: DTZ001 - it gets the time zone of what it stands beside


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where to begin, for each priority in order."""

    due: list[datetime]
    ids: list[Any]


@dataclass(slots=True, kw_only=True)
class SessionClaims:
    """What the claims of a session have seen."""

    counting: bool = False
    """Whether the next claim that looks at all counts what it reads."""
    quiet_until: float = 0.0
    """Until when none counts, on the monotonic clock."""
    of: Any = None
    start: Start | None = None
    until: float = 0.0

    def start_for(self, of: Any) -> Start | None:
        """Return where a claim of these rows may begin now."""
        if self.start is not None and (self.of != of or time.monotonic() >= self.until):
            self.start = None
        return self.start

    def note(self, took: float, rows: int) -> None:
        """Let the next claim count if this one was slow.

        Args:
            took: how long it took, in seconds.
            rows: how many it took.
        """
        slow = took > _SLOW_SECONDS + _SLOW_SECONDS_PER_ROW * rows
        self.counting = slow and time.monotonic() >= self.quiet_until

    def learn(
        self,
        of: Any,
        rows: Sequence[tuple[int, datetime, Any]],
        *,
        at: datetime | None,
        lowest: Any,
        took: float,
        read: int,
    ) -> None:
        """Take the start from a claim that looked at all and counted, if it read past many rows.

        Args:
            of: which rows it claimed.
            rows: priority, due time and id of each, most urgent first.
            at: the moment of the claim. Priorities higher than the last row's were emptied up to this moment. None
                without rows.
            lowest: the lowest id.
            took: how long it took, in seconds.
            read: how many rows the index gave it.
        """
        many = read - len(rows) >= _MANY
        self.counting = many
        if not many:
            self.quiet_until = time.monotonic() + _LONGEST_SECONDS
        if not many or at is None:
            return
        priority, due, last = rows[-1]
        earliest = _EARLIEST.replace(tzinfo=due.tzinfo)
        self.of = of
        self.start = Start(
            due=[at if each < priority else due if each == priority else earliest for each in _PRIORITIES],
            ids=[last if each == priority else lowest for each in _PRIORITIES],
        )
        self.until = time.monotonic() + min(_TIMES_AS_LONG * took, _LONGEST_SECONDS)


def index_reads(using: str, index: str) -> int:
    """Return how many rows an index gave this session lately; the server starts counting anew now and then.

    Args:
        using: the alias of the database.
        index: its name.
    """
    [(reads,)] = run(using, "SELECT pg_stat_get_xact_tuples_returned(to_regclass(%s))", [index])
    return reads or 0


_sessions: WeakKeyDictionary[BaseDatabaseWrapper, SessionClaims] = WeakKeyDictionary()


def session_claims(connection: BaseDatabaseWrapper) -> SessionClaims:
    """Return what the claims through a connection have seen."""
    return _sessions.setdefault(connection, SessionClaims())
