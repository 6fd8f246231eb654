"""A network that drops what it is given, and says nothing."""

from __future__ import annotations

import signal
from datetime import timedelta
from pathlib import Path

import pytest

from audit.leases.keeper import keeper
from audit.leases.prolong import Lease
from audit.models import ExecutionLog, Task
from audit.recovery import recover
from audit.statements.connections import Destination, own
from tests.support.factories import claimed
from tests.support.proxy import network
from tests.support.worker import approved, eventually, logged, worker

pytestmark = pytest.mark.django_db(transaction=True)

_OPTIONS = ("--concurrency", "1", "--lease", "6")


def _now(task: Task) -> Task:
    task.refresh_from_db()
    return task


def test_what_was_held_up_stores_nothing_when_it_comes_through(tmp_path: Path) -> None:
    task, later = approved("wait", str(tmp_path / "end")), approved("echo")
    with network() as net, worker(*_OPTIONS, database=net.settings) as running:
        logged(task, "waits")
        net.cut()
        eventually(lambda: recover().leases == (task.pk,))
        [taken] = Task.objects.claim("other", actions=["wait"])
        (tmp_path / "end").touch()
        net.mend()
        eventually(lambda: running.said("nothing of it was stored"))
        taken.complete({"by": "other"})
        eventually(lambda: _now(later).status == "completed")
    assert (_now(task).outcome["by"], task.attempt, task.expiries) == ("other", 2, 1)
    assert ExecutionLog.objects.get(task=task, action="recovery").detail["claimed_by"] != "other"


def test_a_short_silence_costs_nothing(tmp_path: Path) -> None:
    task = approved("wait", str(tmp_path / "end"))
    with network() as net, worker("--concurrency", "1", "--lease", "600", database=net.settings) as running:
        logged(task, "waits")
        net.cut()
        (tmp_path / "end").touch()
        # Its end is on its way and not stored.
        eventually(lambda: not running.said("completed") and _now(task).status == "executing")
        net.mend()
        eventually(lambda: running.said("completed after"))
    assert (_now(task).status, task.attempt) == ("completed", 1)


def test_a_worker_stops_though_nothing_comes_back(tmp_path: Path) -> None:
    task = approved("wait", str(tmp_path / "end"))
    with network() as net, worker(*_OPTIONS, "--shutdown-timeout", "0.5", database=net.settings) as running:
        logged(task, "waits")
        net.cut()
        (tmp_path / "end").touch()
        running.send(signal.SIGTERM)
        assert running.wait() == 0
        eventually(lambda: recover().leases == (task.pk,))
    assert (_now(task).status, task.expiries) == ("approved", 1)


def test_connections_of_a_worker_notice_a_dead_network() -> None:
    made = own("default")()
    made.connect()
    try:
        found = {each.keyword.decode(): each.val for each in made.connection.pgconn.info}
        assert [found[name] for name in ("keepalives_idle", "tcp_user_timeout")] == [b"15", b"30000"]
        # What such a connection has by itself is nobody's choice; what a project has set stays.
        keeps = Destination.of(made, tcp_user_timeout=10_000).settings["OPTIONS"]
        assert (keeps["keepalives_idle"], keeps["tcp_user_timeout"]) == (15, 10_000)
        made.settings_dict["OPTIONS"]["tcp_user_timeout"] = 20_000
        assert Destination.of(made, tcp_user_timeout=10_000).settings["OPTIONS"]["tcp_user_timeout"] == 20_000
    finally:
        made.close()
    task = claimed(approved("wait"))
    kept = keeper.keep(
        Lease(task_id=task.pk, token=task.claim_token, duration=timedelta(hours=1), actor="w", using="default"),
        on_lost=print,
    )
    keeper.forget(kept)
    options = kept.destination.settings["OPTIONS"]
    assert (options["keepalives_idle"], options["tcp_user_timeout"]) == (15, 10_000)
    assert "pool" not in options
