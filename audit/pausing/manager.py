"""Pauses and resumes by capacity.

Note [One resumer at a time]
    How much fits is a question about all agents together, so one process at a time answers it, in one transaction: who
    cannot have the advisory lock leaves it to whoever has it. Killed in the middle, it has changed nothing.

Note [As many as slots are free]
    A pass takes no more entries than slots are free, the most urgent first. What it resumes takes a slot until it is
    claimed, then its claim does. What does not fit is deferred, each time for longer, so that it does not keep from
    the slots what stands behind it; with jitter, so that what was paused together does not come back together. While
    no slot is free nothing is touched.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from datetime import timedelta
from uuid import UUID

from django.db import connections, router, transaction
from django.db.models import Q
from django.db.models.functions import Now

from audit import conf
from audit.agents.needs import needs_of
from audit.agents.registry import Surveyed, absent, survey
from audit.context import get_actor
from audit.exceptions import IllegalTransition, LeaseLost, StaleTask, TaskFrozen
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.pausing.capacity import CapacityVerdict, check_capacity, judged
from audit.pausing.gate import gate
from audit.statements.retry import persistently
from audit.statements.rows import run
from audit.status import LogKind, PauseReason, Status
from audit.values import validation
from audit.values.patterns import matching

__all__ = ["ACTOR", "EVIDENCE", "PauseManager"]

ACTOR = "audit:capacity"
"""Who pauses and resumes when no `actor` block names anybody."""
EVIDENCE = "capacity"
"""The `action` of the log row that keeps the evidence of a pause."""

_ALONE = "SELECT pg_try_advisory_xact_lock('audit_pause_queue'::regclass::oid::bigint << 8)"
_BY_TIME_ALONE = Q(reason=PauseReason.MANUAL_PAUSE) | Q(reason=PauseReason.AWAITING_EVENT, event="")
_GONE = (IllegalTransition, LeaseLost, StaleTask, TaskFrozen)
_JUDGED_BY = ("id", "action", "estimated_resources")  # plans and outcomes may be large
_MOST_DOUBLINGS = 20
_MOST_RESUMED_LOOKED_AT = 1000


class PauseManager:
    """Pauses work that no agent has room for, and resumes it as room comes.

    Args:
        using: the alias to write through; the router's choice when left out.
        labels_of: says which labels an agent must have for a task; none when left out.
    """

    def __init__(
        self, using: str | None = None, *, labels_of: Callable[[Task], Iterable[str]] = lambda task: ()
    ) -> None:
        self._using = using or router.db_for_write(Task)
        self._labels_of = labels_of

    def check_capacity(self, task: Task) -> CapacityVerdict:
        """Ask the gate whether there is capacity for a task, with the labels that it needs if it is the registry's.

        Without a gate it is free.
        """
        asked = gate()
        if asked is None:
            return CapacityVerdict(kind="free", evidence={}, summary="Nobody is asked about capacity.")
        if asked is check_capacity:
            return check_capacity(task, labels=self._labels_of(task), using=self._using)
        return asked(task)

    def pause_for_capacity(self, task: Task, verdict: CapacityVerdict | None = None) -> PauseQueueEntry | None:
        """Pause a task if every agent that could do it is short; the log keeps the evidence in the same transaction.

        Args:
            task: approved, or executing under the claim that this instance has.
            verdict: what the gate said already; it is asked when left out.

        Returns:
            The entry, due after a backoff that grows with every such pause of this task; None if it was not paused.

        Raises:
            TaskFrozen, LeaseLost, IllegalTransition: it is neither, or the claim is gone.
        """
        said = self.check_capacity(task) if verdict is None else verdict
        if said.kind != "short":
            return None
        before = dict(task.__dict__)

        def attempt() -> PauseQueueEntry:
            try:
                return self._pause(task, said)
            except BaseException:
                task.__dict__.clear()
                task.__dict__.update(before)  # what was rolled back did not happen
                raise

        return persistently(connections[self._using], attempt)

    def pause_short(self, limit: int = 20, actions: Iterable[str] | None = None) -> list[PauseQueueEntry]:
        """Pause approved work that every agent is short for: for workers that are short themselves and claim nothing.

        One pass over the most urgent tasks. Several processes at once do nothing twice.

        Args:
            limit: how many tasks to look at.
            actions: the kinds of work to look at, patterns among them; all when left out.

        Returns:
            The entries.

        Raises:
            InvalidValue: a limit that is not positive.
        """
        validation.whole("limit", limit)
        tasks = Task.objects.using(self._using).filter(status=Status.APPROVED, available_at__lte=Now())
        if actions is not None:
            tasks = tasks.filter(matching(validation.label("action", each) for each in actions))
        found = persistently(
            connections[self._using], lambda: list(tasks.order_by("priority", "available_at", "id")[:limit])
        )
        agents = survey(self._using) if found and gate() is check_capacity else []
        entries = []
        for task in found:
            if gate() is check_capacity:
                verdict = judged(task, agents, labels=self._labels_of(task), using=self._using)
            else:
                verdict = self.check_capacity(task)
            try:
                entry = self.pause_for_capacity(task, verdict)
            except _GONE:
                continue  # claimed, paused or decided meanwhile
            if entry:
                entries.append(entry)
        return entries

    def resume_due(self, limit: int = 100) -> list[Task]:
        """Resume what is due: work that was paused by hand for a time, and work for which there is capacity by now.

        One pass; call it regularly. What waits for approval never resumes by time, and what waits for a named event by
        `audit.recovery.recover` alone. Several processes at once do nothing twice: Note [One resumer at a time].

        Args:
            limit: how many entries at most of each of the two kinds.

        Returns:
            The tasks that may be claimed now.

        Raises:
            InvalidValue: a limit that is not positive.
        """
        validation.whole("limit", limit)
        resumed = []
        timed = PauseQueueEntry.objects.using(self._using).filter(_BY_TIME_ALONE)
        for entry in timed.claim(get_actor() or ACTOR, limit):
            try:
                resumed.append(entry.resume(using=self._using))
            except _GONE:
                continue
        return resumed + persistently(connections[self._using], lambda: self._resume_fitting(limit))

    def _pause(self, task: Task, verdict: CapacityVerdict) -> PauseQueueEntry:
        with transaction.atomic(using=self._using):
            log = ExecutionLog.objects.using(self._using)
            earlier = log.of(task).filter(kind=LogKind.NOTE, action=EVIDENCE).values("pk")[:_MOST_DOUBLINGS]
            entry = task.pause(
                reason=PauseReason.INSUFFICIENT_CAPACITY,
                resume_after=backoff(len(earlier) + 1),
                note=verdict.summary,
                actor=get_actor() or task.claimed_by or ACTOR,
                using=self._using,
            )
            log.create(
                task_id=task.pk,
                kind=LogKind.NOTE,
                revision=task.revision,
                attempt=task.attempt,
                actor=entry.paused_by,
                action=EVIDENCE,
                output_summary=verdict.summary,
                detail=validation.document("evidence", verdict.evidence),
            )
            return entry

    def _resume_fitting(self, limit: int) -> list[Task]:
        with transaction.atomic(using=self._using):
            [(alone,)] = run(self._using, _ALONE, [])
            if not alone:
                return []
            agents = [each for each in survey(self._using) if not each.draining]
            self._place_resumed(agents)
            room = sum(each.free_slots for each in agents) if agents else limit
            if not room:
                return []
            entries, tasks = self._claimed(min(limit, room))
            resumed = []
            for entry in entries:
                if self._fits(tasks[entry.task_id], entry, agents):
                    resumed.append(entry.resume(using=self._using))
                else:
                    entry.defer(backoff(entry.attempt + 1), using=self._using)
            return resumed

    def _claimed(self, limit: int) -> tuple[list[PauseQueueEntry], dict[UUID, Task]]:
        """Claim the most urgent entries and lock their tasks: tasks first, as everybody does."""
        short = PauseQueueEntry.objects.using(self._using).filter(reason=PauseReason.INSUFFICIENT_CAPACITY)
        due = short.due().order_by("priority", "due_at", "id").values_list("task_id", flat=True)
        tasks = Task.objects.using(self._using).filter(pk__in=list(due[:limit]), status=Status.PAUSED).only(*_JUDGED_BY)
        locked = {each.pk: each for each in tasks.select_for_update(skip_locked=True, no_key=True)}
        return short.filter(task_id__in=list(locked)).claim(get_actor() or ACTOR, limit), locked

    def _place_resumed(self, agents: list[Surveyed]) -> None:
        """Let work that was resumed and is not claimed yet take its slots."""
        waiting = Task.objects.using(self._using).filter(status=Status.APPROVED, available_at__lte=Now())
        first = waiting.order_by("priority", "available_at", "id").values("pk")[:_MOST_RESUMED_LOOKED_AT]
        resumed = Task.objects.using(self._using).filter(pk__in=first, status_was=Status.PAUSED)
        for task in resumed.only(*_JUDGED_BY):
            labels = list(self._labels_of(task))
            able = [each for each in agents if each.free_slots and each.able(task.action, labels)]
            if able:
                _roomiest(able).place(needs_of(task.estimated_resources))

    def _fits(self, task: Task, entry: PauseQueueEntry, agents: list[Surveyed]) -> bool:
        """Whether an agent has room for it, which it takes up then."""
        asked = gate()
        if asked is None:
            return True
        if asked is not check_capacity and asked(task).kind not in ("free", "no_agent"):
            return False
        labels, needs = list(self._labels_of(task)), needs_of(task.estimated_resources)
        able = [each for each in agents if each.able(task.action, labels)]
        if not able:
            # Where nobody is registered for such work there are no slots to wait for.
            return not absent(self._using, task.action, labels)
        threshold = conf.settings().CAPACITY_RESUME_FREE
        patient = longest(entry.attempt)
        chosen = [
            each
            for each in able
            if each.free_slots and not each.lacks(needs, threshold) and (patient or not each.unknown(needs))
        ]
        if not chosen:
            return False
        _roomiest(chosen).place(needs)
        return True


def _roomiest(agents: list[Surveyed]) -> Surveyed:
    return max(agents, key=lambda each: each.free_slots)


def backoff(times: int) -> timedelta:
    """Return how long to wait before the next look, with jitter: half to the whole of a span that doubles.

    Args:
        times: how often there was no capacity, at least 1.
    """
    now = conf.settings()
    span = min(now.CAPACITY_BACKOFF_SECONDS * 2 ** min(times - 1, _MOST_DOUBLINGS), now.CAPACITY_BACKOFF_MAX_SECONDS)
    return timedelta(seconds=random.uniform(span / 2, span))  # noqa: S311 - a wait, no secret


def longest(times: int) -> bool:
    """Whether the wait after so many times was the longest."""
    now = conf.settings()
    grown = now.CAPACITY_BACKOFF_SECONDS * 2 ** min(max(times - 1, 0), _MOST_DOUBLINGS)
    return bool(grown >= now.CAPACITY_BACKOFF_MAX_SECONDS)
