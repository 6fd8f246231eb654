"""What a handler used, in a child process: time and memory of the work itself, not of all the child ever did."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from audit.process.resources import Meter

__all__ = ["ChildMeter", "high_water", "resident"]

_CLEAR_PEAK = b"5"
_FIELD = re.compile(rb"^(VmHWM|VmRSS):\s+(\d+) kB", re.MULTILINE)


class ChildMeter:
    """Measures one attempt in this process, which runs nothing else meanwhile.

    The kernel's high-water mark of a process is for its whole life; on Linux it can be set back, so that it is the
    work's own. Elsewhere, and where that is not allowed, `Meter` says what it can.
    """

    def __init__(self) -> None:
        self._cleared = False
        if sys.platform == "linux":
            try:
                Path("/proc/self/clear_refs").write_bytes(_CLEAR_PEAK)
                self._cleared = True
            except OSError:
                pass
        self._meter = Meter(samples=not self._cleared)
        self.resident = 0
        """The resident set when it was used, in bytes; 0 where it is unknown."""

    def used(self) -> dict[str, Any]:
        """Return what `Meter.used` returns, with the peak of this process since the meter was made."""
        used = self._meter.used()
        peak, self.resident = _read("self", b"VmHWM", b"VmRSS") if self._cleared else (0, 0)
        if peak:
            # What rose above it is a process that the work waited for.
            other = used["peak_rss_bytes"] if used["peak_rss_source"] == "kernel" else 0
            used |= {"peak_rss_bytes": max(peak, other), "peak_rss_source": "kernel"}
        return used


def high_water(pid: int | str) -> int:
    """Return the largest resident set of a process since its mark was set back, in bytes; 0 where it is unknown."""
    return _read(pid, b"VmHWM")[0]


def resident(pid: int | str) -> int:
    """Return the resident set of a process, in bytes; 0 where it is unknown."""
    return _read(pid, b"VmRSS")[0]


def _read(pid: int | str, *names: bytes) -> list[int]:
    try:
        status = Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        status = b""
    found = {name: int(kib) * 1024 for name, kib in _FIELD.findall(status)}
    return [found.get(name, 0) for name in names]
