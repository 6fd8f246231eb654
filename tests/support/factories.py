"""Tasks in every status, the rows as the database holds them, and what a refusal looks like."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.db import connection, models

from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.status import FINISHED, Status
from audit.testing import Refusal
from audit.testing import refused as refusing

__all__ = [
    "CHECK",
    "DENIED",
    "RESTRICT",
    "SERIALIZATION",
    "STEPS_TO",
    "UNIQUE",
    "assert_same",
    "claimed",
    "entry_of",
    "finished",
    "log_of",
    "moved",
    "refused",
    "requested",
    "snapshot",
    "sql",
    "task_in",
    "unchanged",
]

RESTRICT = "23001"
CHECK = "23514"
UNIQUE = "23505"
SERIALIZATION = "40001"
DENIED = "42501"

# How raw SQL walks a task to each status, step by step, from pending.
STEPS_TO = {
    Status.PENDING: (),
    Status.APPROVED: (Status.APPROVED,),
    Status.EXECUTING: (Status.APPROVED, Status.EXECUTING),
    Status.PAUSED: (Status.APPROVED, Status.PAUSED),
    Status.COMPLETED: (Status.APPROVED, Status.EXECUTING, Status.COMPLETED),
    Status.FAILED: (Status.APPROVED, Status.EXECUTING, Status.FAILED),
    Status.REJECTED: (Status.REJECTED,),
}


def requested(**values: Any) -> Task:
    """A pending task with something in every column that a request can fill."""
    values = {
        "action": "deploy",
        "summary": "Deploy Uptime Kuma",
        "services": ["kuma", "dns"],
        "plan": {"steps": ["pull", "run"], "ratio": 12.5},
        "priority": 2,
        "actor": "alice",
        "correlation_id": "batch-7",
        "estimated_resources": {"wall_s": 30},
        "suggestions": [{"suggestion": "pin the version"}],
        **values,
    }
    return Task.objects.request(values.pop("action"), **values)


def claimed(task: Task, worker: str = "orch-1", **options: Any) -> Task:
    """Claim this very task."""
    [claim] = Task.objects.filter(pk=task.pk).claim(worker, **options)
    return claim


def task_in(status: str, **values: Any) -> Task:
    """A task that the verbs brought to a status; an executing one is the claim."""
    task = requested(**values)
    if status == Status.PENDING:
        return task
    if status == Status.REJECTED:
        task.reject(actor="bob", reason="not now")
        return task
    task.approve(actor="bob")
    if status == Status.APPROVED:
        return task
    if status == Status.PAUSED:
        task.pause(actor="bob")
        return task
    task = claimed(task)
    if status == Status.COMPLETED:
        task.complete({"output_summary": "up"}, resources={"wall_s": 1.5}, suggestions=[{"suggestion": "again"}])
    elif status == Status.FAILED:
        task.fail("it broke")
    return task


def finished(**values: Any) -> Task:
    """A completed task."""
    return task_in(Status.COMPLETED, **values)


def moved(task: Task, *statuses: str) -> None:
    """Set one status after the other by raw SQL."""
    for status in statuses:
        sql("UPDATE public.audit_task SET status = %s WHERE id = %s", [status, task.pk])


def sql(statement: str, params: Any = None) -> list[tuple[Any, ...]]:
    """Run raw SQL on the default connection; its rows, if it has any."""
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def refused(state: str = RESTRICT, *, match: str = "") -> Iterator[Refusal]:
    """Expect the database to refuse the block, in a savepoint, and the connection to be usable afterwards."""
    with refusing(sqlstate=state) as refusal:
        yield refusal
    assert re.search(match, refusal.message), refusal.message
    assert sql("SELECT 1") == [(1,)]


def snapshot(*keys: UUID) -> dict[str, list[str]]:
    """Every column of these tasks, their log and their entries, as the database prints them."""
    wanted = ", ".join(f"'{key}'" for key in keys)
    where = {"audit_task": "id", "audit_executionlog": "task_id", "audit_pause_queue": "task_id"}
    return {
        table: [
            text
            for (text,) in sql(f"SELECT t::text FROM public.{table} AS t WHERE {column} IN ({wanted}) ORDER BY t.id")
        ]
        for table, column in where.items()
    }


@contextlib.contextmanager
def unchanged(*tasks: Task) -> Iterator[None]:
    """Expect the block to leave these tasks, their log and their entries as they are, in every column."""
    before = snapshot(*(task.pk for task in tasks))
    assert len(before["audit_task"]) == len(tasks)
    yield
    assert snapshot(*(task.pk for task in tasks)) == before


def assert_same(instance: models.Model) -> None:
    """Expect an instance to equal its row in every column."""
    row = type(instance)._base_manager.using(instance._state.db).get(pk=instance.pk)
    for field in instance._meta.concrete_fields:
        mine, theirs = getattr(instance, field.attname), getattr(row, field.attname)
        assert _plain(mine) == _plain(theirs), (field.attname, mine, theirs)
    if isinstance(instance, Task):
        assert (instance.status in FINISHED) == (instance.finished_xid is not None)


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value


def log_of(task: Task) -> list[tuple[Any, ...]]:
    """The log as (kind, from, to, actor), in order."""
    return list(ExecutionLog.objects.of(task).values_list("kind", "from_status", "to_status", "actor"))


def entry_of(task: Task) -> PauseQueueEntry:
    """The task's pause entry, as a person reads it."""
    return PauseQueueEntry.objects.get(task_id=task.pk)
