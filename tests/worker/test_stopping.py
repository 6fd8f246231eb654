"""Signals, limits and the ends of a worker."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from audit.models import Agent, ExecutionLog, Task
from audit.worker.summary import left
from tests.support.worker import approved, eventually, logged, run_all, worker

pytestmark = pytest.mark.django_db(transaction=True)


def _now(task: Task) -> Task:
    task.refresh_from_db()
    return task


def _said(task: Task) -> str:
    return ExecutionLog.objects.get(task=task, action="release").output_summary


def test_work_that_finishes_in_time_is_completed(tmp_path: Path) -> None:
    task, next_one = approved("wait", str(tmp_path / "end")), approved("echo")
    with worker("--concurrency", "1", "--name", "w") as running:
        logged(task, "waits")
        running.send(signal.SIGTERM)
        eventually(lambda: running.said("Stopping; 1 task has 30 s to finish."))
        (tmp_path / "end").touch()
        assert running.wait() == 0
        assert running.said("Stopped: 1 completed")
    assert _now(task).status == "completed"
    assert _now(next_one).status == "approved"
    assert Agent.objects.get(name="w").stopped_at is not None
    run_all("--concurrency", "1")
    assert list(Agent.objects.values_list("name", flat=True)) == ["w"]


def test_work_that_does_not_is_given_back_and_uses_up_no_attempt(tmp_path: Path) -> None:
    hung, heeds = approved("wait", str(tmp_path / "end")), approved("heed")
    one = ("--concurrency", "1", "--actions")
    # The time of the one is over however slow the machine is, and that of the other lasts.
    with (
        worker(*one, "wait", "--shutdown-timeout", "0.5") as impatient,
        worker(*one, "heed", "--shutdown-timeout", "3600") as patient,
    ):
        for task, running in ((hung, impatient), (heeds, patient)):
            logged(task, "waits")
            running.send(signal.SIGINT)
        for running in (impatient, patient):
            assert running.wait() == 0
            assert running.said("1 released")
    for task in (hung, heeds):
        assert (_now(task).status, task.failures, task.expiries, task.claimed_by) == ("approved", 0, 0, "")
    assert heeds.work_plan == {"left": 1}
    assert hung.outcome is None
    assert _said(hung) == "The worker stopped before the work was done."
    assert _said(heeds) == "The handler gave it back."


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    tasks = [approved("wait", str(tmp_path / "end")) for _ in range(3)]
    with worker("--concurrency", "1", "--batch", "3", "--shutdown-timeout", "3600") as running:
        child = logged(tasks[0], "waits").detail["pid"]
        running.send(signal.SIGTERM)
        eventually(lambda: running.said("Stopping"))
        running.send(signal.SIGTERM)
        assert running.wait() == 128 + signal.SIGTERM
    assert not Path(f"/proc/{child}").exists()
    # None waits for its lease to run out.
    assert [_now(task).status for task in tasks] == ["approved"] * 3
    assert _said(tasks[0]) == "A second signal stopped the worker at once."
    assert {_said(task) for task in tasks[1:]} == {"The worker stopped before the work began."}


def test_a_signal_that_was_ignored_stays_ignored(tmp_path: Path) -> None:
    task = approved("wait", str(tmp_path / "end"))
    with worker("--concurrency", "1", ignored=[signal.SIGHUP]) as running:
        logged(task, "waits")
        running.send(signal.SIGHUP)
        (tmp_path / "end").touch()
        eventually(lambda: _now(task).status == "completed")
        assert running.process.poll() is None
        running.send(signal.SIGTERM)
        assert running.wait() == 0


def test_a_handler_is_ended_in_time_though_sigterm_was_ignored() -> None:
    task = approved("hang-timed")
    with worker("--concurrency", "1", "--drain", ignored=[signal.SIGTERM]) as running:
        assert running.wait() == 1
    assert _now(task).outcome["output_summary"] == "The handler's time of 8 s was over; it was ended."


def test_drain_does_what_the_last_work_has_asked_for(tmp_path: Path) -> None:
    """Without NOTIFY, so that only a look of its own finds that work after it has found nothing."""
    first = approved("ask-for-more", str(tmp_path / "end"))
    with worker("--concurrency", "2", "--drain", audit={"NOTIFY": False}) as running:
        logged(first, "waits")
        for _ in range(2):  # afterwards it has looked, and found nothing
            beside = approved("echo")
            eventually(lambda beside=beside: _now(beside).status == "completed")
        (tmp_path / "end").touch()
        assert running.wait() == 0
    assert not Task.objects.exclude(status="completed").exists()
    assert Task.objects.count() == 4


def test_limits() -> None:
    tasks = [approved("quick") for _ in range(5)]
    only = ("--actions", "quick")  # without child processes, which take their time to start
    with worker("--once", "--concurrency", "1", "--batch", "2", *only) as running:
        assert running.wait() == 0
    assert [_now(task).status for task in tasks] == ["completed"] * 2 + ["approved"] * 3
    with worker("--max-tasks", "1", "--concurrency", "2", "--batch", "3", *only) as running:
        assert running.wait() == 0
        assert running.said("Stopped: 1 completed")
    other = approved("unknown-action")
    run_all("--concurrency", "1", *only)
    assert {_now(task).status for task in tasks} == {"completed"}
    assert _now(other).status == "approved"
    assert run_all("--concurrency", "1").said("Stopped: nothing ran")


def test_the_only_claim_fills_every_place() -> None:
    """Though children get ready one after the other."""
    tasks = [approved("echo") for _ in range(3)]
    with worker("--once", "--concurrency", "2") as running:
        assert running.wait() == 0
    assert [_now(task).status for task in tasks] == ["completed"] * 2 + ["approved"]


def test_failures_are_retried_by_policy_and_the_last_one_is_final() -> None:
    good, bad = approved("retry", 2), approved("retry", 9)
    with worker("--concurrency", "1", "--max-tasks", "6") as running:
        assert running.wait() == 0
        assert running.said("4 retried")
    assert (_now(good).status, good.failures, good.attempt) == ("completed", 2, 3)
    assert (_now(bad).status, bad.failures, bad.attempt) == ("failed", 3, 3)
    assert bad.outcome["output_summary"] == "not yet, failure 2"
    notes = ExecutionLog.objects.filter(task=bad, action="retry").order_by("id")
    assert [each.output_summary for each in notes] == ["not yet, failure 0", "not yet, failure 1"]
    assert "retry" in notes[0].detail["traceback"]


def test_a_drained_worker_says_what_is_left() -> None:
    task = approved("slow-retry")
    done = run_all("--concurrency", "1", "--actions", "slow-retry")
    due = _now(task).available_at.isoformat(sep=" ", timespec="seconds")
    assert done.said(f"Left: 1 approved and not due yet, the first at {due}.")
    approved("echo")
    assert left("default", ["echo", "slow-retry"]).endswith("; 1 due and not claimed.")
    assert left("default", ["echo"]) == "Left: 1 due and not claimed."
    assert left("default", ["wait"]) == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--concurrency", "0"], "'0' is not a whole number above zero"),
        (["--lease", "nan"], "'nan' is not a number of seconds above zero"),
        (["--actions", "echo,,"], "is not a list of names"),
        (["--actions", "ecoh"], "has no handler; there are handlers for: "),
        (["--actions", "labelled"], "labels that are missing: labelled: gpu"),
        (["--once", "--drain"], "not allowed with"),
        (["--name", ""], "name"),
        (["--database", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_named(arguments: list[str], message: str) -> None:
    with worker(*arguments) as running:
        assert running.wait() == 2
        assert running.said(message), running.lines


def test_a_server_that_is_not_there_is_named() -> None:
    with worker(database={"ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": "1"}) as running:
        assert running.wait() == 2
        assert running.said("cannot be reached")


def test_help_names_the_exit_codes() -> None:
    done: Any = subprocess.run(
        [sys.executable, "manage.py", "audit_worker", "--help"], capture_output=True, text=True, check=True
    )
    assert "Exit status: 0 stopped in good order" in " ".join(done.stdout.split())
