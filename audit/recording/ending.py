"""Stores how recorded work ended; see Note [Ends of a block] in `audit.recording.block`."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.db import Error, InterfaceError, OperationalError, connections

from audit.exceptions import AuditError, InvalidValue, TaskFrozen
from audit.status import Status
from audit.values import redaction, validation
from audit.values.failures import failure_outcome

if TYPE_CHECKING:
    from audit.recording.open import OpenRecord

__all__ = ["finish"]


def finish(record: OpenRecord, error: BaseException | None, failed: bool, again_after: Sequence[float]) -> None:
    """Complete or fail the task of a piece of work, unless the work has ended it by a verb.

    Args:
        record: the work; closed here.
        error: the exception that ended it, if one did.
        failed: whether it failed without one.
        again_after: seconds to wait before each further try while the database is away.

    Raises:
        InvalidValue: an outcome that cannot be stored, and no `error`; the task has failed for it.
        TaskFrozen, django.db.Error: the end could not be stored.
    """
    given, used = record.close()
    if record.task.status != Status.EXECUTING:
        return  # the block has ended it by a verb
    used = record.meter.used_and(used)
    if isinstance(error, SystemExit) and not error.code:
        error = None
    try:
        outcome = redaction.redact_document("outcome", given)
        validation.document("resources", used)
    except InvalidValue as refused:
        failure = failure_outcome(error or refused) | {"outcome_refused": str(refused)}
        _store(record, Status.FAILED, failure, record.meter.used(), again_after)
        if error is None:
            raise
        return
    if error is None and not failed:
        _store(record, Status.COMPLETED, outcome, used, again_after)
        return
    failure = {"error_type": "Error", "output_summary": ""} if error is None else failure_outcome(error)
    failure |= outcome if isinstance(outcome, dict) else {"outcome": outcome}
    _store(record, Status.FAILED, failure, used, again_after)


def _store(record: OpenRecord, status: Status, outcome: Any, resources: Any, again_after: Sequence[float]) -> None:
    """Finish the task; a connection that went stale during long work is replaced at once, then after each wait."""
    store = record.task.complete if status == Status.COMPLETED else functools.partial(record.task.fail, "")
    lease = record.lease
    for wait in (0.0, *again_after, None):
        try:
            store(outcome=outcome, resources=resources, actor=lease.actor, using=lease.using)
            break
        except TaskFrozen:
            _note_late_end(record, status, outcome, resources)
            raise
        except (OperationalError, InterfaceError):
            connection = connections[lease.using]
            if wait is None or connection.in_atomic_block:
                raise
            connection.close()
            time.sleep(wait)


def _note_late_end(record: OpenRecord, status: Status, outcome: Any, resources: Any) -> None:
    """Say in the log of a task that recovery has failed how its work really ended."""
    with contextlib.suppress(Error, AuditError):
        record.task.note(
            f"The work went on after its lease was lost, and ended as {status}.",
            detail={"outcome": outcome, "resources_used": resources},
            actor=record.lease.actor,
            using=record.lease.using,
        )
