"""audit_verify as somebody runs it: what it tells, stores and ends with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from audit.ledger.tlog.checkpoint import Checkpoint, sign
from audit.ledger.tlog.note import KeyKind, generate
from audit.models import ExecutionLog, LedgerLeaf, LedgerVerification
from tests.commands.test_commands_page import examples
from tests.support.commands import outcome as run
from tests.support.factories import sql
from tests.support.ledger import KEY, VKEY, behind_the_guards, finish, sealer
from tests.support.preloaded import Popen

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    sealer(monkeypatch)


def test_verify_makes_no_directory_and_calls_no_missing_one_empty(tmp_path: Path) -> None:
    finish(1)
    run("audit_seal")
    code, out, err = run("audit_verify", "--key", VKEY, "--checkpoints", tmp_path / "mistyped")
    assert (code, out) == (2, "")
    assert f"{tmp_path}/mistyped: there is no such directory" in err
    assert not list(tmp_path.iterdir())


def test_a_verifier_key_that_is_none_is_reported_by_its_place(settings: Any) -> None:
    settings.AUDIT = {"LEDGER_VERIFIERS": [VKEY, "nonsense"]}
    code, _, err = run("audit_verify")
    assert (code, "nonsense" in err) == (2, False)
    assert "AUDIT['LEDGER_VERIFIERS'][1]: This is not a verifier key" in err
    settings.AUDIT = {}
    assert "--key: This is not a verifier key" in run("audit_verify", "--key", "nonsense")[2]


def test_the_file_of_a_key_is_not_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("audit.vkey").write_text(VKEY)
    code, _, err = run("audit_verify", "--key", "audit.vkey")
    assert code == 2
    assert err == '--key: audit.vkey is a file. Give the key that it holds: "$(cat audit.vkey)"'


def test_a_file_that_is_no_checkpoint_proves_nothing_either_way(tmp_path: Path) -> None:
    finish(1)
    run("audit_seal")
    (tmp_path / "older").write_text("nonsense")
    code, _, err = run("audit_prove", "--since", tmp_path / "older", "--key", VKEY)
    assert code == 2
    assert f"{tmp_path / 'older'}: It is damaged: its end is missing" in err


def test_verify_says_what_it_found_and_stores_it(tmp_path: Path) -> None:
    task, other = finish(2)
    run("audit_seal", "--checkpoints", tmp_path)
    code, out, _ = run("audit_verify", "--key", VKEY, "--checkpoints", tmp_path)
    assert code == 0
    assert out.startswith("INTACT\n")
    assert "Covered: 2 tasks" in out
    assert "No external checkpoint" not in out
    with behind_the_guards():
        sql("UPDATE audit_task SET summary = E'other \\x1b[31m' WHERE id = %s", [task.pk])
    finish(1)
    code, out, _ = run("audit_verify", "--key", VKEY, "--format", "json")
    assert json.loads(out).keys() == examples("audit_verify")[0].keys()
    shown = json.loads(out)
    assert code == 1
    assert shown["verdict"] == "tampering"
    assert [(each["code"], each["task"]) for each in shown["findings"]] == [("row_tampered", str(task.pk))]
    assert shown["unsealed"] == 1 + ExecutionLog.objects.filter(task_id__gt=other.pk).exclude(task=task).count()
    assert any("No external checkpoint was given" in each for each in shown["not_covered"])
    stored = list(LedgerVerification.objects.order_by("id").values_list("verdict", "report__counts"))
    assert stored == [("intact", {}), ("tampering", {"row_tampered": 1})]


def test_verify_needs_a_key_and_says_so() -> None:
    code, _, err = run("audit_verify")
    assert code == 2
    assert "LEDGER_VERIFIERS" in err
    assert run("audit_verify", "--key", "nonsense")[0] == 2
    assert not LedgerVerification.objects.exists()


@pytest.mark.parametrize("reads", [10, 0], ids=["after ten bytes", "at once"])
def test_a_reader_that_leaves_changes_neither_the_code_nor_what_is_stored(reads: int) -> None:
    finish(1)
    run("audit_seal")
    with behind_the_guards():
        sql("UPDATE audit_task SET decided_by = 'eve'")
    code = (
        "import sys; from django.conf import settings; settings.DATABASES['default']['NAME'] = sys.argv[1]; "
        "from django.core.management import execute_from_command_line as run; "
        "run(['manage.py', 'audit_verify', '--format', 'json', '--key', sys.argv[2]])"
    )
    ours, theirs = os.pipe()
    if not reads:
        os.close(ours)
    done = Popen(
        [sys.executable, "-c", code, connection.settings_dict["NAME"], VKEY],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONUNBUFFERED": "1"},
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    if reads:
        assert os.read(ours, reads) == b'{\n  "verdi'
        os.close(ours)
    _, err = done.communicate(timeout=120)
    assert (done.returncode, err) == (1, b"")
    assert LedgerVerification.objects.get().verdict == "tampering"


def test_what_could_not_be_checked_is_stored_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(1)
    run("audit_seal")
    nowhere = tmp_path / "nowhere"
    assert run("audit_verify", "--key", VKEY, "--checkpoints", nowhere)[0] == 2
    stored = LedgerVerification.objects.get()
    assert (stored.verdict, stored.report["problem"]) == (
        "unchecked",
        f"{nowhere}: there is no such directory; audit_seal --checkpoints DIR makes it",
    )
    assert run("audit_verify", "--key", VKEY, "--checkpoints", nowhere, "--no-store")[0] == 2
    assert LedgerVerification.objects.count() == 1


def test_a_witness_key_is_not_taken_for_the_logs() -> None:
    finish(1)
    run("audit_seal")
    witness = generate(KEY.name, KeyKind.COSIGNATURE)
    for command in ("audit_verify", "audit_prove"):
        code, _, err = run(command, *(["x"] if command == "audit_prove" else []), "--key", str(witness.verifier))
        assert code == 2
        assert f"--key: {witness.verifier.label} is a witness's key" in err


@pytest.mark.parametrize("tampered", [True, False])
def test_a_file_whose_name_is_no_text_does_not_keep_the_result_from_the_browser(tmp_path: Path, tampered: bool) -> None:
    finish(1)
    run("audit_seal")
    run("audit_verify", "--key", VKEY)
    directory = tmp_path / os.fsdecode(b"caf\xe9")
    if tampered:
        directory.mkdir()
        forged = sign(Checkpoint(origin=KEY.name, size=1, root=bytes(32)), generate(KEY.name))
        (directory / os.fsdecode(b"\xff.checkpoint")).write_text(str(forged))
    code, out, err = run("audit_verify", "--key", VKEY, "--checkpoints", directory)
    assert code == (1 if tampered else 2), out + err
    assert "could not be stored" not in err
    newest = LedgerVerification.objects.latest("id")
    assert newest.verdict == ("tampering" if tampered else "unchecked")
    assert r"\udc" in str(newest.report)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    finish(1)
    run("audit_seal")
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.write_bytes(b"x" * 2**21)):
        path = tmp_path / "z.checkpoint"
        make(path)
        code, _, err = run("audit_verify", "--key", VKEY, "--checkpoints", tmp_path)
        assert code == 2
        assert "is not a regular file" in err or "is not a checkpoint: it has more than" in err
        path.unlink()


def test_verify_stores_nothing_when_asked_not_to() -> None:
    finish(1)
    run("audit_seal")
    assert run("audit_verify", "--key", VKEY, "--no-store")[0] == 0
    assert not LedgerVerification.objects.exists()


def test_what_is_named_and_not_there_is_reported(tmp_path: Path) -> None:
    finish(1)
    run("audit_seal")
    code, out, err = run("audit_verify", "--key", VKEY, "--checkpoints", tmp_path)
    assert (code, out) == (2, "")
    assert f"{tmp_path} holds no checkpoint to compare with" in err
    code, out, err = run("audit_verify", "--key", VKEY, "--accept-epoch", 3)
    assert (code, out, err) == (2, "", "--accept-epoch 3: the log has no such epoch; it is in epoch 1.")
    assert [each.verdict for each in LedgerVerification.objects.all()] == ["unchecked", "unchecked"]
    size = LedgerLeaf.objects.count()
    code, _, err = run("audit_prove", "--since", size + 1, "--key", VKEY)
    assert (code, err) == (1, f"The log has {size} leaves, fewer than {size + 1}.")
    assert "not both" in run("audit_prove", "x", "--since", "1", "--key", VKEY)[2]
