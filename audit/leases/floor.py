"""Where a claim begins to look, after one that had to read past many rows that were claimed before.

Note [Floor]
    While somebody holds an old snapshot, VACUUM removes nothing, and each claim reads again past every row that was
    claimed before: 20 ms for 50 000, on a machine that claims in one. So a claim counts what its index gave it. After
    one that was given many more rows than it took, claims of the same session and of the same rows begin where that one
    found its own, for at most four times as long as that one took, and at most a second. Then one looks at all again.

    A row that becomes claimable in front of the floor meanwhile (released, recovered, approved late) waits for so long,
    if there are others behind it. A claim that finds too few behind the floor looks at all at once. Inside of a
    transaction there is no floor: its rollback would bring rows back in front of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["Floor", "Sight", "sight"]

_MANY = 1000
"""So many more rows than were taken are many."""
_TIMES_AS_LONG = 4
_LONGEST_SECONDS = 1.0
_PRIORITIES = range(1, 6)
_EARLIEST = datetime(2, 1, 1)  # noqa: DTZ001 - it gets the time zone of what it stands beside


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """Where to begin, for each priority in order."""

    due: list[datetime]
    ids: list[Any]


@dataclass(slots=True)
class Sight:
    """What the claims of a session have seen."""

    counted: int = 0
    of: Any = None
    floor: Floor | None = None
    until: float = 0.0

    def floor_of(self, of: Any) -> Floor | None:
        """Return where a claim of these rows may begin now."""
        if self.floor is not None and (self.of != of or time.monotonic() >= self.until):
            self.floor = None
        return self.floor

    def saw(self, counted: int | None) -> int:
        """Return how many rows the index gave since the last claim; the server starts counting anew now and then."""
        if counted is None:
            return 0
        before = self.counted if counted >= self.counted else 0
        self.counted = counted
        return counted - before

    def learn(
        self, of: Any, rows: Sequence[tuple[int, datetime, Any]], *, at: datetime, lowest: Any, read: int, took: float
    ) -> None:
        """Take the floor from a claim that looked at all, if it read past many rows.

        Args:
            of: which rows it claimed.
            rows: priority, due time and id of each, most urgent first; not empty.
            at: the moment of the claim: by then what was due of the priorities before the last row's was taken.
            lowest: the lowest id.
            read: how many rows the index gave it.
            took: how long it took, in seconds.
        """
        if read - len(rows) < _MANY:
            return
        priority, due, last = rows[-1]
        earliest = _EARLIEST.replace(tzinfo=due.tzinfo)
        self.of = of
        self.floor = Floor(
            due=[at if each < priority else due if each == priority else earliest for each in _PRIORITIES],
            ids=[last if each == priority else lowest for each in _PRIORITIES],
        )
        self.until = time.monotonic() + min(_TIMES_AS_LONG * took, _LONGEST_SECONDS)


_sights: WeakKeyDictionary[BaseDatabaseWrapper, Sight] = WeakKeyDictionary()


def sight(connection: BaseDatabaseWrapper) -> Sight:
    """Return what the claims through a connection have seen."""
    return _sights.setdefault(connection, Sight())
