"""Names of actions that end in `*`, which mean every action that begins so."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["covering", "like", "split"]


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


def like(pattern: str) -> str:
    """Return a pattern as SQL's LIKE takes it."""
    beginning = pattern[:-1].replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"{beginning}%"
