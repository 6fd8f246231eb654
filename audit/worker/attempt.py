"""One attempt that runs, and what becomes of it."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from audit.values.failures import CANCELLED
from audit.worker.children import Child, Death
from audit.worker.ending import End, failed
from audit.worker.handlers import Handler
from audit.worker.run import Flags
from audit.worker.store import Claimed

__all__ = ["Attempt", "Give", "died", "end_to_store", "taken_apart"]

Give = Callable[["Attempt", str, dict[str, Any], Callable[[Any, Exception | None], None]], None]


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt that runs."""

    claimed: Claimed
    handler: Handler
    child: Child | None = None
    flags: Flags = field(default_factory=Flags)
    stop: Callable[[], None] = lambda: None
    started: float = field(default_factory=time.monotonic)
    deadline: float | None = None
    kill_at: float | None = None
    why: str = ""
    """Why the worker ends it: `timeout`, `shutdown` or `lost`; empty while it does not."""
    killed: bool = False
    ended: bool = False


def died(attempt: Attempt, death: Death) -> End:
    """Make the end of an attempt whose process is gone."""
    if attempt.why:
        return End(verb="stopped", resources=death.resources)
    error_type, summary, more = death.describe()
    end = failed(error_type, summary, **more)
    end.resources = death.resources
    return end


def end_to_store(attempt: Attempt, end: End) -> End:
    """Return the end that is stored: what becomes of work that the worker ended, or that a person asked to stop."""
    if end.verb == "release" and attempt.flags.cancelled:
        return _cancelled(end, "It was given back after a person had asked it to stop.")
    if end.verb != "stopped":
        return end
    if attempt.why == "timeout":
        how = "did not end then, and was killed" if attempt.killed else "was ended"
        said = f"The handler's time of {attempt.handler.timeout:g} s was over; it {how}."
        made = failed("Timeout", said)
    elif attempt.flags.cancelled:
        return _cancelled(end, "The worker ended it after a person had asked it to stop.")
    else:
        made = End(verb="release", arguments={"reason": "The worker stopped before the work was done."})
    made.resources = end.resources
    return made


def _cancelled(end: End, summary: str) -> End:
    made = failed(CANCELLED, summary)
    made.resources = end.resources
    return made


def taken_apart(problem: Exception | None) -> tuple[type[BaseException], dict[str, Any], tuple[Any, ...]] | None:
    """Take an exception apart, for the child to make it anew: its `args` often do not fit its constructor."""
    if problem is None:
        return None
    parts = (type(problem), dict(problem.__dict__), problem.args)
    try:
        pickle.loads(pickle.dumps(parts))  # noqa: S301 - of this very process
    except Exception:  # noqa: BLE001 - an exception that holds what cannot be sent
        return (RuntimeError, {}, (f"{type(problem).__name__}: {problem}",))
    return parts
