"""Asserting that the database refuses, without losing the transaction around it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import Error, router, transaction

__all__ = ["Refusal", "refused"]


@dataclass(slots=True, kw_only=True)
class Refusal:
    """What the database answered; empty until the block of `refused` has ended."""

    error: BaseException | None = None
    """The exception that left the block."""
    sqlstate: str = ""
    message: str = ""
    """The server's message, which names table, id and status."""
    hint: str = ""
    """The server's hint, which says what to do instead."""


@contextmanager
def refused(*, sqlstate: str = "23001", using: str | None = None) -> Iterator[Refusal]:
    """Assert that the database refuses what the block does.

    The block runs in a savepoint (a transaction of its own outside `atomic()`), so the test can go on.

    >>> with refused() as refusal:
    ...     Task.objects.filter(pk=task.pk).update(summary="nothing happened")
    >>> assert "finished" in refusal.message

    Args:
        sqlstate: the expected code; `restrict_violation`, which the guards raise, unless given. A CHECK raises 23514.
        using: the alias of the database that refuses; the one that the routers choose for tasks when left out.

    Returns:
        A `Refusal`, filled when the block has ended.

    Raises:
        AssertionError: the block went through. What it did is undone by that.
        django.db.Error: the database refused for another reason; raised as it came.
    """
    refusal = Refusal()
    try:
        with transaction.atomic(using=using or _written_to()):
            yield refusal
            raise _WentThroughError
    except _WentThroughError:
        raise AssertionError(f"The database took it; a refusal with SQLSTATE {sqlstate} was expected.") from None
    except Error as error:
        answer = _answer(error)
        if getattr(answer, "sqlstate", None) != sqlstate:
            raise
        refusal.error = error
        refusal.sqlstate = sqlstate
        diagnosis = answer.diag  # type: ignore[union-attr]
        refusal.message = diagnosis.message_primary or ""
        refusal.hint = diagnosis.message_hint or ""


def _written_to() -> str:
    from audit.models import Task

    return router.db_for_write(Task)


class _WentThroughError(Exception):
    """Rolls the savepoint back."""


def _answer(error: BaseException | None) -> BaseException | None:
    """Find the driver's exception, which carries the code, behind Django's and this app's own."""
    while error is not None and not getattr(error, "sqlstate", None):
        error = error.__cause__
    return error
