"""How much of what a control group allows is in use: of this process's group, or of one above it if that is tighter.

Note [Hierarchies]
    Version 2 has one hierarchy, version 1 one for each controller; a machine may have both, with a controller in one of
    them alone. A limit holds for all below, so each group from this process's up to the root is asked, and the one
    with the least left counts. Inside a container the root that is mounted is often the container's own group,
    while `/proc/self/cgroup` names it as the host sees it: a path that does not exist there is left out.

Note [Reclaimable cache]
    The kernel counts cached files as the group's memory, and drops them when memory is asked for. So what it would drop
    first (`inactive_file`) is not in use.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CgroupReading", "Cgroups", "MemoryUse"]

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """Memory of a group that has a limit."""

    used: int
    """Bytes in use, without what is reclaimed first."""
    limit: int
    """Bytes that it may use."""
    version: int
    """1 or 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupReading:
    """CPU of a group that has a quota."""

    spent: float
    """Seconds of CPU that it has used since it was made."""
    quota: float
    """CPUs that it may use at once."""
    at: float
    """When this was read, in seconds of `time.monotonic`."""
    version: int
    """1 or 2."""


class Cgroups:
    """The control groups of this process.

    Args:
        root: where they are mounted.
        membership: the file that names them.
    """

    def __init__(self, root: Path = ROOT, membership: Path = MEMBERSHIP) -> None:
        self._root = root
        self._membership = membership

    def memory(self) -> MemoryUse | None:
        """Read the group with the least memory left; None where none of them has a limit."""
        found = list(self._memory_2()) or list(self._memory_1())
        return min(found, key=lambda each: each.limit - each.used, default=None)

    def cpu(self) -> dict[Path, CgroupReading]:
        """Read each group that has a quota, by its directory; two readings of one give its use."""
        return dict(self._cpu_2()) or dict(self._cpu_1())

    def _memory_2(self) -> Iterator[MemoryUse]:
        for group in self._groups(""):
            limit, used = _number(group / "memory.max"), _number(group / "memory.current")
            if limit and used is not None:
                cached = _named(group / "memory.stat", "inactive_file") or 0
                yield MemoryUse(used=max(used - cached, 0), limit=limit, version=2)

    def _memory_1(self) -> Iterator[MemoryUse]:
        for group in self._groups("memory"):
            limit, used = _number(group / "memory.limit_in_bytes"), _number(group / "memory.usage_in_bytes")
            if limit and used is not None:
                cached = _named(group / "memory.stat", "total_inactive_file") or 0
                yield MemoryUse(used=max(used - cached, 0), limit=limit, version=1)

    def _cpu_2(self) -> Iterator[tuple[Path, CgroupReading]]:
        for group in self._groups(""):
            quota, _, period = (_text(group / "cpu.max") or "").partition(" ")
            spent = _named(group / "cpu.stat", "usage_usec")
            if quota.isdigit() and period.isdigit() and spent is not None:
                yield group, _reading(spent / 1e6, int(quota), int(period), 2)

    def _cpu_1(self) -> Iterator[tuple[Path, CgroupReading]]:
        for group in self._groups("cpu"):
            quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
            # The controllers are mounted together, or apart with the same groups below.
            below = Path(*group.relative_to(self._root).parts[1:])
            spent = _number(group / "cpuacct.usage") or _number(self._root / "cpuacct" / below / "cpuacct.usage")
            if quota and period and spent is not None:
                yield group, _reading(spent / 1e9, quota, period, 1)

    def _groups(self, controller: str) -> Iterator[Path]:
        """Yield this process's group and those above it; of version 2 where no controller is named."""
        for mounted, inside in self._mounts(controller):
            group = mounted / inside
            if not group.is_dir():
                group = mounted
            yield group
            while group != mounted:
                group = group.parent
                yield group

    def _mounts(self, controller: str) -> Iterator[tuple[Path, str]]:
        for line in (_text(self._membership) or "").splitlines():
            number, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            inside = path.strip("/")
            if ".." in inside.split("/"):
                inside = ""  # outside of what this container sees
            if not controller and number == "0" and not controllers:
                # Where version 1 has the controllers, version 2 is mounted beside them.
                yield self._root / "unified" if (self._root / "unified").is_dir() else self._root, inside
            elif controller and controller in controllers.split(","):
                places = [self._root / name for name in (controllers, controller)]
                yield from [(place, inside) for place in places if place.is_dir()][:1]


def _reading(spent: float, quota: int, period: int, version: int) -> CgroupReading:
    return CgroupReading(spent=spent, quota=quota / period, at=time.monotonic(), version=version)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


def _number(path: Path) -> int | None:
    """Read a whole number; None for `max`, -1 and what is not there."""
    text = _text(path)
    return int(text) if text and text.isdigit() else None


def _named(path: Path, name: str) -> int | None:
    for line in (_text(path) or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return None
