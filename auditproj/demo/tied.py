"""Processes that end with the demo, whatever ends that: each one ends when its standard input does.

Run as `python -m auditproj.demo.tied COMMAND ARGUMENT…`, this is `manage.py COMMAND` with that habit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import IO, Any

import django
from django.conf import settings

__all__ = ["ending", "place", "set_up", "started"]

_LAST_S = 10


def started(
    module: str, *argv: str, environment: dict[str, str] | None = None, output: int | IO[Any] = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Start a module as a process of the demo.

    Args:
        module: its name; it calls `set_up`.
        argv: its arguments.
        environment: what its environment has besides that of this process.
        output: where its output and its errors go.
    """
    # A session of its own: Ctrl-C reaches the demo alone, which lets the others finish what they run.
    return subprocess.Popen(  # noqa: S603 - our own modules
        [sys.executable, "-m", module, *argv],
        **place(environment),
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def place(environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Where a process of the demo runs: the directory and the environment, for `subprocess`."""
    known = {"DJANGO_SETTINGS_MODULE": os.environ.get("DJANGO_SETTINGS_MODULE", "auditproj.settings")}
    return {"cwd": settings.BASE_DIR, "env": {**os.environ, **known, **(environment or {})}}


@contextlib.contextmanager
def ending(processes: Iterable[subprocess.Popen[bytes]]) -> Iterator[None]:
    """End processes with the block, by closing their standard input."""
    try:
        yield
    finally:
        all_of_them = list(processes)
        for process in all_of_them:
            if process.stdin:
                process.stdin.close()
        for process in all_of_them:
            try:
                process.wait(timeout=_LAST_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def set_up() -> threading.Event:
    """Set Django up, and send SIGTERM to this process when its standard input ends; the event is set before."""
    ended = threading.Event()
    threading.Thread(target=_wait_for_end, args=(ended,), daemon=True).start()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "auditproj.settings")
    django.setup()
    return ended


def _wait_for_end(ended: threading.Event) -> None:
    while os.read(0, 1024):
        pass
    ended.set()
    os.kill(os.getpid(), signal.SIGTERM)


def main(*argv: str) -> None:
    """Run a command until it ends, or standard input does."""
    set_up()
    from django.core.management import execute_from_command_line

    execute_from_command_line(["manage.py", *argv])


if __name__ == "__main__":
    main(*sys.argv[1:])
