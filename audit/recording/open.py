"""An open record: it keeps its task's lease, masks what its block gives to verbs, and measures its work."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from audit.exceptions import IllegalTransition
from audit.leases.keeper import KeptLease, keeper
from audit.leases.prolong import Lease
from audit.process.resources import Meter
from audit.status import Status
from audit.values import validation
from audit.values.redaction import redact, redact_document

if TYPE_CHECKING:
    from audit.models import Task

__all__ = ["OpenRecord"]

logger = logging.getLogger("audit")

_NEVER_HANDED_ON = "Recorded work is done by whoever records it; let the block end, or call fail()."


def _fitted(value: Any, max_length: int = validation.MAX_TEXT) -> Any:
    return validation.fitted_text(value, max_length) if isinstance(value, str) else value


@dataclass(slots=True, eq=False)
class OpenRecord:
    """One piece of work that is running. It is the hook of its task's verbs; the keeper of its lease reports to it."""

    task: Task
    lease: Lease
    joined: bool  # the caller's transaction carries the record
    meter: Meter = field(default_factory=Meter)
    pid: int = field(default_factory=os.getpid)
    _kept: KeptLease | None = None

    def open(self) -> None:
        """Hook into the task's verbs, let the block fill in its outcome, and keep the lease alive."""
        self.task.outcome = {}
        self.task._hook = self
        # Nobody else sees a row of an open transaction, to prolong its lease or to let it run out.
        if not self.joined:
            self._kept = keeper.keep(
                self.lease,
                on_lost=self._lost,
                on_cancel_requested=self._cancel_requested,
                on_tick=self.meter.sample,
            )

    def leave_to_itself(self) -> None:
        """Stop keeping the lease alive."""
        if self._kept is not None:
            keeper.forget(self._kept)

    def close(self) -> tuple[Any, Any]:
        """Unhook from the task, and return the outcome and the resources that the block has given."""
        del self.task._hook
        return self.task.outcome, self.task.resources_used

    # For the verbs of the task: see `audit.verbs.hook.VerbHook`

    def prepared(self, verb: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Mask secrets in what a verb is given and cut what is too long. To an end, add the resources that were used.

        A text that is too long is not a reason for the work to fail; what is cut says so at its end.

        Raises:
            IllegalTransition: a verb that would hand the work on.
            InvalidValue: an outcome that cannot be stored.
        """
        match verb:
            case "release" | "retry" | "pause" | "checkpoint":
                to = Status.APPROVED if verb in ("release", "retry") else Status.PAUSED
                raise IllegalTransition(self.task.pk, self.task.status, to, _NEVER_HANDED_ON)
            case "complete" | "fail":
                *error, outcome, resources, suggestions = values
                used = self.meter.used_and(self.task.resources_used if resources is None else resources)
                return *map(redact, error), redact_document("outcome", outcome), used, redact(suggestions)
            case "log":
                action, output_summary, detail = map(redact, values)
                return _fitted(action, validation.MAX_LABEL), _fitted(output_summary), detail
            case "note":
                text, detail = map(redact, values)
                return _fitted(text), detail
            case "suggest":
                return tuple(_fitted(redact(value)) for value in values)
            case "touch":
                return (validation.fitted_services(*values),)
        return tuple(map(redact, values))

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the documents that the block has given. Until the end, their columns in the row are NULL."""
        given = self.task.outcome, self.task.resources_used
        yield
        if self.task.status == Status.EXECUTING:
            outcome, resources_used = given
            self.task.outcome = outcome if self.task.outcome is None else self.task.outcome
            self.task.resources_used = resources_used if self.task.resources_used is None else self.task.resources_used

    # For the keeper of the lease, in its thread

    def _lost(self) -> None:
        logger.error("The lease of the record %s (%s) is lost.", self.lease.task_id, self.task.action)

    def _cancel_requested(self, at: datetime) -> None:
        self.task.cancel_requested_at = at
