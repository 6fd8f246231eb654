"""When jobs were asked for and when their handlers began, as lines in a file that all processes of a run append to."""

import os
import time
from pathlib import Path

__all__ = ["VARIABLE", "note", "read"]

VARIABLE = "BENCHMARK_MOMENTS"
"""Names the file, in the environment."""

_files: dict[str, int] = {}


def note(kind: str, number: int) -> None:
    """Write down that something happened to a job just now."""
    path = os.environ[VARIABLE]
    if path not in _files:
        _files[path] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_files[path], f"{kind} {number} {time.time()}\n".encode())


def read(path: Path) -> dict[str, dict[int, float]]:
    """Return by kind the moments of the jobs, by number; of several the last."""
    found: dict[str, dict[int, float]] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        kind, number, at = line.split()
        found.setdefault(kind, {})[int(number)] = float(at)
    return found
