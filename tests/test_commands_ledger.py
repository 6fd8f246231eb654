"""audit_seal, audit_verify, audit_prove and audit_tiles, as somebody runs them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command, load_command_class
from django.db import connection

from audit.ledger import __main__ as offline
from audit.ledger import keys
from audit.ledger import publish as publishing
from audit.ledger.checkpoint import open_checkpoint
from audit.ledger.exported import Exports
from audit.ledger.merkle import tree_root
from audit.ledger.note import KeyKind, Signer, generate
from audit.ledger.seal import begin_epoch
from audit.ledger.tiles import WIDTH, Nodes, path, width_at
from audit.models import ExecutionLog, LedgerCheckpoint, LedgerLeaf, LedgerVerification, Task
from tests.attacked import rebuild, resign
from tests.factories import sql, task_in
from tests.ledger import KEY, behind_the_guards, finish

pytestmark = pytest.mark.django_db(transaction=True)

VKEY = str(KEY.verifier)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(keys.FILE_VARIABLE, raising=False)
    monkeypatch.setenv(keys.KEY_VARIABLE, KEY.secret())


def run(*arguments: Any) -> tuple[int, str, str]:
    """Run a command: its exit code, output and error output."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    try:
        call_command(*map(str, arguments), stdout=out, stderr=err)
    except SystemExit as ended:
        code = int(ended.code or 0)
    except CommandError as error:
        code = error.returncode
        err.write(str(error))
    return code, out.getvalue(), err.getvalue()


def check(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str]:
    """Run `python -m audit.ledger`: exit code and output."""
    capsys.readouterr()
    code = offline.main([str(each) for each in arguments])
    return code, capsys.readouterr().out


def test_seal_says_what_it_did_and_keeps_its_checkpoints(tmp_path: Path) -> None:
    finish(2)
    rows = 2 + ExecutionLog.objects.count()
    code, out, err = run("audit_seal", "--checkpoints", tmp_path / "kept", "--print")
    assert (code, err) == (0, f"Sealed {rows} rows; the tree has {rows} leaves.\n")
    [file] = (tmp_path / "kept").iterdir()
    assert file.name == f"0001-{rows:020d}.checkpoint"
    assert file.read_text() == LedgerCheckpoint.objects.get().note == out
    assert open_checkpoint(file.read_text(), [KEY.verifier]).checkpoint.size == rows
    code, out, err = run("audit_seal", "--checkpoints", tmp_path / "kept", "--print")
    assert (code, out, err) == (0, "", f"Nothing new to seal; the tree has {rows} leaves.\n")


def test_seal_in_batches_signs_each() -> None:
    finish(2)
    rows = 2 + ExecutionLog.objects.count()
    run("audit_seal", "--batch", 3)
    sizes = list(LedgerCheckpoint.objects.order_by("size").values_list("size", flat=True))
    assert sizes == [*range(3, rows, 3), rows]
    assert run("audit_verify", "--key", VKEY)[0] == 0


def test_a_checkpoint_that_was_not_kept_is_kept_by_the_next_run(tmp_path: Path) -> None:
    finish(1)
    run("audit_seal")
    note = LedgerCheckpoint.objects.get().note
    assert run("audit_seal", "--checkpoints", tmp_path, "--first-export")[0] == 0
    [file] = tmp_path.iterdir()
    assert file.read_text() == note
    # Another text under that name is never overwritten, and what is kept last must be this log's.
    file.write_text(note[:30])
    finish(1)
    code, _, err = run("audit_seal", "--checkpoints", tmp_path)
    assert code == 1
    assert "The exported checkpoint cannot be trusted" in err
    assert file.read_text() == note[:30]


def test_seal_refuses_a_directory_that_lost_what_it_kept(tmp_path: Path) -> None:
    mounted = tmp_path / "kept"
    assert run("audit_seal", "--checkpoints", mounted)[0] == 0  # nothing is signed yet, and nothing kept
    finish(1)
    run("audit_seal", "--checkpoints", mounted)
    mounted.rename(tmp_path / "away")
    finish(1)
    size = LedgerLeaf.objects.count()
    for _ in range(2):
        code, _, err = run("audit_seal", "--checkpoints", mounted)
        assert code == 1
        assert f"has signed {size} leaves, and no checkpoint is in {mounted}" in err
        assert LedgerLeaf.objects.count() == size
    assert not list(mounted.iterdir())
    mounted.rmdir()
    (tmp_path / "away").rename(mounted)
    assert run("audit_seal", "--checkpoints", mounted)[0] == 0
    assert len(list(mounted.iterdir())) == 2


def test_seal_refuses_when_what_is_kept_is_newer(tmp_path: Path) -> None:
    finish(1)
    run("audit_seal", "--checkpoints", tmp_path)
    size = LedgerLeaf.objects.count()
    with behind_the_guards():
        for table in ("leaf", "tile", "head", "checkpoint"):
            sql(f"DELETE FROM audit_ledger_{table}")
    code, _, err = run("audit_seal", "--checkpoints", tmp_path)
    assert code == 1
    assert f"A checkpoint of {size} leaves was exported" in err
    assert "--new-epoch" in err
    assert not LedgerCheckpoint.objects.exists()
    [kept] = tmp_path.iterdir()
    code, _, err = run("audit_seal", "--new-epoch", kept, "--reason", "restored", "--checkpoints", tmp_path)
    assert (code, err) == (0, "Epoch 2 begins at leaf 0; run audit_seal as before.\n")
    assert run("audit_seal", "--checkpoints", tmp_path)[0] == 0
    code, out, _ = run("audit_verify", "--key", VKEY, "--checkpoints", tmp_path)
    assert code == 1
    assert "rollback: The external checkpoint 0001-" in out
    code, out, _ = run("audit_verify", "--key", VKEY, "--checkpoints", tmp_path, "--accept-epoch", 2)
    assert code == 0
    assert "of a past that an accepted epoch left behind (accepted: 2)" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--git"], "--git needs --checkpoints"),
        (["--first-export"], "--first-export needs --checkpoints"),
        (["--reason", "why"], "--new-epoch FILE and --reason TEXT belong together"),
        (["--new-epoch", "/nowhere/at-all", "--reason", "why"], "/nowhere/at-all cannot be read"),
    ],
)
def test_seal_refuses_bad_arguments(arguments: list[str], told: str) -> None:
    code, _, err = run("audit_seal", *arguments)
    assert code == 2
    assert told in err


@pytest.mark.parametrize("option", ["--batch", "--loop"])
def test_seal_refuses_numbers_that_are_none(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load_command_class("audit", "audit_seal").run_from_argv(["manage.py", "audit_seal", option, "0"])
    assert ended.value.code == 2
    assert f"argument {option}: " in capsys.readouterr().err


def test_seal_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(keys.KEY_VARIABLE)
    code, _, err = run("audit_seal")
    assert code == 2
    assert "audit_keygen" in err


def test_a_key_of_another_log_could_not_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    finish(1)
    run("audit_seal")
    foreign = generate("example.org/other")
    monkeypatch.setenv(keys.KEY_VARIABLE, foreign.secret())
    code, _, err = run("audit_seal")
    assert code == 2
    assert f"and the key signs for {foreign.name!r}" in err
    monkeypatch.setenv(keys.KEY_VARIABLE, f"{KEY.secret()} {foreign.secret()}")
    for options in ([], ["--loop", 1]):
        code, _, err = run("audit_seal", *options)
        assert code == 2
        assert "of one name" in err


def test_keys_are_exchanged_by_signing_with_both(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    successor = generate(KEY.name)
    finish(1)
    run("audit_seal")
    monkeypatch.setenv(keys.KEY_VARIABLE, f"{KEY.secret()} {successor.secret()}")
    finish(1)
    assert run("audit_seal")[0] == 0
    monkeypatch.setenv(keys.KEY_VARIABLE, successor.secret())
    finish(1)
    assert run("audit_seal")[0] == 0
    both = ["--key", VKEY, "--key", str(successor.verifier)]
    assert run("audit_verify", *both)[0] == 0
    # The successor alone knows nothing of the time before it.
    code, out, _ = run("audit_verify", "--key", str(successor.verifier))
    assert code == 1
    assert "forged_checkpoint" in out


def test_a_key_that_follows_without_overlap_must_know_its_predecessor(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    successor = generate(KEY.name)
    finish(1)
    run("audit_seal")
    monkeypatch.setenv(keys.KEY_VARIABLE, successor.secret())
    finish(1)
    code, _, err = run("audit_seal")
    assert code == 1
    assert "cannot be trusted" in err
    settings.AUDIT = {"LEDGER_VERIFIERS": [VKEY]}
    assert run("audit_seal")[0] == 0


def test_checkpoints_are_committed_to_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "sealer")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "sealer@example.org")
    finish(1)
    code, _, err = run("audit_seal", "--checkpoints", tmp_path, "--git")
    assert code == 1
    assert "git status failed" in err
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    # What could not be committed then is now.
    code, _, err = run("audit_seal", "--checkpoints", tmp_path, "--git")
    assert code == 0, err
    assert run("audit_seal", "--checkpoints", tmp_path, "--git")[0] == 0
    size = LedgerLeaf.objects.count()
    first = ["Checkpoint", f"0001-{size:020d}", f"0001-{size:020d}.checkpoint"]
    assert _committed(tmp_path) == first
    # Also those of several runs, and what else is staged there is somebody else's.
    (tmp_path / "other").touch()
    subprocess.run(["git", "-C", tmp_path, "add", "other"], check=True)
    finish(1)
    assert run("audit_seal", "--checkpoints", tmp_path)[0] == 0
    finish(1)
    assert run("audit_seal", "--checkpoints", tmp_path, "--git")[0] == 0
    files = [f"0001-{number * size:020d}.checkpoint" for number in (2, 3)]
    assert _committed(tmp_path) == ["2", "checkpoints", *files, *first]
    # One that was taken away is not taken away there.
    (tmp_path / files[0]).unlink()
    finish(1)
    assert run("audit_seal", "--checkpoints", tmp_path, "--git")[0] == 0
    assert _committed(tmp_path)[:3] == ["Checkpoint", f"0001-{4 * size:020d}", f"0001-{4 * size:020d}.checkpoint"]
    tree = subprocess.run(["git", "-C", tmp_path, "ls-tree", "--name-only", "HEAD"], capture_output=True, text=True)
    assert tree.stdout.split() == [first[2], *files, f"0001-{4 * size:020d}.checkpoint"]


def _committed(directory: Path) -> list[str]:
    """The words of each commit, the newest first: its message and its files."""
    log = ["git", "-C", directory, "log", "--format=%s", "--name-only"]
    return subprocess.run(log, check=True, capture_output=True, text=True).stdout.split()


def test_git_runs_without_keys_and_hooks_and_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, beside = tmp_path / "kept", tmp_path / "beside"
    subprocess.run(["git", "init", "-q", kept], check=True)
    for hook in ("pre-commit", "post-commit"):
        (kept / ".git" / "hooks" / hook).write_text(f"#!/bin/sh\ntouch {beside}\n")
        (kept / ".git" / "hooks" / hook).chmod(0o755)
    (tmp_path / "bin").mkdir()
    git = tmp_path / "bin" / "git"
    git.write_text(
        f'#!/bin/sh\nenv >> {tmp_path}/seen\nexec {shutil.which("git")} -c user.name=s -c user.email=s@x "$@"\n'
    )
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=os.pathsep)
    finish(1)
    code, _, err = run("audit_seal", "--checkpoints", kept, "--git")
    assert code == 0, err
    seen = (tmp_path / "seen").read_text()
    assert len(_committed(kept)) == 3
    assert not beside.exists()
    assert "PATH=" in seen
    assert keys.KEY_VARIABLE not in seen
    assert "PRIVATE+KEY" not in seen
    # What it started holds its output open, as an agent that asks for a password.
    git.write_text("#!/bin/sh\nsleep 60\nexit 0\n")
    monkeypatch.setattr("audit.ledger.exported._GIT_SECONDS", 0.3)
    finish(1)
    code, _, err = run("audit_seal", "--checkpoints", kept, "--git")
    assert code == 1
    assert "git status took longer than 0.3 s" in err


def test_verify_makes_no_directory_and_calls_no_missing_one_empty(tmp_path: Path) -> None:
    finish(1)
    run("audit_seal")
    code, out, err = run("audit_verify", "--key", VKEY, "--checkpoints", tmp_path / "mistyped")
    assert (code, out) == (2, "")
    assert f"{tmp_path}/mistyped: there is no such directory" in err
    assert not list(tmp_path.iterdir())


def test_a_verifier_key_that_is_none_is_told_by_its_place(settings: Any) -> None:
    settings.AUDIT = {"LEDGER_VERIFIERS": [VKEY, "nonsense"]}
    code, _, err = run("audit_verify")
    assert (code, "nonsense" in err) == (2, False)
    assert "AUDIT['LEDGER_VERIFIERS'][1]: This is no verifier key" in err
    settings.AUDIT = {}
    assert "--key: This is no verifier key" in run("audit_verify", "--key", "nonsense")[2]


def test_a_file_that_is_no_checkpoint_proves_nothing_either_way(tmp_path: Path) -> None:
    finish(1)
    run("audit_seal")
    (tmp_path / "older").write_text("nonsense")
    code, _, err = run("audit_prove", "--since", tmp_path / "older", "--key", VKEY)
    assert code == 2
    assert "This is no valid older checkpoint" in err


def test_verify_tells_what_it_found_and_stores_it(tmp_path: Path) -> None:
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
    told = json.loads(out)
    assert code == 1
    assert told["verdict"] == "tampering"
    assert [(each["code"], each["task"]) for each in told["findings"]] == [("row_tampered", str(task.pk))]
    assert told["unsealed"] == 1 + ExecutionLog.objects.filter(task_id__gt=other.pk).exclude(task=task).count()
    assert any("No external checkpoint was given" in each for each in told["not_covered"])
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
    done = subprocess.Popen(
        [sys.executable, "-c", code, connection.settings_dict["NAME"], VKEY],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONUNBUFFERED": "1"},
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    if reads:
        assert os.read(ours, reads) == b'{"verdict"'
        os.close(ours)
    _, err = done.communicate(timeout=60)
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


def test_verify_stores_nothing_when_told_so() -> None:
    finish(1)
    run("audit_seal")
    assert run("audit_verify", "--key", VKEY, "--no-store")[0] == 0
    assert not LedgerVerification.objects.exists()


def test_a_proof_goes_where_there_is_no_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [task, other] = finish(2, summary="Rotate the key of Zoë, then tell her")
    task.note("seen later", actor="carol")
    run("audit_seal")
    code, text, err = run("audit_prove", task.pk, "--with-log", "--key", VKEY)
    assert (code, err) == (0, "")
    file = tmp_path / "proof"
    file.write_text(text)
    code, out = check(capsys, "check", file, "--key", VKEY, "--format", "json")
    told = json.loads(out)
    assert code == 0
    assert (told["task_id"], len(told["log"])) == (str(task.pk), ExecutionLog.objects.filter(task=task).count())
    assert task.summary in json.dumps(told["task"], ensure_ascii=False)
    assert text.count("c2sp.org/tlog-proof@v1") == 1 + ExecutionLog.objects.filter(task=task).count()
    # Without its log, one leaf.
    assert run("audit_prove", str(other.pk), "--key", VKEY)[1].count("c2sp.org/tlog-proof@v1") == 1
    assert check(capsys, "check", file, "--key", str(generate(KEY.name).verifier))[0] == 1


def test_what_cannot_be_proven_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    [task] = finish(1)
    live = task_in("executing")
    assert run("audit_prove", task.pk, "--key", VKEY)[0] == 1
    run("audit_seal")
    assert "it is sealed when it has finished" in run("audit_prove", live.pk, "--key", VKEY)[2]
    code, _, err = run("audit_prove", uuid4(), "--key", VKEY)
    assert code == 2
    assert "No task" in err or "no task" in err
    with behind_the_guards():
        sql("UPDATE audit_task SET summary = 'other' WHERE id = %s", [task.pk])
    code, out, err = run("audit_prove", task.pk, "--key", VKEY)
    assert (code, out) == (1, "")
    assert "audit_verify" in err
    assert run("audit_prove", "--key", VKEY)[0] == 2
    assert run("audit_prove", task.pk, "--since", "x", "--key", VKEY)[0] == 2


def test_growth_is_proven_from_one_checkpoint_to_the_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(1)
    run("audit_seal", "--checkpoints", tmp_path)
    finish(3)
    run("audit_seal", "--checkpoints", tmp_path)
    old, new = sorted(tmp_path.iterdir())
    code, text, _ = run("audit_prove", "--since", old, "--key", VKEY)
    proof = tmp_path / "growth"
    proof.write_text(text)
    assert code == 0
    assert check(capsys, "consistency", old, proof, "--key", VKEY)[0] == 0
    assert text.endswith(new.read_text())
    foreign = Signer.parse(generate("example.org/other").secret())
    forged = tmp_path / "forged"
    forged.write_text(old.read_text().replace(KEY.name, foreign.name))
    assert run("audit_prove", "--since", forged, "--key", VKEY)[0] == 1


def test_tiles_are_the_tree(tmp_path: Path) -> None:
    assert run("audit_tiles", tmp_path)[0] == 2  # nothing is sealed
    Task.objects.bulk_record([{"action": "ping", "status": "completed"} for _ in range(300)])
    run("audit_seal")
    code, _, err = run("audit_tiles", tmp_path)
    assert (code, err) == (0, f"{tmp_path} holds the log of 600 leaves; 4 tiles are new.\n")
    checkpoint = open_checkpoint((tmp_path / "checkpoint").read_text(), [KEY.verifier]).checkpoint

    def read(level: int, index: int) -> bytes:
        return (tmp_path / path(level, index, width_at(level, index, 600))).read_bytes()

    assert tree_root(600, Nodes(read)) == checkpoint.root
    assert len((tmp_path / path(0, 0)).read_bytes()) == 32 * WIDTH
    finish(1)
    run("audit_seal")
    # The full ones stay; those at the edge get a wider one beside them.
    assert "; 1 tiles are new" in run("audit_tiles", tmp_path)[2]
    # What is published is not looked through again, however much it is: nothing grew.
    (tmp_path / path(0, 0)).unlink()
    assert "; 0 tiles are new" in run("audit_tiles", tmp_path)[2]
    # Without its checkpoint everything is written anew, whatever a run that broke off left there.
    (tmp_path / path(0, 1)).write_bytes(b"half")
    (tmp_path / "checkpoint").unlink()
    assert "; 4 tiles are new" in run("audit_tiles", tmp_path)[2]
    assert len((tmp_path / path(0, 0)).read_bytes()) == len((tmp_path / path(0, 1)).read_bytes()) == 32 * WIDTH


def test_what_is_published_only_grows(tmp_path: Path) -> None:
    finish(1)
    run("audit_seal")
    finish(1)
    run("audit_seal")
    newest = LedgerCheckpoint.objects.order_by("size").last()
    assert newest
    run("audit_tiles", tmp_path)
    published = {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
    size = newest.size

    def refused(told: str) -> None:
        code, _, err = run("audit_tiles", tmp_path)
        assert code == 2
        assert told in err
        assert {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()} == published

    with behind_the_guards():  # an older state, as after a restore
        sql("DELETE FROM audit_ledger_checkpoint WHERE size = %s", [size])
        sql("DELETE FROM audit_ledger_leaf WHERE index >= %s", [size // 2])
        rebuild()
    refused(f"holds {size} leaves, and the database has signed {size // 2}")
    batch = begin_epoch("default", [KEY], left_behind=newest.note, reason="restored", actor="cli:bob")
    refused(f"holds the log {KEY.name!r}, and the database goes on as '{KEY.name}/epoch/2'")
    assert run("audit_tiles", tmp_path / "2")[0] == 0
    assert (tmp_path / "2" / "checkpoint").read_text() == batch.note
    published = {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
    (tmp_path / "checkpoint").write_text("nonsense")
    published[tmp_path / "checkpoint"] = b"nonsense"
    refused("This is no valid signed note")


def test_another_tree_than_the_published_one_is_not_published(tmp_path: Path) -> None:
    finish(1)
    run("audit_seal")
    run("audit_tiles", tmp_path)
    published = (tmp_path / "checkpoint").read_bytes()
    with behind_the_guards():
        sql("UPDATE audit_ledger_leaf SET leaf_hash = sha256('x') WHERE index = 2")
        rebuild()
    assert "newest checkpoint of the database is not of its tree" in run("audit_tiles", tmp_path)[2]
    with behind_the_guards():
        resign(KEY)  # stolen
    code, _, err = run("audit_tiles", tmp_path)
    assert code == 2
    assert "holds another tree of 5 leaves" in err
    assert (tmp_path / "checkpoint").read_bytes() == published


def test_two_that_publish_at_once_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(1)
    run("audit_seal")
    write, between = publishing._write_tiles, []

    def overtaken(*arguments: Any) -> int:
        monkeypatch.setattr(publishing, "_write_tiles", write)
        between.append(run("audit_tiles", tmp_path)[0])
        return write(*arguments)

    # The one that comes first waits in the midst, and the other one is done before it goes on.
    monkeypatch.setattr(publishing, "_write_tiles", overtaken)
    monkeypatch.setattr(publishing, "snapshot", lambda using: contextlib.nullcontext())
    code, _, err = run("audit_tiles", tmp_path)
    assert (between, code) == ([0], 2)
    assert "Run it again" in err


@pytest.mark.slow
def test_the_loop_seals_until_it_is_told_to_stop(tmp_path: Path) -> None:
    name = connection.settings_dict["NAME"]
    environment = {**os.environ, keys.KEY_VARIABLE: KEY.secret(), "DJANGO_SETTINGS_MODULE": "tests.settings"}
    code = (
        "import sys; from django.conf import settings; settings.DATABASES['default']['NAME'] = sys.argv[1]; "
        "from django.core.management import execute_from_command_line as run; "
        "run(['manage.py', 'audit_seal', '--loop', '1', '--checkpoints', sys.argv[2]])"
    )
    finish(1)
    process = subprocess.Popen(
        [sys.executable, "-c", code, name, str(tmp_path)], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        _wait(lambda: len(list(tmp_path.iterdir())) == 1)
        finish(1)
        _wait(lambda: len(list(tmp_path.iterdir())) == 2)
        sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = %s",
            [name],
        )
        finish(1)
        _wait(lambda: len(list(tmp_path.iterdir())) == 3)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    assert "Sealing every 1 s until stopped." in err


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
    end = time.monotonic() + 60
    while not until():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


def test_a_witness_cosigns_and_a_proof_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "kept"
    [task] = finish(1)
    run("audit_seal", "--checkpoints", kept)
    watch = ["--state", tmp_path / "state", "--signing-key", tmp_path / "witness.key", "--key", VKEY]
    witness = check(capsys, "keygen", "--witness", "example.org/witness", "--out", tmp_path / "witness.key")[1].strip()
    growth = tmp_path / "growth"
    growth.write_text(run("audit_prove", "--since", 0, "--key", VKEY)[1])
    code, line = check(capsys, "witness", growth, *watch, "--first")
    assert code == 0
    [file] = kept.iterdir()
    file.write_text(file.read_text() + line)
    proof = tmp_path / "proof"
    proof.write_text(run("audit_prove", task.pk, "--checkpoint", file, "--key", VKEY)[1])
    assert check(capsys, "check", proof, "--key", VKEY, "--witness", witness)[0] == 0
    # The sealer and the verification take a cosigned file for what it is.
    assert run("audit_seal", "--checkpoints", kept)[0] == 0
    assert run("audit_verify", "--checkpoints", kept, "--key", VKEY)[0] == 0
    size = LedgerLeaf.objects.count()
    finish(1)
    run("audit_seal", "--checkpoints", kept)
    growth.write_text(run("audit_prove", "--since", size, "--key", VKEY)[1])
    assert check(capsys, "witness", growth, *watch)[0] == 0
    assert run("audit_prove", "--since", 10**6, "--key", VKEY)[0] == 1
