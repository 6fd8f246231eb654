"""Arguments that every verb takes (who acts, which database, documents), and its twin for async code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import models, router

from audit.context import get_actor
from audit.values import validation

__all__ = ["acting", "async_twin", "jsonb", "writes_to"]

P = ParamSpec("P")
R = TypeVar("R")
SelfT = TypeVar("SelfT")


def async_twin(
    verb: Callable[Concatenate[SelfT, P], R],
) -> Callable[Concatenate[SelfT, P], Awaitable[R]]:
    """Make the twin of a verb for async code, run in a thread that keeps the caller's context (the actor)."""

    async def twin(self: SelfT, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await sync_to_async(verb)(self, *args, **kwargs)

    twin.__name__ = twin.__qualname__ = f"a{verb.__name__}"
    twin.__doc__ = f"The same as `{verb.__name__}`, for async code."
    return twin


def acting(actor: str | None, otherwise: str = "") -> str:
    """Choose who acts: the given name, else the `actor` block, else `otherwise`. For '' the database names its role.

    Raises:
        InvalidValue: the name is empty or cannot be stored.
    """
    if actor is not None:
        return validation.label("actor", actor)
    # An instance that was never saved has no worker yet, but a default.
    return get_actor() or (otherwise if isinstance(otherwise, str) else "")


def writes_to(instance: models.Model, using: str | None) -> str:
    """Choose the alias a verb writes through."""
    return using or router.db_for_write(type(instance), instance=instance)


def jsonb(field: str, value: Any) -> str | None:
    """Check a document and return its JSON text, for a `%s::jsonb`. None stays None, which is NULL.

    Raises:
        InvalidValue: it is not JSON that PostgreSQL can store.
    """
    return None if value is None else validation.document(field, value)
