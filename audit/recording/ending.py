"""Stores how recorded work ended; see Note [Ends of a block] in `audit.recording.block`."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.db import Error, InterfaceError, OperationalError, connections

from audit.exceptions import AuditError, TaskFrozen
from audit.recording.fitting import fitted
from audit.statements.retry import has_died
from audit.status import Status
from audit.values.failures import failure_outcome

if TYPE_CHECKING:
    from audit.recording.open import OpenRecord

__all__ = ["finish"]

logger = logging.getLogger("audit")


def finish(record: OpenRecord, error: BaseException | None, failed: bool, again_after: Sequence[float]) -> None:
    """Complete or fail the task of a piece of work, unless a verb has already ended it.

    Args:
        record: the work; closed here.
        error: the exception that ended it, if one did.
        failed: whether it failed without one.
        again_after: seconds to wait before each further try while the database is away.

    Raises:
        TaskFrozen, django.db.Error: the end could not be stored.
    """
    given, used = record.close()
    if record.task.status != Status.EXECUTING:
        return  # the block has ended it by a verb
    if isinstance(error, SystemExit) and not error.code:
        error = None
    if error is None and not failed:
        status, compose = Status.COMPLETED, _success
    else:
        status, compose = Status.FAILED, functools.partial(_failure, error)
    outcome, changes = fitted("outcome", given, compose)
    resources, more = fitted("resources_used", used, record.meter.used_and, redacted=False)
    _store(record, status, outcome, resources, again_after)
    if changes or more:
        _note(
            record,
            "The result of the work was changed where it could not be stored as it was.",
            {"changed": [*changes, *more]},
        )


def _success(outcome: Any) -> Any:
    return {"success": True} | outcome if isinstance(outcome, dict) else outcome


def _failure(error: BaseException | None, outcome: Any) -> dict[str, Any]:
    failure = (
        {"success": False, "error_type": "Error", "output_summary": ""} if error is None else failure_outcome(error)
    )
    return failure | (outcome if isinstance(outcome, dict) else {"outcome": outcome})


def _store(record: OpenRecord, status: Status, outcome: Any, resources: Any, again_after: Sequence[float]) -> None:
    """Finish the task. Replace a connection that was closed during long work, at once and after each wait."""
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
            if has_died(connection):
                connection.close()
            time.sleep(wait)


def _note_late_end(record: OpenRecord, status: Status, outcome: Any, resources: Any) -> None:
    """Recovery has failed the task: write to its log how the work really ended."""
    _note(
        record,
        f"The work went on after its lease was lost, and ended as {status}.",
        {"outcome": outcome, "resources_used": resources},
    )


def _note(record: OpenRecord, text: str, detail: dict[str, Any]) -> None:
    """Write a note on a finished task. If that fails, only the note is lost."""
    try:
        record.task.note(text, detail=detail, actor=record.lease.actor, using=record.lease.using)
    except (Error, AuditError) as error:
        logger.warning("A note on the record %s could not be stored: %s: %s", record.task.pk, text, error)
