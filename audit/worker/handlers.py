"""Handlers: what a worker runs for an action, found in the `audit_handlers.py` of each installed app."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction
from django.utils.module_loading import autodiscover_modules

from audit import conf
from audit.exceptions import AuditError, InvalidValue
from audit.values import validation
from audit.values.backoff import backoff
from audit.values.patterns import covering

__all__ = ["ISOLATIONS", "Handler", "Handlers", "choose", "discover", "handler", "register", "registered", "seconds"]

ISOLATIONS = ("process", "thread", "async")
"""Where a handler runs: in a child process, in a thread of the worker, or in the worker's event loop."""

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_FILE = "audit_handlers.py"
_registry: dict[str, Handler] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """What runs for an action, and how."""

    action: str
    function: Callable[..., Any]
    labels: frozenset[str]
    """What a worker must offer to run it."""
    max_attempts: int
    """How many attempts may end in an error before the task fails; 1 retries nothing."""
    timeout: float | None
    """Seconds after which an attempt is ended."""
    backoff: float
    """Seconds before the first retry; each further one waits twice as long."""
    max_backoff: float
    """The longest wait before a retry, in seconds."""
    isolation: str
    """One of `ISOLATIONS`."""
    refine: Callable[[Any], Handler] | None = None
    """Makes the handler of one task, where that depends on more than the action."""

    @property
    def name(self) -> str:
        """Where the function is defined: module and qualified name."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    def delay(self, failures: int) -> timedelta | None:
        """Return how long to wait before the next attempt, or None when the task is to fail.

        Args:
            failures: how many attempts have ended in an error, with the one that just did.
        """
        if failures >= self.max_attempts:
            return None
        return timedelta(seconds=backoff(self.backoff, self.max_backoff, failures - 1))


class Handlers(dict[str, Handler]):
    """Handlers by action. An action without one of its own has the one whose pattern (`deploy:*`) covers it closest."""

    def __missing__(self, action: str) -> Handler:
        found: Handler | None = self.get(action)
        if found is None:
            raise KeyError(action)
        return found

    def get(self, action: str, default: Any = None) -> Any:
        """Return the handler of an action, or the default."""
        return next(
            (dict.__getitem__(self, each) for each in covering(action) if dict.__contains__(self, each)), default
        )

    def __contains__(self, action: object) -> bool:
        return isinstance(action, str) and self.get(action) is not None

    def of(self, task: Any) -> Handler:
        """Return the handler of a task, which must have one."""
        found = self[task.action]
        return found if found.refine is None else found.refine(task)


def handler(
    action: str,
    *,
    labels: Iterable[str] = (),
    max_attempts: int = 1,
    timeout: timedelta | float | None = None,
    backoff: timedelta | float = 10.0,
    max_backoff: timedelta | float = 3600.0,
    isolation: str | None = None,
) -> Callable[[FunctionT], FunctionT]:
    """Declare the function that runs for an action; it receives a `Run`, and is returned unchanged.

    What it returns becomes the outcome of the completed task: an object as it is, a text as `output_summary`, anything
    else as `result`. What it raises makes the task fail, or wait for another attempt.

    Args:
        action: the action of the tasks it runs for; `deploy:*` means every action that begins with `deploy:` and has
            no handler that fits it closer.
        labels: what a worker must offer (`--labels`) to run it, such as `gpu`.
        max_attempts: how many attempts may end in an error; 1 retries nothing. What ended for another reason (a lost
            lease, a worker that stopped) does not count.
        timeout: seconds, or a timedelta, after which an attempt is ended; no limit when left out.
        backoff: seconds, or a timedelta, before the first retry; it doubles each time, with jitter.
        max_backoff: the longest wait before a retry.
        isolation: `process` (the default: a crash ends one task), `thread` (quick, shares the worker's fate), `async`
            (the worker's event loop; the default of coroutine functions).

    Raises:
        InvalidValue: an argument cannot be.
        AuditError: another handler has this action; the message names both.
        TypeError: it is no function, or a generator function.
    """
    if callable(action):
        raise TypeError('handler needs an action: write @handler("action"), not @handler')
    name = validation.label("action", action)
    names = frozenset(_labels(labels))
    validation.whole("max_attempts", max_attempts)
    limit = None if timeout is None else seconds("timeout", timeout)
    first, longest = seconds("backoff", backoff), seconds("max_backoff", max_backoff)
    if isolation is not None and isolation not in ISOLATIONS:
        raise InvalidValue("isolation", isolation, f"must be one of {', '.join(ISOLATIONS)}")

    def declare(function: FunctionT) -> FunctionT:
        is_async = iscoroutinefunction(function)
        where = isolation or ("async" if is_async else "process")
        if isinstance(function, type) or not callable(function):
            raise TypeError(f"@handler takes a function, not {function!r}")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"@handler cannot run the generator function {function.__qualname__}; return a value")
        if (where == "async") != is_async and where != "process":
            wanted = "a coroutine function (async def)" if where == "async" else "a plain function (def)"
            raise InvalidValue("isolation", where, f"needs {wanted}, and {function.__qualname__} is none")
        if where == "thread" and limit is not None:
            raise InvalidValue("timeout", timeout, 'cannot end a thread; leave it out, or use isolation="process"')
        made = Handler(
            action=name,
            function=function,
            labels=names,
            max_attempts=max_attempts,
            timeout=limit,
            backoff=first,
            max_backoff=longest,
            isolation=where,
        )
        register(made)
        return function

    return declare


def discover() -> Handlers:
    """Import the `audit_handlers.py` of each installed app, and return all handlers by action.

    Raises:
        AuditError: such a module could not be imported; the message says where and why.
    """
    try:
        autodiscover_modules("audit_handlers")
    except AuditError:
        raise
    except Exception as error:
        frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename.endswith(_FILE)]
        where = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else f"an {_FILE}"
        raise AuditError(f"The handlers could not be imported: {where}: {type(error).__name__}: {error}") from error
    return registered()


def registered() -> Handlers:
    """Return the handlers that were declared so far, by action."""
    return Handlers(_registry)


def register(made: Handler) -> None:
    """Add a handler; the same one may come again.

    Raises:
        AuditError: another handler has this action; the message names both.
    """
    other = _registry.get(made.action)
    if other is not None and other.name != made.name:
        both = f"{other.name} and {made.name}"
        raise AuditError(f"Two handlers of the action {made.action!r}: {both}. Remove one of them.")
    _registry[made.action] = made


def choose(
    handlers: Handlers, actions: Iterable[str] | None, labels: Iterable[str]
) -> tuple[Handlers, dict[str, frozenset[str]]]:
    """Choose what a worker runs.

    Args:
        handlers: all there are, by action.
        actions: those it shall run, patterns among them; all when None.
        labels: what it offers.

    Returns:
        The handlers it runs, by action; and the labels that it lacks for each of the rest.

    Raises:
        AuditError: there is no handler at all.
        InvalidValue: no handler for an action that is named, or none that can run with these labels.
    """
    wanted = sorted(handlers)
    if actions is not None:
        wanted = []
        for action in actions:
            found = _meant(validation.label("action", action), handlers)
            if not found:
                known = ", ".join(sorted(handlers)) or "none"
                raise InvalidValue("actions", action, f"has no handler; there are handlers for: {known}")
            wanted += found
    if not handlers:
        raise AuditError(
            "There is no handler: write functions with @handler into the file audit_handlers.py of an installed app."
        )
    offered = frozenset(labels)
    lacking = {each: handlers[each].labels - offered for each in wanted if not handlers[each].labels <= offered}
    chosen = Handlers({each: handlers[each] for each in wanted if each not in lacking})
    if not chosen:
        missing = "; ".join(f"{each}: {', '.join(sorted(labels))}" for each, labels in lacking.items())
        raise InvalidValue("labels", sorted(offered), f"no handler can run here; labels that are missing: {missing}")
    return chosen, lacking


def _meant(name: str, handlers: Handlers) -> list[str]:
    """Return an action that has a handler, or what a pattern covers of the actions and patterns that have one."""
    found = [each for each in sorted(handlers) if name.endswith("*") and name in covering(each)]
    return found if name in found or name not in handlers else [*found, name]


def _labels(labels: Iterable[str]) -> list[str]:
    if isinstance(labels, str):
        raise InvalidValue("labels", labels, "must be a list of labels")
    return [validation.label("labels", label) for label in labels]


def seconds(field: str, value: timedelta | float, *, lowest: float | None = None) -> float:
    """Return a span of time in seconds.

    Args:
        field: its name, for the error.
        value: seconds, or a timedelta.
        lowest: the least it may be; above zero when left out.

    Raises:
        InvalidValue: it is none, or too small, or longer than ten years.
    """
    given = value.total_seconds() if isinstance(value, timedelta) else value
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if is_number and given <= conf.LONGEST_S and (given > 0 if lowest is None else given >= lowest):
        return float(given)
    least = "positive" if lowest is None else f"at least {lowest:g}"
    raise InvalidValue(field, value, f"must be seconds or a timedelta, {least} and at most ten years")
