"""Handlers for tests of the worker. Where one says so in its log, a test knows that it has come there."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.db import connection, transaction
from django.utils import timezone

from audit import handler
from audit.models import Task
from audit.worker import clerk, own_name
from tests.support.handling import gates

own_name.QUIET_SECONDS = float(os.environ.get("AUDIT_WORKER_QUIET", own_name.QUIET_SECONDS))
clerk.ANSWER_SECONDS = float(os.environ.get("AUDIT_WORKER_ANSWER", clerk.ANSWER_SECONDS))
gates.before_an_end()


@handler("echo")
def echo(run):
    return {
        "plan": run.plan,
        "work_plan": run.work_plan,
        "attempt": run.attempt,
        "key": run.idempotency_key,
        "pid": os.getpid(),
    }


@handler("tell")
def tell(run):
    run.log("told")
    run.touch("dns")


@handler("raise")
def raises(run):
    raise ValueError("it is broken, password=hunter2")


@handler("retry", max_attempts=3, backoff=0.05, max_backoff=0.1)
def retry(run):
    if run.task.failures < run.plan:
        raise ValueError(f"not yet, failure {run.task.failures}")
    return "at last"


@handler("slow-retry", max_attempts=2, backoff=3600, isolation="thread")
def slow_retry(run):
    raise ValueError("not now")


class _Odd(BaseException):
    pass


@handler("base-exception")
def base_exception(run):
    raise {"odd": _Odd, "interrupt": KeyboardInterrupt, "exit": SystemExit}[run.plan]("odd")


@handler("die", max_attempts=1)
def die(run):
    match run.plan:
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(7)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)


@handler("hang")
@handler("hang-timed", timeout=8)
def hang(run):
    sleeper = subprocess.Popen(["sleep", "1000"])
    run.log("hangs", detail={"pid": os.getpid(), "sleeper": sleeper.pid})
    while True:
        try:
            time.sleep(1000)
        except BaseException:
            if run.plan != "stubborn":
                raise


@handler("wait")
def wait(run):
    run.log("waits", detail={"pid": os.getpid()})
    while not Path(run.plan).exists():
        time.sleep(0.01)
    return "waited"


@handler("ask-for-more")
def ask_for_more(run):
    wait(run)
    Task.objects.request("echo", actor="alice").approve(actor="bob")


@handler("hold", isolation="thread")
def hold(run):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        run.log("holds")
        while not Path(run.plan).exists():
            time.sleep(0.01)


@handler("replan")
def replan(run):
    if run.attempt == 1:
        run.checkpoint(["c"])
    return run.work_plan


@handler("heed")
def heed(run):
    run.log("waits")
    while not run.should_stop:
        time.sleep(0.01)
    if run.cancelled and run.plan != "gives back":
        run.cancel("stopped in time, password=hunter2")
    run.checkpoint({"left": 1})
    return run.release()


@handler("stubborn", max_attempts=3, backoff=0.01)
def stubborn(run):
    run.log("waits")
    while not run.cancelled:
        time.sleep(0.01)
    match run.plan:
        case "raises":
            raise ValueError("cannot go on")
        case "returns":
            return "all done"
        case _:
            time.sleep(1000)
    return None


@handler("cancels")
def cancels(run):
    run.cancel("for no reason")


@handler("close-database")
def close_database(run):
    connection.ensure_connection()
    connection.connection.close()
    run.log("closed it")
    return "done"


@handler("leave-transaction")
def leave_transaction(run):
    transaction.atomic().__enter__()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [run.plan])
    run.log("inside")
    return "left"


@handler("rolled-back")
def rolled_back(run):
    try:
        with transaction.atomic():
            run.log("inside", output_summary="token=abcdefghijklmnop")
            run.touch("dns")
            raise RuntimeError("no")
    except RuntimeError:
        return "kept"


@handler("print")
def prints(run):
    for _ in range(run.plan["lines"]):
        sys.stdout.write("x" * 8191 + "\n")
    sys.stdout.write("the password=hunter2 is last\n")
    sys.stdout.flush()
    os.write(2, "and é\n".encode())
    return {"at": sys.maxsize}


@handler("print-pieces")
def print_pieces(run):
    for piece in run.plan["pieces"]:
        os.write(1, piece.encode())
        time.sleep(0.05)


@handler("leak")
def leak(run):
    leak.kept = bytearray(run.plan)
    for each in range(0, run.plan, 4096):
        leak.kept[each] = 1
    return {"pid": os.getpid()}


@handler("burn")
def burn(run):
    end = time.process_time() + run.plan
    while time.process_time() < end:
        pass


@handler("odd-result")
def odd_result(run):
    return {"set": {1}, "self": run, "secret": "password=hunter2"}


@handler("steps")
def steps(run):
    with run.step("first", detail={"n": 1}) as step:
        step.output_summary = "went well"
    try:
        with run.step("second"):
            raise ValueError("went wrong, password=hunter2")
    except ValueError:
        pass
    run.task.note("a note, password=hunter2")


@handler("pause")
def pause(run):
    if run.attempt == 1:
        try:
            run.pause(
                reason="insufficient_capacity", work_plan={"left": 2}, resume_after=timedelta(hours=1), note="full"
            )
        except Exception:  # noqa: BLE001 - as many handlers have it
            return "caught"
    return run.work_plan


@handler("await-event")
def await_event(run):
    event = run.awaited_event()
    if event is None:
        run.log("is about to wait")
        run.pause(event=run.plan)
    return {"name": event.name, "payload": event.payload, "timed_out": event.timed_out}


@handler("await-briefly")
def await_briefly(run):
    event = run.awaited_event()
    if event is None:
        run.pause(event=run.plan, resume_after=timedelta(microseconds=1))
    return {"name": event.name, "payload": event.payload, "timed_out": event.timed_out}


@handler("clock")
def clock(run):
    return {"time": time.time(), "now": datetime.now(UTC).timestamp(), "django": timezone.now().timestamp()}


@handler("effect", max_attempts=2, backoff=0.001, max_backoff=0.001)
def effect(run):
    """Leaves a line outside of the database, and goes on in every way there is."""
    with Path(run.plan["file"]).open("a") as file:
        file.write(run.idempotency_key + "\n")
    run.log("effect")
    if run.plan["way"] == "pause" and run.work_plan != "rest":
        run.pause(work_plan="rest", resume_after=timedelta(microseconds=1))
    if run.plan["way"] == "retry" and run.task.failures == 0:
        raise ValueError("the first failure")


@handler("misuse")
def misuse(run):
    getattr(run.task, run.plan)()


@handler("fork")
def fork(run):
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return {"forked": pid == 0}


@handler("leave-behind")
def leave_behind(run):
    """Leaves a grandchild that has everything open that this process has."""
    pid = os.fork()
    if not pid:
        if os.fork():
            os._exit(0)
        os.setsid()
        Path(run.plan["pid"]).write_text(str(os.getpid()))
        while not Path(run.plan["end"]).exists():
            time.sleep(0.05)
        os._exit(0)
    os.waitpid(pid, 0)
    while not Path(run.plan["pid"]).exists():
        time.sleep(0.01)
    if run.plan["way"] == "die":
        os._exit(3)
    return "left"


@handler("quick", isolation="thread")
def quick(run):
    return run.plan


@handler("thread", isolation="thread")
def in_thread(run):
    run.log("in a thread", detail={"pid": os.getpid()})
    if run.plan == "wait":
        while not run.should_stop:
            time.sleep(0.01)
        run.release()
    return "done"


@handler("async")
async def in_loop(run):
    async with run.step("in the loop"):
        await asyncio.sleep(0)
    await run.atouch("dns")
    match run.plan:
        case "block":
            run.log("would block")
        case "checkpoint":
            await run.acheckpoint([1])
            run.release()
    return {"pid": os.getpid()}


@handler("async-hang", timeout=1.0)
async def hang_in_loop(run):
    await asyncio.sleep(1000)


@handler("labelled", labels=["gpu"])
def labelled(run):
    return "on a gpu"
