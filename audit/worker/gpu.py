"""GPU memory of a process, where NVIDIA's library (`nvidia-ml-py`) and a device are there."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

__all__ = ["gpu_memory"]


def gpu_memory(pid: int) -> int | None:
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
        return library, [library.nvmlDeviceGetHandleByIndex(each) for each in range(library.nvmlDeviceGetCount())]
    except Exception:  # noqa: BLE001 - no library, no driver, no device
        return None, []
