"""Where a claim begins to look, after one that had to read past many rows that were claimed before.

Note [Start]
    While somebody holds an old snapshot, VACUUM removes nothing, and each claim reads again past every row that was
    claimed before: 20 ms for 50 000, on a machine that claims in one. So the claim after one that took long counts what
    its index gives it. After one that was given many more rows than it took, claims of the same session and of the same
    rows begin where that one found its own, for at most four times as long as that one took, and at most a second. Then
    one looks at all again, and counts.

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

__all__ = ["SLOW_SECONDS", "SLOW_SECONDS_PER_ROW", "SessionClaims", "Start", "index_reads", "session_claims"]

_MANY = 1000
"""So many more rows than were taken are many."""
SLOW_SECONDS = 0.005
"""A claim that took so long is slow: the next one counts what it reads."""
SLOW_SECONDS_PER_ROW = 0.0001
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
    of: Any = None
    start: Start | None = None
    until: float = 0.0

    def start_for(self, of: Any) -> Start | None:
        """Return where a claim of these rows may begin now."""
        if self.start is not None and (self.of != of or time.monotonic() >= self.until):
            self.start = None
        return self.start

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
        self.counting = many or took > SLOW_SECONDS + SLOW_SECONDS_PER_ROW * len(rows)
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
