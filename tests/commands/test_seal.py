"""audit_seal as somebody runs it: once, in a loop, with checkpoints kept in a directory, in git, by another key."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.core.management import load_command_class

from audit.ledger import seal as sealing
from audit.ledger.tlog import files, keys
from audit.ledger.tlog.checkpoint import open_checkpoint
from audit.ledger.tlog.note import generate
from audit.management.commands.audit_seal import Command
from audit.models import ExecutionLog, LedgerCheckpoint, LedgerLeaf
from tests.support.commands import outcome as run
from tests.support.factories import sql
from tests.support.ledger import KEY, VKEY, behind_the_guards, finish, sealer, session

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    sealer(monkeypatch)
    settings.AUDIT = {"LEDGER_VERIFIERS": [VKEY]}


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
    # Printed once more: the run before may have ended between its signature and its output.
    assert (code, out, err) == (0, file.read_text(), f"Nothing new to seal; the tree has {rows} leaves.\n")


def test_without_verifier_keys_it_seals_and_prints_the_line_for_the_settings(settings: Any) -> None:
    settings.AUDIT = {}
    finish(1)
    code, _, err = run("audit_seal", "--batch", 1)
    assert code == 0
    assert LedgerLeaf.objects.exists()
    assert err.count(f'AUDIT = {{"LEDGER_VERIFIERS": ["{VKEY}"]}}') == 1
    settings.AUDIT = {"LEDGER_VERIFIERS": [VKEY]}
    finish(1)
    code, _, err = run("audit_seal")
    assert (code, "LEDGER_VERIFIERS" in err) == (0, False)
    assert "The checkpoint is in the database only." in err


def test_a_directory_that_does_not_exist_is_called_so(tmp_path: Path) -> None:
    finish(1)
    run("audit_seal")
    code, _, err = run("audit_seal", "--checkpoints", tmp_path / "nosuchdir")
    assert code == 1
    assert f"There was no directory {tmp_path}/nosuchdir. This database has signed" in err
    assert not (tmp_path / "nosuchdir").exists()
    (tmp_path / "empty").mkdir()
    code, _, err = run("audit_seal", "--checkpoints", tmp_path / "empty")
    assert (code, "There was no directory" in err) == (1, False)


def test_a_directory_that_is_behind_is_called_so(tmp_path: Path) -> None:
    finish(1)
    run("audit_seal", "--checkpoints", tmp_path)
    assert "behind" not in run("audit_verify", "--key", VKEY, "--checkpoints", tmp_path)[2]
    for _ in range(2):
        finish(1)
        run("audit_seal")
    small, _, large = LedgerCheckpoint.objects.order_by("size").values_list("size", flat=True)
    code, _, err = run("audit_verify", "--key", VKEY, "--checkpoints", tmp_path)
    assert code == 0
    assert (
        f"is behind the database: its newest checkpoint covers {small} leaves, the newest in the database {large}"
        in err
    )
    code, _, err = run("audit_seal", "--checkpoints", tmp_path)
    assert (code, "it lacked 1 older checkpoint." in err) == (0, True)
    assert len(list(tmp_path.iterdir())) == 3
    assert "behind" not in run("audit_verify", "--key", VKEY, "--checkpoints", tmp_path)[2]


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
    assert code == 2
    assert f"{file}: It is damaged: its end is missing" in err
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
    assert not mounted.exists()
    (tmp_path / "away").rename(mounted)
    assert run("audit_seal", "--checkpoints", mounted)[0] == 0
    assert len(list(mounted.iterdir())) == 2


def test_seal_refuses_when_what_is_kept_is_newer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
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
    code, _, err = run("audit_seal", "--new-epoch", kept.name, "--reason", "restored")
    assert (code, f"{kept.name} cannot be read" in err) == (2, True)  # without a directory of checkpoints
    monkeypatch.chdir(tmp_path.parent)
    settings.AUDIT = {"LEDGER_CHECKPOINTS": str(tmp_path), "LEDGER_VERIFIERS": [VKEY]}
    code, _, err = run("audit_seal", "--new-epoch", kept.name, "--reason", "restored")
    assert (code, err) == (0, "Epoch 2 begins at leaf 0; run audit_seal as before.\n")
    assert run("audit_seal", "--checkpoints", tmp_path)[0] == 0
    code, out, _ = run("audit_verify", "--key", VKEY, "--checkpoints", tmp_path)
    assert code == 1
    assert "rollback: The external checkpoint 0001-" in out
    code, out, _ = run("audit_verify", "--key", VKEY, "--checkpoints", tmp_path, "--accept-epoch", 2)
    assert code == 0
    assert "of a past that an accepted epoch left behind (accepted: 2)" in out
    settings.AUDIT = {"LEDGER_ACCEPTED_EPOCHS": [2]}
    code, out, _ = run("audit_verify", "--key", VKEY, "--checkpoints", tmp_path)
    assert (code, "(accepted: 2)" in out) == (0, True)
    settings.AUDIT = {"LEDGER_ACCEPTED_EPOCHS": [2, 7]}
    code, _, err = run("audit_verify", "--key", VKEY, "--checkpoints", tmp_path)
    assert (code, err) == (2, "AUDIT['LEDGER_ACCEPTED_EPOCHS'] 7: the log has no such epoch; it is in epoch 2.")
    settings.AUDIT = {"LEDGER_ACCEPTED_EPOCHS": [3]}
    code, _, err = run("audit_verify", "--key", VKEY, "--checkpoints", tmp_path, "--accept-epoch", 2)
    assert code == 2


def test_a_new_epoch_begins_behind_the_newest_checkpoint_that_is_kept(tmp_path: Path) -> None:
    def restore() -> None:
        with behind_the_guards():
            for table in ("leaf", "tile", "head", "checkpoint", "epoch"):
                sql(f"DELETE FROM audit_ledger_{table}")

    def begin(number: int) -> tuple[int, str, str]:
        return run("audit_seal", "--checkpoints", tmp_path, "--new-epoch", files()[number].name, "--reason", "restored")

    def files() -> list[Path]:
        return sorted(tmp_path.iterdir())

    for _ in range(2):
        finish(1)
        run("audit_seal", "--checkpoints", tmp_path)
    restore()
    code, _, err = begin(0)
    first, second = files()
    assert code == 1
    assert err.startswith(f"{first} cannot be left behind. It is of epoch 1 and 5 leaves, and {second} is newer: of ")
    assert err.rstrip().endswith(f"epoch 1 and 10 leaves. Name that one: --new-epoch {second}")
    assert not LedgerLeaf.objects.exists()
    assert begin(1)[0] == 0
    # Set back to before the epoch: behind a checkpoint of epoch 1, the number 2 would be taken again.
    restore()
    code, _, err = begin(1)
    assert (code, f"{files()[2]} is newer: of epoch 2 and 1 leaves" in err) == (1, True)
    assert begin(2)[2].startswith("Epoch 3 begins at leaf 0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--git"], "--git needs --checkpoints"),
        (["--first-export"], "--first-export needs --checkpoints"),
        (["--reason", "why"], "--new-epoch FILE and --reason TEXT belong together"),
        (["--new-epoch", "/nowhere/at-all", "--reason", "why"], "/nowhere/at-all cannot be read"),
    ],
)
def test_seal_refuses_bad_arguments(arguments: list[str], message: str) -> None:
    code, _, err = run("audit_seal", *arguments)
    assert code == 2
    assert message in err


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


def test_a_key_of_another_log_could_not_seal(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.AUDIT = {}
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
    settings.AUDIT = {}
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
    settings.AUDIT = {}
    successor = generate(KEY.name)
    finish(1)
    run("audit_seal")
    monkeypatch.setenv(keys.KEY_VARIABLE, successor.secret())
    finish(1)
    code, _, err = run("audit_seal")
    assert code == 1
    assert "cannot be trusted" in err
    settings.AUDIT = {"LEDGER_VERIFIERS": [VKEY, str(successor.verifier)]}
    assert run("audit_seal")[0] == 0


def test_checkpoints_are_committed_to_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "sealer")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "sealer@example.org")
    finish(1)
    code, _, err = run("audit_seal", "--checkpoints", tmp_path, "--git")
    assert code == 1
    assert f"it is in no git work tree: git init {tmp_path}" in err
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    # What could not be committed then is now.
    code, _, err = run("audit_seal", "--checkpoints", tmp_path, "--git")
    assert code == 0, err
    assert run("audit_seal", "--checkpoints", tmp_path, "--git")[0] == 0
    size = LedgerLeaf.objects.count()
    first = ["Checkpoint", f"0001-{size:020d}", ".gitattributes", f"0001-{size:020d}.checkpoint"]
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
    assert tree.stdout.split() == [*first[2:], *files, f"0001-{4 * size:020d}.checkpoint"]


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
    assert len(_committed(kept)) == 4
    assert not beside.exists()
    assert "PATH=" in seen
    assert keys.KEY_VARIABLE not in seen
    assert "PRIVATE+KEY" not in seen
    # What it started holds its output open, as an agent that asks for a password.
    git.write_text("#!/bin/sh\nsleep 60\nexit 0\n")
    monkeypatch.setattr("audit.ledger.git_commit.SECONDS", 0.3)
    finish(1)
    code, _, err = run("audit_seal", "--checkpoints", kept, "--git")
    assert code == 1
    assert "git config took longer than 0.3 s" in err


def test_every_checkpoint_that_was_missed_is_kept_by_a_later_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(1)
    run("audit_seal", "--checkpoints", tmp_path)
    for _ in range(2):
        finish(1)
        with monkeypatch.context() as full:
            full.setattr(files, "create", _full)
            code, _, err = run("audit_seal", "--checkpoints", tmp_path)
        assert code == 1
        assert "It is signed; when this is mended, the next run keeps it." in err
    finish(1)
    assert run("audit_seal", "--checkpoints", tmp_path)[0] == 0
    kept = [each.read_text() for each in sorted(tmp_path.iterdir())]
    assert kept == list(LedgerCheckpoint.objects.order_by("size").values_list("note", flat=True))
    assert len(kept) == 4


def test_the_first_one_that_cannot_be_kept_says_how_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(1)
    with monkeypatch.context() as full:
        full.setattr(files, "create", _full)
        code, _, err = run("audit_seal", "--checkpoints", tmp_path)
    assert code == 1
    assert "No space left on device. It is signed; when this is mended, --first-export keeps it then." in err
    assert run("audit_seal", "--checkpoints", tmp_path, "--first-export")[0] == 0
    assert len(list(tmp_path.iterdir())) == 1


def _full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_could_not_be_printed_is_printed_before_more_is_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    finish(1)
    with monkeypatch.context() as full:
        full.setattr(Command, "data", _full)
        with pytest.raises(OSError, match="No space left"):
            run("audit_seal", "--print")
        size = LedgerLeaf.objects.count()
        assert size
        finish(1)
        with pytest.raises(OSError, match="No space left"):
            run("audit_seal", "--print")
        assert LedgerLeaf.objects.count() == size
    _, out, _ = run("audit_seal", "--print")
    notes = LedgerCheckpoint.objects.order_by("size").values_list("note", flat=True)
    assert out == "".join(notes)
    assert len(notes) == 2


def test_a_refused_seal_leaves_no_directory_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(1)
    run("audit_seal")
    there = tmp_path / "there"
    there.mkdir()
    for kept in (tmp_path / "a" / "b", there):
        assert run("audit_seal", "--checkpoints", kept)[0] == 1
        assert run("audit_seal", "--checkpoints", kept, "--reason", "no epoch")[0] == 2
    monkeypatch.delenv(keys.KEY_VARIABLE)
    assert run("audit_seal", "--checkpoints", tmp_path / "a" / "b")[0] == 2
    assert list(tmp_path.iterdir()) == [there]


def test_a_sealer_that_cannot_seal_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    finish(1)
    run("audit_seal")
    finish(1)
    monkeypatch.setattr(sealing, "WAIT_S", 0.2)
    with session() as beside:
        beside.execute("SELECT FROM audit_ledger_head FOR UPDATE")
        code, out, err = run("audit_seal")
        assert (code, out) == (2, "")
        assert err.startswith("Another session, perhaps another sealer, holds what this one needs; waited 0.2 s while")
        assert err.rstrip().endswith("Nothing was sealed.")
        beside.rollback()
    assert run("audit_seal")[0] == 0
