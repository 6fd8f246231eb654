"""A process of one contender: `python -m tests.benchmarks.worker MODULE CLASS`, orders as lines of JSON on stdin.

An order names a `step` (`install`, `forget` or one of the contender's) and how often; the answer is a line with
the rows, the seconds and the seconds of CPU.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from typing import Any

from tests.benchmarks.contenders import Contender
from tests.benchmarks.measure import Rate
from tests.benchmarks.places import Place

__all__ = ["Crew", "crew"]


class Crew:
    """Several processes of one contender, each with a connection, waiting for orders."""

    def __init__(self, place: Place, processes: Sequence[subprocess.Popen[str]]) -> None:
        self._place = place
        self._processes = processes

    def order(self, workers: int, step: str, **order: Any) -> list[tuple[int, float, float]]:
        """Let the first workers do something at the same time; return rows, seconds and seconds of CPU of each."""
        acting = self._processes[:workers]
        for process in acting:
            process.stdin.write(json.dumps({"step": step, **order}) + "\n")
            process.stdin.flush()
        answers = [process.stdout.readline() for process in acting]
        if not all(answers):
            raise RuntimeError(f"a worker ended at {step}: {[process.poll() for process in acting]}")
        return [tuple(json.loads(answer)) for answer in answers]

    def rate(self, workers: int, step: str, **order: Any) -> Rate:
        """How fast all workers together deal with rows."""
        began = self._place.cpu()
        answers = self.order(workers, step, **order)
        used = self._place.cpu() - began + sum(cpu for _, _, cpu in answers)
        done = sum(rows for rows, _, _ in answers)
        return Rate(sum(rows / seconds for rows, seconds, _ in answers), done / max(used, 0.01))


@contextmanager
def crew(place: Place, contender: type[Contender], workers: int) -> Iterator[Crew]:
    """Start the processes of a contender on its database, and end them."""
    command = [sys.executable, "-m", "tests.benchmarks.worker", contender.__module__, contender.__name__]
    environment = place.environment(contender.database, contender.apps, contender.options, contender.settings)
    with ExitStack() as stack:
        processes = []
        for _ in range(workers):
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.callback(process.wait)
            stack.callback(process.stdin.close)
            processes.append(process)
        made = Crew(place, processes)
        made.order(workers, "forget")  # once all answer, none connects in the middle of what others are timed at
        yield made


def main(module: str, name: str) -> None:
    """Obey until stdin ends."""
    import django

    django.setup()
    contender: Contender = getattr(import_module(module), name)()
    contender.open()
    for line in sys.stdin:
        order = json.loads(line)
        step, times, seconds = order["step"], order.get("times", 1), order.get("seconds", 600.0)
        answer: tuple[int, float] = (0, 0.0)
        began = time.process_time()
        if step == "install":
            contender.install()
        elif step == "forget":
            contender.claimed.clear()
        else:
            doing = getattr(contender, step)
            if "count" in order:
                doing = partial(doing, order["count"])
            answer = contender.loop(doing, times, seconds)
        print(json.dumps([*answer, time.process_time() - began]), flush=True)  # noqa: T201 - the answer to the parent
    contender.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
