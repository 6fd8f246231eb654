"""A span of a day is 24 hours, whatever the session's zone and whatever its clocks do that night."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, connections

from audit.ids import uuid7
from audit.leases.prolong import Lease, prolong
from audit.models import PauseQueueEntry, Task
from audit.recording.starting import insert_executing
from audit.statements.rows import run
from tests.support.factories import requested, sql, task_in

pytestmark = pytest.mark.django_db

# A span of days that crosses a change of clocks, wherever today is: half a year ends in the other half's time.
_DAYS = timedelta(days=182, seconds=1, microseconds=7)


@pytest.fixture(autouse=True, params=["America/New_York", "Europe/Berlin", "Australia/Lord_Howe"])
def _zone(request: Any) -> Iterator[None]:
    zone = ZoneInfo(request.param)
    now = datetime.now(UTC)
    assert now.astimezone(zone).utcoffset() != (now + _DAYS).astimezone(zone).utcoffset()
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('TimeZone', %s, false)", [request.param])
        yield
        cursor.execute("RESET TimeZone")


def _length(column: str, table: str, since: str = "statement_timestamp()") -> timedelta:
    [(seconds,)] = sql(f"SELECT extract(epoch FROM {column} - {since}) FROM {table}")
    return timedelta(seconds=float(seconds))


def _claim() -> None:
    task_in("approved")
    Task.objects.claim(worker="w", lease=_DAYS)


def _beat() -> None:
    task_in("approved")
    [task] = Task.objects.claim(worker="w")
    task.heartbeat(lease=_DAYS)


def _prolong() -> None:
    task = task_in("executing")
    prolong(
        connections["default"],
        [Lease(using="default", task_id=task.pk, token=task.claim_token, duration=_DAYS, actor="w")],
    )


def _record() -> None:
    values = {"id": uuid7(), "action": "deploy", "claimed_by": "w", "actor": "w", "requested_by": "w"}
    insert_executing(Task, "default", values, _DAYS)


@pytest.mark.parametrize("hold", [_claim, _beat, _prolong, _record])
def test_a_lease_lasts_so_long(hold: Callable[[], None]) -> None:
    hold()
    assert abs(_length("lease_expires_at", "audit_task") - _DAYS) < timedelta(minutes=10)


def test_a_pause_and_a_deferral_last_so_long() -> None:
    task = requested()
    task.approve(actor="alice")
    entry = task.pause(resume_after=_DAYS, actor="alice")
    assert abs(_length("due_at", "audit_pause_queue") - _DAYS) < timedelta(minutes=10)
    entry.defer(timedelta(hours=1), actor="alice")
    entry.defer(_DAYS, actor="alice")
    assert abs(_length("due_at", "audit_pause_queue") - _DAYS) < timedelta(minutes=10)


def test_a_claim_of_an_entry_lasts_so_long() -> None:
    task = requested()
    task.approve(actor="alice")
    task.pause(reason="insufficient_capacity", actor="alice")
    PauseQueueEntry.objects.claim(worker="w", lease=_DAYS)
    assert abs(_length("lease_expires_at", "audit_pause_queue") - _DAYS) < timedelta(minutes=10)


@pytest.mark.parametrize("span", [timedelta(microseconds=1), _DAYS, timedelta(days=365_000), timedelta(seconds=-0.5)])
@pytest.mark.parametrize("listed", [False, True])
def test_a_span_arrives_as_it_was(span: timedelta, listed: bool) -> None:
    value, kind = ([span], "interval[]") if listed else (span, "interval")
    [(got,)] = run("default", f"SELECT %s::{kind}", [value])
    assert got == value
