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

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cache, partial
from typing import Any
from uuid import UUID

from django.db import connections, router, transaction
from django.db.models import BooleanField
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now

from audit import conf
from audit.agents.needs import needs_of
from audit.agents.survey import Missing, Surveyed, elsewhere, survey
from audit.context import get_actor
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.pausing import bulk
from audit.pausing.bulk import EVIDENCE
from audit.pausing.capacity import CapacityVerdict, check_capacities, check_capacity, judged
from audit.pausing.capacity_wait import MOST_DOUBLINGS, capacity_wait, is_longest
from audit.pausing.gate import gate
from audit.statements.retry import persistently
from audit.statements.rows import run
from audit.status import LogKind, PauseReason, Status
from audit.values import validation
from audit.values.patterns import matching

__all__ = ["ACTOR", "EVIDENCE", "PauseManager"]

ACTOR = "audit:capacity"
"""Who pauses and resumes when no `actor` block names anybody."""

_ALONE = "SELECT pg_try_advisory_xact_lock('audit_pause_queue'::regclass::oid::bigint << 8)"
_ORDER = ("priority", "available_at", "id")
_BEHIND = "(audit_task.priority, audit_task.available_at, audit_task.id) > (%s, %s, %s)"
_JUDGED_BY = ("id", "action", "estimated_resources")  # plans and outcomes may be large
# Looks only at the 1000 most urgent.
_RESUMED = """
SELECT first.id, first.action, first.estimated_resources FROM (
    SELECT id, action, estimated_resources, status_was FROM audit_task
    WHERE status = 'approved' AND available_at <= statement_timestamp()
    ORDER BY priority, available_at, id LIMIT 1000
) AS first WHERE first.status_was = 'paused'
"""


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
        self._looked_at: tuple[int, datetime, UUID] | None = None

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

    def check_capacities(self, tasks: Sequence[Task]) -> list[CapacityVerdict]:
        """Ask the gate about tasks that were claimed together; the registry is read once.

        Args:
            tasks: each that is judged free takes its room from those behind it.

        Returns:
            The verdicts, in the order of the tasks.
        """
        if gate() is check_capacity:
            return check_capacities(tasks, labels_of=self._labels_of, using=self._using)
        return [self.check_capacity(task) for task in tasks]

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
        """Pause approved work that every agent is short for; called by a worker that is short itself, and claims none.

        One pass, most urgent first. The next one of this manager goes on behind it, and begins anew when there is no
        more, so that work that is not paused hides nothing. Several processes at once do nothing twice.

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
            tasks = tasks.filter(matching(validation.label("action", action) for action in actions))
        if self._looked_at is not None:
            tasks = tasks.filter(RawSQL(_BEHIND, self._looked_at, output_field=BooleanField()))  # noqa: S611 - a constant
        by_registry = gate() is check_capacity
        if by_registry:
            tasks = tasks.only(*_JUDGED_BY, *_ORDER)
        found = persistently(connections[self._using], lambda: list(tasks.order_by(*_ORDER)[:limit]))
        last = found[-1] if len(found) == limit else None
        self._looked_at = None if last is None else (last.priority, last.available_at, last.pk)
        if by_registry:
            short = self._short(found)
        else:
            short = {task.pk: said for task in found if (said := self.check_capacity(task)).kind == "short"}
        who = get_actor() or ACTOR
        return persistently(connections[self._using], lambda: bulk.pause(self._using, short, actor=who))

    def _short(self, tasks: list[Task]) -> dict[UUID, CapacityVerdict]:
        """Judge by the registry, work of one kind and one estimate once, and keep what all are short for."""
        agents = [each for each in survey(self._using) if not each.draining] if tasks else []
        said: dict[Any, CapacityVerdict | None] = {}
        found = {}
        for task in tasks:
            labels, needs = list(self._labels_of(task)), needs_of(task.estimated_resources)
            alike = (task.action, *labels, *needs.items())
            if alike not in said:
                able = any(agent.able(task.action, labels) for agent in agents)
                said[alike] = judged(task, agents, labels=labels, using=self._using) if able else None
            verdict = said[alike]
            if verdict is not None and verdict.kind == "short":
                found[task.pk] = verdict
        return found

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
        timed = bulk.resume_timed(self._using, limit=limit, actor=get_actor() or ACTOR)
        return timed + persistently(connections[self._using], lambda: self._resume_fitting(limit))

    def _pause(self, task: Task, verdict: CapacityVerdict) -> PauseQueueEntry:
        with transaction.atomic(using=self._using):
            log = ExecutionLog.objects.using(self._using)
            earlier = log.of(task).filter(kind=LogKind.NOTE, action=EVIDENCE).values("pk")[:MOST_DOUBLINGS]
            entry = task.pause(
                reason=PauseReason.INSUFFICIENT_CAPACITY,
                resume_after=capacity_wait(len(earlier) + 1),
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
            if any(agent.free_slots for agent in agents):
                self._place_resumed(agents)
            room = sum(agent.free_slots for agent in agents) if agents else limit
            if not room:
                return []
            entries, tasks = self._claimed(min(limit, room))
            missing = cache(partial(elsewhere, self._using))
            fitting, deferred = [], []
            for entry in entries:
                why = self._obstacle(tasks[entry.task_id], entry, agents, missing)
                if why is None:
                    fitting.append(entry)
                else:
                    deferred.append((entry, capacity_wait(entry.attempt + 1), why))
            who = get_actor() or ACTOR
            bulk.defer(self._using, deferred, actor=who)
            return bulk.resume_claimed(self._using, fitting, actor=who)

    def _claimed(self, limit: int) -> tuple[list[PauseQueueEntry], dict[UUID, Task]]:
        """Claim the most urgent entries and lock their tasks: tasks first, as everybody does."""
        short = PauseQueueEntry.objects.using(self._using).filter(reason=PauseReason.INSUFFICIENT_CAPACITY)
        due = short.due().order_by("priority", "due_at", "id").values_list("task_id", flat=True)
        tasks = Task.objects.using(self._using).filter(pk__in=list(due[:limit]), status=Status.PAUSED).only(*_JUDGED_BY)
        locked = {each.pk: each for each in tasks.select_for_update(skip_locked=True, no_key=True)}
        return short.filter(task_id__in=list(locked)).claim(get_actor() or ACTOR, limit), locked

    def _place_resumed(self, agents: list[Surveyed]) -> None:
        """Let work that was resumed and is not claimed yet take its slots."""
        for task in Task.objects.using(self._using).raw(_RESUMED):
            labels = list(self._labels_of(task))
            able = [agent for agent in agents if agent.free_slots and agent.able(task.action, labels)]
            if able:
                _roomiest(able).place(needs_of(task.estimated_resources))

    def _obstacle(
        self, task: Task, entry: PauseQueueEntry, agents: list[Surveyed], missing: Callable[[], list[Missing]]
    ) -> str | None:
        """Say why a task does not fit; None when an agent has room for it, which it takes up then."""
        asked = gate()
        if asked is None:
            return None
        if asked is not check_capacity and (said := asked(task)).kind not in ("free", "no_agent"):
            return said.summary
        labels, needs = list(self._labels_of(task)), needs_of(task.estimated_resources)
        threshold = conf.settings().CAPACITY_RESUME_FREE
        able = [agent for agent in agents if agent.able(task.action, labels)]
        # Where nobody is registered for such work there are no slots to wait for.
        if not able and not any(agent.able(task.action, labels) for agent in missing()):
            return None
        patient = is_longest(entry.attempt)
        chosen = [
            agent
            for agent in able
            if agent.free_slots and not agent.lacks(needs, threshold) and (patient or not agent.unknown(needs))
        ]
        if chosen:
            _roomiest(chosen).place(needs)
            return None
        verdict = judged(task, agents, labels=labels, using=self._using, threshold=threshold, missing=missing)
        return f"No slot is free. {verdict.summary}" if verdict.kind == "free" else verdict.summary


def _roomiest(agents: list[Surveyed]) -> Surveyed:
    return max(agents, key=lambda each: each.free_slots)
