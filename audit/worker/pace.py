"""How soon a worker looks for work once it hears of some.

Note [Looks in vain]
    Every idle worker hears each notification. If all looked at once, one would find the work, and the others would pay
    for a claim that finds nothing. So a worker waits for a random time first. The longest time grows with each look in
    vain and shrinks with each that finds something: a worker that is alone looks at once, and of many that are idle the
    first one takes what there is. What is announced while a worker waits is found by one look, together.

    Two looks keep a distance. Where claims read past many dead rows, because somebody holds an old snapshot, a look in
    vain is expensive, and the distance grows with what it cost. Work that polling would find is found in any case.
"""

from __future__ import annotations

import random
import time

__all__ = ["LONGEST_SPREAD_SECONDS", "Pace"]

_DISTANCE_SECONDS = 0.02
_FIRST_SPREAD_SECONDS = 0.005
LONGEST_SPREAD_SECONDS = 0.1
"""Of several idle workers, the first usually looks within half of this time."""
_TIMES_AS_LONG = 4
_LONGEST_DISTANCE_SECONDS = 0.5


class Pace:
    """What the looks of one worker have found, and how long the next notification waits for its look."""

    def __init__(self) -> None:
        self._spread = 0.0
        self._next = 0.0
        """The moment before which no notification makes it look, on the monotonic clock."""

    def pause(self) -> float:
        """Seconds from now until a notification that came just now is looked after; called in any thread."""
        return max(random.uniform(0, self._spread), self._next - time.monotonic())  # noqa: S311 - a wait, no secret

    def pause_for_more(self) -> float:
        """Seconds until it looks again after a claim that found as much as it asked for."""
        return self.pause() if self._spread else 0.0

    def looks(self) -> None:
        """Note that a look begins."""
        self._next = time.monotonic() + _DISTANCE_SECONDS

    def looked(self, seconds: float, *, found: bool, heard: bool) -> None:
        """Note what a look found.

        Args:
            seconds: how long its query took.
            found: whether it found work.
            heard: whether a notification had made it look, or that it might find more.
        """
        if not found:
            distance = min(_TIMES_AS_LONG * seconds, _LONGEST_DISTANCE_SECONDS)
            self._next = max(self._next, time.monotonic() + distance)
        if not heard:
            return
        if found:
            self._spread = self._spread / 2 if self._spread > _FIRST_SPREAD_SECONDS else 0.0
        else:
            self._spread = min(max(2 * self._spread, _FIRST_SPREAD_SECONDS), LONGEST_SPREAD_SECONDS)
