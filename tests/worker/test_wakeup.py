"""NOTIFY makes pick-up fast, and nothing depends on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.conf import LazySettings
from django.db import connection, transaction

from audit import emit_event
from audit.leases import wakeup
from audit.models import PauseQueueEntry, Task
from tests.support.factories import sql
from tests.support.worker import approved, eventually, worker

pytestmark = pytest.mark.django_db(transaction=True)

_LISTENERS = "FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN audit_task'"


@contextlib.contextmanager
def _listening() -> Iterator[Any]:
    """What gives the payloads that were heard since it was called last."""
    wanted = ("dbname", "user", "host", "port", "password")
    settings = {key: value for key, value in connection.get_connection_params().items() if key in wanted}
    with psycopg.connect(**settings, autocommit=True) as heard:
        heard.execute("LISTEN audit_task")
        sent = 0

        def payloads() -> list[str]:
            # Notifications come in order: behind this one there is none that was sent before it.
            nonlocal sent
            sent += 1
            heard.execute("SELECT pg_notify('audit_task', %s)", [f"mark {sent}"])
            found = []
            for each in heard.notifies(timeout=60):
                if each.payload == f"mark {sent}":
                    return found
                found.append(each.payload)
            raise AssertionError

        yield payloads


def test_what_becomes_claimable_is_announced_after_the_commit() -> None:
    with _listening() as heard:
        task = Task.objects.request("deploy", actor="alice")
        assert heard() == []
        task.approve(actor="bob")
        assert heard() == ["deploy"]
        with transaction.atomic():
            approved("in a transaction")
            assert heard() == []
        assert heard() == ["in a transaction"]
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            approved("rolled back")
            raise ZeroDivisionError
        assert heard() == []
        pending = Task.objects.request("deploy", actor="alice")
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            pending.approve(actor="bob")
            raise ZeroDivisionError
        assert heard() == []
        with transaction.atomic():
            approved("kept")
            with contextlib.suppress(ZeroDivisionError), transaction.atomic():
                approved("rolled back")
                raise ZeroDivisionError
        assert heard() == ["kept"]
        assert Task.objects.get(pk=pending.pk).status == "pending"
        assert not Task.objects.filter(action="rolled back").exists()
        [task] = Task.objects.claim("w", actions=["deploy"])
        task.retry("later", delay=timedelta(hours=1))
        assert heard() == []
        Task.objects.filter(pk=task.pk).update(available_at=task.created_at)
        [task] = Task.objects.claim("w", actions=["deploy"])
        task.retry("now")
        assert heard() == ["deploy"]
        [task] = Task.objects.claim("w", actions=["deploy"])
        task.release()
        assert heard() == ["deploy"]
        task.pause()
        PauseQueueEntry.objects.get(task=task).resume(actor="bob")
        assert heard() == ["deploy"]
        task.refresh_from_db()
        task.pause(event="build-1")
        emit_event("build-0")
        assert heard() == []
        emit_event("build-1")
        assert heard() == [wakeup.ANY]


def test_it_can_be_turned_off(settings: LazySettings) -> None:
    settings.AUDIT = {"NOTIFY": False}
    with _listening() as heard:
        approved("deploy")
        assert heard() == []


def test_a_notification_that_fails_fails_no_verb(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wakeup, "CHANNEL", "x" * 64)
    task = approved("deploy")
    with transaction.atomic():
        other = approved("deploy")
    assert "Workers could not be notified" in caplog.text
    assert [each.status for each in Task.objects.filter(pk__in=[task.pk, other.pk])] == ["approved"] * 2


def test_work_is_picked_up_without_a_poll_also_after_the_listener_was_cut_off() -> None:
    with worker("--concurrency", "1", "--poll-interval", "3600") as running:
        eventually(lambda: sql(f"SELECT 1 {_LISTENERS}") and running.said("one at a time"))
        for _ in range(2):
            eventually(lambda: sql(f"SELECT pid {_LISTENERS}"))
            task = approved("echo")
            eventually(lambda task=task: Task.objects.get(pk=task.pk).status == "completed")
        [(pid,)] = sql(f"SELECT pid {_LISTENERS}")
        sql("SELECT pg_terminate_backend(%s)", [pid])
        task = approved("echo")  # perhaps while nobody listens
        eventually(lambda: Task.objects.get(pk=task.pk).status == "completed")
        eventually(lambda: sql(f"SELECT 1 {_LISTENERS} AND pid <> %s", [pid]))
        task = approved("await-event", "build-7")
        eventually(lambda: Task.objects.get(pk=task.pk).status == "paused")
        emit_event("build-7", {"ok": True})
        eventually(lambda: Task.objects.get(pk=task.pk).status == "completed")
    task.refresh_from_db()
    assert task.outcome == {"success": True, "name": "build-7", "payload": {"ok": True}, "timed_out": False}


def test_an_event_that_came_before_the_pause() -> None:
    emit_event("build-8", 1)
    task = approved("await-event", "build-8")
    with worker("--concurrency", "1", "--name", "w1") as running:
        eventually(lambda: Task.objects.get(pk=task.pk).status == "completed")
        eventually(lambda: running.said("s: the event 'build-8' is there already, and it goes on"))
    task.refresh_from_db()
    assert task.outcome["payload"] == 1
    # It waited for no recovery.
    assert task.execution_log.get(from_status="paused").actor == "w1"


def test_polling_alone_finds_all_work() -> None:
    with worker("--concurrency", "1", audit={"NOTIFY": False}) as running:
        eventually(lambda: running.said("one at a time"))
        assert not sql(f"SELECT 1 {_LISTENERS}")
        task = approved("echo")
        eventually(lambda: Task.objects.get(pk=task.pk).status == "completed")
