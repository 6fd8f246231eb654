"""Questions to the tasks, and the statements that request, claim, recover and record them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.exceptions import EmptyResultSet
from django.db import connections, models
from django.db.models import Q

from audit import conf
from audit.context import get_actor
from audit.exceptions import ConflictingTask, InvalidValue
from audit.leases.arguments import claim_arguments
from audit.leases.claim import TASKS, claim
from audit.leases.queryset_where import queryset_where
from audit.leases.recover_sql import ACTOR, recover_tasks_sql
from audit.statements.retry import persistently, reconnecting
from audit.statements.rows import fetch
from audit.status import FINISHED, LIVE, Status
from audit.values import moments, validation
from audit.values.patterns import like, split
from audit.verbs import inserts
from audit.verbs.differences import asks_otherwise, differing

if TYPE_CHECKING:
    from audit.models import Task

__all__ = ["TaskManager", "TaskQuerySet"]


class TaskQuerySet(models.QuerySet["Task"]):
    """What `Task.objects` and its querysets offer: filters that chain, and verbs on many tasks."""

    def touching(self, *services: str) -> Self:
        """Narrow to tasks that touched all of these services, by the GIN index (`@>`).

        Raises:
            InvalidValue: no service is named, or an empty one.
        """
        return self.filter(services_touched__contains=_services(services))

    def touching_any(self, *services: str) -> Self:
        """Narrow to tasks that touched at least one of these services, by the GIN index (`&&`).

        Raises:
            InvalidValue: no service is named, or an empty one.
        """
        return self.filter(services_touched__overlap=_services(services))

    def failed(self) -> Self:
        """Narrow to failed tasks."""
        return self.filter(status=Status.FAILED)

    def finished(self) -> Self:
        """Narrow to tasks that are completed, failed or rejected: the frozen ones."""
        return self.filter(status__in=FINISHED)

    def live(self) -> Self:
        """Narrow to tasks that can still change."""
        return self.filter(status__in=LIVE)

    def since(self, start: datetime | timedelta) -> Self:
        """Narrow to tasks created at or after a moment, or within a span of time until now."""
        return self.filter(created_at__gte=_moment("since", start))

    def until(self, end: datetime | timedelta) -> Self:
        """Narrow to tasks created before a moment, or more than a span of time ago."""
        return self.filter(created_at__lt=_moment("until", end))

    def finished_since(self, start: datetime | timedelta) -> Self:
        """Narrow to tasks finished at or after a moment, or within a span of time until now."""
        return self.finished().filter(finished_at__gte=_moment("finished_since", start))

    def finished_until(self, end: datetime | timedelta) -> Self:
        """Narrow to tasks finished before a moment, or more than a span of time ago."""
        return self.finished().filter(finished_at__lt=_moment("finished_until", end))

    def by(self, actor: str) -> Self:
        """Narrow to tasks that this actor requested, decided or changed last."""
        name = validation.label("actor", actor)
        return self.filter(Q(requested_by=name) | Q(decided_by=name) | Q(actor=name))

    def with_action(self, *actions: str) -> Self:
        """Narrow to tasks of one of these kinds of work."""
        return self.filter(action__in=[validation.label("action", each) for each in actions])

    def request(
        self,
        action: str,
        *,
        summary: str = "",
        services: Iterable[str] = (),
        plan: Any = None,
        priority: int = 3,
        actor: str | None = None,
        id: UUID | str | None = None,  # noqa: A002 - the column's name
        parent: UUID | str | None = None,
        correlation_id: str = "",
        available_at: datetime | None = None,
        approve_before: datetime | timedelta | None = None,
        estimated_resources: Any = None,
        suggestions: Any = None,
        on_expiry: str = "requeue",
    ) -> Task:
        """Ask for work: insert a pending task.

        If you make the `id` yourself (`audit.ids.uuid7`), you may repeat the request. If the task exists with the same
        content, it is returned as it is now. What a live task may gain (services that it touched, another plan before
        its approval) does not count as a difference.

        Args:
            action: the kind of work, at most 100 characters.
            summary: what is asked, in words; at most 16 384 characters.
            services: names of the services it will touch, at most 500 of 200 characters.
            plan: the work plan to approve, any JSON.
            priority: 1 (highest) to 5.
            actor: who asks. Default: the name of the `actor` block, else `db:` and the database role.
            id: a UUIDv7; made when left out.
            parent: the task this one belongs to or retries.
            correlation_id: a request, trace or batch id.
            available_at: not claimable before; at once when left out.
            approve_before: until when it may be approved, a moment or a span of time from now by the database's clock;
                afterwards `approve` refuses, and recovery rejects it. For ever when left out.
            estimated_resources: JSON such as `{"wall_s": 30, "peak_rss_bytes": 500000000}`.
            suggestions: a list of `{"suggestion", "reason", "created_at"}`.
            on_expiry: what happens when a worker's lease runs out: `requeue` or `fail`.

        Returns:
            The task, equal to its row.

        Raises:
            InvalidValue: a value could not be stored.
            ConflictingTask: a task with this id exists and says something else.
        """
        request = {
            "action": action,
            "summary": summary,
            "services": services,
            "plan": plan,
            "priority": priority,
            "actor": actor,
            "id": id,
            "parent": parent,
            "correlation_id": correlation_id,
            "available_at": available_at,
            "approve_before": approve_before,
            "estimated_resources": estimated_resources,
            "suggestions": suggestions,
            "on_expiry": on_expiry,
        }
        rows = inserts.requested([request])
        new = inserts.identify(rows)
        [values] = rows
        self._for_write = True
        insert = partial(inserts.insert, self.model, self.db, rows)
        # Repeated, it finds the task that it made itself.
        made = reconnecting(connections[self.db], partial(insert, new=new), insert)
        if made:
            return made[0]
        # Compared by the database: to Python 1 is True, and 1e23 another number than the one that JSONB keeps.
        different = differing(self.db, [values], {})[values["id"]]
        if isinstance(approve_before, timedelta):
            different = [name for name in different if name != "approve_before"]  # from now on is another moment now
        tasks = self.model._base_manager.using(self.db)
        task = persistently(connections[self.db], lambda: tasks.get(pk=values["id"]))
        if otherwise := asks_otherwise(task, values, different):
            raise ConflictingTask(task.id, otherwise)
        return task

    async def arequest(self, *args: Any, **kwargs: Any) -> Task:
        """Request from async code; see `request`."""
        return await sync_to_async(self.request)(*args, **kwargs)

    def bulk_request(self, requests: Iterable[Mapping[str, Any]]) -> list[UUID]:
        """Ask for many pieces of work at once.

        Args:
            requests: mappings of the keywords of `request`.

        Returns:
            The ids of the tasks that were inserted, in the order given. Tasks that existed before are left out.

        Raises:
            InvalidValue: a value could not be stored; nothing is inserted then.
        """
        rows = inserts.requested(requests)
        self._for_write = True
        return inserts.insert_ids(self.db, rows)

    async def abulk_request(self, *args: Any, **kwargs: Any) -> list[UUID]:
        """Ask for many pieces of work from async code; see `bulk_request`."""
        return await sync_to_async(self.bulk_request)(*args, **kwargs)

    def bulk_record(self, records: Iterable[Mapping[str, Any]]) -> list[UUID]:
        """Store finished work: imports, integrations, jobs that ran elsewhere. It is logged and guarded like any task.

        Args:
            records: mappings of columns of `Task`, where `services` means the services touched; `action` and a
                finished `status` are required, and the stamps `created_at`, `decided_at`, `started_at` and
                `finished_at` are kept as given.

        Returns:
            The ids of the tasks that were inserted, in the order given; those of tasks that existed are left out.

        Raises:
            InvalidValue: an unknown name, a live status or a value that could not be stored; nothing is inserted.
        """
        rows = inserts.recorded(records)
        for row in rows:
            if row.get("status", Status.PENDING) not in FINISHED:
                raise InvalidValue("status", row.get("status"), f"must be one of {', '.join(FINISHED)}")
        self._for_write = True
        return inserts.insert_ids(self.db, rows)

    async def abulk_record(self, *args: Any, **kwargs: Any) -> list[UUID]:
        """Store finished work from async code; see `bulk_record`."""
        return await sync_to_async(self.bulk_record)(*args, **kwargs)

    def claim(
        self,
        worker: str,
        limit: int = 1,
        lease: timedelta | None = None,
        actions: Iterable[str] | None = None,
    ) -> list[Task]:
        """Claim approved tasks for a worker: approved → executing, each to one worker (SKIP LOCKED).

        A claim is a lease with a fencing token. Keep it alive with `heartbeat`. Every verb of the claimed task carries
        the token, and raises `LeaseLost` once another worker has claimed the task. Filters narrow a claim:
        `Task.objects.touching("kuma").claim(…)`. Inside your own `atomic()`, a claim holds its row locks until the
        commit, and recovery skips it.

        Args:
            worker: the name of the worker; also the actor, unless an `actor` block names one.
            limit: how many tasks at most.
            lease: how long the claim lasts without a heartbeat; `AUDIT["LEASE_SECONDS"]` when left out.
            actions: the kinds of work the worker can do; all when left out. `deploy:*` means every action that begins
                with `deploy:`.

        Returns:
            The claimed tasks, most urgent first; an empty list when there is nothing to do.

        Raises:
            InvalidValue: an empty worker, a limit or lease that is not positive, actions given as one string.
        """
        given = claim_arguments(worker, limit, lease)
        if isinstance(actions, str):
            raise InvalidValue("actions", actions, "must be a list of actions")
        kinds = None if actions is None else [validation.label("action", each) for each in actions]
        if kinds == []:
            return []
        self._for_write = True
        try:
            where, params = queryset_where(self, self.db, "claim")
        except EmptyResultSet:
            return []
        if kinds is not None:
            exact, patterns = split(kinds)
            if patterns:
                where += " AND (audit_task.action = ANY (%s::text[]) OR audit_task.action LIKE ANY (%s::text[]))"
                params = [*params, exact, [like(each) for each in patterns]]
            else:
                where, params = f"{where} AND audit_task.action = ANY (%s::text[])", [*params, kinds]
        return claim(self.model, TASKS, self.db, given, where=where, params=params)

    async def aclaim(self, *args: Any, **kwargs: Any) -> list[Task]:
        """Claim from async code; see `claim`."""
        return await sync_to_async(self.claim)(*args, **kwargs)

    def recover_expired(self, limit: int = 100, max_expiries: int | None = None) -> list[Task]:
        """End leases that ran out: the task goes back to approved, or fails.

        A task fails if it says `on_expiry="fail"`, if it has lost `max_expiries` leases, or if somebody asked it to
        stop. Run this often, from any number of processes. Filters narrow it, as they narrow a claim.

        Args:
            limit: how many tasks at most.
            max_expiries: how many lost leases fail a task; `AUDIT["MAX_EXPIRIES"]` when left out.

        Returns:
            The recovered tasks.

        Raises:
            InvalidValue: a number that is not positive.
        """
        if max_expiries is None:
            max_expiries = conf.settings().MAX_EXPIRIES
        for name, number in (("limit", limit), ("max_expiries", max_expiries)):
            validation.whole(name, number)
        self._for_write = True
        try:
            where, params = queryset_where(self, self.db, "recover_expired")
        except EmptyResultSet:
            return []
        actor = get_actor() or ACTOR
        sql = recover_tasks_sql(self.model, where, limit)
        attempt = partial(fetch, self.model, self.db, sql, [*params, max_expiries, actor])
        return reconnecting(connections[self.db], attempt)

    async def arecover_expired(self, *args: Any, **kwargs: Any) -> list[Task]:
        """Recover from async code; see `recover_expired`."""
        return await sync_to_async(self.recover_expired)(*args, **kwargs)


def _services(names: tuple[str, ...]) -> list[str]:
    if not names:
        raise InvalidValue("services", names, "name at least one service")
    return validation.services("services", names)


def _moment(name: str, value: datetime | timedelta) -> datetime:
    if isinstance(value, timedelta):
        return moments.now() - validation.span(name, value)
    return validation.moment(name, value, or_span=True)


TaskManager = models.Manager.from_queryset(TaskQuerySet, "TaskManager")
