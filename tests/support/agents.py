"""Agents whose machines are as a test says."""

from datetime import timedelta
from typing import Any

from django.db import connection

from audit.agents.presence import Presence
from audit.agents.readings import Reading
from audit.models import PauseQueueEntry, Task
from audit.status import PauseReason

__all__ = ["GIB", "aged", "agent", "approved", "due_now", "read_as", "short_entry", "silent"]

GIB = 1024**3


def agent(name: str = "w1", *, slots: int = 4, cpu: Any = 0.1, memory: Any = 0.1, **given: Any) -> Presence:
    """Register an agent, with a reading of a machine of 4 CPUs and 16 GiB."""
    presence = Presence(name, slots=slots, actions=given.pop("actions", ()), labels=given.pop("labels", ()))
    presence.register()
    read_as(presence, cpu=cpu, memory=memory, **given)
    return presence


def read_as(presence: Presence, **given: Any) -> None:
    """Let an agent have a new reading."""
    values = {"source": "host", "cpu": 0.1, "memory": 0.1, "cpu_count": 4.0, "memory_bytes_total": 16 * GIB} | given
    presence.beat(Reading(**values))


def aged(seconds: float) -> None:
    """Let every reading be so much older."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audit_resource_metric SET at = at - %s", [timedelta(seconds=seconds)])


def silent(name: str, seconds: float) -> None:
    """Let an agent have sent no heartbeat for so long."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE audit_agent SET heartbeat_at = heartbeat_at - %s WHERE name = %s",
            [timedelta(seconds=seconds), name],
        )


def approved(action: str = "deploy", **given: Any) -> Task:
    """An approved task."""
    task = Task.objects.request(action, actor="alice", **given)
    task.approve(actor="bob")
    return task


def short_entry(action: str = "deploy", **given: Any) -> PauseQueueEntry:
    """A task that was paused for capacity and is due."""
    entry = approved(action, **given).pause(reason=PauseReason.INSUFFICIENT_CAPACITY, resume_after=timedelta(seconds=1))
    due_now()
    entry.refresh_from_db()
    return entry


def due_now() -> None:
    """Let every entry that is not held be due."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE audit_pause_queue SET resume_after = statement_timestamp() - interval '1 second' WHERE NOT held"
        )
