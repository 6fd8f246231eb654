"""What the verbs of tasks and pause entries share: one statement, and the reason when it changed no row."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import nullcontext
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import models, router

from audit.context import get_actor
from audit.exceptions import IllegalTransition, LeaseLost, StaleTask, TaskFrozen
from audit.status import FINISHED, LIVE, TRANSITIONS, Status
from audit.values import validation

__all__ = ["acting", "adopt", "async_twin", "explain", "jsonb", "writes_to"]

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
    """Choose who acts: the one named, else the `actor` block, else `otherwise`; the database names its role for ''.

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
    """Check a document and write it as the text that a `%s::jsonb` takes; None stays NULL.

    Raises:
        InvalidValue: it is not JSON that PostgreSQL can store.
    """
    return None if value is None else validation.document(field, value)


def adopt(instance: models.Model, row: models.Model) -> None:
    """Make an instance equal to its row: every column, and no related object remembered from before."""
    hook = getattr(instance, "_hook", None)
    with nullcontext() if hook is None else hook.kept():
        for field in instance._meta.concrete_fields:
            setattr(instance, field.attname, getattr(row, field.attname))
    instance._state.fields_cache = {}
    instance._state.db = row._state.db
    instance._state.adding = False


def explain(
    current: Any,
    *,
    to: Status | None = None,
    sources: Collection[Status] = tuple(LIVE),
    token: UUID | None = None,
    fenced: bool = False,
    revision: int = 0,
    hint: str = "",
) -> Exception:
    """Say why a verb changed no row: the first that holds of frozen, lease lost, illegal, stale.

    Args:
        current: the task as it stands now.
        to: the status that the verb leads to, if it changes it.
        sources: the statuses that the verb starts from.
        token: the claim token that the caller presented.
        fenced: whether the verb belongs to whoever holds the claim.
        revision: the revision that the caller had read.
        hint: what to do instead, for a step that is not legal.
    """
    if current.status in FINISHED:
        return TaskFrozen(current.pk, current.status, current.finished_at)
    if fenced and current.claim_token != token and (token is not None or current.status == Status.EXECUTING):
        return LeaseLost(current.pk, current.status, current.claimed_by, token)
    if to and (to not in TRANSITIONS[Status(current.status)] or hint):
        return IllegalTransition(current.pk, current.status, to, hint)
    if current.status not in sources:
        # The rules have the step, and this verb does not make it.
        if fenced or to is None:
            return LeaseLost(current.pk, current.status, current.claimed_by, token)
        return IllegalTransition(current.pk, current.status, to, "Another verb makes this step.")
    return StaleTask(current.pk, revision, current.revision)
