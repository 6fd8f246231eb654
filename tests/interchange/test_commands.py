"""The commands audit_import and audit_export, as a person at a terminal meets them."""

import io
import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from audit import ids
from audit.interchange import importing
from audit.models import Task
from tests.support.factories import finished, requested, task_in

both = pytest.mark.django_db(databases=["default", "other"])


def run(*arguments: object) -> SimpleNamespace:
    """Run a command; its exit code and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    try:
        call_command(*map(str, arguments), stdout=out, stderr=err)
    except SystemExit as exit_:
        code = exit_.code
    except CommandError as error:
        code = error.returncode
        err.write(str(error))
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


def line(**values: Any) -> str:
    return json.dumps({"id": str(ids.uuid7()), "action": "deploy", "status": "completed", **values}) + "\n"


@both
def test_a_file_goes_out_and_in_and_out_the_same(tmp_path: Path) -> None:
    finished(plan={"price": 12.5}), task_in("paused"), task_in("approved")
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    assert run("audit_export", "--output", first, "--verbosity", "0") == SimpleNamespace(code=0, out="", err="")
    imported = run("audit_import", first, "--live", "--database", "other")
    assert (imported.code, imported.out) == (0, "3 stored, 0 already present, 0 refused.\n")
    assert run("audit_export", "--output", second, "--database", "other").code == 0
    assert first.read_bytes() == second.read_bytes() == run("audit_export").out.encode()
    again = run("audit_import", first, "--live", "--database", "other")
    assert (again.code, again.out) == (0, "0 stored, 3 already present, 0 refused.\n")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.django_db
def test_refusals_name_file_line_field_and_value_and_the_exit_code_is_1(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(line() + line(priority=9) + line(status="pending", summary="\x1b[31m") + line())
    result = run("audit_import", path)
    assert (result.code, result.out) == (1, "2 stored, 0 already present, 2 refused.\n")
    live = "is the status of a task that is not finished; --live takes such tasks too"
    assert result.err.splitlines() == [
        f"refused: {path}:2: priority: must be a whole number from 1 (highest) to 5 (got 9)",
        f"refused: {path}:3: status: {live} (got 'pending')",
    ]
    assert Task.objects.count() == 2
    strict = run("audit_import", path, "--strict", "--live")
    assert (strict.code, strict.out) == (1, "0 stored, 2 already present, 1 refused; --strict stores nothing then.\n")
    assert Task.objects.count() == 2
    dry = run("audit_import", path, "--dry-run", "--live")
    assert (dry.code, dry.out) == (1, "1 would be stored, 2 already present, 1 refused.\n")
    assert Task.objects.count() == 2


@pytest.mark.django_db
def test_text_that_a_terminal_would_obey_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"id": "\x1b[31m\n')
    result = run("audit_import", path)
    assert result.code == 1
    assert "\x1b" not in result.err


@pytest.mark.django_db
def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BufferedReader(io.BytesIO((line() + "{\n").encode()))))
    result = run("audit_import", "-")
    assert result.code == 1
    assert result.out == "1 stored, 0 already present, 1 refused.\n"
    assert "standard input:2: line: is not JSON" in result.err


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello", "refused: standard input:1: line: is not JSON; it must be an object\n"),
        ("[1]", "refused: standard input:1: line: must be an object\n"),
        ('{"Records": []}', "line: seems to be of AWS CloudTrail; use --format cloudtrail"),
        ('{"eventVersion": "1.08", "eventName": "x"}', "seems to be of AWS CloudTrail; use --format cloudtrail"),
    ],
)
def test_what_is_of_another_format_is_reported(monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(f"{text}\n".encode()))))
    result = run("audit_import", "-")
    assert (result.code, message in result.err) == (1, True), result.err


@pytest.mark.django_db
def test_secrets_are_masked_on_request_alone(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(line(outcome={"password": "hush"}))
    assert run("audit_import", path, "--redact").code == 0
    assert Task.objects.get().outcome == {"password": "[masked]"}
    path.write_text(line(outcome={"password": "hush"}))
    assert run("audit_import", path).code == 0
    assert Task.objects.latest("id").outcome == {"password": "hush"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl does not exist. Give files, directories, or - for standard input."),
        (["-", "--database", "mars"], "'mars' is not a database of this project"),
        (["-", "--format", "xml"], "invalid choice"),
        ([], "required"),
    ],
)
def test_an_import_that_cannot_start_ends_with_2(arguments: list[str], message: str) -> None:
    result = run("audit_import", *arguments)
    assert result.code in (1, 2)  # call_command has argparse's errors end with 1, the command line with 2
    assert message in result.err


@pytest.mark.django_db
def test_an_interrupted_import_says_what_is_stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importing, "_ROWS_A_BATCH", 2)
    path = tmp_path / "in.jsonl"
    path.write_text("".join(line() for _ in range(5)) + line(priority=9))

    def interrupt(self: object, refusal: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("audit.management.commands.audit_import.Command._report_refusal", interrupt)
    result = run("audit_import", path)
    assert result.code == 130
    assert "Interrupted: 4 stored, 0 already present, 1 refused." in result.err
    assert Task.objects.count() == 4


@pytest.mark.django_db
def test_an_export_takes_the_filters_and_csv(tmp_path: Path) -> None:
    finished(services=["kuma"])
    finished(services=["dns"])
    assert run("audit_export", "--service", "kuma").out.count("\n") == 1
    path = tmp_path / "tasks.csv"
    assert run("audit_export", "--format", "csv", "--service", "dns", "--output", path).code == 0
    head, row = path.read_text().splitlines()
    assert head.startswith("id,action,summary,status,")
    assert ',"[""dns""]",' in row
    assert run("audit_export", "--status", "failed").out == ""
    assert run("audit_export", "--status", "failed", "--format", "csv").out == head + "\n"


@pytest.mark.django_db
def test_an_export_that_fails_leaves_the_file_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    finished()
    path = tmp_path / "out.jsonl"
    path.write_text("before")
    monkeypatch.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    result = run("audit_export", "--output", path)
    assert (result.code, result.err) == (2, f"{path} cannot be written: No space left on device.")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.django_db
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_an_export_to_a_terminal_shows_escapes_and_a_file_has_them(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = "a\x1b]0;owned\x07\x1b[31m\u202e\x9b2J\r\nb"
    requested(summary=hostile, actor=hostile)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    call_command("audit_export", "--format", form, stdout=out, stderr=io.StringIO())
    assert re.search(r"[^\x20-\x7e\n]", out.getvalue()) is None
    assert out.getvalue().count("\n") == 1 + (form == "csv")
    piped = run("audit_export", "--format", form).out
    written = run("audit_export", "--format", form, "--output", tmp_path / "file")
    assert (written.code, written.out, written.err) == (0, "", f"Wrote 1 task to {tmp_path / 'file'}.\n")
    assert (tmp_path / "file").read_bytes().decode() == piped
    if form == "csv":
        assert r"a\x1b]0;owned\x07\x1b[31m\u202e\x9b2J\r\nb" in out.getvalue()
        assert hostile in piped
    else:
        assert json.loads(out.getvalue()) == json.loads(piped)
        assert json.loads(piped)["summary"] == hostile
