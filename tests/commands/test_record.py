"""`audit_record`: real processes, their exit status and end, and what is stored of them."""

import os
import signal
import socket
import sys

import pytest
from django.db import OperationalError, connection

from audit import record
from audit.context import actor as acting
from audit.exceptions import InvalidValue
from audit.models import Task
from audit.recording import Recording
from audit.recording.running import run, run_recorded
from tests.support.recorded_commands import only, python, recorded, start

pytestmark = pytest.mark.django_db(transaction=True)


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
    assert process.communicate(timeout=120) == (b"", b"")
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


def test_what_stays_in_the_background_is_not_waited_for() -> None:
    process = start("--", "sh", "-c", "sleep 600 & echo $!")
    pid = process.stdout.read()
    process.wait(timeout=120)
    process.communicate()
    os.kill(int(pid), signal.SIGKILL)  # it was still there
    task = only()
    assert task.outcome["stdout"] == pid.decode()
    assert task.resources_used["wall_s"] < 600


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
