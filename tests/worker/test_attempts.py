"""What handlers get, what becomes of what they return or raise, and what the log says of it."""

import os
import signal
from typing import Any

import pytest
from django.test import override_settings

from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.status import FINISHED, Status
from tests.support.factories import sql
from tests.support.worker import approved, eventually, logged, run_all, worker

pytestmark = pytest.mark.django_db(transaction=True)


def _steps(task: Task) -> list[ExecutionLog]:
    return list(ExecutionLog.objects.filter(task=task, kind="step").order_by("id"))


def _ended(task: Task) -> dict[str, Any]:
    task.refresh_from_db()
    return {"status": task.status, **(task.outcome or {})}


def test_what_handlers_return_and_raise() -> None:
    plain = approved("echo", {"a": 1})
    odd = approved("odd-result")
    broken = approved("raise")
    base = {name: approved("base-exception", name) for name in ("odd", "interrupt", "exit")}
    steps, kept, misused = approved("steps"), approved("rolled-back"), approved("misuse", "complete")
    forked = approved("fork")
    closed = approved("close-database")
    after = approved("echo")
    left = approved("leave-transaction", 4711)
    after_left = approved("leave-transaction", 4711)
    done = run_all("--concurrency", "1", "--name", "w1", code=1)

    assert _ended(plain) == {
        "status": "completed",
        "success": True,
        "plan": {"a": 1},
        "work_plan": {"a": 1},
        "attempt": 1,
        "key": f"{plain.pk}:1",
        "pid": plain.outcome["pid"],
    }
    assert plain.outcome["pid"] not in (os.getpid(), done.process.pid)
    assert plain.resources_used["peak_rss_source"] == "kernel"
    assert {"wall_s", "cpu_s", "peak_rss_bytes"} <= plain.resources_used.keys()
    assert plain.execution_log.filter(to_status="completed").get().actor == "w1"

    assert _ended(odd)["set"] == [1]
    assert odd.outcome["secret"] == "[masked]"
    assert "audit.worker.run.Run" in odd.outcome["self"]
    assert odd.execution_log.filter(kind="note").get().detail["changed"]

    assert _ended(broken)["status"] == "failed"
    assert broken.outcome["error_type"] == "ValueError"
    assert broken.outcome["output_summary"] == "it is broken, password=[masked]"
    assert "hunter2" not in broken.outcome["traceback"]
    assert "raises" in broken.outcome["traceback"]
    kinds = {name: (_ended(task)["status"], task.outcome["error_type"]) for name, task in base.items()}
    assert kinds == {
        "odd": ("failed", "_Odd"),
        "interrupt": ("failed", "KeyboardInterrupt"),
        "exit": ("failed", "SystemExit"),
    }

    first, second = _steps(steps)
    assert (first.action, first.output_summary, first.detail) == ("first", "went well", {"n": 1})
    assert first.duration_ms is not None
    assert second.output_summary == "went wrong, password=[masked]"
    assert second.detail == {"success": False, "error_type": "ValueError"}
    assert steps.execution_log.filter(kind="note").get().output_summary == "a note, password=[masked]"
    [step] = _steps(kept)
    assert step.output_summary == "token=[masked]"  # although the handler rolled back around it
    assert _ended(kept)["status"] == "completed"
    assert kept.services_touched == ["dns"]
    assert _ended(misused)["error_type"] == "IllegalTransition"
    assert _ended(forked) == {"status": "completed", "success": True, "forked": False}

    # What a handler does to its connection is its own trouble, and nobody else's.
    assert [_ended(each)["status"] for each in (closed, after, left, after_left)] == ["completed"] * 4
    assert done.said("9 completed, 5 failed")


def test_pauses_and_events() -> None:
    task = approved("pause", {"left": 5})
    done = run_all("--concurrency", "1")
    assert any(line.endswith(" s: insufficient capacity: full") for line in done.lines)
    entry = PauseQueueEntry.objects.get(task=task)
    assert (entry.reason, entry.work_plan, entry.note) == ("insufficient_capacity", {"left": 2}, "full")
    entry.resume(actor="carol")
    run_all("--concurrency", "1")
    assert _ended(task) == {"status": "completed", "success": True, "left": 2}


_LISTENERS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN audit_task'"
_CANCELLED = {
    "heeds": ("heed", None, "failed", "Cancelled", "stopped in time, password=[masked]"),
    "gives back": (
        "heed",
        "gives back",
        "failed",
        "Cancelled",
        "It was given back after a person had asked it to stop.",
    ),
    "raises": ("stubborn", "raises", "failed", "ValueError", "cannot go on"),
    "returns": ("stubborn", "returns", "completed", None, "all done"),
}


@pytest.mark.parametrize("way", _CANCELLED)
@pytest.mark.parametrize("notify", [True, False])
def test_cancelled_work_is_asked_to_stop_and_is_not_tried_again(way: str, notify: bool) -> None:
    action, plan, status, error, summary = _CANCELLED[way]
    task = approved(action, plan)
    # With NOTIFY it hears of it long before a third of the lease.
    before = set(sql(_LISTENERS))  # of workers of other tests, whose sessions may not be gone yet
    with worker("--lease", "36000" if notify else "6", "--concurrency", "1", audit={"NOTIFY": notify}) as running:
        eventually(lambda: not notify or set(sql(_LISTENERS)) - before)
        logged(task, "waits")
        with override_settings(AUDIT={"NOTIFY": notify}):
            Task.objects.get(pk=task.pk).request_cancel(actor="carol", reason="no")
        eventually(lambda: _ended(task)["status"] in FINISHED)
        assert not running.said("lost")
    assert (task.status, task.outcome.get("error_type"), task.attempt) == (status, error, 1)
    assert task.outcome["output_summary"] == summary


def test_work_that_ignores_it_ends_with_the_worker_and_runs_no_more() -> None:
    task = approved("stubborn", "sleeps")
    with worker("--concurrency", "1", "--shutdown-timeout", "0", "--lease", "6") as running:
        logged(task, "waits")
        task.request_cancel(actor="carol")
        eventually(lambda: running.process.poll() is None and Task.objects.get(pk=task.pk).revision > task.revision + 1)
        running.send(signal.SIGTERM)
        assert running.wait() == 0
    assert _ended(task)["error_type"] == "Cancelled"
    assert task.outcome["output_summary"] == "The worker ended it after a person had asked it to stop."


def test_a_handler_cancels_nothing_by_itself() -> None:
    task = approved("cancels")
    run_all("--concurrency", "1", code=1)
    assert _ended(task)["error_type"] == "AuditError"
    assert "Nobody has asked this work to stop" in task.outcome["output_summary"]


def test_threads_and_coroutines_run_in_the_worker_itself() -> None:
    thread, plain, hang, block = (
        approved("thread"),
        approved("async"),
        approved("async-hang"),
        approved("async", "block"),
    )
    done = run_all("--concurrency", "4", "--actions", "thread,async,async-hang", code=1)
    assert _ended(thread)["status"] == "completed"
    assert thread.resources_used.keys() == {"wall_s", "cpu_s"}
    [step] = _steps(thread)
    assert step.detail["pid"] == done.process.pid
    assert _ended(plain) == {"status": "completed", "success": True, "pid": done.process.pid}
    assert plain.services_touched == ["dns"]
    assert plain.resources_used.keys() == {"wall_s"}
    assert _ended(hang)["error_type"] == "Timeout"
    assert hang.outcome["output_summary"] == "The handler's time of 1 s was over; it was ended."
    assert _ended(block)["error_type"] == "SynchronousOnlyOperation"
    assert "await run.alog()" in block.outcome["output_summary"]


def test_a_handler_that_needs_a_label_runs_where_it_is_offered() -> None:
    task = approved("labelled")
    done = run_all("--concurrency", "1")
    assert done.said("No labelled: this worker lacks gpu.")
    assert _ended(task)["status"] == Status.APPROVED
    run_all("--concurrency", "1", "--labels", "gpu,fast")
    assert _ended(task)["output_summary"] == "on a gpu"
