"""What a worker reads and writes, in the clerk's thread: claims, what handlers hand in, and how their work ended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import Exists

from audit.exceptions import AuditError, IllegalTransition, LeaseLost, TaskFrozen
from audit.leases.arguments import claim_arguments
from audit.leases.claim import TASKS, claim
from audit.leases.keeper import KeptLease, keeper
from audit.leases.prolong import Lease
from audit.leases.queryset_where import queryset_where
from audit.models import Agent, ExecutionLog, Task
from audit.recording.fitting import fitted
from audit.status import LogKind, Status
from audit.values.failures import CANCELLED, NOT_STORED
from audit.values.patterns import matching
from audit.verbs.completions import Completion, complete_many
from audit.worker.clerk import is_away
from audit.worker.ending import End, failed
from audit.worker.handlers import Handler

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["GONE", "Claimed", "Store"]

GONE = (LeaseLost, TaskFrozen, IllegalTransition)
"""What a verb raises when the claim is gone."""
_GIVES_UP = {
    "pause": (Status.PAUSED, "paused"),
    "release": (Status.APPROVED, "released"),
    "fail": (Status.APPROVED, "retried"),
}
"""The status that an end leads to which gives the claim up, and what became of the task then."""
_PROLONGED_SECONDS = 60.0
"""Longer than a prolongation that is under way takes."""
_GIVEN_BACK = "The worker gave it back after a person had asked it to stop."


@dataclass(slots=True, eq=False)
class Claimed:
    """A task under this worker's lease."""

    task: Task
    kept: KeptLease | None = None
    lost: bool = False
    """Whether the database said that the claim is gone."""
    tried: bool = False
    """Whether its end was sent before, and perhaps carried out."""
    noted: bool = False
    """Whether the log says what was changed of its result."""


class Store:
    """Carries out what the worker wants of the database.

    Args:
        using: the alias.
        name: of the worker.
        lease: how long a claim lasts without a heartbeat.
        on_lost: called with a claim whose lease is lost, in the keeper's thread.
        on_cancel: called with a claim that a person asked to stop, in the keeper's thread.
    """

    def __init__(
        self,
        using: str,
        name: str,
        lease: timedelta,
        *,
        on_lost: Callable[[Claimed], None],
        on_cancel: Callable[[Claimed], None],
    ) -> None:
        self.using = using
        self.name = name
        self.lease = lease
        self._on_lost = on_lost
        self._on_cancel = on_cancel
        self._held: set[Claimed] = set()
        self._abandoned: dict[UUID, float] = {}
        """Until when their leases may last, on the monotonic clock."""
        self._compiled: dict[tuple[str, ...], tuple[str, list[Any]]] = {}

    def tokens(self) -> set[UUID]:
        """Return the tokens of the claims that this worker has not stored the end of.

        Also of those whose end the database refused: their leases run out, but no other worker has left them behind.
        """
        held = {each.kept.lease.token for each in self._held.copy() if each.kept is not None}
        return held | self._lasting().keys()

    def _lasting(self) -> dict[UUID, float]:
        now = time.monotonic()
        return {token: until for token, until in self._abandoned.copy().items() if until > now}

    def claim(self, actions: Sequence[str], limit: int) -> list[Claimed]:
        """Claim tasks and keep their leases from then on."""
        where, params = self._claimable(tuple(actions))
        given = claim_arguments(self.name, limit, self.lease)
        found = claim(Task, TASKS, self.using, given, where=where, params=params)
        return [self._keep(task) for task in found]

    def _claimable(self, actions: tuple[str, ...]) -> tuple[str, list[Any]]:
        """Compile, once, which tasks this worker may claim: Django takes longer for that than for the claim."""
        if actions not in self._compiled:
            # In the claim itself: since the last heartbeat somebody may have asked this worker to drain.
            drained = Agent.objects.filter(name=self.name, drain_requested_at__isnull=False)
            tasks = Task.objects.using(self.using).filter(matching(actions), ~Exists(drained))
            self._compiled[actions] = queryset_where(tasks, self.using, "claim")
        return self._compiled[actions]

    def _keep(self, task: Task) -> Claimed:
        claimed = Claimed(task)
        token: UUID = task.claim_token  # type: ignore[assignment]
        lease = Lease(task_id=task.pk, token=token, duration=self.lease, actor=self.name, using=self.using)

        def cancel(requested_at: datetime) -> None:
            task.cancel_requested_at = requested_at  # it is not tried again
            self._on_cancel(claimed)

        claimed.kept = keeper.keep(lease, on_lost=lambda: self._on_lost(claimed), on_cancel_requested=cancel)
        self._held.add(claimed)
        return claimed

    def ask(self, claimed: Claimed) -> None:
        """Ask soon whether a person wants this work to stop."""
        if claimed.kept is not None:
            keeper.hurry(claimed.kept)

    def forget(self, claimed: Claimed) -> None:
        """Keep the lease no more."""
        self._held.discard(claimed)
        if claimed.kept is not None:
            keeper.forget(claimed.kept)

    def abandon(self, claimed: Claimed) -> None:
        """Let the lease run out, because the database refuses whatever is to be stored of the end."""
        if claimed.kept is not None:
            # The keeper may be about to prolong it once more.
            lasts = 2 * self.lease.total_seconds() + _PROLONGED_SECONDS
            self._abandoned = self._lasting() | {claimed.kept.lease.token: time.monotonic() + lasts}
        self.forget(claimed)

    # What handlers hand in meanwhile

    def carry_out(self, claimed: Claimed, verb: str, arguments: dict[str, Any]) -> Any:
        """Carry out what a run asks for.

        Raises:
            LeaseLost, TaskFrozen, InvalidValue: as the verb does.
        """
        task = claimed.task
        match verb:
            case "log":
                task.log(**arguments, using=self.using)
            case "touch":
                task.touch(*arguments["services"], using=self.using)
                return task.services_touched
            case "checkpoint":
                return task.checkpoint(arguments["work_plan"], using=self.using) is not None
            case "awaited_event":
                return task.awaited_event(using=self.using)
            case _:
                raise AuditError(f"A run has no verb {verb!r}.")
        return None

    # How it ended

    def save_end(self, claimed: Claimed, end: End, handler: Handler | None) -> str:
        """Store how an attempt ended.

        Args:
            claimed: the task.
            end: how it ended.
            handler: whose policy says whether it is tried again.

        Returns:
            What became of the task: `completed`, `failed`, `retried`, `paused`, `released`, or `lost`.

        Raises:
            django.db.Error: the database is away; it may be called again.
            Exception: the database refuses whatever is to be stored; see `abandon`.
        """
        tried, claimed.tried = claimed.tried, True
        try:
            became = self._save(claimed, end, handler)
        except GONE:
            became = self._gave_up(claimed.task, end) if tried else "lost"
        except Exception as error:
            if is_away(error):
                raise
            became = self._fail_refused(claimed.task, error, end)
        self.forget(claimed)
        return became

    def save_completed(self, ends: list[tuple[Claimed, End]]) -> list[tuple[str | None, Exception | None]]:
        """Store several good ends, together where that is possible; for each what `save_end` returns or raises.

        Raises:
            django.db.Error: the database is away; it may be called again.
        """
        done = self._complete([(claimed, end) for claimed, end in ends if not claimed.tried])
        answers: list[tuple[str | None, Exception | None]] = []
        for claimed, end in ends:
            if claimed.task.pk in done:
                self.forget(claimed)
                answers.append(("completed", None))
                continue
            try:
                answers.append((self.save_end(claimed, end, None), None))
            except Exception as error:
                if is_away(error):
                    raise
                answers.append((None, error))
        return answers

    def _complete(self, ends: list[tuple[Claimed, End]]) -> set[UUID]:
        """Complete in one statement; returns the ids of those that were. One end that is refused refuses all."""
        completions = []
        for claimed, end in ends:
            outcome, more = fitted("outcome", end.outcome, redacted=False)
            token = claimed.task.claim_token
            if token is not None and not more and not end.changes:  # else the log has to say what was changed
                completions.append(
                    Completion(task_id=claimed.task.pk, token=token, outcome=outcome, resources=end.resources)
                )
                claimed.tried = True
        try:
            return complete_many(completions, actor=self.name, using=self.using)
        except Exception as error:
            if is_away(error):
                raise
            return set()

    def _gave_up(self, task: Task, end: End) -> str:
        """Ask the log what a try whose answer was lost did: one that gave the claim up cannot be repeated."""
        to, became = _GIVES_UP.get(end.verb, (None, "lost"))
        moves = ExecutionLog.objects.using(self.using).filter(task=task, kind=LogKind.TRANSITION)
        stored = moves.filter(from_status=Status.EXECUTING, to_status=to, attempt=task.attempt, actor=self.name)
        return became if to is not None and stored.exists() else "lost"

    def _save(self, claimed: Claimed, end: End, handler: Handler | None) -> str:
        task = claimed.task
        match end.verb:
            case "pause":
                entry = task.pause(**end.arguments, using=self.using)
                # A changed plan that goes back to a person waits for nothing else.
                end.arguments |= {"reason": entry.reason, "event": entry.event, "note": entry.note}
                return "paused"
            case "paused":
                return "paused"
            case "release" if task.cancel_requested_at is not None:
                # Given back, it would be claimed again, against what the person asked for.
                task.fail("", outcome=failed(CANCELLED, _GIVEN_BACK).outcome, using=self.using)
                return "failed"
            case "release":
                task.release(reason=end.arguments.get("reason", ""), using=self.using)
                return "released"
        outcome, more = fitted("outcome", end.outcome, redacted=False)
        changes = [*end.changes, *more]
        if changes and not claimed.noted:
            task.note(
                "The result of the work was changed where it could not be stored as it was.",
                detail={"changed": changes},
                actor=self.name,
                using=self.using,
            )
            claimed.noted = True
        if end.verb == "complete":
            task.complete(outcome, resources=end.resources, using=self.using)
            return "completed"
        delay = None
        if handler is not None and handler.max_attempts > 1 and task.cancel_requested_at is None:
            delay = handler.delay(task.failures + 1)
        if delay is None:
            task.fail("", outcome=outcome, resources=end.resources, using=self.using)
            return "failed"
        task.retry("", outcome=outcome, delay=delay, using=self.using)
        return "retried"

    def _fail_refused(self, task: Task, problem: Exception, end: End) -> str:
        """Fail a task whose end the database refuses; if that is refused too, say so in the log; the lease runs out."""
        summary = f"The work ended ({end.verb}), and that could not be stored: {problem}"[:2000]
        try:
            task.fail(summary, outcome={"error_type": NOT_STORED}, resources=end.resources, using=self.using)
        except GONE:
            return "lost"
        except Exception as refused:
            if not is_away(refused):
                with contextlib.suppress(Exception):
                    task.note(summary, detail={"error_type": NOT_STORED}, actor=self.name, using=self.using)
            raise
        return "failed"
