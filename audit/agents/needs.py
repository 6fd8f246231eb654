"""What work needs of a machine, as its estimate says it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["KEYS", "RESOURCES", "UNESTIMATED", "needs_of"]

RESOURCES: dict[str, tuple[str, ...]] = {
    "cpu": ("cpu", "cpu_cores", "cpus"),
    "memory": ("memory_bytes", "peak_rss_bytes"),
    "gpu": ("gpu", "gpus"),
    "gpu_memory": ("gpu_vram_bytes", "gpu_memory_bytes"),
}
"""The resources of a reading, each with the keys of an estimate that ask for it: cores, bytes, GPUs, bytes."""

KEYS = tuple(key for keys in RESOURCES.values() for key in keys)
"""Every key of an estimate that asks for a resource."""

UNESTIMATED: Mapping[str, float | None] = {"cpu": None, "memory": None}
"""The needs of work without an estimate."""


def needs_of(estimate: Any) -> dict[str, float | None]:
    """Read what work needs.

    Of several keys for one resource the largest amount counts. Zero, false and null ask for nothing; what is no
    number asks for an amount that is unknown.

    Args:
        estimate: the `estimated_resources` of a task.

    Returns:
        The amount of each resource that is needed, None where it is unknown; CPU and memory without an estimate.
    """
    found: dict[str, float | None] = {}
    for resource, keys in RESOURCES.items():
        asked = [estimate[key] for key in keys if key in estimate] if isinstance(estimate, dict) else []
        wanted = [each for each in asked if each]
        if wanted:
            found[resource] = max((amount for each in wanted if (amount := _amount(each)) is not None), default=None)
    return found or dict(UNESTIMATED)


def _amount(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        amount = float(value)
    except OverflowError:
        return None
    return amount if math.isfinite(amount) and amount > 0 else None
