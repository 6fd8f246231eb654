"""A fact as pages list them: a label, and what stands beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Fact"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something in two words."""

    label: Any
    value: str
    title: str = ""
    """What it says when it is pointed at."""
    url: str = ""
