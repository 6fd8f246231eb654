"""What a fork does to be the process that was asked for."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import importlib
import io
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from tests.support.preloaded.processes import Popen
from tests.support.preloaded.request import Request, dispose, is_open, of_interpreter, python_path
from tests.support.preloaded.servers import ENVIRONMENT, Server, ask_only

__all__ = ["Loaded", "become", "values_of"]

_LATE = {"ALLOWED_HOSTS", "AUDIT", "AUDIT_HOME", "DATABASES", "DEBUG", "LOGGING", "SECRET_KEY"}
"""Settings that are read where they are used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What was there before the first fork."""

    settings: dict[str, Any]
    modules: tuple[str, ...]
    """Those that make up the settings."""
    path: list[str]
    """Where modules are looked for without a PYTHONPATH."""


def values_of(settings: Any) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in dir(settings) if name.isupper()}


def become(request: Request, descriptors: list[int], loaded: Loaded) -> NoReturn:
    """Be the process that was asked for."""
    try:
        _take(descriptors, request.targets)
        os.chdir(request.cwd)
        os.environ.clear()
        os.environ.update(request.environment)
        time.tzset()
        if request.forks:
            _let_it_fork(loaded)
        dispose(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}, request.ignored)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        sys.orig_argv[:] = request.words
        sys.argv[:] = request.words[2:] if request.words[1] in ("-m", "-c") else request.words[1:]
        if request.words[1] in ("-m", "-c"):
            sys.argv[0] = request.words[1]
        first = {"-m": str(Path.cwd()), "-c": ""}.get(request.words[1], str(Path(request.words[1]).resolve().parent))
        given = python_path(os.environ)
        sys.path[:] = [first, *given, *(each for each in loaded.path if each not in given)]
        if of_interpreter(request.environment) != of_interpreter(ENVIRONMENT) or not _has_settings(loaded):
            os.execve(sys.executable, request.words, request.environment)
        _as_python_begins(request.ignored)
    except BaseException:  # noqa: BLE001 - nobody else tells it
        traceback.print_exc()
        os._exit(1)
    _end(_carry_out(request.words))


def _take(descriptors: list[int], targets: list[int]) -> None:
    """Give the descriptors their numbers, and close all others."""
    above = max([2, *targets]) + 1
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, above) for each in descriptors]
    _close_all_but(moved)
    for descriptor, target in zip(moved, targets, strict=True):
        os.dup2(descriptor, target)
        os.close(descriptor)


def _close_all_but(kept: list[int]) -> None:
    for each in list(Path("/proc/self/fd").iterdir()):
        if int(each.name) not in kept:
            with contextlib.suppress(OSError):  # that of the directory itself
                os.close(int(each.name))


def _let_it_fork(loaded: Loaded) -> None:
    from tests.support.preloaded.serving import serve

    ours, theirs = socket.socketpair()
    if not os.fork():
        ours.close()
        _close_all_but([theirs.fileno()])
        for _ in range(3):
            os.open(os.devnull, os.O_RDWR)
        serve(theirs, None, loaded)
        os._exit(0)
    theirs.close()
    ask_only(Server("", connection=ours))
    subprocess.Popen = Popen


def _has_settings(loaded: Loaded) -> bool:
    """Read the settings anew; returns whether what is loaded goes with them."""
    from django.conf import empty, settings
    from django.db import connections

    for each in (*loaded.modules, os.environ.get("DJANGO_SETTINGS_MODULE")):
        sys.modules.pop(each, None)
    importlib.invalidate_caches()
    settings._wrapped = empty
    try:
        found = values_of(settings)
    except Exception:  # noqa: BLE001 - whatever it is, a real start shows it
        return False
    for each in connections.all(initialized_only=True):
        del connections[each.alias]
    connections._settings = None
    connections.__dict__.pop("settings", None)
    return all(found.get(name) == loaded.settings.get(name) for name in (found.keys() | loaded.settings.keys()) - _LATE)


def _as_python_begins(ignored: Sequence[int]) -> None:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    if signal.SIGINT not in ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin = sys.__stdin__ = _stream(0)
    sys.stdout = sys.__stdout__ = _stream(1)
    sys.stderr = sys.__stderr__ = _stream(2)


def _stream(number: int) -> Any:
    if not is_open(number):
        return None
    model = (sys.__stdin__, sys.__stdout__, sys.__stderr__)[number]
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    raw = io.FileIO(number, "wb" if number else "rb", closefd=False)
    raw.name = ("<stdin>", "<stdout>", "<stderr>")[number]
    binary: Any = io.BufferedReader(raw) if not number else raw if unbuffered else io.BufferedWriter(raw)
    stream = io.TextIOWrapper(
        binary,
        encoding=model.encoding,
        errors=model.errors,
        newline="\n" if number else None,
        line_buffering=not unbuffered and (number == 2 or raw.isatty()),
        write_through=unbuffered,
    )
    stream.mode = "w" if number else "r"
    return stream


def _carry_out(words: list[str]) -> int:
    """Run the program; returns its exit status, below zero the signal."""
    main = sys.modules["__main__"] = ModuleType("__main__")
    try:
        match words[1]:
            case "-m":
                runpy._run_module_as_main(words[2])
            case "-c":
                exec(compile(words[2], "<string>", "exec"), main.__dict__)
            case name:
                main.__dict__["__file__"] = name
                exec(compile(Path(name).read_bytes(), name, "exec"), main.__dict__)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return (ended.code or 0) & 0xFF
        if sys.stderr is not None:
            sys.stderr.write(f"{ended.code}\n")
        return 1
    except BaseException as error:  # noqa: BLE001 - shown as an interpreter does
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _end(status: int) -> NoReturn:
    """End as an interpreter does, without taking the modules apart."""
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except Exception as error:  # noqa: BLE001 - shown as an interpreter does
            if stream is sys.stdout and sys.stderr is not None:
                sys.stderr.write(
                    "".join([f"Exception ignored in: {stream!r}\n", *traceback.format_exception_only(error)])
                )
            status = 120
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)
