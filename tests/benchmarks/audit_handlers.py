"""The handlers of `ours` in the benchmark `queue`."""

import time

from audit import handler
from audit.worker import Run
from tests.benchmarks.moments import note

__all__ = ["ASYNC", "HANG", "PROCESS", "in_child", "in_loop", "once"]

PROCESS, ASYNC, HANG = "bench", "bench-async", "bench-hang"


@handler(PROCESS)
def in_child(run: Run) -> None:
    """Do nothing, in a child process."""
    note("ran", run.plan["n"])


@handler(ASYNC)
async def in_loop(run: Run) -> None:
    """Do nothing, in the worker's event loop."""
    note("ran", run.plan["n"])


@handler(HANG)
def once(run: Run) -> None:
    """Do not come back from the first attempt."""
    if run.attempt > 1:
        note("again", run.plan["n"])
        return
    note("ran", run.plan["n"])
    time.sleep(3600)
