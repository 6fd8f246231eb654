"""`audit_record`: output passes through, and its end is stored with secrets masked."""

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from audit.models import Task
from audit.recording.running import describe, run
from audit.values.redaction import MASK
from tests.support.recorded_commands import only, python, recorded, start

pytestmark = pytest.mark.django_db(transaction=True)


def test_huge_output_passes_whole_and_its_end_is_kept() -> None:
    lines = 400_000
    status, out, err = recorded(*python(f"for n in range({lines}): print(f'line {{n:08}}')"))
    assert (status, err) == (0, b"")
    assert out.count(b"\n") == lines
    outcome = only().outcome
    assert outcome["stdout_bytes"] == len(out)
    assert len(outcome["stdout"]) == 16 * 1024
    assert outcome["stdout"] == out[-16 * 1024 :].decode()
    assert outcome["output_summary"] == f"line {lines - 1:08}"


@pytest.mark.parametrize("limit", [10, 11, 12, 13, 16])
def test_hostile_bytes_are_stored_as_text(settings: Any, limit: int, tmp_path: Path) -> None:
    settings.AUDIT = {"OUTPUT_TAIL_BYTES": limit}
    data = "a\u20ac\U0001f600".encode() * 5000 + b"\xff\xfe\x00\xc3"
    (tmp_path / "in").write_bytes(data)
    with (tmp_path / "out").open("wb") as out:
        ended = run(["cat", str(tmp_path / "in")], out=out.fileno())
    assert (tmp_path / "out").read_bytes() == data
    tail = ended.outcome["stdout"]
    assert len(tail.encode()) <= limit
    assert tail.endswith("\ufffd\\0\ufffd")
    assert Task.objects.bulk_record([{"action": "x", "status": "completed", "outcome": ended.outcome}])


@pytest.mark.parametrize(
    ("options", "limit", "stored"),
    [
        (("--no-stdout",), 64, {"stderr": "careful\n"}),
        (("--no-stderr",), 64, {"stdout": "Ada Lovelace\n"}),
        (("--no-stdout", "--no-stderr"), 64, {}),
        ((), 0, {}),
    ],
)
@pytest.mark.parametrize("status", [0, 3])
def test_output_that_is_not_to_be_stored_is_nowhere_in_the_task(
    settings: Any, capfd: pytest.CaptureFixture[str], options: tuple[str, ...], limit: int, stored: Any, status: int
) -> None:
    settings.AUDIT = {"OUTPUT_TAIL_BYTES": limit}
    program = "import sys; print('Ada', 'Lovelace'); print('care' + 'ful', file=sys.stderr); sys.exit(int(sys.argv[1]))"
    with contextlib.suppress(CommandError, SystemExit):
        call_command("audit_record", *options, "--summary", "x", *python(program), str(status))
    assert capfd.readouterr() == ("Ada Lovelace\n", "careful\n")
    task = only()
    outcome = dict(task.outcome)
    assert task.status == ("failed" if status else "completed")
    assert {name: outcome.get(name) for name in ("stdout", "stderr") if name in outcome} == stored
    assert (outcome["stdout_bytes"], outcome["stderr_bytes"]) == (13, 8)
    wanted = stored.get("stderr" if status else "stdout", stored.get("stdout", f"exit status {status}"))
    assert outcome["output_summary"] == wanted.strip()
    [text] = Task.objects.extra(select={"whole": "to_json(audit_task)::text"}).values_list("whole", flat=True)
    assert ("Ada Lovelace" in text, "careful" in text) == ("stdout" in stored, "stderr" in stored)


def test_secrets_in_output_and_command_are_masked(settings: Any) -> None:
    settings.AUDIT = {"OUTPUT_TAIL_BYTES": 64}
    # The secret lies across the cut: only with what stands before it is it recognised.
    command = [
        "sh",
        "-c",
        'printf "password=%s" "$(printf %080d 7)"; echo; echo token=t0k >&2',
        "--password",
        "hunter2",
    ]
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        ended = run(command, out=devnull, err=devnull)
    finally:
        os.close(devnull)
    assert ended.outcome["stdout"] == f"password={MASK}\n"
    assert ended.outcome["stderr"] == f"token={MASK}\n"
    assert "hunter2" not in str(ended.outcome)
    assert (
        describe(["x", "--db-password", "hunter2", "nul\0", "\udcff"]) == f"x --db-password {MASK} 'nul\\0' '\\udcff'"
    )


def test_nobody_reads_the_output() -> None:
    """As in `audit_record -- yes | head -1`: the command learns it, as it would without us."""
    process = start("--", "yes")
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(timeout=120) == 128 + signal.SIGPIPE
    process.stderr.close()
    assert only().outcome["signal"] == "SIGPIPE"


def test_secrets_in_a_command_are_masked_before_they_are_quoted() -> None:
    """Between a shell's quotes nobody sees where a secret ends: the rest of it was stored, and frozen."""
    for argv, shown in (
        (["sh", "-c", "psql --password='abc def' next"], f"sh -c 'psql --password='\"'\"'{MASK}'\"'\"' next'"),
        (["x", "--password=a b", "y"], f"x --password={MASK} y"),
        (["x", "--db-password", "a b'c", "y"], f"x --db-password {MASK} y"),
        (["x", "--no-password", "db"], "x --no-password db"),
        (["x", "--token", "--verbose"], "x --token --verbose"),
        (["x", "--password="], "x --password="),
        (["curl", "-H", "Authorization: Bearer abc'def", "u"], f"curl -H 'Authorization: {MASK}' u"),
        (["env", "PGPASSWORD=s3cret", "psql"], f"env PGPASSWORD={MASK} psql"),
        (["x", "--auth", "Bearer", "abc123def456", "y"], f"x --auth Bearer {MASK} y"),
        (["send", "bearer", "Letters"], "send bearer Letters"),
        (["x", "Authorization:", "Basic", "dXNlcjpw", "-v"], f"x Authorization: {MASK} {MASK} -v"),
        (["x", "--header", "Cookie:", "sid=99"], f"x --header Cookie: {MASK}"),
        (["x", "password:", "hunter2"], f"x password: {MASK}"),
        (["x", "password", "=", "hunter2", "y"], f"x password = {MASK} y"),
        (["x", "PASSWORD=", "hunter2"], f"x PASSWORD= {MASK}"),
        (["x", "token=", "q"], f"x token= {MASK}"),
        (["echo", "Unexpected", "token:", "x"], "echo Unexpected token: x"),
        (["env", "PGPASSWORD=a correct horse", "psql"], f"env PGPASSWORD={MASK} psql"),
        (["PGPASSWORD=hun ter2 x", "psql"], f"PGPASSWORD={MASK} psql"),
        (["docker", "run", "-e", "DB_PASSWORD=a b,c;d"], f"docker run -e DB_PASSWORD={MASK}"),
        (["docker", "--env=DB_PASSWORD=a b c d", "x"], f"docker --env=DB_PASSWORD={MASK} x"),
        (["java", "-password=abc def"], f"java -password={MASK}"),
        (["sh", "-c", "PGPASSWORD=x pg_dump mydb"], f"sh -c 'PGPASSWORD={MASK} pg_dump mydb'"),
        (["bash", "-lc", "PGPASSWORD=x pg_dump mydb"], f"bash -lc 'PGPASSWORD={MASK} pg_dump mydb'"),
        (["x", "--password", "-hunter2", "y"], f"x --password {MASK} y"),
        (["curl", "-HAuthorization: Basic dXNlcjpw", "u"], f"curl '-HAuthorization: {MASK}' u"),
        (["x", "a=b=c d"], "x 'a=b=c d'"),
        (["x", "https://u:p'w@host/"], f"x 'https://u:{MASK}@host/'"),
    ):
        assert describe(argv) == shown


def test_patterns_of_a_project_see_the_whole_command(settings: Any) -> None:
    settings.AUDIT = {"REDACT_PATTERNS": [r"(?<=-p )\S+"], "REDACT_KEYS": ["tax_id"]}
    assert describe(["mysql", "-p", "s3cret"]) == f"mysql -p {MASK}"
    assert describe(["x", "--tax-id", "12 34", "y"]) == f"x --tax-id {MASK} y"
