"""USE_TZ = False: Django reads moments naive, in TIME_ZONE. Pages, commands and verbs work, and no moment moves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connections
from django.utils import timezone

from audit.ids import uuid7
from audit.models import ExecutionLog, LedgerVerification, PauseQueueEntry, Task
from audit.reading.following import Follower
from tests.support.commands import outcome as run
from tests.support.deciding import URL, sent
from tests.support.factories import requested, sql, task_in
from tests.support.ledger import VKEY, sealer
from tests.support.pages import client_of

pytestmark = pytest.mark.django_db(transaction=True)

# New York is behind UTC and went back on 1 November 2026; Lord Howe goes by half an hour; UTC itself has a fast path.
ZONES = ["America/New_York", "Australia/Lord_Howe", "UTC"]


@pytest.fixture(autouse=True, params=ZONES)
def zone(request: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[ZoneInfo]:
    """A project without time zones; connections are made anew, for it is then that they learn of it."""
    sealer(monkeypatch)
    before = settings.USE_TZ, settings.TIME_ZONE
    settings.USE_TZ, settings.TIME_ZONE, settings.AUDIT = False, request.param, {"LEDGER_VERIFIERS": [VKEY]}
    connections.close_all()
    yield ZoneInfo(request.param)
    settings.USE_TZ, settings.TIME_ZONE = before
    connections.close_all()


def _stored(task: Any, column: str = "created_at") -> datetime:
    """Ask the database for a moment, by its own clock."""
    [(seconds,)] = sql(f"SELECT extract(epoch FROM {column})::text FROM audit_task WHERE id = %s", [str(task)])
    whole, _, rest = seconds.partition(".")
    return datetime.fromtimestamp(int(whole), UTC) + timedelta(microseconds=int((rest or "0").ljust(6, "0")))


def test_what_is_read_is_naive_and_of_the_zone_as_django_has_it(zone: ZoneInfo) -> None:
    task = requested()
    assert task.created_at.tzinfo is None
    assert task.created_at.replace(tzinfo=zone).astimezone(UTC) == _stored(task.pk)
    assert abs(timezone.now() - task.created_at) < timedelta(minutes=5)
    assert Task.objects.get(pk=task.pk).created_at == task.created_at


# Both half past ones of the night on which New York went back, and both quarters to two of Lord Howe's.
_TWICE = [datetime.fromisoformat("2026-11-01T01:30"), datetime.fromisoformat("2026-04-05T01:45")]


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize("given", _TWICE)
def test_a_naive_moment_is_stored_as_the_zone_has_it_even_where_a_clock_shows_it_twice(
    zone: ZoneInfo, given: datetime, fold: int
) -> None:
    given = given.replace(fold=fold)
    meant = given.replace(tzinfo=zone).astimezone(UTC)
    key = uuid7(given)
    Task.objects.bulk_record(
        [{"id": key, "action": "deploy", "status": "completed", "created_at": given, "finished_at": given}]
    )
    assert _stored(key) == meant
    assert Task.objects.since(given).until(given.replace(second=1)).filter(pk=key).exists()
    assert not Task.objects.since(given.replace(second=1)).filter(pk=key).exists()


def test_a_page_of_each_kind_shows_the_zones_time(zone: ZoneInfo) -> None:
    at = datetime.now(UTC) - timedelta(minutes=30)
    key = uuid7(at)
    Task.objects.bulk_record(
        [{"id": key, "action": "deploy", "status": "completed", "created_at": at, "finished_at": at}]
    )
    entry = PauseQueueEntry.objects.get(task=task_in("paused"))
    assert run("audit_seal")[0] == 0
    assert run("audit_verify")[0] == 0
    client = client_of("decider")
    shown = f"{at.astimezone(zone):%H:%M:%S}"
    for page in ("task/", "task/?q=deploy", "task/?range=7d", f"task/{key}/change/"):
        answer = client.get(f"/admin/audit/{page}")
        assert answer.status_code == 200, page
        assert shown in answer.content.decode(), page
    live = re.search(r'data-url="([^"]*newer/[^"]*)"', client.get("/admin/audit/task/").content.decode())
    assert live
    assert client.get(unescape(live[1])).json()["count"] == 0
    verification = LedgerVerification.objects.get()
    for page in (
        "task/?status=failed&since=2026-11-01T01:30&until=2026-11-02",
        f"task/{entry.task_id}/change/",
        "executionlog/",
        "pausequeueentry/",
        "pausequeueentry/?state=due",
        "ledgerverification/",
        f"ledgerverification/{verification.pk}/change/",
    ):
        assert client.get(f"/admin/audit/{page}").status_code in (200, 204), page
    for page in (f"task/{key}/raw/", f"task/{key}/proof/", "task/export/?format=jsonl", "task/export/?format=csv"):
        answer = client.get(f"/admin/audit/{page}")
        assert answer.status_code == 200, page
        body = b"".join(answer) if answer.streaming else answer.content
        assert body, page


def test_a_live_task_is_measured_by_the_clock(zone: ZoneInfo) -> None:
    task = task_in("executing")
    html = client_of("viewer").get(f"/admin/audit/task/{task.pk}/change/").content.decode()
    assert not re.search(r"\d+ ?h\b", re.sub(r"<[^>]*>", " ", html.partition("audit-timeline")[0]))
    [line] = json.loads(run("audit_list", "--format", "json")[1])
    assert 0 <= line["ran_s"] < 600
    assert datetime.fromisoformat(line["created_at"]) == _stored(task.pk)


@pytest.mark.parametrize(
    "argv",
    [
        ["audit_list"],
        ["audit_list", "--since", "1h", "--format", "json"],
        ["audit_stats"],
        ["audit_stats", "--format", "json"],
        ["audit_tail"],
        ["audit_export"],
        ["audit_export", "--format", "csv", "--finished-since", "1h"],
        ["audit_queue", "list"],
        ["audit_queue", "list", "--format", "json"],
    ],
    ids=" ".join,
)
def test_every_command_reads(zone: ZoneInfo, argv: list[str]) -> None:
    task_in("completed")
    task_in("paused")
    code, out, _ = run(*argv)
    assert code == 0
    assert out


def test_show_and_list_write_the_zones_time(zone: ZoneInfo) -> None:
    task = task_in("completed")
    local = f"{_stored(task.pk).astimezone(zone):%m-%d %H:%M:%S}"
    assert local in run("audit_list")[1]
    assert local in run("audit_show", str(task.pk))[1]
    assert f"{datetime.now(zone):%Z}" in run("audit_list")[1]
    assert datetime.fromisoformat(json.loads(run("audit_show", str(task.pk), "--format", "json")[1])["created_at"]) == (
        _stored(task.pk)
    )


def test_export_and_import_keep_every_moment(zone: ZoneInfo, tmp_path: Path) -> None:
    at = datetime(2026, 11, 1, 5, 30, 0, 123456, tzinfo=UTC)
    line = {"id": str(uuid7(at)), "action": "deploy", "status": "completed", "created_at": at.isoformat()}
    line |= {"started_at": at.isoformat(), "finished_at": (at + timedelta(hours=1)).isoformat()}
    file = tmp_path / "tasks.jsonl"
    file.write_text(json.dumps(line) + "\n")
    assert run("audit_import", file)[0] == 0
    assert _stored(line["id"]) == at
    assert _stored(line["id"], "finished_at") == at + timedelta(hours=1)
    exported = json.loads(run("audit_export")[1])
    assert datetime.fromisoformat(exported["created_at"]) == at


def test_verbs_take_naive_moments(zone: ZoneInfo) -> None:
    until = timezone.now() + timedelta(days=1)
    meant = until.replace(tzinfo=zone).astimezone(UTC)
    task = requested()
    task.approve(actor="alice")
    entry = task.pause(resume_after=until, actor="alice")
    assert entry.due_at == until
    assert sql("SELECT due_at = %s FROM audit_pause_queue", [meant]) == [(True,)]
    entry.defer(until + timedelta(hours=1), actor="alice")
    assert sql("SELECT resume_after = %s FROM audit_pause_queue", [meant + timedelta(hours=1)]) == [(True,)]
    assert run("audit_queue", "defer", str(entry.pk), "--until", f"{until:%Y-%m-%dT%H:%M}")[0] == 0
    assert sql("SELECT due_at = date_trunc('minute', %s) FROM audit_pause_queue", [meant]) == [(True,)]


def test_a_decision_in_the_browser_takes_the_zones_time(zone: ZoneInfo) -> None:
    task = task_in("paused")
    client_of("decider").post(URL, sent("defer", task, until="2100-01-02T03:04"))
    meant = datetime(2100, 1, 2, 3, 4, tzinfo=zone).astimezone(UTC)
    assert sql("SELECT due_at = %s FROM audit_pause_queue", [meant]) == [(True,)]
    note = ExecutionLog.objects.filter(task=task, detail__has_key="until").get()
    assert datetime.fromisoformat(note.detail["until"]) == meant


def test_a_follower_finds_what_comes(zone: ZoneInfo) -> None:
    follower = Follower("default", lambda tasks: tasks)
    follower.start()
    task = task_in("completed")
    assert [each.row.to_status for each in follower.look() if each.task == task][-1] == "completed"
    assert list(follower.look()) == []


def test_the_ledger_verifies(zone: ZoneInfo, tmp_path: Path) -> None:
    task = task_in("completed")
    assert run("audit_seal", "--checkpoints", tmp_path)[0] == 0
    assert run("audit_verify", "--checkpoints", tmp_path)[0] == 0
    assert run("audit_prove", str(task.pk), "--with-log")[0] == 0
    [(gap,)] = sql("SELECT extract(epoch FROM now() - sealed_at) FROM audit_ledger_head")
    assert abs(gap) < 600
    [(gap,)] = sql("SELECT extract(epoch FROM finished_at - started_at) FROM audit_ledger_verification")
    assert 0 <= gap < 600
