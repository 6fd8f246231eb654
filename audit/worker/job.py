"""One attempt that runs, and what becomes of it."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from audit.values.failures import CANCELLED
from audit.worker.books import Claimed
from audit.worker.children import Child, Death
from audit.worker.ending import End, failed
from audit.worker.handlers import Handler
from audit.worker.run import Flags

__all__ = ["Give", "Job", "died", "judged", "taken_apart"]

Give = Callable[["Job", str, dict[str, Any], Callable[[Any, Exception | None], None]], None]


@dataclass(slots=True, eq=False)
class Job:
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


def died(job: Job, death: Death) -> End:
    """Make the end of a job whose process is gone."""
    if job.why:
        return End(verb="stopped", resources=death.resources)
    error_type, summary, more = death.describe()
    end = failed(error_type, summary, **more)
    end.resources = death.resources
    return end


def judged(job: Job, end: End) -> End:
    """Say what becomes of work that the worker ended, and of work that a person has asked to stop."""
    if end.verb == "release" and job.flags.cancelled:
        return _cancelled(end, "It was given back after a person had asked it to stop.")
    if end.verb != "stopped":
        return end
    if job.why == "timeout":
        how = "did not end then, and was killed" if job.killed else "was ended"
        said = f"The handler's time of {job.handler.timeout:g} s was over; it {how}."
        made = failed("Timeout", said)
    elif job.flags.cancelled:
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
    """Take an exception apart so that the child can make it anew: their constructors take other arguments."""
    if problem is None:
        return None
    parts = (type(problem), dict(problem.__dict__), problem.args)
    try:
        pickle.loads(pickle.dumps(parts))  # noqa: S301 - of this very process
    except Exception:  # noqa: BLE001 - an exception that holds what cannot be sent
        return (RuntimeError, {}, (f"{type(problem).__name__}: {problem}",))
    return parts
