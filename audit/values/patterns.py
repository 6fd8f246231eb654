"""Names of actions that end in `*`, which mean every action that begins so."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Q

__all__ = ["covering", "like", "matching", "split"]


def covering(action: str) -> list[str]:
    """Return every name that means an action: itself, then the patterns that cover it, the closest first.

    Args:
        action: an action, or a pattern.
    """
    return [action, *(f"{action[:length]}*" for length in range(len(action), -1, -1))]


def split(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Separate actions from patterns; both keep their order."""
    given = list(names)
    return [each for each in given if not each.endswith("*")], [each for each in given if each.endswith("*")]


def matching(names: Iterable[str]) -> Q:
    """Return the condition of tasks that one of these names means."""
    exact, patterns = split(names)
    condition = Q(action__in=exact)
    for each in patterns:
        condition |= Q(action__startswith=each[:-1])
    return condition


def like(pattern: str) -> str:
    """Return a pattern as SQL's LIKE takes it."""
    beginning = pattern[:-1].replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"{beginning}%"
