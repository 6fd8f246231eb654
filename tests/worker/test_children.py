"""Handlers that take their process with them, never return, leak or print: one task ends, and the worker goes on."""

import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from audit.models import Task
from audit.status import Status
from tests.support.worker import approved, eventually, logged, run_all, worker

pytestmark = pytest.mark.django_db(transaction=True)


def _ended(task: Task) -> dict[str, Any]:
    task.refresh_from_db()
    return {"status": task.status, **(task.outcome or {})}


def test_a_child_that_dies_ends_one_task() -> None:
    died = {how: approved("die", how) for how in ("segfault", "exit", "kill")}
    after = approved("echo")
    run_all("--concurrency", "1", code=1)
    assert _ended(died["segfault"]) | {"output": "", "output_bytes": 0} == {
        "status": "failed",
        "success": False,
        "error_type": "Signal",
        "signal": "SIGSEGV",
        "output_summary": "The process of the handler was killed by SIGSEGV.",
        "output": "",
        "output_bytes": 0,
    }
    assert _ended(died["exit"])["exit_status"] == 7
    assert died["exit"].outcome["error_type"] == "ExitStatus"
    assert _ended(died["kill"])["output_summary"].endswith("Perhaps the system was short of memory.")
    assert died["kill"].resources_used["wall_s"] > 0
    assert _ended(after)["status"] == "completed"


def test_what_a_child_used_for_one_task_is_not_counted_for_the_next_one_that_dies() -> None:
    burnt, died = approved("burn", 3.0), approved("die", "exit")
    run_all("--concurrency", "1", code=1)
    assert _ended(burnt)["status"] == "completed"
    assert _ended(died)["error_type"] == "ExitStatus"
    assert burnt.resources_used["cpu_s"] >= 3.0 > died.resources_used["cpu_s"]


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_handler_that_does_not_return_is_ended_with_what_it_started(stubborn: bool) -> None:
    task = approved("hang-timed", "stubborn" if stubborn else None)
    after = approved("echo")
    with worker("--concurrency", "1", "--drain") as running:
        sleeper = logged(task, "hangs").detail["sleeper"]
        assert running.wait() == 1
    assert _ended(task)["error_type"] == "Timeout"
    how = "did not end then, and was killed" if stubborn else "was ended"
    assert task.outcome["output_summary"] == f"The handler's time of 8 s was over; it {how}."
    eventually(lambda: _is_gone(sleeper), "a sleeper that ends")
    assert _ended(after)["status"] == "completed"


def test_output_is_drained_and_its_end_is_kept() -> None:
    task = approved("print", {"lines": 1000})
    quiet = approved("echo")
    done = run_all("--concurrency", "1", audit={"OUTPUT_TAIL_BYTES": 1000})
    outcome = _ended(task)
    # The worker's own output has the same, and what is left of a line without an end.
    assert done.said("the password=[masked] is last")
    assert not done.said("hunter2")
    assert outcome["output_bytes"] > 8_000_000
    assert outcome["output"].endswith("the password=[masked] is last\nand é\n")
    assert len(outcome["output"].encode()) == 1000
    assert "output" not in _ended(quiet)


def test_secrets_in_pieces_are_masked_in_what_the_worker_prints() -> None:
    tasks = [approved("print-pieces", {"pieces": ["pass", "word=hun", "ter2", end]}) for end in ("\n", "")]
    done = run_all("--concurrency", "1")
    assert [_ended(task)["output"].rstrip() for task in tasks] == ["password=[masked]"] * 2
    eventually(lambda: sum("password=[masked]" in line for line in done.lines) == 2)
    assert not any(piece in line for line in done.lines for piece in ("hun", "ter2"))


def test_a_child_that_has_grown_or_worked_enough_is_replaced() -> None:
    big = 500 * 1024 * 1024
    if psutil.virtual_memory().available < 3 * big:
        pytest.skip("needs 1.5 GB of free memory")
    leak, small, after, last = (approved("leak", size) for size in (big, 4096, 4096, 4096))
    run_all("--concurrency", "1", audit={"WORKER_CHILD_BYTES": 150 * 1024 * 1024, "WORKER_CHILD_TASKS": 2})
    pids = [_ended(each)["pid"] for each in (leak, small, after, last)]
    # The first child has grown, the second has worked enough.
    assert pids[0] != pids[1] == pids[2] != pids[3]
    assert leak.resources_used["peak_rss_bytes"] > big > small.resources_used["peak_rss_bytes"]


def test_what_work_used_is_its_own() -> None:
    burnt, idle, leak, small = approved("burn", 1.0), approved("echo"), approved("leak", 100 << 20), approved("echo")
    run_all("--concurrency", "1")
    for each in (burnt, idle, leak, small):
        each.refresh_from_db()
    # A busy machine makes the same work cost more, but not that much.
    assert idle.resources_used["cpu_s"] < 0.5 < 1.0 <= burnt.resources_used["cpu_s"] < 10
    # One process ran them all: the peak of one is not that of the next.
    assert leak.outcome["pid"] == small.outcome["pid"] == idle.outcome["pid"]
    assert leak.resources_used["peak_rss_bytes"] > idle.resources_used["peak_rss_bytes"] + (90 << 20)


def test_children_end_with_a_worker_that_is_killed() -> None:
    task = approved("hang", "stubborn")
    with worker("--concurrency", "1") as running:
        detail = logged(task, "hangs").detail
        running.process.kill()
        running.process.wait()
        for pid in (detail["pid"], detail["sleeper"]):
            eventually(lambda pid=pid: _is_gone(pid), "children that end")
    assert _ended(task)["status"] == Status.EXECUTING


def _is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_sigterm_to_every_process_of_a_service_leaves_work_its_grace(tmp_path: Any) -> None:
    end = tmp_path / "end"
    task = approved("wait", str(end))
    with worker("--concurrency", "1") as running:
        child = logged(task, "waits").detail["pid"]
        os.kill(child, 15)
        running.send(15)
        eventually(lambda: running.said("Stopping"))
        end.touch()
        assert running.wait() == 0
    assert _ended(task)["output_summary"] == "waited"


@pytest.mark.parametrize("way", ["return", "die"])
def test_a_process_that_is_left_behind_holds_nothing_up(way: str, tmp_path: Path) -> None:
    plan = {"way": way, "pid": str(tmp_path / "pid"), "end": str(tmp_path / "end")}
    task, later = approved("leave-behind", plan), approved("echo")
    try:
        done = run_all("--concurrency", "1", code=None)
        assert done.process.returncode == (1 if way == "die" else 0)
        assert Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()
    finally:
        (tmp_path / "end").touch()
    task.refresh_from_db()
    later.refresh_from_db()
    assert (task.status, later.status) == ("failed" if way == "die" else "completed", "completed")
