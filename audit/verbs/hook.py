"""Lets `record` change or refuse what the verbs of its task write."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from django.db import models

from audit.statements import rows

__all__ = ["Hooked", "VerbHook", "adopt"]


class VerbHook(Protocol):
    """The verbs of a task ask its hook, if it has one, before they write."""

    def prepared(self, verb: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return what a verb writes instead of the values that it was given, in their order. May refuse the verb.

        Args:
            verb: `log`, `note`, `suggest`, `touch`, `complete`, `fail`, `retry`, `release`, `checkpoint` or `pause`.
            values: those of its arguments that are stored, as the verb names them.
        """
        ...

    def kept(self) -> AbstractContextManager[None]:
        """Keep values that the instance has and its row lacks, while the instance is made equal to its row."""
        ...


class Hooked(models.Model):
    """An instance whose verbs a `VerbHook` may prepare. Copies and pickles of it are plain instances."""

    _hook: VerbHook | None = None

    class Meta:
        abstract = True

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy: everything but the hook, which belongs to this instance."""
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
    """Make a task equal to its row, except for values that its hook keeps."""
    with nullcontext() if task._hook is None else task._hook.kept():
        rows.adopt(task, row)
