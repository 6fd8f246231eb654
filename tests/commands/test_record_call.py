"""`run_recorded`: the same inside of this process."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from audit import record
from audit.exceptions import AuditError
from audit.models import Task
from audit.recording import Recording
from audit.recording.running import Ended, run, run_recorded
from tests.support.recorded_commands import only
from tests.support.worker import eventually

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(("program", "status"), [("exit 0", None), ("exit 3", 3)])
def test_as_a_call(program: str, status: int | None) -> None:
    with contextlib.ExitStack() as stack:
        caught = stack.enter_context(pytest.raises(SystemExit)) if status else None
        call_command("audit_record", "--", "sh", "-c", program)
    assert caught is None or caught.value.code == status
    assert only().outcome["exit_status"] == (status or 0)


def test_as_a_call_without_a_database(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def begin(self: Recording) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(Recording, "begin", begin)
    with pytest.raises(CommandError, match="away"):
        call_command("audit_record", "--", "echo", "ran")
    assert "ran\n" not in capfd.readouterr().out
    call_command("audit_record", "--best-effort", "--", "echo", "ran")
    assert capfd.readouterr().out == "ran\n"


@pytest.mark.parametrize(
    "broken",
    [
        {"REDACT_PATTERNS": ["("]},
        {"OUTPUT_TAIL_BYTES": "many"},
        {"RECORD_USING": "nowhere"},
        {"RECORD_LEASE_SECONDS": 0},
        {"NO_SUCH": 1},
    ],
    ids=lambda broken: next(iter(broken)),
)
def test_as_a_call_with_settings_that_cannot_be(
    settings: Any, broken: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    settings.AUDIT = broken
    with pytest.raises(CommandError, match=r"\(|many|nowhere|0|NO_SUCH") as caught:
        call_command("audit_record", "--", "echo", "ran")
    assert caught.value.returncode == 2
    assert "ran\n" not in capfd.readouterr().out
    with pytest.raises(SystemExit) as ended:
        call_command("audit_record", "--best-effort", "--", "sh", "-c", "echo ran; exit 3")
    out, err = capfd.readouterr()
    assert (out, ended.value.code) == ("ran\n", 3)
    assert "is run without being recorded: sh" in err
    with pytest.raises(SystemExit) as ended:
        call_command("audit_record", "--best-effort", "--", "/nowhere/at-all")
    assert ended.value.code == 127
    assert "/nowhere/at-all: No such file" in capfd.readouterr().err
    assert not Task.objects.exists()


@pytest.mark.parametrize("broken", ["settings", "pipes"])
def test_what_fails_before_the_first_look_leaves_nothing_running(
    settings: Any, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    begun: list[int] = []
    popen = subprocess.Popen

    def counted(*arguments: Any, **options: Any) -> Any:
        process = popen(*arguments, **options)
        begun.append(process.pid)
        return process

    monkeypatch.setattr(subprocess, "Popen", counted)
    if broken == "settings":
        settings.AUDIT = {"OUTPUT_TAIL_BYTES": "many"}
    else:
        monkeypatch.setattr("selectors.DefaultSelector", lambda: 1 / 0)
    with pytest.raises((AuditError, ZeroDivisionError)):
        run(["sleep", "60"])
    assert len(begun) == (broken == "pipes")
    assert not [pid for pid in begun if Path(f"/proc/{pid}").exists()]


def test_as_a_call_whose_end_cannot_be_stored(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    def fail(self: Task, *_: Any, **__: Any) -> None:
        tried.append(time.monotonic())
        raise OperationalError("away")

    monkeypatch.setattr(Task, "fail", fail)
    monkeypatch.setattr("audit.recording.running._STORE_AGAIN_AFTER_SECONDS", (0.05, 0.1))
    assert run_recorded(record("x"), ["sh", "-c", "exit 4"]) == 4
    assert len(tried) == 4
    assert "could not be stored: away" in caplog.text
    assert only().status == "executing"


def test_signals_that_come_to_this_process() -> None:
    before = signal.getsignal(signal.SIGTERM)
    # The command itself sends it: sooner, it would end whoever runs the tests.
    ended = run(["sh", "-c", f"kill -TERM {os.getpid()}; exec sleep 60"])
    assert (ended.status, ended.outcome["signals_forwarded"]) == (143, ["SIGTERM"])
    assert signal.getsignal(signal.SIGTERM) is before


def test_in_a_thread_signals_stay_whose_they_are() -> None:
    ended: list[Ended] = []
    thread = threading.Thread(target=lambda: ended.append(run(["true"])))
    thread.start()
    thread.join()
    assert ended[0].status == 0


def test_an_error_of_ours_leaves_no_command_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(self: Any, timeout: float) -> None:
        eventually((tmp_path / "pid").read_text)
        raise ZeroDivisionError

    monkeypatch.setattr("audit.recording.pipes.Pipes.pump", broken)
    (tmp_path / "pid").touch()
    with pytest.raises(ZeroDivisionError):
        run_recorded(record("x"), ["sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 60"])
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()
    assert only().outcome["error_type"] == "ZeroDivisionError"


def test_without_pidfds_the_end_is_noticed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    assert run(["sh", "-c", "exec >&- 2>&-; sleep 0.3; exit 3"]).status == 3
