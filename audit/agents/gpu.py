"""What NVIDIA's driver says (`pip install django-task-audit[gpu]`): what is in use of a GPU, and by a process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

__all__ = ["GpuUse", "memory_of", "read_gpu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUse:
    """What is in use of one GPU; None where the driver does not say."""

    load: float | None
    """Of its time, 0 to 1."""
    memory: float | None
    """Of its memory, 0 to 1."""
    memory_total: int | None
    """Its memory in bytes."""


def read_gpu(library: Any = None) -> GpuUse | None:
    """Read each GPU, and return the one with the most memory left: a task that asks for one would get it.

    Args:
        library: what has the functions of `pynvml`; the installed one when left out.

    Returns:
        Its use; None without a GPU, its driver or the library.
    """
    if library is None:
        try:
            library = import_module("pynvml")
        except ImportError:
            return None
    try:
        library.nvmlInit()
    except library.NVMLError:
        return None
    try:
        return max(_each(library), key=_left, default=None)
    except library.NVMLError:
        return None
    finally:
        with contextlib.suppress(library.NVMLError):
            library.nvmlShutdown()


def _left(use: GpuUse) -> tuple[float, float]:
    memory = -1.0 if use.memory is None or use.memory_total is None else (1 - use.memory) * use.memory_total
    return memory, -1.0 if use.load is None else 1 - use.load


def _each(library: Any) -> Iterator[GpuUse]:
    def asked(question: Callable[[Any], Any], handle: Any) -> Any:
        try:
            return question(handle)
        except library.NVMLError:  # not every GPU answers every question
            return None

    for handle in _handles(library):
        rates = asked(library.nvmlDeviceGetUtilizationRates, handle)
        memory = asked(library.nvmlDeviceGetMemoryInfo, handle)
        yield GpuUse(
            load=None if rates is None else rates.gpu / 100,
            memory=memory.used / memory.total if memory and memory.total else None,
            memory_total=int(memory.total) if memory and memory.total else None,
        )


def _handles(library: Any) -> list[Any]:
    return [library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())]


def memory_of(pid: int) -> int | None:
    """Return the GPU memory that a process uses now, in bytes over all devices; None where it cannot be known."""
    library, devices = _devices()
    if not devices:
        return None
    used = 0
    try:
        for device in devices:
            for process in library.nvmlDeviceGetComputeRunningProcesses(device):
                if process.pid == pid and process.usedGpuMemory is not None:
                    used += process.usedGpuMemory
    except Exception:  # noqa: BLE001 - the driver's own errors; the number is a courtesy
        return None
    return used


@cache
def _devices() -> tuple[Any, list[Any]]:
    try:
        library = import_module("pynvml")
        library.nvmlInit()
        return library, _handles(library)
    except Exception:  # noqa: BLE001 - no library, no driver, no device
        return None, []
