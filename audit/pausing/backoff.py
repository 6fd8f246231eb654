"""How long work that found no capacity waits before the next look."""

from __future__ import annotations

import random
from datetime import timedelta

from audit import conf

__all__ = ["MOST_DOUBLINGS", "backoff", "longest"]

MOST_DOUBLINGS = 20


def backoff(times: int) -> timedelta:
    """Return how long to wait before the next look, with jitter: half to the whole of a span that doubles.

    Args:
        times: how often there was no capacity, at least 1.
    """
    now = conf.settings()
    span = min(now.CAPACITY_BACKOFF_SECONDS * 2 ** min(times - 1, MOST_DOUBLINGS), now.CAPACITY_BACKOFF_MAX_SECONDS)
    return timedelta(seconds=random.uniform(span / 2, span))  # noqa: S311 - a wait, no secret


def longest(times: int) -> bool:
    """Whether the wait after so many times was the longest."""
    now = conf.settings()
    grown = now.CAPACITY_BACKOFF_SECONDS * 2 ** min(max(times - 1, 0), MOST_DOUBLINGS)
    return bool(grown >= now.CAPACITY_BACKOFF_MAX_SECONDS)
