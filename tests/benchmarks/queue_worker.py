"""A worker of a subject of `queue`: `python -m tests.benchmarks.queue_worker CLASS NAME notify|poll`, until killed."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from tests.benchmarks import queues
from tests.benchmarks.moments import VARIABLE
from tests.benchmarks.places import Place
from tests.benchmarks.queues import Queue

__all__ = ["Hands", "hands"]


class Hands:
    """Worker processes of one subject, that can be added and killed."""

    def __init__(self, place: Place, queue: type[Queue], way: str, moments: Path) -> None:
        self._environment = place.environment(queue.database, queue.apps, queue.options, queue.settings)
        self._environment[VARIABLE] = str(moments)
        self._command = [sys.executable, "-m", "tests.benchmarks.queue_worker", queue.__name__]
        self._way = way
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start a worker."""
        self.processes[name] = subprocess.Popen(
            [*self._command, name, self._way],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def kill(self, name: str) -> None:
        """Kill a worker, as the kernel does."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def check(self) -> None:
        """Refuse to go on without one of them.

        Raises:
            RuntimeError: one has ended.
        """
        if ended := {name: each.returncode for name, each in self.processes.items() if each.poll() is not None}:
            raise RuntimeError(f"workers have ended: {ended}")

    def cpu(self) -> float:
        """Seconds of CPU that they and what they have started have used."""
        used = 0.0
        for process in self.processes.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                root = psutil.Process(process.pid)
                for each in (root, *root.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        used += sum(each.cpu_times()[:2])
        return used


@contextlib.contextmanager
def hands(place: Place, queue: type[Queue], names: Sequence[str], way: str, moments: Path) -> Iterator[Hands]:
    """Start workers, and end them with the block."""
    made = Hands(place, queue, way, moments)
    try:
        for name in names:
            made.start(name)
        yield made
    finally:
        for process in made.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in made.processes.values():
            process.wait()


def main(kind: str, name: str, way: str) -> None:
    """Work."""
    import django

    django.setup()
    queue: Queue = getattr(queues, kind)()
    queue.open()
    queue.work(name, way)


if __name__ == "__main__":
    main(*sys.argv[1:])
