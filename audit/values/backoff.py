"""How long to wait before something is tried again: a span that doubles, with jitter."""

from __future__ import annotations

import random

__all__ = ["backoff", "span"]


def span(first: float, longest: float, doublings: int) -> float:
    """Return the longest wait after so many doublings of the first, in seconds.

    Args:
        first: seconds before the first try.
        longest: seconds at most.
        doublings: how often it has doubled by now.
    """
    return min(first * 2.0 ** min(doublings, 60), longest)


def backoff(first: float, longest: float, doublings: int) -> float:
    """Return how long to wait, in seconds: half to the whole of `span`, so that what failed together comes back apart.

    Args:
        first: seconds before the first try.
        longest: seconds at most.
        doublings: how often it has doubled by now.
    """
    whole = span(first, longest, doublings)
    return random.uniform(whole / 2, whole)  # noqa: S311 - a wait, no secret
