"""Whether a work plan is what remains of a plan: then nobody needs to approve it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["is_remainder"]

_STEPS = "steps"


def is_remainder(plan: Any, work_plan: Any) -> bool:
    """Whether a work plan asks for nothing that the plan does not.

    It is the plan, or the plan with steps left out: some elements of a list, in their order, or an object that is the
    same but for its list `steps`. Every other difference is a change, such as a list that says what to leave alone.

    Args:
        plan: the approved plan, parsed JSON.
        work_plan: what is said to remain of it, parsed JSON.
    """
    if isinstance(plan, list) and isinstance(work_plan, list | tuple):
        return _left_out(plan, work_plan)
    if isinstance(plan, dict) and isinstance(work_plan, dict) and plan.keys() == work_plan.keys():
        return all(
            _equal(each, work_plan[key])
            or (key == _STEPS and isinstance(each, list) and is_remainder(each, work_plan[key]))
            for key, each in plan.items()
        )
    return _equal(plan, work_plan)


def _left_out(steps: Sequence[Any], remaining: Sequence[Any]) -> bool:
    """Whether what remains are some of the steps, in their order."""
    ahead = iter(steps)
    return all(any(_equal(step, each) for step in ahead) for each in remaining)


def _equal(one: Any, other: Any) -> bool:
    """Compare as JSON does: to Python True is 1, and a tuple is not a list."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(each, other[key]) for key, each in one.items())
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
