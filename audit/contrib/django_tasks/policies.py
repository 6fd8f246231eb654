"""What the trail does with a task beyond what the framework says: approval, retries, a time limit, services."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, TypeVar

from audit.exceptions import InvalidValue
from audit.values import validation
from audit.worker.handlers import seconds

__all__ = ["Policy", "policy", "policy_of"]

_ATTRIBUTE = "audit_policy"

DecoratedT = TypeVar("DecoratedT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The options of a task, each in the form in which it is used."""

    requires_approval: bool = False
    approve_within: timedelta | None = None
    max_attempts: int = 1
    backoff: float = 10.0
    max_backoff: float = 3600.0
    timeout: float | None = None
    services: tuple[str, ...] = ()

    @classmethod
    def merged(cls, *given: Mapping[str, Any]) -> Policy:
        """Make the policy of several mappings; later ones win."""
        values: dict[str, Any] = {}
        for each in given:
            values |= each
        return cls(**values)

    def retrying(self) -> dict[str, Any]:
        """Return what a worker must know, as JSON: what differs from the defaults alone."""
        usual = Policy()
        names = ("max_attempts", "backoff", "max_backoff", "timeout")
        return {each: getattr(self, each) for each in names if getattr(self, each) != getattr(usual, each)}


_NAMES = tuple(each.name for each in fields(Policy))


def policy(
    *,
    requires_approval: bool | None = None,
    approve_within: timedelta | float | None = None,
    max_attempts: int | None = None,
    backoff: timedelta | float | None = None,
    max_backoff: timedelta | float | None = None,
    timeout: timedelta | float | None = None,
    services: Iterable[str] | None = None,
) -> Callable[[DecoratedT], DecoratedT]:
    """Decorate a task function; it stands below `@task`. What is left out is as the backend's OPTIONS say.

    Args:
        requires_approval: whether a person must approve each call before it runs.
        approve_within: seconds, or a timedelta, in which it may be approved; afterwards it is rejected.
        max_attempts: how many attempts may end in an error; 1 retries nothing.
        backoff: seconds, or a timedelta, before the first retry; it doubles each time, with jitter.
        max_backoff: the longest wait before a retry.
        timeout: seconds, or a timedelta, after which an attempt is ended.
        services: names of the services that the task touches.

    Raises:
        InvalidValue: a value that cannot be.
    """
    given = checked({name: value for name, value in locals().items() if value is not None})

    def decorate(decorated: DecoratedT) -> DecoratedT:
        # Above @task it is given the task, which cannot change.
        setattr(getattr(decorated, "func", decorated), _ATTRIBUTE, given)
        return decorated

    return decorate


def policy_of(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return what `policy` has said of a task function."""
    found: Mapping[str, Any] = getattr(function, _ATTRIBUTE, {})
    return found


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options in the form of `Policy`.

    Raises:
        InvalidValue: an unknown name, or a value that cannot be.
    """
    return {name: _check(name, value) for name, value in given.items()}


def _check(name: str, value: Any) -> Any:
    match name:
        case "requires_approval":
            if not isinstance(value, bool):
                raise InvalidValue(name, value, "must be True or False")
            return value
        case "approve_within":
            return timedelta(seconds=seconds(name, value))
        case "max_attempts":
            return validation.whole(name, value)
        case "backoff" | "max_backoff" | "timeout":
            return seconds(name, value)
        case "services":
            return tuple(validation.services(name, value))
    raise InvalidValue("options", name, f"is unknown; known: {', '.join(_NAMES)}")
