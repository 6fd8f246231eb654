"""How `record` has a say in the verbs of its task: the one place where a verb asks before it writes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from django.db import models

from audit.statements import rows

__all__ = ["Hooked", "VerbHook", "adopt"]


class VerbHook(Protocol):
    """What the verbs of a task consult while somebody has hung it on the task."""

    def prepared(self, verb: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return what a verb shall write instead of the values it was given, in their order; or refuse the verb.

        Args:
            verb: `log`, `note`, `suggest`, `complete`, `fail`, `retry`, `release`, `checkpoint` or `pause`.
            values: those of its arguments that are stored, as the verb names them.
        """
        ...

    def kept(self) -> AbstractContextManager[None]:
        """Keep what the task holds and its row does not, while the instance is made equal to its row."""
        ...


class Hooked(models.Model):
    """An instance whose verbs a `VerbHook` may prepare. Copies and pickles of it are plain instances."""

    _hook: VerbHook | None = None

    class Meta:
        abstract = True

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy takes along: all but the hook, which is bound to this instance."""
        state: dict[str, Any] = super().__getstate__()
        state.pop("_hook", None)
        return state

    def _prepared(self, verb: str, *values: Any) -> tuple[Any, ...]:
        return values if self._hook is None else self._hook.prepared(verb, values)

    def refresh_from_db(self, *args: Any, **options: Any) -> None:
        """Read the row again, as Django does."""
        if self._hook is None:
            super().refresh_from_db(*args, **options)
        else:
            with self._hook.kept():
                super().refresh_from_db(*args, **options)


def adopt(task: Hooked, row: models.Model) -> None:
    """Make a task equal to its row, but for what its hook keeps."""
    with nullcontext() if task._hook is None else task._hook.kept():
        rows.adopt(task, row)
