"""`audit_record` and signals: whom they reach, time limits, and the end of a killed one."""

import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection

from audit.models import Task
from audit.recording.running import run
from tests.support.recorded_commands import only, python, recorded, start
from tests.support.worker import eventually

pytestmark = pytest.mark.django_db(transaction=True)

# A process and its child, of which each writes down what it hears.
FAMILY = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
child = os.fork()
name = "parent" if child else "child"
def heard(number, frame):
    (folder / name).write_text(signal.Signals(number).name)
    if child:
        os.waitpid(child, 0)
    os._exit(7)
for number in (1, 2, 15):
    signal.signal(number, heard)
(folder / f"{name}-ready").touch()
time.sleep(60)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_signals_reach_the_group_of_the_command(name: str, tmp_path: Path) -> None:
    def heard() -> None:
        signal.signal(signal.Signals[name], signal.SIG_DFL)  # whoever runs the tests under nohup ignores some

    process = start(*python(FAMILY), str(tmp_path), preexec_fn=heard)
    try:
        eventually(lambda: (tmp_path / "parent-ready").exists() and (tmp_path / "child-ready").exists())
        process.send_signal(signal.Signals[name])
        assert process.wait(timeout=120) == 7
    finally:
        process.kill()
        process.communicate()
    assert [(tmp_path / who).read_text() for who in ("parent", "child")] == [name, name]
    task = only()
    assert (task.status, task.outcome["exit_status"]) == ("failed", 7)
    assert task.outcome["signals_forwarded"] == [name]


def test_a_hangup_that_nohup_ignores_reaches_no_command(tmp_path: Path) -> None:
    def started() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    process = start(*python(FAMILY), str(tmp_path), preexec_fn=started)
    try:
        eventually(lambda: (tmp_path / "parent-ready").exists() and (tmp_path / "child-ready").exists())
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 7
    finally:
        process.kill()
        process.communicate()
    assert [(tmp_path / who).read_text() for who in ("parent", "child")] == ["SIGTERM", "SIGTERM"]
    assert only().outcome["signals_forwarded"] == ["SIGTERM"]


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that a command makes; for whoever runs it the time stands still until then."""
    file = tmp_path / "ready"
    begun: list[float] = []

    def clock() -> float:
        if not begun:
            if not file.exists():
                return 0.0
            begun.append(time.monotonic())
        return time.monotonic() - begun[0]

    monkeypatch.setattr("audit.recording.running.time", SimpleNamespace(monotonic=clock))
    return file


def test_timeout_ends_even_a_deaf_command(monkeypatch: pytest.MonkeyPatch, ready: Path) -> None:
    status, out, err = recorded("--timeout", "0.5", "--", "sleep", "60")
    assert (status, out, err) == (124, b"", b"sleep: timed out after 0.5 s\n")
    monkeypatch.setattr("audit.recording.running._KILL_AFTER_SECONDS", 0.3)
    ended = run(["sh", "-c", f"trap '' TERM; touch {ready}; exec sleep 600"], timeout=0.3)
    assert (ended.status, ended.outcome["signal"], ended.outcome["error_type"]) == (124, "SIGKILL", "Timeout")
    outcome = only().outcome
    assert (outcome["error_type"], outcome["exit_status"], outcome["signal"]) == ("Timeout", 124, "SIGTERM")
    assert outcome["output_summary"] == "timed out after 0.5 s"


def test_what_a_command_said_before_its_time_was_over_is_kept(ready: Path) -> None:
    speaks = run(["sh", "-c", f"echo halfway; touch {ready}; exec sleep 600"], timeout=0.3)
    assert speaks.outcome["output_summary"] == "timed out after 0.3 s: halfway"


def test_killed_itself_the_task_fails_after_its_lease(settings: Any) -> None:
    process = start("--", "sleep", "30")
    eventually(lambda: Task.objects.filter(status="executing").exists())
    process.kill()
    process.communicate()
    task = only()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audit_task SET lease_expires_at = now() WHERE id = %s", [task.pk])
    assert [each.pk for each in Task.objects.recover_expired()] == [task.pk]
    assert only().outcome["error_type"] == "LeaseExpired"
    assert "sleep 30" in only().summary
