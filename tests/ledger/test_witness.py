"""Keys in files, and the witness: what it cosigns, what it refuses, and what it remembers."""

import fcntl
import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from audit.ledger.__main__ import main
from audit.ledger.tlog import files, keys, witness
from audit.ledger.tlog.checkpoint import open_checkpoint, sign
from audit.ledger.tlog.errors import InvalidKey, InvalidProof, InvalidSignature, Malformed, Unsigned, WrongOrigin
from audit.ledger.tlog.note import KeyKind, Note, Signature, Signer, Verifier, generate
from audit.ledger.tlog.proof import Growth
from audit.ledger.tlog.witness import Conflict, FirstSight, cosign, remembered
from tests.support.ledger_example import LOG, WITNESS, Log

ROWS = [b"row %d" % each for each in range(20)]
LEDGER = Log(*ROWS)
REWRITTEN = Log(*ROWS[:3], b"another", *ROWS[4:])
KEYS = [LOG.verifier]


def request(old: int, size: int, ledger: Log = LEDGER, **changes) -> str:
    return str(ledger.growth(old, size, **{"checkpoint": str(ledger.checkpoint(size, witness=None))} | changes))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def seen(state: Path) -> Path:
    """The state of a witness that has seen eight leaves."""
    cosign(request(0, 8), state, WITNESS, KEYS, now=100, first=True)
    return state


def size_in(state: Path) -> int:
    return remembered(state)[LOG.name].size


# The witness


def test_growth_is_cosigned_and_remembered(seen: Path) -> None:
    for old, size, now in ((8, 9, 200), (9, 9, 300), (9, 20, 400)):
        signature = cosign(request(old, size), seen, WITNESS, KEYS, now=now)
        note = LEDGER.checkpoint(size, witness=None)
        cosigned = Note(text=note.text, signatures=(*note.signatures, signature))
        opened = open_checkpoint(cosigned, KEYS, witnesses=[WITNESS.verifier], quorum=1)
        assert [each.at for each in opened.cosigned] == [now]
        assert size_in(seen) == size
        assert remembered(seen)[LOG.name].root == LEDGER.head(size).root


@pytest.mark.parametrize(
    ("body", "error", "problem"),
    [
        (request(8, 12, REWRITTEN), InvalidProof, "a tree was rewritten"),
        (request(8, 8, REWRITTEN), InvalidProof, "a fork"),
        (request(5, 5), InvalidProof, "had 8 leaves and now has 5: it was rolled back"),
        (request(0, 0), InvalidProof, "had 8 leaves and now has 0: it was rolled back"),
        (request(0, 12), Conflict, r"starts from 0 leaves of 'example\.com/audit', the witness remembers 8"),
        (request(9, 12), Conflict, "starts from 9 leaves"),
        (request(8, 12, hashes=()), InvalidProof, "lacks|too few|rewritten"),
        (request(8, 12, checkpoint=str(sign(LEDGER.head(12), generate(LOG.name)))), Unsigned, "None of the known"),
        (request(8, 12, checkpoint=str(sign(LEDGER.head(12, origin="x"), LOG))), WrongOrigin, "of the log 'x'"),
        (request(8, 12).replace("\n12\n", "\n13\n"), InvalidSignature, "does not fit"),
        (str(LEDGER.proof(3)), Malformed, "not a valid consistency proof"),
        ("", Malformed, "not a valid consistency proof"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 60 else "",
)
def test_anything_else_is_refused_and_changes_nothing(
    seen: Path, body: str, error: type[Exception], problem: str
) -> None:
    before = seen.read_bytes()
    with pytest.raises(error, match=problem):
        cosign(body, seen, WITNESS, KEYS, now=200, first=True)
    assert seen.read_bytes() == before
    assert size_in(seen) == 8


def test_a_new_log_is_taken_expressly(state: Path) -> None:
    with pytest.raises(FirstSight, match=r"remembers nothing of the log 'example\.com/audit'.*--first"):
        cosign(request(0, 8), state, WITNESS, KEYS, now=100)
    assert not state.exists()
    with pytest.raises(Conflict, match=r"starts from 3 leaves .* remembers 0"):
        cosign(request(3, 8), state, WITNESS, KEYS, now=100, first=True)
    cosign(request(0, 0), state, WITNESS, KEYS, now=100, first=True)
    cosign(request(0, 8), state, WITNESS, KEYS, now=100)
    assert size_in(state) == 8


def test_each_log_has_a_memory_of_its_own(seen: Path) -> None:
    other = generate("example.com/other")
    body = request(0, 4, checkpoint=str(sign(LEDGER.head(4, origin=other.name), other)))
    cosign(body, seen, WITNESS, [*KEYS, other.verifier], now=100, first=True)
    assert {name: head.size for name, head in remembered(seen).items()} == {LOG.name: 8, other.name: 4}


def test_the_evidence_is_kept(seen: Path) -> None:
    """What is remembered is signed by the log: against it, a fork is proven to anybody."""
    [note] = json.loads(seen.read_text()).values()
    assert open_checkpoint(note, KEYS, witnesses=[WITNESS.verifier], quorum=1).checkpoint == LEDGER.head(8)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}x", b'{"a": 1}', b'{"a": "b"}', b"\xff", b"[" * 100_000, b"null"],
    ids=lambda content: repr(content)[:20],
)
def test_a_damaged_state_stops_the_witness(state: Path, content: bytes) -> None:
    state.write_bytes(content)
    with pytest.raises(Malformed, match="state of a witness"):
        cosign(request(0, 8), state, WITNESS, KEYS, now=100, first=True)
    assert state.read_bytes() == content


def test_the_state_of_another_log_under_this_ones_name(seen: Path) -> None:
    seen.write_text(seen.read_text().replace(f'"{LOG.name}":', '"example.com/prod":'))
    with pytest.raises(Malformed, match="do not begin anew"):
        remembered(seen)


def test_a_witness_needs_a_witnesss_key(state: Path) -> None:
    with pytest.raises(InvalidKey, match="is a log's key; a witness needs one of its own"):
        cosign(request(0, 8), state, LOG, KEYS, now=100, first=True)


def test_no_cosignature_without_memory(seen: Path, monkeypatch) -> None:
    def broken(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="No space"):
        cosign(request(8, 12), seen, WITNESS, KEYS, now=200)
    assert size_in(seen) == 8
    assert {each.name for each in seen.parent.iterdir()} == {"state", "state.lock"}


def test_one_at_a_time_reads_judges_and_writes(seen: Path, monkeypatch) -> None:
    order = []

    def note_the_lock(step: str, do):
        def noted(*arguments):
            with seen.with_name("state.lock").open() as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    order.append((step, "free"))
                except BlockingIOError:
                    order.append((step, "locked"))
            return do(*arguments)

        return noted

    monkeypatch.setattr(witness, "_read", note_the_lock("read", witness._read))
    monkeypatch.setattr(witness, "_write", note_the_lock("write", witness._write))
    cosign(request(8, 12), seen, WITNESS, KEYS, now=200)
    with pytest.raises(Conflict):
        cosign(request(8, 13), seen, WITNESS, KEYS, now=200)
    assert order == [("read", "locked"), ("write", "locked"), ("read", "locked")]
    with seen.with_name("state.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_nobody_else_can_read_the_state_or_hold_the_lock(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        cosign(request(0, 8), tmp_path / "new", WITNESS, KEYS, now=100, first=True)
    finally:
        os.umask(before)
    assert {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()} == {
        "new": 0o600,
        "new.lock": 0o600,
    }


def test_several_at_once_never_step_back(seen: Path) -> None:
    def attempt(size: int) -> None:
        with suppress(ValueError):
            cosign(request(size_in(seen), size), seen, WITNESS, KEYS, now=200)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attempt, [*range(9, 20), *range(9, 20)]))
    assert remembered(seen)[LOG.name] == LEDGER.head(size_in(seen))
    assert size_in(seen) >= 9


# Keys


def test_a_key_is_written_for_its_owner_alone_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "key"
    before = os.umask(0)
    try:
        keys.write(path, LOG)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys.read(path) == (LOG,)
    with pytest.raises(FileExistsError):
        keys.write(path, generate("other"))
    assert keys.read(path) == (LOG,)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o601, 0o610])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    keys.write(path, LOG)
    path.chmod(mode)
    with pytest.raises(InvalidKey, match=rf"\(mode {mode:o}\).*chmod 600 {path}") as refused:
        keys.read(path)
    assert LOG.secret() not in str(refused.value)


def test_somebody_elses_file_is_refused(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "key"
    keys.write(path, LOG)
    if os.geteuid() == 0:
        os.chown(path, 64_023, -1)  # what is root's is trusted
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(InvalidKey, match="belongs to another user"):
        keys.read(path)


def test_one_key_follows_another(tmp_path: Path) -> None:
    path, new = tmp_path / "key", generate(LOG.name)
    path.write_text(f"# until March\n{LOG.secret()}\n\n# from March on\n{new.secret()}\n")
    path.chmod(0o600)
    assert keys.read(path) == (LOG, new)
    assert keys.load({keys.FILE_VARIABLE: str(path)}) == (LOG, new)
    assert keys.load({keys.KEY_VARIABLE: f"{LOG.secret()} {new.secret()}"}) == (LOG, new)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "holds no signing key"),
        (b"\n\n", "holds no signing key"),
        (b"# nothing\n", "holds no signing key"),
        (b"\xff\xfe", "holds no signing key"),
        (b"#" * 70_000, "holds no signing key"),
        (str(LOG.verifier).encode(), "begins with PRIVATE"),
        (LOG.secret().encode()[:-1], "not base64"),
        (f"{LOG.secret()}\n{LOG.secret()}\n".encode(), "the same signing key twice"),
    ],
)
def test_files_without_a_key(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InvalidKey, match=problem) as refused:
        keys.read(path)
    assert str(path) in str(refused.value)
    assert LOG.secret()[-20:-1] not in str(refused.value)


def test_the_environment_names_one_place() -> None:
    both = {keys.KEY_VARIABLE: LOG.secret(), keys.FILE_VARIABLE: "/nowhere"}
    for environment, problem in (({}, "Neither of"), (both, "Both of"), ({keys.KEY_VARIABLE: " "}, "no signing key")):
        with pytest.raises(InvalidKey, match=problem):
            keys.load(environment)
    with pytest.raises(FileNotFoundError):
        keys.load({keys.FILE_VARIABLE: "/nowhere/key"})
    assert [keys.is_configured(each) for each in ({}, both, {keys.FILE_VARIABLE: "x"})] == [False, True, True]


def test_what_is_half_written_is_taken_away(tmp_path: Path, monkeypatch) -> None:
    def broken(*_arguments: object) -> None:
        raise OSError(5, "Input/output error")

    (tmp_path / "kept").write_text("as it was")
    monkeypatch.setattr(os, "fsync", broken)
    for write in (files.create, files.replace):
        with pytest.raises(OSError, match="Input/output"):
            write(tmp_path / ("new" if write is files.create else "kept"), "text")
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"kept": "as it was"}


@pytest.mark.parametrize("write", [files.create, files.replace])
def test_two_that_write_at_once_each_write_whole(tmp_path: Path, monkeypatch, write) -> None:
    sync = os.fsync

    def overtaken(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", sync)
        files.replace(tmp_path / "kept", "the other's")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", overtaken)
    if write is files.create:
        with pytest.raises(FileExistsError):
            write(tmp_path / "kept", "whole\r\n")
    else:
        write(tmp_path / "kept", "whole\r\n")
    there = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    assert there == {"kept": b"the other's" if write is files.create else b"whole\r\n"}


# The commands


def test_a_witness_by_command(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["keygen", "example.com/witness", "--witness", "--output", "key"]) == 0
    out, err = capsys.readouterr()
    verifier = Verifier.parse(out.strip())
    assert verifier.kind is KeyKind.COSIGNATURE
    assert "which only you can read" in err
    assert keys.read(Path("key"))[0].verifier == verifier

    def run(body: str, *more: str) -> tuple[int, str, str]:
        Path("body").write_text(body)
        options = ["--state", "state", "--signing-key", "key", "--key", str(LOG.verifier), *more]
        return main(["witness", "body", *options]), *capsys.readouterr()

    assert main(["remembered", "--state", "state"]) == 0
    assert capsys.readouterr() == ("", "state remembers no log.\n")
    code, out, err = run(request(0, 8))
    assert (code, out, "--first" in err) == (2, "", True)
    code, out, err = run(request(0, 8), "--first")
    assert (code, err) == (0, "")
    note = Note.parse(f"{LEDGER.checkpoint(8, witness=None)}{out}")
    assert note.signatures[-1] == Signature.parse(out.rstrip("\n"))
    assert open_checkpoint(note, KEYS, witnesses=[verifier], quorum=1)
    assert run(request(8, 12))[0] == 0
    assert run(request(9, 13))[0] == 2
    for body in (request(12, 14, REWRITTEN), request(8, 8), request(12, 12, REWRITTEN)):
        code, out, err = run(body)
        assert (code, out, err.startswith("NOT PROVEN. ")) == (1, "", True)
    assert main(["remembered", "--state", "state"]) == 0
    assert capsys.readouterr()[0].startswith("12 ")
    Path("key").chmod(0o644)
    code, _, err = run(request(12, 14))
    assert (code, "chmod 600 key" in err) == (2, True)


def test_two_keys_are_no_witnesss(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    files.create(Path("key"), f"{WITNESS.secret()}\n{generate('x', KeyKind.COSIGNATURE).secret()}\n")
    Path("body").write_text(request(0, 8))
    code = main(["witness", "body", "--state", "s", "--signing-key", "key", "--key", str(LOG.verifier)])
    assert (code, "holds 2 keys" in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize("command", ["manage.py", "module"])
def test_a_key_by_command(tmp_path: Path, capsys, command: str) -> None:
    def keygen(*arguments: str) -> tuple[str, str]:
        if command == "module":
            assert main(["keygen", *arguments]) == 0
        else:
            call_command("audit_keygen", *arguments)
        return capsys.readouterr()

    out, err = keygen("example.com/audit")
    signer = Signer.parse(out.strip())
    assert str(signer.verifier) in err
    assert signer.secret() not in err
    path = tmp_path / "key"
    out, err = keygen("example.com/audit", "--output", str(path))
    [kept] = keys.read(path)
    assert out.strip() == str(kept.verifier)
    assert f'AUDIT = {{"LEDGER_VERIFIERS": ["{kept.verifier}"]}}' in err
    assert f"{keys.FILE_VARIABLE}={path}" in err
    assert kept.secret() not in out + err


def test_a_key_that_cannot_be_made(tmp_path: Path, capsys) -> None:
    path = tmp_path / "key"
    path.write_text("precious")
    assert main(["keygen", "x", "--output", str(path)]) == 2
    assert main(["keygen", "two words"]) == 2
    assert f"{path}: File exists" in capsys.readouterr().err
    for arguments, problem in ((["x", "--output", str(path)], "File exists"), (["two words"], "cannot be the name")):
        with pytest.raises(CommandError, match=problem) as refused:
            call_command("audit_keygen", *arguments)
        assert refused.value.returncode == 2
    assert path.read_text() == "precious"


def test_growth_from_nothing_is_what_a_first_request_says() -> None:
    assert Growth.parse(request(0, 8)).hashes == ()


def test_the_witness_needs_no_django() -> None:
    program = "import sys, audit.ledger.tlog.witness; print([n for n in sys.modules if n.split('.')[0] == 'django'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
