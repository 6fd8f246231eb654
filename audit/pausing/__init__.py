"""Pauses work that no machine has room for, and resumes what is due and fits; `docs/agents.md` says by which rules."""

from audit.pausing.capacity import CapacityVerdict, capacity_here, check_capacity
from audit.pausing.gate import gate
from audit.pausing.pause_manager import PauseManager

__all__ = ["CapacityVerdict", "PauseManager", "capacity_here", "check_capacity", "gate"]
