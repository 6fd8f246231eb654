"""`python -m audit.ledger`: what it prints, its exit codes, and that it needs nothing but `cryptography`."""

import fcntl
import functools
import importlib.metadata
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import termios
import time
import unicodedata
from collections.abc import Callable, Iterator
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import pytest

from audit.ledger.__main__ import main
from audit.ledger.tlog import report
from tests.project.test_wheel import wheel  # noqa: F401 - a fixture
from tests.support.ledger_example import LOG, LOG_ROW, TASK, TASK_ID, WITNESS, Log, a_log_row, a_task, an_approval

KEY, WITNESS_KEY = str(LOG.verifier), str(WITNESS.verifier)
PLAN = sha256(b'{"steps": ["make", "swap"], "budget": 12.50}').hexdigest()
HOSTILE = "\x1b[31mred\x07 \u202egnp.exe\u2066 \x9b2J\r"
STEP = a_log_row(
    id=1206,
    kind="step",
    step_number=2,
    action=f"swap {HOSTILE}",
    from_status="",
    to_status="",
    duration_ms=812,
    output_summary=f"fine\n{HOSTILE}",
    detail='{"items": [1.50, 10000000000000000000001, {}, [], {"deep": "' + "y" * 60 + '"}]}',
)
LEDGER = Log(an_approval(), LOG_ROW, TASK, STEP)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "task").write_text(str(LEDGER.proof(2)))
    (tmp_path / "all").write_text("".join(str(LEDGER.proof(index)) for index in (2, 3, 1, 0)))
    (tmp_path / "log").write_text(str(LEDGER.proof(1)))
    (tmp_path / "forged").write_text(str(LEDGER.proof(2, extra=a_task(decided_by="mallory"))))
    (tmp_path / "old").write_text(str(LEDGER.checkpoint(3)))
    (tmp_path / "growth").write_text(str(LEDGER.growth(3)))
    (tmp_path / "bare").write_text(str(LEDGER.proof(2, checkpoint=str(LEDGER.checkpoint(witness=None)))))
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    return tmp_path


@pytest.fixture
def run(files: Path, monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(files)

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(list(arguments))
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return run


def test_a_task_in_clear(run) -> None:
    code, out, err = run("check", "all", "--key", KEY, "--witness", WITNESS_KEY)
    assert (code, err) == (0, "")
    assert out.startswith(f"Proven: task {TASK_ID}\n\n  id ")
    assert re.search(r"^  summary +Rotate the key of Zoë.s backup,\n +then tell her$", out, re.MULTILINE)
    assert re.search(r'^  plan +\{"steps": \["make", "swap"\], "budget": 12\.50\}$', out, re.MULTILINE)
    assert re.search(r"^  recorded_at +2024-11-23T15:20:00\.000731Z$", out, re.MULTILINE)
    assert re.search(r'^  services_touched +vault, say "hi"$', out, re.MULTILINE)
    assert re.search(r"^  parent +-$", out, re.MULTILINE)
    assert re.search(r'^  correlation_id +""$', out, re.MULTILINE)
    rows = re.findall(r"^  (\d{4})  (\S+)  (\w+(?: \d)?)", out, re.MULTILINE)
    assert [(row[0], row[2]) for row in rows] == [("1200", "transition"), ("1206", "step 2"), ("1207", "transition")]
    assert "  1200  2024-11-23T15:21:12.250000Z  transition  pending → approved  by bob  leaf 0\n" in out
    assert "      revision 4, attempt 1, duration_ms 812, db_role audit_app, xid 74213\n" in out
    assert "1.50,\n" in out
    assert "10000000000000000000001,\n" in out
    assert f"\nPlan: the one that was approved in log row 1200 by bob, SHA-256 {PLAN}\n" in out
    assert f"  Leaves         4\n  Root           {LEDGER.head().root.hex()}\n" in out
    assert f"  Signed by      {LOG.verifier.label}\n" in out
    assert f"  Cosigned by    {WITNESS.verifier.label} at 2024-11-23T15:22:10Z\n" in out
    assert "leaf 2 (task), leaf 0 (log row 1200), leaf 3 (log row 1206), leaf 1 (log row 1207)\n" in out


def test_another_letter_of_the_row_proves_nothing(run) -> None:
    """As the tutorials have it tried."""
    proof = str(LEDGER.proof(2))
    start = proof.index("extra ") + len("extra ")
    for place in range(start, proof.index("\n", start), 53):
        Path("other").write_text(proof[:place] + ("A" if proof[place] != "A" else "B") + proof[place + 1 :])
        code, _, err = run("check", "other", "--key", KEY)
        assert (code, "NOT PROVEN" in err) == (1, True)


def test_a_plan_that_was_not_approved_is_named_with_the_one_that_was(run) -> None:
    other = '{"steps": ["check"]}'
    log = Log(an_approval(), a_task(plan=other))
    Path("other").write_text("".join(str(log.proof(index)) for index in (0, 1)), encoding="utf-8")
    code, out, err = run("check", "other", "--key", KEY)
    assert (code, out) == (1, "")
    assert "NOT PROVEN. The plan is not the one that was approved" in err
    assert PLAN in err
    assert sha256(other.encode()).hexdigest() in err
    code, out, _ = run("check", "other", "--key", KEY, "--format", "json")
    assert (code, json.loads(out)["proven"], json.loads(out)["error"]) == (1, False, "InvalidProof")
    log = Log(an_approval(detail='{"plan_sha256": null}'), a_task(plan=None))
    Path("none").write_text("".join(str(log.proof(index)) for index in (0, 1)), encoding="utf-8")
    assert "\nPlan: none, and none was approved in log row 1200 by bob\n" in run("check", "none", "--key", KEY)[1]
    code, out, _ = run("check", "none", "--key", KEY, "--format", "json")
    assert json.loads(out)["approval"] == {"plan_sha256": None, "log_row": 1200, "actor": "bob", "leaf": 0}


def test_what_was_not_looked_at_is_reported(run) -> None:
    code, out, _ = run("check", "task", "--key", KEY)
    assert code == 0
    assert "Log rows proven: none" in out
    assert "\nPlan not compared: no row of the log in the file approves it\n" in out
    assert "Cosigned by    none (no --witness given)\n" in out
    assert f"Not checked    signatures by {WITNESS.verifier.label}\n" in out
    assert run("check", "log", "--key", KEY)[1].startswith("Proven, without the task itself: task ")


@pytest.mark.parametrize("form", ["text", "json"])
def test_nothing_printed_is_a_control(run, form: str) -> None:
    code, out, _ = run("check", "all", "--key", KEY, "--format", form)
    assert code == 0
    assert "gnp.exe" in out
    bad = {each for each in out if unicodedata.category(each) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}}
    assert bad == {"\n"}


def test_json_says_the_same(run) -> None:
    code, out, _ = run("check", "all", "--key", KEY, "--witness", WITNESS_KEY, "--format", "json")
    assert (code, out.count("\n")) == (0, 1)
    answer = json.loads(out)
    assert (answer["proven"], answer["task_id"]) == (True, str(TASK_ID))
    assert (answer["task"]["status"], answer["task"]["parent"], answer["task"]["correlation_id"]) == (
        "completed",
        None,
        "",
    )
    assert (answer["task"]["leaf"], answer["task"]["started_at"]) == (2, "2024-11-23T15:21:08.000002Z")
    assert answer["task"]["plan"] == {"steps": ["make", "swap"], "budget": 12.5}
    assert '"budget": 12.50' in out
    assert [row["id"] for row in answer["log"]] == [1200, 1206, 1207]
    assert answer["log"][1]["output_summary"] == f"fine\n{HOSTILE}"
    assert answer["log"][1]["detail"]["items"][:2] == [1.5, 10000000000000000000001]
    assert answer["approval"] == {"plan_sha256": PLAN, "log_row": 1200, "actor": "bob", "leaf": 0}
    assert answer["checkpoints"] == [
        {
            "origin": LOG.name,
            "size": 4,
            "root": LEDGER.head().root.hex(),
            "signed_by": [LOG.verifier.label],
            "cosigned": [{"by": WITNESS.verifier.label, "at": "2024-11-23T15:22:10Z"}],
        }
    ]


def test_not_proven(run) -> None:
    code, out, err = run("check", "forged", "--key", KEY)
    assert (code, out) == (1, "")
    assert err.startswith("NOT PROVEN. Leaf 2 with its proof gives the root ")
    code, out, err = run("check", "forged", "--key", KEY, "--format", "json")
    assert code == 1
    assert json.loads(out)["proven"] is False
    assert json.loads(out)["error"] == "InvalidProof"
    assert run("check", "task", "--key", KEY, "--origin", "example.com/prod")[0] == 1


def test_witnesses_that_are_named_must_have_cosigned(run) -> None:
    assert run("check", "bare", "--key", KEY)[0] == 0
    code, _, err = run("check", "bare", "--key", KEY, "--witness", WITNESS_KEY)
    assert (code, "1 must have cosigned the checkpoint; it was nobody" in err) == (1, True)
    code, _, err = run("check", "task", "--key", KEY, "--quorum", "1")
    assert (code, err) == (2, "--quorum 1 needs as many --witness keys; there are 0.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check", "missing", "--key", KEY), "missing: No such file"),
        (("check", ".", "--key", KEY), ".: Is a directory"),
        (("check", "latin", "--key", KEY), "latin is not a proof: byte 3 is not UTF-8"),
        (("check", "old", "--key", KEY), "This is not a valid proof"),
        (("check", "task", "--key", "nonsense"), "argument --key: This is not a verifier key"),
        (("check", "task", "--key", WITNESS_KEY), "is a witness's key"),
        (("check", "task", "--key", LOG.secret()), "This is a signing key where a verifier key belongs"),
        (("check", "task", "--key", KEY, "--witness", KEY), "is a log's key"),
        (("check", "task", "--key", KEY, "--quorum", "0"), "is not a number from 1 on"),
        (("check", "task"), "--key"),
        ((), "COMMAND"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, tuple) else "",
)
def test_could_not(run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert LOG.secret().split("+")[-1] not in err


def test_standard_input(run, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(str(LEDGER.proof(2)).encode())))
    assert run("check", "-", "--key", KEY)[0] == 0


def test_a_checkpoint(run) -> None:
    code, out, _ = run("checkpoint", "old", "--key", KEY, "--witness", WITNESS_KEY)
    assert (code, out.split("\n")[0]) == (0, "Log example.com/audit")
    code, out, _ = run("checkpoint", "old", "--key", KEY, "--format", "json")
    assert json.loads(out)["size"] == 3
    assert run("checkpoint", "task", "--key", KEY)[0] == 2


def test_consistency(run, files: Path) -> None:
    code, out, _ = run("consistency", "old", "growth", "--key", KEY)
    assert code == 0
    assert out.startswith("Consistent: the log grew from 3 to 4 leaves, and nothing before was changed.\n")
    code, out, _ = run("consistency", "old", "growth", "--key", KEY, "--format", "json")
    assert [json.loads(out)[each]["size"] for each in ("old", "new")] == [3, 4]
    rewritten = Log(b"other", *LEDGER.rows[1:])
    (files / "growth").write_text(str(rewritten.growth(3)))
    code, _, err = run("consistency", "old", "growth", "--key", KEY)
    assert (code, "a tree was rewritten" in err) == (1, True)


def test_moments_beyond_the_calendar_and_documents_that_are_none(run, files: Path) -> None:
    """What a log may hold that signs anything: shown as it is, never as an error of this program."""
    strange = Log(
        a_task(created_at=2**80, plan='{"broken', outcome="[NaN]", origin="[" * 5_000, suggestions='{"a":\n1}')
    )
    (files / "task").write_text(str(strange.proof(0)))
    code, out, err = run("check", "task", "--key", KEY)
    assert (code, err) == (0, "")
    assert f"{2**80} µs after 1970" in out
    code, out, err = run("check", "task", "--key", KEY, "--format", "json")
    assert (code, err) == (0, "")
    answer = json.loads(out, parse_constant=lambda name: pytest.fail(name))["task"]
    assert (answer["plan"], answer["outcome"], answer["suggestions"]) == ('{"broken', "[NaN]", '{"a":\n1}')


@pytest.mark.parametrize(
    "document",
    [
        '{"a": [1.50, {"b": "x, [y] {z}: \\" \\\\"}, [], {}], "c": null, "d": ["' + "z" * 80 + '"]}',
        "[" + ", ".join(["1.0"] * 50) + "]",
        '"' + "q" * 100 + '"',
    ],
)
def test_documents_are_broken_into_lines_and_nothing_else(document: str) -> None:
    lines = report._indented(document)
    assert "".join(line.strip() for line in lines).replace(" ", "") == document.replace(" ", "")
    assert json.loads("\n".join(lines)) == json.loads(document)


def test_a_pipe_that_closes(files: Path) -> None:
    check = f"{shlex.quote(sys.executable)} -m audit.ledger check {files}/all --key {KEY}"
    command = f"{check} | head -c 1 > /dev/null; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (ended.stdout.strip(), ended.stderr) in [("0", ""), ("2", "")]


@pytest.mark.parametrize("redirect", [">/dev/full", ">&-", ">&- 2>&-"])
@pytest.mark.parametrize(
    ("name", "form", "code"),
    [("task", "text", 2), ("forged", "json", 1), ("forged", "text", 1), ("missing", "text", 2)],
)
def test_with_nowhere_to_tell_it_the_exit_code_does(
    files: Path, redirect: str, name: str, code: int, form: str
) -> None:
    command = [sys.executable, "-m", "audit.ledger", "check", str(files / name), "--key", KEY, "--format", form]
    ended = subprocess.run(["sh", "-c", f'exec "$@" {redirect}', "sh", *command], capture_output=True, text=True)
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("redirect", ["<&-", "<&- >&- 2>&-"])
def test_closed_input_could_not_be_judged(redirect: str) -> None:
    command = [sys.executable, "-m", "audit.ledger", "check", "-", "--key", KEY]
    ended = subprocess.run(["sh", "-c", f'exec "$@" {redirect}', "sh", *command], capture_output=True, text=True)
    assert (ended.returncode, "Traceback" in ended.stderr) == (2, False)


def test_notes_never_stand_in_the_output() -> None:
    """A key whose file begins with advice is none."""
    command = [sys.executable, "-m", "audit.ledger", "keygen", "example.org/log"]
    ended = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", *command], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"PRIVATE\+KEY\+\S+\n", ended.stdout)


def test_ctrl_c_ends_it_quietly() -> None:
    command = [sys.executable, "-m", "audit.ledger", "check", "-", "--key", KEY]
    # Whatever runs the tests may ignore it.
    default = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=default
    ) as process:
        process.stdin.write("x")
        process.stdin.flush()
        while fcntl.ioctl(process.stdin, termios.FIONREAD, bytes(4)) != bytes(4):
            time.sleep(0.02)  # until it has read, and waits for more
        process.send_signal(signal.SIGINT)
        assert (process.wait(timeout=120), process.stderr.read()) == (130, "")


def test_an_empty_path_is_not_this_directory(run) -> None:
    assert "the path is empty; is a variable not set?" in run("check", "", "--key", KEY)[2]


# Alone


def _needed(name: str) -> Iterator[Path]:
    """Yield what a distribution and those that it needs have put into site-packages."""
    distribution = importlib.metadata.distribution(name)
    roots = {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}
    yield from (Path(str(distribution.locate_file(root))) for root in roots)
    for requirement in distribution.requires or []:
        needed = re.match(r"[\w.-]+", requirement)
        if needed and "extra ==" not in requirement:
            try:
                yield from _needed(needed[0])
            except importlib.metadata.PackageNotFoundError:
                continue  # for another Python or platform


@pytest.mark.slow
@pytest.mark.skipif(find_spec("hatchling") is None, reason="hatchling, which builds the wheel, is not installed")
def test_from_the_wheel_with_nothing_but_cryptography(wheel: Path, files: Path) -> None:  # noqa: F811
    venv = files / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    [packages] = venv.glob("lib/python3*/site-packages")
    for each in _needed("cryptography"):
        (packages / each.name).symlink_to(each)
    python = venv / "bin" / "python"

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(wheel), "LANG": "C", "PYTHONUTF8": "0"}
        return subprocess.run(
            [python, *command], cwd=files, env=environment, capture_output=True, text=True, check=False
        )

    for absent in ("django", "psycopg", "pydantic", "psutil"):
        assert "ModuleNotFoundError" in run("-c", f"import {absent}").stderr
    assert str(wheel) in run("-c", "import audit; print(audit.__file__)").stdout
    proven = run("-m", "audit.ledger", "check", "all", "--key", KEY, "--witness", WITNESS_KEY)
    assert (proven.returncode, proven.stderr) == (0, "")
    assert f"Proven: task {TASK_ID}" in proven.stdout
    assert run("-m", "audit.ledger", "check", "forged", "--key", KEY).returncode == 1
    assert run("-m", "audit.ledger", "check", "old", "--key", KEY).returncode == 2
    assert run("-m", "audit.ledger", "consistency", "old", "growth", "--key", KEY).returncode == 0
    assert "python -m audit.ledger" in run("-m", "audit.ledger", "--help").stdout


def test_no_django_is_imported() -> None:
    program = (
        "import sys, audit.ledger.__main__; print([n for n in sys.modules if n.split('.')[0] in ('django', 'psycopg')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
