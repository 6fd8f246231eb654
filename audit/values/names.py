"""Long names, cut so that they stay apart: those of one system begin alike, and often end alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os.path import commonprefix

__all__ = ["apart", "cut"]


def cut(name: str, limit: int) -> str:
    """Cut a name in the middle: a third of what is kept is its beginning, the rest its end.

    Args:
        name: any text.
        limit: characters at most, the ellipsis among them; at least 1.
    """
    if len(name) <= limit:
        return name
    head = (limit - 1) // 3
    return f"{name[:head]}…{name[len(name) - (limit - 1 - head) :]}"


def apart(names: Iterable[str], limit: int) -> Mapping[str, str]:
    """Cut names that stand in one list, each in the middle; those that would look alike show where they differ, too.

    Args:
        names: the names in full.
        limit: as for `cut`; at least 12.

    Returns:
        For each name its short form. Names that differ in several places may still look alike.
    """
    alike: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        alike.setdefault(cut(name, limit), []).append(name)
    return {
        name: short if len(group) == 1 else _around(name, len(commonprefix(group)), limit)  # noqa: RUF071 - of characters, as wanted
        for short, group in alike.items()
        for name in group
    }


def _around(name: str, place: int, limit: int) -> str:
    """Cut a name twice, and keep what stands at a place between its beginning and its end."""
    side = (limit - 2) // 4
    kept = limit - 2 - 2 * side
    at = min(max(place - kept // 4, side), len(name) - side - kept)
    return f"{name[:side]}…{name[at : at + kept]}…{name[len(name) - side :]}"
