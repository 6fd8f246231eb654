"""Stores how recorded work ended; see Note [Ends of a block] in `audit.recording.block`."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db import Error, InterfaceError, OperationalError, connections

from audit.exceptions import AuditError, InvalidValue, TaskFrozen
from audit.leases.keeper import Watched
from audit.status import Status
from audit.values import redaction, validation
from audit.values.failures import described

if TYPE_CHECKING:
    from audit.models import Task

__all__ = ["Run", "finish"]


@dataclass(slots=True)
class Run:
    """One piece of work under way."""

    task: Task
    using: str
    joined: bool  # the caller's transaction carries the record
    watched: Watched
    pid: int = field(default_factory=os.getpid)


def finish(run: Run, error: BaseException | None, failed: bool, again_after: Sequence[float]) -> None:
    """Complete or fail the task of a piece of work, unless the work has ended it by a verb.

    Args:
        run: the work.
        error: the exception that ended it, if one did.
        failed: whether it failed without one.
        again_after: seconds to wait before each further try while the database is away.

    Raises:
        InvalidValue: an outcome that cannot be stored, and no `error`; the task has failed for it.
        TaskFrozen, django.db.Error: the end could not be stored.
    """
    from audit.models import Task

    task = run.task
    given, used = task.outcome, task.resources_used
    task.__class__ = Task
    task.__dict__.pop("_meter", None)  # which no copy and no pickle could take along
    if task.status != Status.EXECUTING:
        return  # the block has ended it by a verb
    meter = run.watched.meter
    used = meter.along(used)
    if isinstance(error, SystemExit) and not error.code:
        error = None
    try:
        outcome = redaction.redact_document("outcome", given)
        validation.document("resources", used)
    except InvalidValue as refused:
        told = described(error or refused) | {"outcome_refused": str(refused)}
        _store(run, Status.FAILED, told, meter.used(), again_after)
        if error is None:
            raise
        return
    if error is None and not failed:
        _store(run, Status.COMPLETED, outcome, used, again_after)
        return
    told = {"error_type": "Error", "output_summary": ""} if error is None else described(error)
    told |= outcome if isinstance(outcome, dict) else {"outcome": outcome}
    _store(run, Status.FAILED, told, used, again_after)


def _store(run: Run, status: Status, outcome: Any, resources: Any, again_after: Sequence[float]) -> None:
    """Finish the task; a connection that went stale during long work is replaced at once, then after each wait."""
    store = run.task.complete if status == Status.COMPLETED else functools.partial(run.task.fail, "")
    for wait in (0.0, *again_after, None):
        try:
            store(outcome=outcome, resources=resources, actor=run.watched.hold.actor, using=run.using)
            break
        except TaskFrozen:
            _note_late_end(run, status, outcome, resources)
            raise
        except (OperationalError, InterfaceError):
            connection = connections[run.using]
            if wait is None or connection.in_atomic_block:
                raise
            connection.close()
            time.sleep(wait)


def _note_late_end(run: Run, status: Status, outcome: Any, resources: Any) -> None:
    """Tell in the log of a task that recovery has failed how its work really ended."""
    with contextlib.suppress(Error, AuditError):
        run.task.note(
            f"The work went on after its lease was lost, and ended as {status}.",
            detail={"outcome": outcome, "resources_used": resources},
            actor=run.watched.hold.actor,
            using=run.using,
        )
