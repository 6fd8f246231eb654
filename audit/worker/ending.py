"""Calls a handler, and says how it ended in a form that can be sent and stored.

Note [Ends of a handler]
    A handler that returns has done its work, also by `sys.exit(0)`. Any other exception is an error, `BaseException`
    too: the worker goes on. `run.pause`, `run.release` and `run.cancel` leave it by raising `Leave`. `Stopped` is
    raised into a handler that the worker ends.
"""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass, field
from typing import Any

from audit.context import actor
from audit.recording.fitting import fitted
from audit.values.failures import CANCELLED, failure_outcome
from audit.worker.handlers import Handler
from audit.worker.run import Leave, Run

__all__ = ["End", "Stopped", "call", "call_async", "failed", "returned"]


class Stopped(BaseException):
    """Raised into a handler that the worker ends."""


@dataclass(slots=True, kw_only=True)
class End:
    """How a handler ended."""

    verb: str
    """`complete`, `fail`, `pause`, `release`, `paused` (it is already), or `stopped` (the worker knows why)."""
    outcome: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    """Those of `pause`."""
    changes: list[str] = field(default_factory=list)
    """What was changed in the outcome so that it can be stored."""
    resources: dict[str, Any] | None = None


def call(handler: Handler, run: Run, worker: str) -> End:
    """Run a handler to its end; whatever it raises is in what is returned, but for `Stopped`."""
    try:
        with actor(worker):
            value = handler.function(run)
            if inspect.iscoroutine(value):
                value = asyncio.run(value)
        return returned(value)
    except Stopped:
        raise
    except BaseException as error:  # noqa: BLE001 - Note [Ends of a handler]
        return _raised(error)


async def call_async(handler: Handler, run: Run, worker: str) -> End:
    """Do the same with a coroutine function."""
    try:
        with actor(worker):
            value = await handler.function(run)
        return returned(value)
    except Stopped:
        raise
    except BaseException as error:  # noqa: BLE001 - Note [Ends of a handler]
        return _raised(error)


def returned(value: Any) -> End:
    """Make the end of a handler that returned this value."""
    if isinstance(value, End):
        return value
    if value is None:
        given: Any = {}
    elif isinstance(value, dict):
        given = value
    else:
        given = {"output_summary" if isinstance(value, str) else "result": value}
    outcome, changes = fitted("outcome", given, lambda made: {"success": True, **made})
    return End(verb="complete", outcome=outcome, changes=changes)


def failed(error_type: str, summary: str, **more: Any) -> End:
    """Make the end of work that failed without an exception of its own."""
    return End(verb="fail", outcome={"success": False, "error_type": error_type, "output_summary": summary, **more})


def _raised(error: BaseException) -> End:
    if isinstance(error, Leave) and error.verb == "cancel":
        return failed(CANCELLED, error.arguments["output_summary"])
    if isinstance(error, Leave):
        return End(verb=error.verb, arguments=error.arguments)
    if isinstance(error, SystemExit) and not error.code:
        return returned(None)
    outcome, changes = fitted("outcome", failure_outcome(error), redacted=False)
    return End(verb="fail", outcome=outcome, changes=changes)
