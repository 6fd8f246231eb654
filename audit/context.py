"""Who acts: `with actor("alice"): …` names the actor of every verb inside, in this task or thread alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from audit.values import validation

__all__ = ["actor", "get_actor"]

_actor: ContextVar[str] = ContextVar("audit_actor", default="")


@contextmanager
def actor(name: str) -> Iterator[str]:
    """Name the actor of everything recorded inside the block.

    Blocks nest, and each asyncio task or thread has its own (contextvars). What is named here is what the
    application claims; the database role that it saw stands beside it in the log.

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
