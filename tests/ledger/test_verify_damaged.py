"""Checkpoints that were damaged on their way prove nothing, and excuse nothing that was found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from audit.ledger.tlog.checkpoint import Checkpoint, sign
from audit.ledger.tlog.note import generate
from audit.models import LedgerCheckpoint, LedgerLeaf, LedgerVerification
from tests.support.commands import outcome as run
from tests.support.damage import DAMAGES
from tests.support.factories import sql
from tests.support.ledger import KEY, VKEY, behind_the_guards, finish, sealer

pytestmark = pytest.mark.django_db(transaction=True)

EXACT = [name for name in DAMAGES if name in {"autocrlf", "byte order mark", "UTF-16", "quoted-printable", "mojibake"}]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    sealer(monkeypatch)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    finish(1)
    run("audit_seal", "--checkpoints", tmp_path)
    return tmp_path


def verify(kept: Path) -> tuple[int, str, str]:
    return run("audit_verify", "--key", VKEY, "--checkpoints", kept)


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_no_tampering_and_names_file_and_cause(kept: Path, name: str) -> None:
    damage, cause = DAMAGES[name]
    finish(1)
    run("audit_seal", "--checkpoints", kept)
    file = min(kept.iterdir())
    file.write_bytes(damage(file.read_bytes()))
    code, out, err = verify(kept)
    assert (code, out) == (2, "")
    assert f"{file}: " in err
    assert cause in err
    assert LedgerVerification.objects.latest("id").verdict == "unchecked"
    with behind_the_guards():
        sql("UPDATE audit_task SET decided_by = 'eve'")
    code, out, _ = verify(kept)
    assert code == 1
    assert "row_tampered" in out
    assert f"An external checkpoint. {file}: " in out
    assert "forged_checkpoint" not in out


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_first_damaged_one_is_named_and_the_others_are_counted(kept: Path, count: int) -> None:
    for _ in range(count - 1):
        finish(1)
        run("audit_seal", "--checkpoints", kept)
    files = sorted(kept.iterdir())
    assert len(files) == count
    for file in files:
        file.write_bytes(b"")
    code, out, err = verify(kept)
    assert (code, out) == (2, "")
    assert [file for file in files if f"{file}: " in err] == files[:1]
    assert re.findall(r"(\d+) more could not be checked", err) == ([str(count - 1)] if count > 1 else [])


def test_what_macos_leaves_beside_is_named_or_passed_over(kept: Path) -> None:
    [file] = kept.iterdir()
    (kept / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + bytes(20))
    assert verify(kept)[0] == 0
    (kept / f"._{file.name}").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        " + bytes(60))
    code, _, err = verify(kept)
    assert code == 2
    assert f"._{file.name}: it is a companion that macOS writes" in err
    finish(1)
    assert run("audit_seal", "--checkpoints", kept)[0] == 0


def test_one_that_may_not_be_read_hides_nothing(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(1)
    run("audit_seal", "--checkpoints", kept)
    first = min(kept.iterdir())
    read = Path.exists
    monkeypatch.setattr("audit.ledger.exported.os.open", _denied(first))
    code, _, err = verify(kept)
    assert code == 2
    assert f"{first}: cannot be read: Permission denied" in err
    with behind_the_guards():
        sql("UPDATE audit_task SET decided_by = 'eve'")
    assert verify(kept)[0] == 1
    assert read(first)


def _denied(path: Path) -> Any:
    import os

    real = os.open

    def opened(file: Any, *arguments: Any, **options: Any) -> int:
        if Path(file) == path:
            raise PermissionError(13, "Permission denied", str(path))
        return real(file, *arguments, **options)

    return opened


def test_a_directory_that_may_not_be_read_hides_nothing(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("audit.ledger.exported.os.scandir", refused)
    code, _, err = verify(kept)
    assert (code, "cannot be read: Permission denied" in err) == (2, True)
    with behind_the_guards():
        sql("UPDATE audit_task SET decided_by = 'eve'")
    assert verify(kept)[0] == 1


@pytest.mark.parametrize("name", EXACT)
def test_a_damaged_checkpoint_still_shows_a_rollback(kept: Path, name: str) -> None:
    with behind_the_guards():
        for table in ("leaf", "tile", "head", "checkpoint"):
            sql(f"DELETE FROM audit_ledger_{table}")
    for file in kept.iterdir():
        file.write_bytes(DAMAGES[name][0](file.read_bytes()))
    code, out, _ = verify(kept)
    assert code == 1
    assert "rollback: 5 leaves were signed, says the external checkpoint" in out
    assert "An external checkpoint. " in out


@pytest.mark.parametrize("name", ["as it is", *EXACT])
@pytest.mark.parametrize("what", ["forged", "of nobody", "fork", "another log"])
def test_tampering_stays_tampering(kept: Path, what: str, name: str) -> None:
    size = LedgerLeaf.objects.count()
    other = Checkpoint(origin=KEY.name, size=size, root=bytes(32))
    true = LedgerCheckpoint.objects.get().note
    text = {
        "forged": re.sub(rf"^{size}$", str(size + 1), true, flags=re.M),
        "of nobody": str(sign(other, generate(KEY.name))),
        "fork": str(sign(other, KEY)),
        "another log": str(sign(Checkpoint(origin="example.org/else", size=1, root=bytes(32)), KEY)),
    }[what]
    data = text.encode()
    (kept / "0001-z.checkpoint").write_bytes(DAMAGES[name][0](data) if name in DAMAGES else data)
    code, out, _ = verify(kept)
    assert code == 1
    found = {"forged": "forged_checkpoint", "of nobody": "forged_checkpoint", "fork": "fork"}
    assert re.search(f"  {found.get(what, 'wrong_origin')}: .* external checkpoint 0001-z", out)


def test_what_looks_damaged_and_has_the_form_of_a_checkpoint_is_forged(kept: Path) -> None:
    """An extension that putting it right would destroy is no way out for a forger."""
    forged = Checkpoint(origin=KEY.name, size=1, root=bytes(32), extensions=("- name AAAA ",))
    (kept / "0001-z.checkpoint").write_text(str(sign(forged, generate(KEY.name))))
    code, out, _ = verify(kept)
    assert (code, "forged_checkpoint" in out) == (1, True)


@pytest.mark.parametrize("missed", ["all", "the last"])
def test_a_change_of_keys_that_was_not_told_is_named(kept: Path, missed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    successor = generate(KEY.name)
    monkeypatch.setenv("AUDIT_LEDGER_KEY", f"{KEY.secret()} {successor.secret()}")
    finish(1)
    run("audit_seal", "--checkpoints", kept)
    monkeypatch.setenv("AUDIT_LEDGER_KEY", successor.secret())
    finish(1)
    assert run("audit_seal", "--checkpoints", kept)[0] == 0
    known = KEY if missed == "the last" else generate(KEY.name)
    code, out, _ = run("audit_verify", "--key", known.verifier, "--checkpoints", kept)
    assert code == 1
    assert f"If the log's key was changed (key '{successor.verifier.label}'" in out
    assert "AUDIT['LEDGER_VERIFIERS']" in out
    assert "leaves_unsigned: " in out
    assert "its verifier key not added" in out
    both = ("--key", known.verifier, "--key", successor.verifier, "--key", VKEY)
    assert run("audit_verify", *both, "--checkpoints", kept)[0] == 0


def test_a_forgery_under_another_name_is_explained_by_no_change_of_keys(kept: Path) -> None:
    forged = sign(Checkpoint(origin=KEY.name, size=1, root=bytes(32)), generate("example.org/mallory"))
    (kept / "0001-z.checkpoint").write_text(str(forged))
    code, out, _ = verify(kept)
    assert (code, "key was changed" in out) == (1, False)
