"""`audit_record`: what stops a command from being recorded, and what happens to it then."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from audit import record
from audit.exceptions import InvalidValue
from audit.models import Task
from audit.recording.running import run, run_recorded
from auditproj.embedded.server import Server
from tests.support.recorded_commands import UNREACHABLE, recorded, start
from tests.support.worker import eventually

pytestmark = pytest.mark.django_db(transaction=True)


def test_without_a_database_nothing_is_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    status, out, err = recorded("--", "touch", str(marker), environment=UNREACHABLE)
    assert (status, out) == (2, b"")
    assert b"cannot be reached" in err
    assert b"was not run" in err
    assert not marker.exists()


def test_best_effort_runs_it_all_the_same() -> None:
    status, out, err = recorded("--best-effort", "--", "sh", "-c", "echo out; exit 3", environment=UNREACHABLE)
    assert (status, out) == (3, b"out\n")
    assert b"without being recorded" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Name the command"),
        (["--"], "Name the command"),
        (["--parent", "zzz", "--", "true"], "--parent: 'zzz' is not a task id: write a UUID or its first"),
        (["--database", "nope", "--", "true"], "'nope' is not a database of this project"),
        (["--action", "x" * 101, "--", "true"], "action: has 101 characters"),
        (["--service", "", "--best-effort", "--", "true"], "--service: must not be empty"),
        (["--timeout", "0", "--", "true"], "must be a number of seconds above 0 and below 100000000, not '0'"),
    ],
)
def test_bad_input_is_named(words: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("audit_record", *words)
    assert not Task.objects.exists()


def test_a_stray_parent_of_the_environment_is_named_and_stops_no_best_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_TASK_ID", "zz")
    with pytest.raises(CommandError, match="AUDIT_TASK_ID: is not a UUID"):
        call_command("audit_record", "--", "true")
    assert recorded("--best-effort", "--", "echo", "ran", environment={"AUDIT_TASK_ID": "zz"})[:2] == (0, b"ran\n")


def test_what_a_terminal_would_obey_is_not_said_to_it() -> None:
    assert b"\x1b" not in recorded("--", "a\x1b[31m\nb")[2]


def test_a_parent_may_be_named_by_its_beginning() -> None:
    parent = Task.objects.request("outer", actor="a")
    call_command("audit_record", "--parent", str(parent.pk)[:18], "--", "true")
    call_command("audit_record", "--parent", parent.pk.hex, "--", "true")
    assert list(Task.objects.filter(action="true").values_list("parent", flat=True)) == [parent.pk] * 2


def test_bad_arguments_of_the_function() -> None:
    for argv in ([], [""]):
        with pytest.raises(InvalidValue, match="command"):
            run(argv)
    with pytest.raises(InvalidValue, match="timeout"):
        run(["true"], timeout=0)
    with pytest.raises(InvalidValue, match="timeout"):
        run_recorded(record("x"), ["true"], timeout=-1)
    # An empty variable where the program should stand: what follows it may be secret, and is neither told nor stored.
    with pytest.raises(InvalidValue, match="command: is empty") as caught:
        run_recorded(record("x"), ["", "--db-password", "hunter2"])
    assert "hunter2" not in str(caught.value)
    assert not Task.objects.exists()


def test_the_exit_status_counts_when_the_end_cannot_be_stored(
    throwaway_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = throwaway_server()
    found = server.connection_parameters()
    environment = {"DATABASE_URL": f"postgresql://{found['user']}@/postgres?host={found['host']}"}
    recorder = [sys.executable, "-m", "tests.support.recorder", "", "manage"]
    subprocess.run([*recorder, "migrate", "-v0"], env=os.environ | environment, check=True)
    ready = tmp_path / "ready"
    process = start("--", "sh", "-c", f"touch {ready}; sleep 3; echo done; exit 5", environment=environment)
    eventually(ready.exists)
    server.stop()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (5, b"done\n")
    assert re.search(rb"The end of the recorded command [0-9a-f-]{36} could not be stored", err)
