"""An agent whose heartbeats are missing while its leases live: nothing of its running work is moved."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import LazySettings

from audit.agents.pruning import prune
from audit.models import Agent, ExecutionLog, ResourceMetric, Task
from audit.pausing import PauseManager
from audit.recovery import recover
from audit.status import AgentState
from tests.support.agents import silent
from tests.support.factories import sql
from tests.support.worker import approved, eventually, logged, worker

pytestmark = pytest.mark.django_db(transaction=True)

# Its next heartbeat would come after the test.
_QUIET = {"AGENT_HEARTBEAT_SECONDS": 3600, "AGENT_STALE_SECONDS": 7200, "AGENT_OFFLINE_SECONDS": 14400}
_LEASE = "12"  # seconds; a busy machine prolongs it in time


def _state(name: str) -> str | None:
    return Agent.objects.filter(name=name).with_state().values_list("state", flat=True).first()


def _everybody_has_looked() -> None:
    """Whoever moves work has had the chance to: the other worker has recovered something since, and so has the test."""
    left = approved("echo", priority=1)
    [claimed] = Task.objects.filter(pk=left.pk).claim("gone") or [None]
    if claimed is not None:
        Task.objects.filter(pk=left.pk).update(lease_expires_at=left.created_at)
    eventually(lambda: Task.objects.filter(pk=left.pk, status="completed").exists())
    manager = PauseManager()
    assert (manager.pause_short(), manager.resume_due(), recover().leases) == ([], [], ())


@pytest.mark.slow
def test_nothing_of_a_silent_agent_moves_while_its_leases_live(tmp_path: Path, settings: LazySettings) -> None:
    end = tmp_path / "end"
    task = approved("wait", str(end), estimated_resources={"cpu": 0.5})
    options = ("--concurrency", "1", "--lease", _LEASE, "--name")
    with worker(*options, "silent", "--actions", "wait", audit=_QUIET) as running:
        logged(task, "waits")
        with worker(*options, "other", "--actions", "echo,wait") as other:
            settings.AUDIT = {"AGENT_STALE_SECONDS": 30, "AGENT_OFFLINE_SECONDS": 3000}
            for seconds, state in ((60, AgentState.STALE), (3600, AgentState.OFFLINE), (10**8, None)):
                silent("silent", seconds)
                if state is None:
                    ResourceMetric.objects.all().delete()
                    assert prune().agents == 1
                assert _state("silent") == state
                [(lease,)] = sql("SELECT lease_expires_at FROM audit_task WHERE id = %s", [task.pk])
                _everybody_has_looked()
                kept = Task.objects.filter(pk=task.pk, lease_expires_at__gt=lease)
                eventually(kept.exists)
                if state is None:
                    eventually(lambda lease=lease: sql("SELECT statement_timestamp() > %s", [lease]) == [(True,)])
                _everybody_has_looked()
                task.refresh_from_db()
                assert (task.status, task.claimed_by, task.attempt) == ("executing", "silent", 1)
            assert not other.said(f"wait {task.pk}")
        end.touch()
        eventually(lambda: running.said("completed after"))
    task.refresh_from_db()
    assert (task.status, task.attempt, task.expiries) == ("completed", 1, 0)
    moves = ExecutionLog.objects.filter(task=task, kind="transition").order_by("id")
    assert [each.to_status for each in moves] == ["pending", "approved", "executing", "completed"]
