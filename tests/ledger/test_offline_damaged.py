"""`python -m audit.ledger` and files that were damaged on their way: could not be judged, and why."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from audit.ledger.__main__ import main
from audit.ledger.tlog.damage import examine
from tests.support.damage import DAMAGES
from tests.support.ledger_example import LOG, LOG_ROW, TASK, Log, a_task, an_approval

LEDGER = Log(an_approval(), LOG_ROW, TASK)
FILES = {
    "check": "".join(str(LEDGER.proof(index)) for index in (2, 1, 0)),
    "checkpoint": str(LEDGER.checkpoint(3)),
    "consistency": str(LEDGER.growth(2)),
}


def judge(tmp_path: Path, command: str, data: bytes, capsys: Any) -> tuple[int, str, str]:
    (tmp_path / "file").write_bytes(data)
    (tmp_path / "old").write_text(str(LEDGER.checkpoint(2)))
    old = [str(tmp_path / "old")] if command == "consistency" else []
    code = main([command, *old, str(tmp_path / "file"), "--key", str(LOG.verifier)])
    return code, *capsys.readouterr()


@pytest.mark.parametrize("command", FILES)
@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(tmp_path: Path, command: str, name: str, capsys: Any) -> None:
    damage, cause = DAMAGES[name]
    assert judge(tmp_path, command, FILES[command].encode(), capsys)[0] == 0
    code, out, err = judge(tmp_path, command, damage(FILES[command].encode()), capsys)
    assert (code, out) == (2, "")
    assert f"{tmp_path}/file is damaged: " in err
    assert cause in err


@pytest.mark.parametrize("name", ["autocrlf", "byte order mark", "UTF-16", "blanks at the ends", "wrapped"])
def test_what_does_not_hold_is_not_excused_by_damage(tmp_path: Path, name: str, capsys: Any) -> None:
    forged = str(LEDGER.proof(2, extra=a_task(decided_by="mallory"))).encode()
    code, _, err = judge(tmp_path, "check", DAMAGES[name][0](forged), capsys)
    assert (code, err.startswith("NOT PROVEN. Leaf 2")) == (1, True)
    changed = FILES["checkpoint"].replace("\n3\n", "\n4\n").encode()
    assert judge(tmp_path, "checkpoint", changed, capsys)[0] == 1
    assert judge(tmp_path, "checkpoint", DAMAGES[name][0](changed), capsys)[0] == 1


def test_the_older_checkpoint_is_looked_at_as_well(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "old").write_bytes(str(LEDGER.checkpoint(2)).replace("\n", "\r\n").encode())
    (tmp_path / "new").write_text(FILES["consistency"])
    arguments = ["consistency", str(tmp_path / "old"), str(tmp_path / "new"), "--key", str(LOG.verifier)]
    assert main(arguments) == 2
    assert f"{tmp_path}/old is damaged: its line ends" in capsys.readouterr().err


def test_standard_input_is_read_once(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    data = FILES["checkpoint"].replace("\n", "\r\n").encode()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert main(["checkpoint", "-", "--key", str(LOG.verifier)]) == 2
    assert "- is damaged: its line ends" in capsys.readouterr().err


def test_an_undamaged_file_has_no_cause() -> None:
    for text in FILES.values():
        found = examine(text.encode())
        assert (found.causes, found.text, found.cut) == ((), text, False)


def test_a_long_file_is_put_right_in_one_pass() -> None:
    data = b"extra " + b"\n".join([b"A" * 76] * 100_000) + b"\nindex 0\n"
    found = examine(data)
    assert found.text == "extra " + "A" * 7_600_000 + "\nindex 0\n"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_known_by_its_zeros(encoding: str) -> None:
    found = examine("a line — b\n".encode(encoding))
    assert found.text == "a line — b\n"
    assert found.causes == ("it was stored as UTF-16; UTF-8 is needed",)


@pytest.mark.parametrize("data", [b"a\0b\1", b"\0a\1b", b"\0ab", b"a long text with a\0zero\n"])
def test_zeros_in_no_more_than_every_fourth_place_are_no_utf_16(data: bytes) -> None:
    found = examine(data)
    assert found.text is None
    assert found.causes == ("it holds zero bytes: the machine may have stopped when it was copied",)
