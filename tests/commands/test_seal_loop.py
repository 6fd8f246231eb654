"""`audit_seal --loop`: what stops it, what it waits for, and what it says meanwhile."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from audit.checks import check_database
from audit.ledger import seal as sealing
from audit.ledger.exported import Exports
from audit.ledger.tlog import keys
from audit.management.commands.audit_seal import Command
from audit.models import LedgerLeaf
from audit.process.signals import StopRequest
from tests.support.commands import outcome as run
from tests.support.factories import sql
from tests.support.holding import OTHERS
from tests.support.ledger import KEY, VKEY, finish, sealer, session
from tests.support.preloaded import Popen

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    sealer(monkeypatch)
    settings.AUDIT = {"LEDGER_VERIFIERS": [VKEY]}


@pytest.mark.slow
def test_the_loop_seals_until_it_is_asked_to_stop(tmp_path: Path) -> None:
    name = connection.settings_dict["NAME"]
    environment = {**os.environ, keys.KEY_VARIABLE: KEY.secret(), "DJANGO_SETTINGS_MODULE": "tests.settings"}
    code = (
        "import sys; from django.conf import settings; settings.DATABASES['default']['NAME'] = sys.argv[1]; "
        "from django.core.management import execute_from_command_line as run; "
        "run(['manage.py', 'audit_seal', '--loop', '1', '--checkpoints', sys.argv[2]])"
    )
    finish(1)
    process = Popen(
        [sys.executable, "-c", code, name, str(tmp_path)], env=environment, stderr=subprocess.PIPE, text=True
    )

    def sealed(rows: int) -> bool:
        """Whether so many rows are sealed, in however many batches, and the last one is exported."""
        last = f"{rows:020}.checkpoint"
        return LedgerLeaf.objects.count() == rows and any(each.name.endswith(last) for each in tmp_path.iterdir())

    try:
        _wait(lambda: sealed(5))
        finish(1)
        _wait(lambda: sealed(10))
        assert sql(f"SELECT pg_terminate_backend(pid) {OTHERS}")
        finish(1)
        _wait(lambda: sealed(15))
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    assert "Sealing every 1 s until stopped." in err


def test_the_loop_gives_up_an_answer_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    finish(1)
    asked, waits = sealing._SERVER, []
    monkeypatch.setattr(sealing, "_SERVER", "SELECT pg_sleep(3600)")
    monkeypatch.setattr("audit.management.commands.audit_seal.PASS_SECONDS", 0.3)

    def wait(stop: StopRequest, seconds: float) -> None:
        waits.append(seconds)
        monkeypatch.setattr(sealing, "_SERVER", asked)
        monkeypatch.setattr("audit.management.commands.audit_seal.PASS_SECONDS", 120.0)
        if LedgerLeaf.objects.exists() or len(waits) > 3:
            stop.request()

    monkeypatch.setattr(StopRequest, "wait", wait)
    code, _, err = run("audit_seal", "--loop", "1", "--batch", "1")
    assert "The database cannot be used: canceling statement due to user request." in err
    assert (code, len(waits)) == (0, 2)
    assert LedgerLeaf.objects.exists()


def _blocked(monkeypatch: pytest.MonkeyPatch, enough: Callable[[list[str]], bool]) -> tuple[list[str], int, str]:
    """Run the loop while another session holds what it needs, until enough was said of it and it has sealed.

    Returns what it said of the lock, its exit status and its error output.
    """
    finish(1)
    run("audit_seal")
    finish(1)
    monkeypatch.setattr(sealing, "WAIT_S", 0.2)
    said: list[str] = []
    note = Command.note

    def heard(self: Command, text: str) -> None:
        note(self, text)
        if "perhaps another sealer" in text:
            said.append(text)
            if enough(said):
                beside.rollback()
        elif text.startswith("Sealed 5 rows"):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Command, "note", heard)
    with session() as beside:
        beside.execute("SELECT FROM audit_ledger_head FOR UPDATE")
        code, _, err = run("audit_seal", "--loop", 1)
    return said, code, err


def test_the_loop_says_that_it_cannot_seal_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    said, code, err = _blocked(monkeypatch, lambda said: True)
    assert (len(said), code) == (1, 0)
    assert "Nothing was sealed. Trying again in 1 s." in err
    assert LedgerLeaf.objects.count() == 10


def test_a_loop_that_is_blocked_says_since_when_and_the_check_warns(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.AUDIT = {"LEDGER_VERIFIERS": [VKEY], "LEDGER_MAX_AGE_SECONDS": 1}
    warned: list[str] = []

    def enough(said: list[str]) -> bool:
        warned.extend(each.msg for each in check_database(None, databases=["default"]) if each.id == "audit.W002")
        return bool(warned) and len(said) > 2

    (first, *later), code, _ = _blocked(monkeypatch, enough)
    assert code == 0
    assert "5 finished rows of 'default' are not sealed" in warned[0]
    assert "No attempt has succeeded since" not in first
    [since] = {
        re.search(r"No attempt has succeeded since (\S+ \S+) UTC\. Trying again in 1 s\.$", each)[1] for each in later
    }
    assert since


def test_a_directory_that_is_lost_later_stops_the_loop(tmp_path: Path) -> None:
    finish(1)
    run("audit_seal")
    kept = tmp_path / "kept"

    def lose() -> None:
        _wait(lambda: kept.exists() and list(kept.glob("*.checkpoint")))
        for file in kept.glob("*.checkpoint"):
            file.unlink()

    losing = threading.Thread(target=lose)
    losing.start()
    code, _, err = run("audit_seal", "--loop", 1, "--checkpoints", kept, "--first-export")
    losing.join()
    assert code == 1
    assert f"no checkpoint is in {kept}" in err


def test_the_loop_stops_between_two_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Exports.write

    def and_stop(self: Exports, *arguments: Any) -> bool:
        os.kill(os.getpid(), signal.SIGTERM)
        return write(self, *arguments)

    monkeypatch.setattr(Exports, "write", and_stop)
    finish(2)
    before = signal.getsignal(signal.SIGTERM)
    code, _, err = run("audit_seal", "--loop", 1, "--batch", 3, "--checkpoints", tmp_path)
    assert code == 0
    assert "Sealed 3 rows; the tree has 3 leaves." in err
    assert signal.getsignal(signal.SIGTERM) is before
    [kept] = tmp_path.iterdir()
    assert kept.name == "0001-00000000000000000003.checkpoint"


def _wait(until: Any) -> None:
    end = time.monotonic() + 120
    while not until():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)
