"""A process that seals beside the writers, or seals, verifies and proves on its own and tells what it took."""

import json
import os
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import django
import psutil


def main() -> None:
    """Do what LEDGER_CLIENT says; answer as JSON on standard output."""
    django.setup()
    step, *arguments = json.loads(os.environ["LEDGER_CLIENT"])
    if step == "seal":
        _beside(float(arguments[0]))
    else:
        print(json.dumps(_rates()))  # noqa: T201 - the answer to the parent


def _beside(seconds: float) -> None:
    """Seal every so often until standard input ends."""
    from django.db import connection

    from audit.ledger.seal import seal
    from audit.ledger.tlog.note import generate

    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    key = generate("example.org/audit")
    connection.ensure_connection()
    print("connected", flush=True)  # noqa: T201 - as above
    while not ended.wait(seconds):
        for _ in seal("default", [key]):
            pass


def _rates() -> dict[str, float]:
    from django.db import connection

    from audit.ledger.prove import prove
    from audit.ledger.seal import seal
    from audit.ledger.tlog import proof
    from audit.ledger.tlog.note import generate
    from audit.ledger.verify import verify
    from audit.models import Task

    key = generate("example.org/audit")
    connection.ensure_connection()
    backend = psutil.Process(connection.connection.info.backend_pid)

    def spent() -> float:
        times = backend.cpu_times()
        return time.process_time() + times.user + times.system

    def rate(act: Callable[[], int]) -> tuple[int, float]:
        began = spent()
        rows = act()
        return rows, rows / (spent() - began)

    rows, sealing = rate(lambda: sum(batch.sealed for batch in seal("default", [key])))
    report = verify("default", [key.verifier])
    assert report.intact and report.size == rows, report.counts  # noqa: PT018 - a number of something else is none
    _, verifying = rate(lambda: verify("default", [key.verifier]).size)
    # One by one: a slice with a step would read every task into memory.
    tasks = Task.objects.order_by("id").values_list("pk", flat=True)
    ids = [tasks[place] for place in range(0, tasks.count(), max(1, rows // 3 // 20))][:20]
    texts, proving, checking = [], [], []
    for each in ids:
        began = time.perf_counter()
        texts.append(prove("default", each, [key.verifier]))
        proving.append(time.perf_counter() - began)
    for text in texts:
        began = time.perf_counter()
        proof.check(text, [key.verifier])
        checking.append(time.perf_counter() - began)
    return {
        "rows": rows,
        "seal": sealing,
        "verify": verifying,
        "memory_mb": _most_memory() / 1024,
        "prove_ms": 1000 * statistics.median(proving),
        "check_ms": 1000 * statistics.median(checking),
    }


def _most_memory() -> int:
    """The most that this process held, in KB."""
    try:
        # ru_maxrss begins with what the parent held, where the parent is.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
