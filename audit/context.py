"""Who acts: `with actor("alice"): …` names the actor of every verb inside, in this thread or asyncio task only."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from audit.values import validation

__all__ = ["actor", "get_actor"]

_actor: ContextVar[str] = ContextVar("audit_actor", default="")


@contextmanager
def actor(name: str) -> Iterator[str]:
    """Name the actor of everything recorded inside the block.

    Blocks nest. Each thread and each asyncio task has its own (contextvars). This name is what the application claims.
    The log keeps the database role beside it.

    Args:
        name: the actor, at most 500 characters.

    Raises:
        InvalidValue: the name is empty, or holds a character PostgreSQL cannot store.
    """
    token = _actor.set(validation.label("actor", name))
    try:
        yield name
    finally:
        _actor.reset(token)


def get_actor() -> str:
    """Return the name of the innermost `actor` block, or an empty string outside of any."""
    return _actor.get()
