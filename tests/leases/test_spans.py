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

_ODD = timedelta(seconds=1, microseconds=7)
_HALF_YEAR = timedelta(days=182) + _ODD


@pytest.fixture(autouse=True, params=["America/New_York", "Europe/Berlin", "Australia/Lord_Howe"])
def days(request: Any) -> Iterator[timedelta]:
    """Days that cross a change of the clocks in the session's zone, whatever the day of the year is."""
    zone, now = ZoneInfo(request.param), datetime.now(UTC)

    def crosses(days: int) -> bool:
        return now.astimezone(zone).utcoffset() != (now + timedelta(days=days)).astimezone(zone).utcoffset()

    # Those of the day before and after do, too: so it stays true while the tests run.
    found = next(each for each in range(2, 366) if all(map(crosses, (each - 1, each, each + 1))))
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('TimeZone', %s, false)", [request.param])
        yield timedelta(days=found) + _ODD
        cursor.execute("RESET TimeZone")


def _length(column: str, table: str, since: str = "statement_timestamp()") -> timedelta:
    [(seconds,)] = sql(f"SELECT extract(epoch FROM {column} - {since}) FROM {table}")
    return timedelta(seconds=float(seconds))


def _claim(days: timedelta) -> None:
    task_in("approved")
    Task.objects.claim(worker="w", lease=days)


def _beat(days: timedelta) -> None:
    task_in("approved")
    [task] = Task.objects.claim(worker="w")
    task.heartbeat(lease=days)


def _prolong(days: timedelta) -> None:
    task = task_in("executing")
    prolong(
        connections["default"],
        [Lease(using="default", task_id=task.pk, token=task.claim_token, duration=days, actor="w")],
    )


def _record(days: timedelta) -> None:
    values = {"id": uuid7(), "action": "deploy", "claimed_by": "w", "actor": "w", "requested_by": "w"}
    insert_executing(Task, "default", values, days)


@pytest.mark.parametrize("hold", [_claim, _beat, _prolong, _record])
def test_a_lease_lasts_so_long(hold: Callable[[timedelta], None], days: timedelta) -> None:
    hold(days)
    assert abs(_length("lease_expires_at", "audit_task") - days) < timedelta(minutes=10)


def test_a_pause_and_a_deferral_last_so_long(days: timedelta) -> None:
    task = requested()
    task.approve(actor="alice")
    entry = task.pause(resume_after=days, actor="alice")
    assert abs(_length("due_at", "audit_pause_queue") - days) < timedelta(minutes=10)
    entry.defer(timedelta(hours=1), actor="alice")
    entry.defer(days, actor="alice")
    assert abs(_length("due_at", "audit_pause_queue") - days) < timedelta(minutes=10)


def test_a_claim_of_an_entry_lasts_so_long(days: timedelta) -> None:
    task = requested()
    task.approve(actor="alice")
    task.pause(reason="insufficient_capacity", actor="alice")
    PauseQueueEntry.objects.claim(worker="w", lease=days)
    assert abs(_length("lease_expires_at", "audit_pause_queue") - days) < timedelta(minutes=10)


@pytest.mark.parametrize(
    "span", [timedelta(microseconds=1), _HALF_YEAR, timedelta(days=365_000), timedelta(seconds=-0.5)]
)
@pytest.mark.parametrize("listed", [False, True])
def test_a_span_arrives_as_it_was(span: timedelta, listed: bool) -> None:
    value, kind = ([span], "interval[]") if listed else (span, "interval")
    [(got,)] = run("default", f"SELECT %s::{kind}", [value])
    assert got == value
