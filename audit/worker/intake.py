"""What a worker takes in: when it claims, how much, and what waits for a place."""

from __future__ import annotations

import contextlib
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from audit.pausing import CapacityVerdict
from audit.worker.clerk import Clerk, is_away
from audit.worker.handlers import Handlers
from audit.worker.pace import Pace
from audit.worker.places import Places
from audit.worker.store import GONE, Claimed, Store
from audit.worker.summary import named
from audit.worker.upkeep import Upkeep

if TYPE_CHECKING:
    from audit.worker.worker import Worker

__all__ = ["Intake"]


class Intake:
    """The claims of a worker; all of it in the worker's own thread, unless it says otherwise.

    Args:
        worker: whose options count.
        handlers: what it runs, by action.
        store, upkeep, clerk, places: those of the worker.
        start: starts what was claimed, and has a place.
        unfinished: returns how many attempts run or are being stored.
        say: takes lines for the person.
    """

    def __init__(
        self,
        worker: Worker,
        handlers: Handlers,
        *,
        store: Store,
        upkeep: Upkeep,
        clerk: Clerk,
        places: Places,
        start: Callable[[Claimed], None],
        unfinished: Callable[[], int],
        say: Callable[[str], None],
    ) -> None:
        self._worker = worker
        self._handlers = handlers
        self._store = store
        self._upkeep = upkeep
        self._clerk = clerk
        self._places = places
        self._start = start
        self._unfinished = unfinished
        self._say = say
        self.open = False
        """Whether the worker has begun."""
        self.waiting: deque[Claimed] = deque()
        """What was claimed and has no place yet."""
        self.under_way = self.claimed_once = self.found_nothing = self._more = False
        self.hungry = True
        """Whether to look for work before it is time."""
        self.poll_at = 0.0
        """When it is time, on the monotonic clock."""
        self.pace = Pace()
        self._heard = self._found = False
        self._took = 0.0

    def look_at_once(self) -> None:
        """Look for work at once."""
        self.hungry = True

    def hear(self) -> None:
        """Look at once, because work was announced."""
        self.hungry = self._heard = True

    def look_anew(self) -> None:
        """Look at once, whatever the last look has found: work that has ended may have asked for more."""
        self.hungry, self.found_nothing = True, False

    def may_claim(self) -> bool:
        """Whether it could claim now, if it were time."""
        if not self.open or self.under_way or self.waiting or (self._worker.once and self.claimed_once):
            return False
        if self._worker.once and self._places.is_starting:
            return False  # its only claim fills every place
        return self._places.free > 0

    def claim(self) -> None:
        """Claim, if there is a reason to and a place."""
        if not self.may_claim():
            return
        if self._upkeep.draining:
            self.found_nothing = self.claimed_once = True
            self.poll_at = time.monotonic() + self._worker.poll_interval
            return
        if not (self.hungry or time.monotonic() >= self.poll_at):
            return
        limit = self._places.free
        if self._worker.batch is not None:
            limit = self._worker.batch
        if self._worker.max_tasks is not None:
            limit = min(limit, self._worker.max_tasks - self._worker.summary.ended - self._unfinished())
            if limit <= 0:
                self.poll_at = time.monotonic() + self._worker.poll_interval
                return
        self.under_way, self.hungry = True, False
        heard, self._heard = self._heard, False
        self.pace.looks()
        self._clerk.give(
            self._pause_short if self._upkeep.short else lambda: self._claimed(limit),
            partial(self._on_claimed, heard),
        )

    def _claimed(self, limit: int) -> list[Claimed]:
        """Claim, and keep what there is room for; in the clerk's thread."""
        began = time.monotonic()
        found = self._store.claim(list(self._handlers), limit)
        self._took, self._found = time.monotonic() - began, bool(found)
        verdicts: dict[Claimed, CapacityVerdict] = {}
        with contextlib.suppress(Exception):  # then each is asked about by itself, and its error is reported
            verdicts = self._upkeep.verdicts(found)
        fates = [self._fate(each, verdicts.get(each)) for each in found]
        # What was given back would come again at once.
        self._more = len(found) >= limit and "released" not in fates
        self.found_nothing = all(fate == "released" for fate in fates)
        return [each for each, fate in zip(found, fates, strict=True) if fate == "runs"]

    def _fate(self, claimed: Claimed, verdict: CapacityVerdict | None) -> str:
        fate = "runs"
        try:
            fate = self._upkeep.fate(claimed, verdict)
        except GONE:
            self._say(f"{named(claimed.task)}: its lease was lost before it started.")
            fate = "lost"
        except Exception as error:  # noqa: BLE001 - a gate of the project's own; the work does not wait for its mistakes
            if not is_away(error):
                self._say(f"{named(claimed.task)}: the capacity gate failed, and it runs: {error!r}")
        if fate != "runs":
            self._store.forget(claimed)
        return fate

    def _pause_short(self) -> list[Claimed]:
        """Claim nothing, and pause what no agent has room for; in the clerk's thread."""
        self._upkeep.pause_short()
        self._more, self.found_nothing = False, True
        return []

    def _on_claimed(self, heard: bool, claimed: Sequence[Claimed] | None, problem: Exception | None) -> None:
        self.under_way = False
        self.poll_at = time.monotonic() + self._worker.poll_interval * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
        if problem is not None:
            self.hungry = self._clerk.away
            if not self._clerk.away:
                self._say(f"The claim was refused: {problem}")
            return
        if not self._upkeep.short:
            self.pace.looked(self._took, found=self._found, heard=heard)
        found = claimed or []
        self.claimed_once = True
        # There may be more; otherwise the next look is in time.
        if self._more:
            self._heard = True
            pause = self.pace.pause_for_more()
            self.poll_at = min(self.poll_at, time.monotonic() + pause)
            self.hungry = self.hungry or not pause
        self.waiting.extend(found)

    def start_waiting(self) -> None:
        """Start what was claimed and has waited for a place."""
        for claimed in list(self.waiting):
            handler = self._handlers.of(claimed.task)
            if claimed.lost:
                self.waiting.remove(claimed)
                self._store.forget(claimed)
            elif self._places.can_run(handler):
                self.waiting.remove(claimed)
                self._start(claimed)
