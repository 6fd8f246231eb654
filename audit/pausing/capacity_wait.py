"""How long work that found no capacity waits before the next look."""

from __future__ import annotations

from datetime import timedelta

from audit import conf
from audit.values.backoff import backoff, span

__all__ = ["MOST_DOUBLINGS", "capacity_wait", "is_longest"]

MOST_DOUBLINGS = 20


def capacity_wait(times: int) -> timedelta:
    """Return how long to wait before the next look.

    Args:
        times: how often there was no capacity, at least 1.
    """
    return timedelta(seconds=backoff(*_spans(), min(times - 1, MOST_DOUBLINGS)))


def is_longest(times: int) -> bool:
    """Whether the wait after so many times was the longest."""
    first, longest = _spans()
    return span(first, longest, min(max(times - 1, 0), MOST_DOUBLINGS)) >= longest


def _spans() -> tuple[float, float]:
    now = conf.settings()
    return now.CAPACITY_BACKOFF_SECONDS, now.CAPACITY_BACKOFF_MAX_SECONDS
