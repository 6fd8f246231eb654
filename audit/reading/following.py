"""Following tasks as they happen: each change of a status once, and none lost, however late its transaction commits.

Note [Late commits]
    Rows of the log appear when their transaction commits, in another order than that of their ids and stamps, so "newer
    than the last one" would lose those that come late. Each look takes a snapshot before it reads. What cannot be seen
    at that snapshot belongs to a transaction at or above its xmin. A transaction that got its number after an earlier
    look, at or above that look's xmax, has written nothing older than what was newest then. So the next look reads
    again from the last look whose xmax is not above the present xmin, and passes over the rows it knows. `_OVERLAP` is
    for stamps that lie a little before the write, and for a replica, which sees transactions in the order of its log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.db import connections

from audit.models import ExecutionLog, Task
from audit.status import LogKind
from audit.values import moments

if TYPE_CHECKING:
    from audit.models.querysets.task import TaskQuerySet

__all__ = ["LONGEST", "Change", "Follower"]

LONGEST = timedelta(minutes=10)
"""How far back it looks at the most. Rows of a transaction that stays open for longer may be passed over."""

_OVERLAP = timedelta(seconds=10)
_PAIRS = 10_000
_DETAILS = 500

_SNAPSHOT = """
SELECT pg_snapshot_xmin(now)::text, pg_snapshot_xmax(now)::text,
    coalesce((SELECT max(at) FROM audit_executionlog), statement_timestamp())
FROM pg_current_snapshot() AS now
"""
# Nothing but the columns of the index audit_executionlog_at.
_WINDOW = "SELECT at, id FROM audit_executionlog WHERE (at, id) > (%s, %s) ORDER BY at, id LIMIT %s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A status that changed, as the log has it, and its task as it stands now."""

    row: ExecutionLog
    task: Task


class Follower:
    """Finds what changed since it looked last; see Note [Late commits].

    Whatever a look raises, the next one goes on behind the last change that was reported whole, also through a new
    connection.

    Args:
        using: the database alias.
        narrow: narrows the queryset of all tasks to those that are followed; asked anew at every look.
        statuses: reports only changes to one of these; of all when left out.
    """

    def __init__(
        self, using: str, narrow: Callable[[TaskQuerySet], TaskQuerySet], statuses: Sequence[str] = ()
    ) -> None:
        self._using = using
        self._narrow = narrow
        self._statuses = statuses
        self._seen: dict[int, datetime] = {}
        self._looks: deque[tuple[int, datetime]] = deque()

    def start(self) -> None:
        """Look without telling: whatever can be seen now is not news."""
        _xmin, xmax, newest = self._snapshot()
        self._looks = deque([(0, newest - LONGEST), (xmax, newest)])
        self._seen = {key: at for at, key in self._window(newest - LONGEST)}

    def look(self) -> Iterator[Change]:
        """Yield the changes that came since, in the order of their ids as far as they came together."""
        xmin, xmax, newest = self._snapshot()
        _xmax, known = self._looks[0]
        since = max(known - _OVERLAP, newest - LONGEST)
        fresh = {key: at for at, key in self._window(since) if key not in self._seen}
        keys = sorted(fresh)
        for start in range(0, len(keys), _DETAILS):
            part = keys[start : start + _DETAILS]
            for change in self._changes(part):
                self._seen[change.row.pk] = fresh[change.row.pk]
                yield change
            self._seen.update({key: fresh[key] for key in part})
        self._looks.append((xmax, newest))
        while self._looks[1][0] <= xmin:
            self._looks.popleft()
            if len(self._looks) == 1:
                break
        oldest = max(self._looks[0][1] - _OVERLAP, newest - LONGEST)
        self._seen = {key: at for key, at in self._seen.items() if at >= oldest}

    def _snapshot(self) -> tuple[int, int, datetime]:
        with moments.aware(self._using), connections[self._using].cursor() as cursor:
            cursor.execute(_SNAPSHOT)
            [(xmin, xmax, newest)] = cursor.fetchall()
        return int(xmin), int(xmax), newest

    def _window(self, since: datetime) -> Iterator[tuple[datetime, int]]:
        place = (since, 0)
        with moments.aware(self._using), connections[self._using].cursor() as cursor:
            while True:
                cursor.execute(_WINDOW, [*place, _PAIRS])
                pairs = cursor.fetchall()
                yield from pairs
                if len(pairs) < _PAIRS:
                    return
                place = pairs[-1]

    def _changes(self, keys: list[int]) -> Iterator[Change]:
        rows = ExecutionLog.objects.using(self._using).filter(pk__in=keys, kind=LogKind.TRANSITION)
        if self._statuses:
            rows = rows.filter(to_status__in=self._statuses)
        found = list(rows.order_by("id"))
        tasks = self._narrow(Task.objects.using(self._using)).in_bulk({row.task_id for row in found})
        for row in found:
            if task := tasks.get(row.task_id):
                yield Change(row=row, task=task)
