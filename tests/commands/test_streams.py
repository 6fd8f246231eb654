"""Commands whose standard streams are full, closed or of another encoding: nothing is lost without a word."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection

from audit.interchange import whole_file
from audit.models import LedgerVerification, Task
from tests.support.factories import sql
from tests.support.ledger import VKEY, behind_the_guards, finish, sealed
from tests.support.preloaded import Popen, for_shells

pytestmark = pytest.mark.django_db(transaction=True)


def run(
    redirect: str, *words: str, given: bytes = b"", shell: str = "sh", **environment: str
) -> tuple[int, bytes, bytes]:
    """Run a command of `manage.py` with its streams redirected as the shell says."""
    command = [*for_shells(), "-m", "tests.support.recorder", connection.settings_dict["NAME"], "manage", *words]
    process = subprocess.run(
        [shell, "-c", f'{"" if "|" in redirect else "exec"} "$@" {redirect}', shell, *command],
        input=given,
        env=os.environ | environment,
        capture_output=True,
        timeout=60,
    )
    return process.returncode, process.stdout, process.stderr


def record(summary: str = "fine", **values: object) -> Task:
    return Task.objects.bulk_record([{"action": "work", "status": "completed", "summary": summary} | values])[0]


@pytest.mark.parametrize(
    "words", [["audit_list", "--format", "json"], ["audit_export"], ["audit_stats", "--since", "1d"]]
)
@pytest.mark.parametrize(
    ("redirect", "problem"), [(">/dev/full", b"No space left on device"), (">&-", b"Bad file descriptor")]
)
def test_output_that_cannot_be_written_is_reported_in_a_line(words: list[str], redirect: str, problem: bytes) -> None:
    record()
    status, _, err = run(redirect, *words)
    assert status == 2
    assert err == b"CommandError: Standard output could not be written: " + problem + b".\n"


@pytest.mark.parametrize("redirect", ["<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_with_nowhere_to_tell_it_the_exit_code_does(redirect: str) -> None:
    record()
    assert run(redirect, "audit_list")[0] == 2
    assert run(redirect, "audit_list", "--since", "1h", "--before", "nope")[0] == 2


def test_notes_that_cannot_be_written_change_nothing() -> None:
    status, out, _ = run("2>/dev/full", "audit_import", "-", given=b"{}\n")
    assert (status, out) == (1, b"0 stored, 0 already present, 1 refused.\n")


def test_closed_input_is_reported() -> None:
    status, _, err = run("<&-", "audit_import", "-")
    assert status == 2
    assert err.endswith(b"CommandError: Standard input is closed. There is nothing to read.\n")


@pytest.mark.parametrize("redirect", [">/dev/full", ">&-"])
def test_recorded_work_whose_output_is_lost_goes_on_and_is_no_success(redirect: str) -> None:
    """A closed output once gave its number to a pipe of our own, and everything vanished into it."""
    marker = "sleep 0.2; echo more; echo 'last words'"
    status, _, err = run(redirect, "audit_record", "--", "sh", "-c", f"head -c 300000 /dev/zero | tr '\\0' x; {marker}")
    assert status == 1
    assert err.startswith(b"Standard output of the command could not be passed on: ")
    assert err.count(b"\n") == 1
    outcome = Task.objects.get().outcome
    assert (outcome["success"], outcome["exit_status"], outcome["error_type"]) == (False, 1, "OutputLost")
    assert outcome["output_lost"]["stdout"] == outcome["output_summary"].removeprefix("Standard output ")
    assert outcome["stdout"].endswith("more\nlast words\n")
    assert outcome["stdout_bytes"] == 300000 + len("more\nlast words\n")


def test_recorded_work_keeps_its_own_exit_status() -> None:
    status, _, _ = run(">/dev/full", "audit_record", "--", "sh", "-c", "echo hi; exit 7")
    outcome = Task.objects.get().outcome
    assert (status, outcome["exit_status"], outcome["error_type"]) == (7, 7, "ExitStatus")
    assert outcome["output_lost"] == {"stdout": "could not be passed on: No space left on device"}


def test_work_that_says_nothing_loses_nothing() -> None:
    assert run(">&- 2>&- <&-", "audit_record", "--", "true")[0] == 0
    assert Task.objects.get().outcome["success"]


def test_best_effort_says_lost_output_too() -> None:
    status, _, err = run(
        ">/dev/full", "audit_record", "--best-effort", "--", "echo", "hi", DATABASE_URL="postgres://u:p@127.0.0.1:1/x"
    )
    assert status == 1
    assert b"could not be passed on: No space left on device" in err


def test_lost_output_does_not_look_like_tampering_nor_hide_it(monkeypatch: pytest.MonkeyPatch) -> None:
    finish(1)
    sealed()
    words = ("audit_verify", "--key", VKEY)
    assert run(">/dev/full", *words)[0] == 2
    with behind_the_guards():
        sql("UPDATE audit_task SET decided_by = 'eve'")
    assert run(">/dev/full", *words)[0] == 1
    assert run(">&- 2>&-", *words)[0] == 1
    stored = LedgerVerification.objects.order_by("id").values_list("verdict", flat=True)
    assert list(stored) == ["intact", "tampering", "tampering"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_json_is_json_in_any_encoding(encoding: str) -> None:
    summary = "caf\xe9 \u2192 \U0001f600"
    record(summary)
    _, out, _ = run("", "audit_list", "--format", "json", PYTHONIOENCODING=encoding)
    assert json.loads(out.decode(encoding))[0]["summary"] == summary


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_an_export_is_utf8_in_any_encoding(form: str) -> None:
    record("caf\xe9 \u2192")
    status, out, _ = run("", "audit_export", "--format", form, PYTHONIOENCODING="ascii")
    assert status == 0
    assert out == run("", "audit_export", "--format", form)[1]
    assert "caf\xe9 \u2192".encode() in out


def test_compressed_input_is_recognised() -> None:
    record()
    exported = run("", "audit_export")[1]
    status, out, _ = run("", "audit_import", "-", given=gzip.compress(exported))
    assert (status, out) == (0, b"0 stored, 1 already present, 0 refused.\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_unfinished_file_and_ends_it_as_ever(tmp_path: Path, number: int) -> None:
    """The export waits for a table that another transaction has locked."""
    record()
    target = tmp_path / "out.jsonl"
    target.write_text("before")
    connection.cursor().execute("BEGIN; LOCK audit_task IN ACCESS EXCLUSIVE MODE")
    command = [sys.executable, "-m", "tests.support.recorder", connection.settings_dict["NAME"], "manage"]
    with Popen(
        [*command, "audit_export", "--output", str(target)],
        stderr=subprocess.PIPE,
        ignored=(),  # else it would inherit what nohup ignores
    ) as process:
        try:
            deadline = time.monotonic() + 120
            while len(list(tmp_path.iterdir())) < 2:
                assert time.monotonic() < deadline, process.poll()
                time.sleep(0.02)
            process.send_signal(number)
            assert process.wait(timeout=120) == -number
        finally:
            process.kill()
            connection.cursor().execute("ROLLBACK")
        assert process.stderr.read() == b""
    assert [each.name for each in tmp_path.iterdir()] == ["out.jsonl"]
    assert target.read_text() == "before"


def test_writers_with_one_process_number_do_not_meet(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with whole_file(target) as first:
        first.write("first")
        with whole_file(target) as second:
            second.write("second")
        assert target.read_text() == "second"
    assert target.read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def test_what_was_decided_stands_though_it_cannot_be_reported() -> None:
    task = Task.objects.request("deploy", actor="a")
    task.approve(actor="b")
    task.pause(reason="manual_pause", actor="b")
    status, _, err = run(">/dev/full", "audit_queue", "resume", str(task.pk))
    assert (status, err.splitlines()[-1]) == (
        2,
        b"CommandError: Standard output could not be written: No space left on device. What was done stands.",
    )
    task.refresh_from_db()
    assert task.status == "approved"


def test_a_reader_that_leaves_a_listing_has_seen_enough() -> None:
    for _ in range(10):  # more than a pipe holds
        task = Task.objects.request("deploy", actor="a", summary="x" * 16_000)
        task.approve(actor="b")
        task.pause(reason="manual_pause", actor="b")
    assert run("| head -c 1 >/dev/null; exit ${PIPESTATUS[0]}", "audit_queue", "list", shell="bash")[0] == 0


def test_a_file_keeps_who_may_read_it(tmp_path: Path) -> None:
    record()
    target = tmp_path / "trail.jsonl"
    for mode in (0o600, 0o640, 0o604):
        target.touch()
        target.chmod(mode)
        call_command("audit_export", "--output", str(target))
        assert target.stat().st_mode & 0o777 == mode
        assert target.stat().st_size > 100
    target.unlink()
    call_command("audit_export", "--output", str(target))
    assert target.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
