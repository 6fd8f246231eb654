"""Readings of this machine: how much of CPU, memory and GPU is in use; what is unknown is None, never zero."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from audit.agents.cgroup import CgroupReading, Cgroups
from audit.agents.gpu import GpuUse, read_gpu

__all__ = ["Reader", "Reading", "read"]

_SHORTEST_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is in use, as ratios from 0 to 1 of what there is; None is unknown."""

    source: str
    """Where CPU and memory were read, joined by `+` if they differ: `cgroup2`, `cgroup1`, `host`; `nvml` of a GPU."""
    cpu: float | None = None
    memory: float | None = None
    gpu: float | None = None
    gpu_memory: float | None = None
    cpu_count: float | None = None
    """CPUs that may be used at once."""
    memory_bytes_total: int | None = None
    """Memory that may be used, in bytes."""
    gpu_memory_bytes_total: int | None = None
    """Memory of the GPU that was read, in bytes."""


class Reader:
    """Reads one machine again and again: CPU is what was used since its last reading, so the first has none.

    A control group with a limit counts before the machine, version 2 before version 1. Asked again within 0.1 s, it
    returns the same reading: so short a look would say nothing of CPU.

    Args:
        cgroups: the control groups.
        gpu: what has the functions of `pynvml`; the installed library when left out.
    """

    def __init__(self, cgroups: Cgroups | None = None, gpu: Any = None) -> None:
        self._cgroups = cgroups or Cgroups()
        self._gpu = gpu
        self._lock = threading.Lock()
        self._groups_before: dict[Path, CgroupReading] = {}
        self._host_before: Any = None
        self._last: Reading | None = None
        self._read_at = 0.0

    def read(self) -> Reading:
        """Read now."""
        with self._lock:
            if self._last is None or time.monotonic() - self._read_at >= _SHORTEST_SECONDS:
                self._last = self._read()
                self._read_at = time.monotonic()
            return self._last

    def _read(self) -> Reading:
        cpu_source, cpu, cpu_count = self._cpu()
        memory_source, memory, memory_total = self._memory()
        gpu: GpuUse | None = read_gpu(self._gpu)
        sources = dict.fromkeys([cpu_source, memory_source, *(["nvml"] if gpu else [])])
        return Reading(
            source="+".join(sources),
            cpu=_ratio(cpu),
            memory=_ratio(memory),
            gpu=_ratio(gpu.load) if gpu else None,
            gpu_memory=_ratio(gpu.memory) if gpu else None,
            cpu_count=cpu_count,
            memory_bytes_total=memory_total,
            gpu_memory_bytes_total=gpu.memory_total if gpu else None,
        )

    def _cpu(self) -> tuple[str, float | None, float | None]:
        """Source, ratio and number of CPUs; of several groups the one that is used most."""
        count = psutil.cpu_count()
        groups = {path: each for path, each in self._cgroups.cpu().items() if not count or each.quota < count}
        before, self._groups_before = self._groups_before, groups
        host_before, self._host_before = self._host_before, psutil.cpu_times()
        if groups:
            tightest = min(groups.values(), key=lambda each: each.quota)
            used = [
                (each.spent - before[path].spent) / (each.at - before[path].at) / each.quota
                for path, each in groups.items()
                if path in before and each.at > before[path].at
            ]
            return f"cgroup{tightest.version}", max(used, default=None), tightest.quota
        return "host", _busy(host_before, self._host_before), float(count) if count else None

    def _memory(self) -> tuple[str, float | None, int | None]:
        host = psutil.virtual_memory()
        group = self._cgroups.memory()
        if group and group.limit < host.total:
            return f"cgroup{group.version}", group.used / group.limit, group.limit
        return "host", 1 - host.available / host.total, host.total


def _busy(before: Any, after: Any) -> float | None:
    """The ratio of CPU time between two readings that was not idle."""
    if before is None:
        return None
    total = sum(after[:8]) - sum(before[:8])  # what follows on Linux (guests) is part of the others
    idle = after.idle + getattr(after, "iowait", 0.0) - before.idle - getattr(before, "iowait", 0.0)
    return 1 - idle / total if total > 0 else None


def _ratio(value: float | None) -> float | None:
    # Use is measured in bursts: for a moment it may be more than the quota.
    return None if value is None or math.isnan(value) else min(max(value, 0.0), 1.0)


_reader: Reader | None = None
_making = threading.Lock()


def read() -> Reading:
    """Read this machine. CPU is what was used since the last call in this process; the first call looks for 0.1 s."""
    global _reader
    with _making:
        if _reader is None:
            _reader = Reader()
            _reader.read()
            time.sleep(_SHORTEST_SECONDS)
    return _reader.read()
