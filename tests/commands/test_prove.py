"""audit_prove and audit_tiles as somebody runs them, and what becomes of their files without the database."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from audit.ledger import __main__ as offline
from audit.ledger import publish as publishing
from audit.ledger.seal import begin_epoch
from audit.ledger.tlog.checkpoint import open_checkpoint
from audit.ledger.tlog.merkle import tree_root
from audit.ledger.tlog.note import Signer, generate
from audit.ledger.tlog.tiles import WIDTH, Nodes, path, width_at
from audit.models import ExecutionLog, LedgerCheckpoint, LedgerLeaf, Task
from tests.support.attacked import rebuild, resign
from tests.support.commands import outcome as run
from tests.support.factories import sql, task_in
from tests.support.ledger import KEY, VKEY, behind_the_guards, finish, sealer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    sealer(monkeypatch)


def check(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str]:
    """Run `python -m audit.ledger`: exit code and output."""
    capsys.readouterr()
    code = offline.main([str(each) for each in arguments])
    return code, capsys.readouterr().out


def test_a_proof_goes_where_there_is_no_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [task, other] = finish(2, summary="Rotate the key of Zoë, then tell her")
    task.note("seen later", actor="carol")
    run("audit_seal")
    code, text, err = run("audit_prove", task.pk, "--with-log", "--key", VKEY)
    assert (code, err) == (0, "")
    file = tmp_path / "proof"
    file.write_text(text)
    code, out = check(capsys, "check", file, "--key", VKEY, "--format", "json")
    message = json.loads(out)
    assert code == 0
    assert (message["task_id"], len(message["log"])) == (str(task.pk), ExecutionLog.objects.filter(task=task).count())
    assert task.summary in json.dumps(message["task"], ensure_ascii=False)
    assert text.count("c2sp.org/tlog-proof@v1") == 1 + ExecutionLog.objects.filter(task=task).count()
    # Without its log, one leaf.
    assert run("audit_prove", str(other.pk), "--key", VKEY)[1].count("c2sp.org/tlog-proof@v1") == 1
    assert check(capsys, "check", file, "--key", str(generate(KEY.name).verifier))[0] == 1


@pytest.mark.parametrize(
    "words",
    [
        ["audit_export", "--output", ""],
        ["audit_import", ""],
        ["audit_keygen", "example.org/log", "--output", ""],
        ["audit_prove", "--since", ""],
        ["audit_prove", "x", "--checkpoint", ""],
        ["audit_seal", "--checkpoints", ""],
        ["audit_seal", "--new-epoch", ""],
        ["audit_tiles", ""],
        ["audit_verify", "--checkpoints", ""],
    ],
    ids=" ".join,
)
def test_an_empty_path_is_not_this_directory(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError, match="the path is empty; is a variable not set"):
        call_command(*words)
    assert not list(tmp_path.iterdir())


def test_what_the_log_has_not_signed_is_not_published(tmp_path: Path, settings: Any) -> None:
    finish(1)
    run("audit_seal")
    with behind_the_guards():
        resign(Signer.parse(generate(KEY.name).secret()))
    settings.AUDIT = {"LEDGER_VERIFIERS": [VKEY]}
    code, _, err = run("audit_tiles", tmp_path / "public")
    assert code == 2
    assert "See manage.py audit_verify" in err
    assert not list(tmp_path.glob("public/*"))


def test_what_cannot_be_proven_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    [task] = finish(1)
    live = task_in("executing")
    assert run("audit_prove", task.pk, "--key", VKEY)[0] == 1
    run("audit_seal")
    assert "it is sealed when it has finished" in run("audit_prove", live.pk, "--key", VKEY)[2]
    code, _, err = run("audit_prove", uuid4(), "--key", VKEY)
    assert code == 2
    assert "in database 'default'." in err
    with behind_the_guards():
        sql("UPDATE audit_task SET summary = 'other' WHERE id = %s", [task.pk])
    code, out, err = run("audit_prove", task.pk, "--key", VKEY)
    assert (code, out) == (1, "")
    assert "audit_verify" in err
    assert run("audit_prove", "--key", VKEY)[0] == 2
    assert run("audit_prove", task.pk, "--since", "x", "--key", VKEY)[0] == 2


def test_the_first_leaf_after_a_checkpoint_is_not_covered_by_it(tmp_path: Path) -> None:
    finish(1)
    run("audit_seal", "--checkpoints", tmp_path)
    [older] = tmp_path.iterdir()
    size = LedgerCheckpoint.objects.get().size
    [row] = Task.objects.bulk_record([{"action": "later", "status": "completed"}])
    run("audit_seal")
    leaf = LedgerLeaf.objects.get(task_id=row)
    assert leaf.index == size
    code, _, err = run("audit_prove", row, "--checkpoint", older, "--key", VKEY)
    assert code != 0
    assert f"The leaf {size} is covered by no checkpoint." in err


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


def test_anybody_may_read_what_is_published_and_nobody_else_may_write_it(tmp_path: Path) -> None:
    finish(1)
    run("audit_seal")
    umask = os.umask(0)
    try:
        assert run("audit_tiles", tmp_path)[0] == 0
    finally:
        os.umask(umask)
    files = [each for each in tmp_path.rglob("*") if each.is_file()]
    assert {each.name for each in files} > {"checkpoint"}
    assert {each.name: stat.S_IMODE(each.stat().st_mode) for each in files} == {each.name: 0o644 for each in files}


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
    assert "; 1 tile is new" in run("audit_tiles", tmp_path)[2]
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

    def refused(message: str) -> None:
        code, _, err = run("audit_tiles", tmp_path)
        assert code == 2
        assert message in err
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
    refused("This is not a valid signed note")


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


def test_a_witness_cosigns_and_a_proof_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "kept"
    [task] = finish(1)
    run("audit_seal", "--checkpoints", kept)
    watch = ["--state", tmp_path / "state", "--signing-key", tmp_path / "witness.key", "--key", VKEY]
    made = check(capsys, "keygen", "--witness", "example.org/witness", "--output", tmp_path / "witness.key")
    witness = made[1].strip()
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
