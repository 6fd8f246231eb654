"""`audit_record`: real processes, their output, signals, exit status and end, whatever happens to the database."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from audit import record
from audit.context import actor as acting
from audit.exceptions import AuditError, InvalidValue
from audit.models import Task
from audit.recording import Recording
from audit.recording.running import Ended, describe, run, run_recorded
from audit.values.redaction import MASK
from auditproj.embedded.server import Server

pytestmark = pytest.mark.django_db(transaction=True)

UNREACHABLE = {"DATABASE_URL": "postgres://u:p@127.0.0.1:1/x"}


def start(*words: str, environment: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:

    # A test that names another server means its database, not the one of the tests.
    database = "" if "DATABASE_URL" in (environment or {}) else connection.settings_dict["NAME"]
    command = [sys.executable, "-m", "tests.support.recorder", database, "manage", "audit_record", *words]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=os.environ | (environment or {}), **(pipes | options))


def recorded(*words: str, environment: dict[str, str] | None = None, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    """Run the command as a process of its own; its exit status and both outputs."""
    process = start(*words, environment=environment, stdin=subprocess.PIPE)
    out, err = process.communicate(stdin, timeout=60)
    return process.returncode, out, err


def only() -> Task:
    return Task.objects.get()


def python(program: str) -> Sequence[str]:
    return ("--", sys.executable, "-c", program)


def eventually(condition: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)
    return found


def test_output_and_status_pass_through_and_everything_is_recorded() -> None:
    status, out, err = recorded(
        *("--action", "backup", "--summary", "Nightly", "--service", "db", "--service", "nas", "--actor", "cron"),
        *("--correlation-id", "batch-7", "--", "sh", "-c", "echo out; echo err >&2; exit 3"),
    )
    assert (status, out, err) == (3, b"out\n", b"err\n")
    task = only()
    assert (task.status, task.action, task.summary, task.actor) == ("failed", "backup", "Nightly", "cron")
    assert (task.services_touched, task.correlation_id, task.requested_by) == (["db", "nas"], "batch-7", "cron")
    assert task.outcome == {
        "success": False,
        "command": "sh -c 'echo out; echo err >&2; exit 3'",
        "exit_status": 3,
        "error_type": "ExitStatus",
        "output_summary": "err",
        "stdout": "out\n",
        "stdout_bytes": 4,
        "stderr": "err\n",
        "stderr_bytes": 4,
    }
    assert task.resources_used.keys() == {"wall_s", "cpu_s", "peak_rss_bytes", "peak_rss_source"}


def test_defaults_without_a_word_of_its_own() -> None:
    status, out, err = recorded("--", "true")
    assert (status, out, err) == (0, b"", b"")
    task = only()
    assert (task.status, task.action, task.summary) == ("completed", "true", "true")
    assert task.actor.startswith("cli:")
    assert (task.plan, task.outcome["success"], task.outcome["output_summary"]) == (None, True, "exit status 0")


def test_what_a_command_records_has_its_actor() -> None:
    assert recorded("--actor", "alice", *python("import os; print(os.environ['AUDIT_ACTOR'])"))[1] == b"alice\n"


def test_a_record_inside_a_command_takes_its_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_ACTOR", "alice")
    with record("inner") as task:
        pass
    assert (task.actor, task.requested_by) == ("alice", "alice")
    with record("inner", actor="bob") as task:
        pass
    assert (task.actor, task.requested_by) == ("bob", "bob")
    with acting("carol"), record("inner") as task:
        pass
    assert task.requested_by == "carol"
    assert recorded("--action", "nested", "--", "true")[0] == 0
    assert Task.objects.get(action="nested").actor == "alice"
    monkeypatch.setenv("AUDIT_ACTOR", "x" * 501)
    with pytest.raises(InvalidValue, match="AUDIT_ACTOR"), record("inner"):
        pass
    monkeypatch.delenv("AUDIT_ACTOR")
    with record("inner") as task:
        pass
    assert (task.requested_by, task.actor) == ("", f"{socket.gethostname()}:{os.getpid()}")


def test_the_command_may_have_options_and_dashes_of_its_own() -> None:
    assert recorded("printf", "%s.", "-x", "--", "--action", "b")[:2] == (0, b"-x.--.--action.b.")
    assert recorded("--action", "a", "--", "printf", "%s.", "--", "-v")[:2] == (0, b"--.-v.")
    assert list(Task.objects.order_by("id").values_list("action", flat=True)) == ["printf", "a"]


def test_input_passes_through() -> None:
    assert recorded("--", "cat", stdin=b"\0\xffin")[1] == b"\0\xffin"
    assert only().outcome["stdout"] == "\\0\ufffdin"


def test_from_cron() -> None:
    """No terminal, next to no environment, standard input closed."""
    process = start(
        *("--", "sh", "-c", "exit 0"),
        environment={"PATH": "/usr/bin:/bin", "TERM": "", "LANG": "C"},
        start_new_session=True,
        preexec_fn=lambda: os.close(0),
    )
    assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == 0
    assert only().status == "completed"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGTERM"])
def test_a_command_that_a_signal_ends(name: str) -> None:
    status, _, _ = recorded("--", "sh", "-c", f"kill -{signal.Signals[name].value} $$")
    assert status == 128 + signal.Signals[name]
    outcome = only().outcome
    assert (outcome["error_type"], outcome["signal"], outcome["exit_status"]) == ("Signal", name, status)
    assert outcome["output_summary"] == f"killed by {name}"


@pytest.mark.parametrize(
    ("command", "status", "error_type"),
    [
        ("no-such-command", 127, "CommandNotFound"),
        ("/no/such/command", 127, "CommandNotFound"),
        ("/etc/passwd", 126, "CommandNotExecutable"),
        ("/", 126, "CommandNotExecutable"),
    ],
)
def test_a_command_that_cannot_be_run(
    command: str, status: int, error_type: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert recorded("--", command)[0] == status
    task = only()
    assert (task.status, task.outcome["error_type"], task.outcome["exit_status"]) == ("failed", error_type, status)
    assert command in task.outcome["output_summary"]
    capfd.readouterr()
    ended = run([command])
    assert (ended.status, ended.outcome, ended.resources) == (status, task.outcome, None)
    # Whoever reads the output alone, of a cron job for instance, must learn it too.
    assert capfd.readouterr() == ("", f"{task.outcome['output_summary']}\n")


# A process and its child, of which each writes down what it hears.
FAMILY = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
child = os.fork()
name = "parent" if child else "child"
def heard(number, frame):
    (folder / name).write_text(signal.Signals(number).name)
    if child:
        os.waitpid(child, 0)
    os._exit(7)
for number in (1, 2, 15):
    signal.signal(number, heard)
(folder / f"{name}-ready").touch()
time.sleep(60)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_signals_reach_the_group_of_the_command(name: str, tmp_path: Path) -> None:
    def heard() -> None:
        signal.signal(signal.Signals[name], signal.SIG_DFL)  # whoever runs the tests under nohup ignores some

    process = start(*python(FAMILY), str(tmp_path), preexec_fn=heard)
    try:
        eventually(lambda: (tmp_path / "parent-ready").exists() and (tmp_path / "child-ready").exists())
        process.send_signal(signal.Signals[name])
        assert process.wait(timeout=20) == 7
    finally:
        process.kill()
        process.communicate()
    assert [(tmp_path / who).read_text() for who in ("parent", "child")] == [name, name]
    task = only()
    assert (task.status, task.outcome["exit_status"]) == ("failed", 7)
    assert task.outcome["signals_forwarded"] == [name]


def test_a_hangup_that_nohup_ignores_reaches_no_command(tmp_path: Path) -> None:
    def started() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    process = start(*python(FAMILY), str(tmp_path), preexec_fn=started)
    try:
        eventually(lambda: (tmp_path / "parent-ready").exists() and (tmp_path / "child-ready").exists())
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 7
    finally:
        process.kill()
        process.communicate()
    assert [(tmp_path / who).read_text() for who in ("parent", "child")] == ["SIGTERM", "SIGTERM"]
    assert only().outcome["signals_forwarded"] == ["SIGTERM"]


def test_what_ran_is_not_run_again_when_its_record_cannot_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **options: object) -> None:
        raise OSError("the pipes broke")

    def gone(*args: object, **options: object) -> None:
        raise OperationalError("the server is gone")

    monkeypatch.setattr("audit.recording.running.run", broken)
    monkeypatch.setattr(Recording, "end", gone)
    # Neither of the errors that tell that nothing was run.
    with pytest.raises(OSError, match="the pipes broke"):
        run_recorded(record("work", durable=False), ["true"])


def test_timeout_ends_even_a_deaf_command(monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, err = recorded("--timeout", "0.5", "--", "sleep", "60")
    assert (status, out, err) == (124, b"", b"sleep: timed out after 0.5 s\n")
    monkeypatch.setattr("audit.recording.running._KILL_AFTER_SECONDS", 0.3)
    deaf = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"]
    ended = run(deaf, timeout=1.5)
    assert (ended.status, ended.outcome["signal"], ended.outcome["error_type"]) == (124, "SIGKILL", "Timeout")
    assert ended.resources["wall_s"] < 20
    outcome = only().outcome
    assert (outcome["error_type"], outcome["exit_status"], outcome["signal"]) == ("Timeout", 124, "SIGTERM")
    assert outcome["output_summary"] == "timed out after 0.5 s"
    speaks = run(["sh", "-c", "echo halfway; sleep 60"], timeout=1.5)
    assert speaks.outcome["output_summary"] == "timed out after 1.5 s: halfway"


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
    assert process.wait(timeout=20) == 128 + signal.SIGPIPE
    process.stderr.close()
    assert only().outcome["signal"] == "SIGPIPE"


def test_what_stays_in_the_background_is_not_waited_for() -> None:
    started = time.monotonic()
    process = start("--", "sh", "-c", "sleep 30 & echo started")
    assert process.stdout.read() == b"started\n"
    process.wait(timeout=20)
    process.communicate()
    assert time.monotonic() - started < 20
    task = only()
    assert task.outcome["stdout"] == "started\n"
    assert task.resources_used["wall_s"] < 1


def test_records_inside_a_recorded_command_are_its_children() -> None:
    inner = [sys.executable, "-m", "tests.support.recorder", connection.settings_dict["NAME"], "manage", "audit_record"]
    recorded("--action", "outer", "--", *inner, "--action", "inner", "--", "true")
    outer, inside = Task.objects.order_by("id")
    assert (outer.action, inside.action, inside.parent) == ("outer", "inner", outer.pk)


def test_memory_and_cpu_are_those_of_the_command() -> None:
    # Long enough to be sampled: where this process itself has held more, the kernel's number says nothing.
    recorded(*python("import time; x = b'a' * 200_000_000; sum(range(3_000_000)); time.sleep(1)"))
    used = only().resources_used
    assert 200_000_000 < used["peak_rss_bytes"] < 400_000_000
    assert used["peak_rss_source"] in {"kernel", "sampled"}
    assert 0.01 < used["cpu_s"] < used["wall_s"] * 3


# What stops it from being recorded


def test_without_a_database_nothing_is_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    status, out, err = recorded("--", "touch", str(marker), environment=UNREACHABLE)
    assert (status, out) == (2, b"")
    assert b"cannot be reached" in err
    assert b"was not run" in err
    assert not marker.exists()


def test_best_effort_runs_it_all_the_same() -> None:
    status, out, err = recorded("--best-effort", "--", "sh", "-c", "echo out; exit 3", environment=UNREACHABLE)
    assert (status, out) == (3, b"out\n")
    assert b"without being recorded" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Name the command"),
        (["--"], "Name the command"),
        (["--parent", "zzz", "--", "true"], "--parent: 'zzz' is not a task id: write a UUID or its first"),
        (["--database", "nope", "--", "true"], "'nope' is not a database of this project"),
        (["--action", "x" * 101, "--", "true"], "action: has 101 characters"),
        (["--service", "", "--best-effort", "--", "true"], "--service: must not be empty"),
        (["--timeout", "0", "--", "true"], "must be a number of seconds above 0 and below 100000000, not '0'"),
    ],
)
def test_bad_input_is_named(words: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("audit_record", *words)
    assert not Task.objects.exists()


def test_a_stray_parent_of_the_environment_is_named_and_stops_no_best_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_TASK_ID", "zz")
    with pytest.raises(CommandError, match="AUDIT_TASK_ID: is not a UUID"):
        call_command("audit_record", "--", "true")
    assert recorded("--best-effort", "--", "echo", "ran", environment={"AUDIT_TASK_ID": "zz"})[:2] == (0, b"ran\n")


def test_what_a_terminal_would_obey_is_not_said_to_it() -> None:
    assert b"\x1b" not in recorded("--", "a\x1b[31m\nb")[2]


def test_a_parent_may_be_named_by_its_beginning() -> None:
    parent = Task.objects.request("outer", actor="a")
    call_command("audit_record", "--parent", str(parent.pk)[:18], "--", "true")
    call_command("audit_record", "--parent", parent.pk.hex, "--", "true")
    assert list(Task.objects.filter(action="true").values_list("parent", flat=True)) == [parent.pk] * 2


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


def test_bad_arguments_of_the_function() -> None:
    for argv in ([], [""]):
        with pytest.raises(InvalidValue, match="command"):
            run(argv)
    with pytest.raises(InvalidValue, match="timeout"):
        run(["true"], timeout=0)
    with pytest.raises(InvalidValue, match="timeout"):
        run_recorded(record("x"), ["true"], timeout=-1)
    # An empty variable where the program should stand: what follows it may be secret, and is neither told nor stored.
    with pytest.raises(InvalidValue, match="command: is empty") as caught:
        run_recorded(record("x"), ["", "--db-password", "hunter2"])
    assert "hunter2" not in str(caught.value)
    assert not Task.objects.exists()


def test_the_exit_status_counts_when_the_end_cannot_be_stored(
    throwaway_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = throwaway_server()
    found = server.connection_parameters()
    environment = {"DATABASE_URL": f"postgresql://{found['user']}@/postgres?host={found['host']}"}
    recorder = [sys.executable, "-m", "tests.support.recorder", "", "manage"]
    subprocess.run([*recorder, "migrate", "-v0"], env=os.environ | environment, check=True)
    ready = tmp_path / "ready"
    process = start("--", "sh", "-c", f"touch {ready}; sleep 3; echo done; exit 5", environment=environment)
    eventually(ready.exists)
    server.stop()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (5, b"done\n")
    assert re.search(rb"The end of the recorded command [0-9a-f-]{36} could not be stored", err)


def test_killed_itself_the_task_fails_after_its_lease(settings: Any) -> None:
    process = start("--", "sleep", "30")
    eventually(lambda: Task.objects.filter(status="executing").exists())
    process.kill()
    process.communicate()
    task = only()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audit_task SET lease_expires_at = now() WHERE id = %s", [task.pk])
    assert [each.pk for each in Task.objects.recover_expired()] == [task.pk]
    assert only().outcome["error_type"] == "LeaseExpired"
    assert "sleep 30" in only().summary


# The same inside this process


@pytest.mark.parametrize(("program", "status"), [("exit 0", None), ("exit 3", 3)])
def test_as_a_call(program: str, status: int | None) -> None:
    with contextlib.ExitStack() as stack:
        caught = stack.enter_context(pytest.raises(SystemExit)) if status else None
        call_command("audit_record", "--", "sh", "-c", program)
    assert caught is None or caught.value.code == status
    assert only().outcome["exit_status"] == (status or 0)


def test_as_a_call_without_a_database(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def begin(self: Recording) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(Recording, "begin", begin)
    with pytest.raises(CommandError, match="away"):
        call_command("audit_record", "--", "echo", "ran")
    assert "ran\n" not in capfd.readouterr().out
    call_command("audit_record", "--best-effort", "--", "echo", "ran")
    assert capfd.readouterr().out == "ran\n"


@pytest.mark.parametrize(
    "broken",
    [
        {"REDACT_PATTERNS": ["("]},
        {"OUTPUT_TAIL_BYTES": "many"},
        {"RECORD_USING": "nowhere"},
        {"RECORD_LEASE_SECONDS": 0},
        {"NO_SUCH": 1},
    ],
    ids=lambda broken: next(iter(broken)),
)
def test_as_a_call_with_settings_that_cannot_be(
    settings: Any, broken: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    settings.AUDIT = broken
    with pytest.raises(CommandError, match=r"\(|many|nowhere|0|NO_SUCH") as caught:
        call_command("audit_record", "--", "echo", "ran")
    assert caught.value.returncode == 2
    assert "ran\n" not in capfd.readouterr().out
    with pytest.raises(SystemExit) as ended:
        call_command("audit_record", "--best-effort", "--", "sh", "-c", "echo ran; exit 3")
    out, err = capfd.readouterr()
    assert (out, ended.value.code) == ("ran\n", 3)
    assert "is run without being recorded: sh" in err
    with pytest.raises(SystemExit) as ended:
        call_command("audit_record", "--best-effort", "--", "/nowhere/at-all")
    assert ended.value.code == 127
    assert "/nowhere/at-all: No such file" in capfd.readouterr().err
    assert not Task.objects.exists()


@pytest.mark.parametrize("broken", ["settings", "pipes"])
def test_what_fails_before_the_first_look_leaves_nothing_running(
    settings: Any, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    begun: list[int] = []
    popen = subprocess.Popen

    def counted(*arguments: Any, **options: Any) -> Any:
        process = popen(*arguments, **options)
        begun.append(process.pid)
        return process

    monkeypatch.setattr(subprocess, "Popen", counted)
    if broken == "settings":
        settings.AUDIT = {"OUTPUT_TAIL_BYTES": "many"}
    else:
        monkeypatch.setattr("selectors.DefaultSelector", lambda: 1 / 0)
    with pytest.raises((AuditError, ZeroDivisionError)):
        run(["sleep", "60"])
    assert len(begun) == (broken == "pipes")
    assert not [pid for pid in begun if Path(f"/proc/{pid}").exists()]


def test_as_a_call_whose_end_cannot_be_stored(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    def fail(self: Task, *_: Any, **__: Any) -> None:
        tried.append(time.monotonic())
        raise OperationalError("away")

    monkeypatch.setattr(Task, "fail", fail)
    monkeypatch.setattr("audit.recording.running._STORE_AGAIN_AFTER_SECONDS", (0.05, 0.1))
    assert run_recorded(record("x"), ["sh", "-c", "exit 4"]) == 4
    assert len(tried) == 4
    assert "could not be stored: away" in caplog.text
    assert only().status == "executing"


def test_signals_that_come_to_this_process() -> None:
    before = signal.getsignal(signal.SIGTERM)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    ended = run(["sleep", "30"])
    timer.join()
    assert (ended.status, ended.outcome["signals_forwarded"]) == (143, ["SIGTERM"])
    assert signal.getsignal(signal.SIGTERM) is before


def test_in_a_thread_signals_stay_whose_they_are() -> None:
    ended: list[Ended] = []
    thread = threading.Thread(target=lambda: ended.append(run(["true"])))
    thread.start()
    thread.join()
    assert ended[0].status == 0


def test_an_error_of_ours_leaves_no_command_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(self: Any, timeout: float) -> None:
        eventually((tmp_path / "pid").read_text)
        raise ZeroDivisionError

    monkeypatch.setattr("audit.recording.pipes.Pipes.pump", broken)
    (tmp_path / "pid").touch()
    with pytest.raises(ZeroDivisionError):
        run_recorded(record("x"), ["sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 60"])
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()
    assert only().outcome["error_type"] == "ZeroDivisionError"


def test_without_pidfds_the_end_is_noticed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    started = time.monotonic()
    assert run(["sh", "-c", "exec >&- 2>&-; sleep 0.3; exit 3"]).status == 3
    assert time.monotonic() - started < 10
