"""A network that drops what it is given, and says nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.db.backends.postgresql.base import DatabaseWrapper

from audit.leases import keeper as keeper_module
from audit.leases.keeper import KeptLease, keeper
from audit.leases.prolong import Lease
from audit.models import ExecutionLog, Task
from audit.pausing import PauseManager
from audit.recovery import recover
from audit.statements import answers
from audit.statements.connections import Destination, own
from audit.status import PauseReason
from tests.support.agents import due_now
from tests.support.factories import claimed, sql
from tests.support.holding import OTHERS, held, is_held, server_session
from tests.support.proxy import CAN_LOSE, Network, network
from tests.support.worker import approved, eventually, logged, worker

pytestmark = pytest.mark.django_db(transaction=True)

_OPTIONS = ("--concurrency", "1", "--lease", "6")
_LONG = ("--concurrency", "1", "--lease", "3600")
_SOON = {"AUDIT_WORKER_ANSWER": "5"}


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


_WAYS = [
    pytest.param(
        Network.lose, id="loses", marks=pytest.mark.skipif(not CAN_LOSE, reason="needs a socket filter of Linux")
    ),
    pytest.param(Network.swallow, id="swallows"),
]


@pytest.mark.slow
@pytest.mark.parametrize("fail", _WAYS)
def test_a_network_that_fails_in_silence_and_heals(fail: Callable[[Network], None], tmp_path: Path) -> None:
    end, effects = tmp_path / "end", tmp_path / "effects"
    task = approved("wait", str(end))
    with network() as net, worker(*_LONG, database=net.settings, variables=_SOON) as running:
        logged(task, "waits")
        fail(net)
        end.touch()  # its end is sent into nothing
        eventually(lambda: running.said("The database is away"))
        assert _now(task).status == "executing"
        later = approved("effect", {"file": str(effects), "way": "end"})
        net.mend()
        eventually(lambda: running.said("The database is back"))
        eventually(lambda: _now(task).status == _now(later).status == "completed")
    assert (task.attempt, task.expiries, later.attempt) == (1, 0, 1)
    assert effects.read_text() == f"{later.pk}:1\n"


@contextlib.contextmanager
def _kept(net: Network, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Task, KeptLease]]:
    """Work whose lease is prolonged through a network, with answers that must come soon."""
    monkeypatch.setattr(keeper_module, "_ANSWER_MS", 2000)
    monkeypatch.setattr(answers, "_CANCEL_SECONDS", 2.0)
    task = claimed(approved("wait"))
    lease = Lease(task_id=task.pk, token=task.claim_token, duration=timedelta(minutes=1), actor="w", using="default")
    kept = keeper.keep(lease, on_lost=print)
    settings = kept.destination.settings
    kept.destination = dataclasses.replace(kept.destination, kind=DatabaseWrapper, settings=settings | net.settings)
    try:
        yield task, kept
    finally:
        keeper.forget(kept)


def test_a_keeper_whose_answer_is_swallowed_prolongs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with network() as net, _kept(net, monkeypatch) as (task, kept):
        first = _now(task).lease_expires_at
        with server_session() as other, other.transaction():
            other.execute("LOCK TABLE audit_task IN ACCESS EXCLUSIVE MODE")

            def swallows() -> bool:
                keeper.hurry(kept)
                eventually(_waiting)
                net.swallow()
                if not _waiting():  # on a slow machine the keeper may have given up before
                    net.mend()
                return bool(_waiting())

            eventually(swallows)
        eventually(lambda: _now(task).lease_expires_at > first, "the server has done what nobody hears of")
        net.mend()
        before = _now(task).lease_expires_at
        keeper.hurry(kept)
        eventually(lambda: _now(task).lease_expires_at > before)


def test_a_pass_that_a_dead_network_leaves_open_at_the_server_keeps_nobody_else_from_resuming(
    settings: LazySettings,
) -> None:
    settings.AUDIT = {"CAPACITY_GATE": None}
    task = approved("echo")
    task.pause(reason=PauseReason.INSUFFICIENT_CAPACITY, resume_after=timedelta(hours=1))
    with network() as net, worker(*_LONG, database=net.settings, variables=_SOON):
        with held("approved"):
            due_now()
            eventually(is_held)
            net.swallow()
        # The server waits for the commit of the pass, which never comes.
        eventually(lambda: [each.pk for each in PauseManager().resume_due()] == [task.pk])


def test_a_server_that_is_slow_is_asked_to_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not do later what nobody waits for any more."""
    with network() as net, _kept(net, monkeypatch) as (task, kept):
        before = _now(task).lease_expires_at
        with server_session() as other, other.transaction():
            other.execute("LOCK TABLE audit_task IN ACCESS EXCLUSIVE MODE")
            keeper.hurry(kept)
            [waits] = eventually(_waiting)
            eventually(lambda: waits not in _waiting())
        eventually(lambda: _now(task).lease_expires_at > before)
        assert not kept.lost


def _waiting() -> list[tuple[int]]:
    """The sessions that wait for the lock of a table."""
    return sql(f"SELECT pid {OTHERS} AND wait_event_type = 'Lock' AND wait_event = 'relation'")


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
