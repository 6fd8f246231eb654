"""What work used: wall time, CPU time and peak memory, of this process or of a child.

Note [What the peak means]
    `peak_rss_bytes` is the largest resident set of a single process, not a sum, and `peak_rss_source` says where it
    comes from. `kernel` is a high-water mark that rose during the work, so it belongs to the work. The kernel keeps
    one mark for the whole life of a process and hands the parent's on to a child (through fork, vfork and exec), so
    when the work stays below a mark that was there before, what is left is `sampled`: the largest value seen while
    looking, often at first and once a second later, a lower bound. On Linux a look at a child sees the mark of the
    program that it runs, which leaves out the parent; when the child has ended, it can no longer be read. For a child
    that was never seen in the second half of its life, or only while it was being loaded, `at_most` is the mark that
    it stayed below.

    CPU and memory of work inside a process are those of the whole process: threads and other work that run
    meanwhile count too. Only the wall time is the block's own.
"""

import contextlib
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

import psutil

__all__ = ["ChildMeter", "Meter"]

# ru_maxrss comes in bytes on macOS and in KiB elsewhere.
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
_LOADING_SECONDS = 0.01


class Meter:
    """Measures a stretch of this process's life, from the making of the meter to `used()`.

    Children count that were waited for meanwhile.

    Args:
        samples: whether to look at the resident set at the beginning and the end; otherwise the peak is 0 where the
            kernel does not know it.
    """

    __slots__ = ("_children", "_process", "_sampled", "_self", "_started")

    def __init__(self, *, samples: bool = True) -> None:
        self._process = psutil.Process() if samples else None
        self._sampled = 0
        self.sample()
        self._self = resource.getrusage(resource.RUSAGE_SELF)
        self._children = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._started = time.monotonic()

    def sample(self) -> int:
        """Look at the resident set now; returns it, in bytes."""
        seen: int = 0 if self._process is None else self._process.memory_info().rss
        self._sampled = max(self._sampled, seen)
        return seen

    def used(self) -> dict[str, Any]:
        """Return `wall_s`, `cpu_s` (seconds), `peak_rss_bytes`, `peak_rss_source`: Note [What the peak means]."""
        wall = time.monotonic() - self._started
        self.sample()
        own = resource.getrusage(resource.RUSAGE_SELF)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = _cpu(own) - _cpu(self._self) + _cpu(children) - _cpu(self._children)
        # A child's mark begins at its parent's: only a higher one is its own.
        marks = [own.ru_maxrss] if own.ru_maxrss > self._self.ru_maxrss else []
        if children.ru_maxrss > max(self._children.ru_maxrss, own.ru_maxrss):
            marks.append(children.ru_maxrss)
        return _used(wall, cpu, max(marks, default=0) * _MAXRSS_UNIT, self._sampled)

    def used_and(self, given: Any) -> Any:
        """Return `used()`, overlaid with what the work says itself if that is an object; anything else stays alone."""
        return self.used() | (given or {}) if given is None or isinstance(given, dict) else given


class ChildMeter:
    """Measures a child process; make the meter just before it starts, and call `started` just after."""

    __slots__ = ("_floor", "_sampled", "_seen_s", "_started")

    def __init__(self) -> None:
        self._floor = 0
        self._sampled = 0
        self._seen_s = 0.0
        self._started = time.monotonic()

    def started(self) -> None:
        """Note the mark that the child has from this process."""
        self._floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def sample(self, pid: int, *, descendants: bool = False) -> None:
        """Look at the child's peak now, and at those of its descendants if asked; a process that is gone is skipped."""
        pids = [pid]
        if descendants:
            with contextlib.suppress(psutil.Error):
                pids += [process.pid for process in psutil.Process(pid).children(recursive=True)]
        peaks = [_peak_of(each) for each in pids]
        if any(peaks):
            self._sampled = max(self._sampled, *peaks)
            self._seen_s = time.monotonic() - self._started

    def used(self, rusage: resource.struct_rusage) -> dict[str, Any]:
        """Return the same as `Meter.used`, from what `os.wait4` said of the child and those it waited for."""
        wall = time.monotonic() - self._started
        mark = rusage.ru_maxrss * _MAXRSS_UNIT
        if rusage.ru_maxrss > self._floor:
            return _used(wall, _cpu(rusage), mark, self._sampled)
        if self._seen_s < max(wall / 2, _LOADING_SECONDS):
            return _used(wall, _cpu(rusage), mark, 0) | {"peak_rss_source": "at_most"}
        return _used(wall, _cpu(rusage), 0, self._sampled)


def _cpu(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def _used(wall: float, cpu: float, mark: int, sampled: int) -> dict[str, Any]:
    return {
        "wall_s": round(wall, 6),
        "cpu_s": round(max(cpu, 0.0), 6),
        "peak_rss_bytes": mark or sampled,
        "peak_rss_source": "kernel" if mark else "sampled",
    }


_HIGH_WATER = re.compile(rb"^VmHWM:\s+(\d+) kB", re.MULTILINE)


def _peak_of(pid: int) -> int:
    """The high-water mark of the program a process runs now (Linux), else its resident set; in bytes, 0 when gone."""
    try:
        found = _HIGH_WATER.search(Path(f"/proc/{pid}/status").read_bytes())
        if found:
            return int(found[1]) * 1024
        rss: int = psutil.Process(pid).memory_info().rss
    except (OSError, psutil.Error):
        return 0
    return rss
