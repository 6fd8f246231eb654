"""Damaged checkpoints, as audit_seal and audit_prove meet them: the file, the cause and exit status 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from audit.ledger.exported import CannotExport, Exports
from audit.ledger.tlog.note import generate
from audit.models import LedgerCheckpoint, LedgerEpoch, LedgerLeaf
from tests.support.commands import outcome as run
from tests.support.damage import DAMAGES
from tests.support.factories import sql
from tests.support.ledger import KEY, VKEY, behind_the_guards, finish, sealer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    sealer(monkeypatch)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A directory with the one checkpoint that was signed."""
    finish(1)
    run("audit_seal", "--checkpoints", tmp_path / "kept")
    [file] = (tmp_path / "kept").iterdir()
    return file


def _set_back() -> None:
    with behind_the_guards():
        for table in ("leaf", "tile", "head", "checkpoint"):
            sql(f"DELETE FROM audit_ledger_{table}")


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_named_with_its_cause(kept: Path, name: str) -> None:
    damage, cause = DAMAGES[name]
    [task] = finish(1)
    run("audit_seal")
    finish(1)
    before = LedgerLeaf.objects.count()
    kept.write_bytes(damage(kept.read_bytes()))
    for words in (
        ("audit_prove", "--since", kept, "--key", VKEY),
        ("audit_prove", task.pk, "--checkpoint", kept, "--key", VKEY),
        ("audit_seal", "--checkpoints", kept.parent),
        ("audit_seal", "--new-epoch", kept, "--reason", "restored"),
    ):
        code, out, err = run(*words)
        assert (code, out) == (2, ""), words
        assert f"{kept}: It is damaged: " in err
        assert cause in err
    assert LedgerLeaf.objects.count() == before
    assert not LedgerEpoch.objects.exists()


@pytest.mark.parametrize("name", ["autocrlf", "mojibake", "without its last line break", "a whole mail"])
def test_damage_hides_no_database_that_was_set_back(kept: Path, name: str) -> None:
    kept.write_bytes(DAMAGES[name][0](kept.read_bytes()))
    _set_back()
    code, _, err = run("audit_seal", "--checkpoints", kept.parent)
    readable = name != "a whole mail"
    assert code == (1 if readable else 2)
    assert ("it was restored from an older state" in err) == readable
    assert not LedgerLeaf.objects.exists()


def test_what_is_forged_is_not_called_damaged(kept: Path) -> None:
    text = kept.read_text()
    forged = text.replace("\n", "\n\n", 1) if "\n\n\n" in text else text.replace(text.splitlines()[2], "A" * 43 + "=")
    kept.write_bytes(forged.replace("\n", "\r\n").encode())
    [task] = finish(1)
    for words in (
        ("audit_seal", "--checkpoints", kept.parent),
        ("audit_prove", "--since", kept, "--key", VKEY),
        ("audit_prove", task.pk, "--checkpoint", kept, "--key", VKEY),
    ):
        code, _, err = run(*words)
        assert code == 1, (words, err)
        assert "does not fit the text" in err
        assert "damaged" not in err


def test_a_file_of_another_kind_and_one_that_is_too_long(kept: Path, tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("Call the auditor.\n")
    code, _, err = run("audit_prove", "--since", other, "--key", VKEY)
    assert code == 2
    assert f"{other}: It is damaged: it is cut off, or was never a file of this kind" in err
    other.write_bytes(b"x" * (1024 * 1024 + 1))
    code, _, err = run("audit_prove", "--since", other, "--key", VKEY)
    assert (code, "more than 1048576 bytes" in err) == (2, True)
    assert run("audit_prove", "--since", kept, "--key", VKEY)[0] == 0


@pytest.mark.parametrize("name", ["empty", "UTF-16", "wrapped", "a page"])
def test_a_damaged_checkpoint_beside_tiles_is_named(tmp_path: Path, name: str) -> None:
    damage, cause = DAMAGES[name]
    finish(1)
    run("audit_seal")
    run("audit_tiles", tmp_path / "public")
    file = tmp_path / "public" / "checkpoint"
    file.write_bytes(damage(file.read_bytes()))
    code, _, err = run("audit_tiles", tmp_path / "public")
    assert code == 2
    assert f"{file}: " in err
    assert cause in err


def test_a_damaged_checkpoint_is_not_called_another_one(kept: Path) -> None:
    note = LedgerCheckpoint.objects.get().note
    place = next(each.place for each in Exports(kept.parent).read())
    kept.write_bytes(note.replace("\n", "\r\n").encode())
    with pytest.raises(CannotExport, match="is kept here is damaged: its line ends were changed"):
        Exports(kept.parent).write(*place, note)
    kept.write_bytes(note.replace("\n", "\r\n").encode()[:-60])
    with pytest.raises(CannotExport, match="another checkpoint of this size"):
        Exports(kept.parent).write(*place, "another")


def test_a_key_that_the_verifiers_do_not_name_seals_nothing(
    kept: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    successor = generate(KEY.name)
    settings.AUDIT = {"LEDGER_VERIFIERS": [VKEY]}
    finish(1)
    before = LedgerLeaf.objects.count()
    for secret in (successor.secret(), f"{KEY.secret()} {successor.secret()}", f"{successor.secret()}\n{KEY.secret()}"):
        monkeypatch.setenv("AUDIT_LEDGER_KEY", secret)
        for words in ([], ["--loop", 1], ["--new-epoch", kept, "--reason", "restored"]):
            code, _, err = run("audit_seal", *words)
            assert code == 2
            assert f'\n    "{successor.verifier}",\n' in err
            assert VKEY not in err
            assert successor.secret() not in err
    assert LedgerLeaf.objects.count() == before
    settings.AUDIT = {"LEDGER_VERIFIERS": [VKEY, str(successor.verifier)]}
    monkeypatch.setenv("AUDIT_LEDGER_KEY", successor.secret())
    assert run("audit_seal")[0] == 0
    assert run("audit_verify")[0] == 0


def test_a_predecessor_that_is_not_named_explains_the_refusal(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(1)
    monkeypatch.setenv("AUDIT_LEDGER_KEY", generate(KEY.name).secret())
    code, _, err = run("audit_seal", "--checkpoints", kept.parent)
    assert code == 1
    assert "If the log's key was changed, this is not tampering: add the verifier key" in err
