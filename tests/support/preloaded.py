"""Starts Python programs as forks of a process that has loaded Django, which saves most of the time that a start takes.

`Popen` and `run` stand for those of `subprocess`. Started so, `python -m MODULE`, `python -c CODE` and `python FILE.py`
run in a process of their own, with its own arguments, working directory, environment, settings, streams, signals and
exit status. Whatever else they are asked for they start in the usual way. `for_shells` is for what shells start.

Note [Whose child it is]
    Who starts a process can wait for it, learn how it died and what it used, so the process must be a child of the
    asker, though another one forks it. The server forks a process between, which forks the child and ends; the child
    then belongs to its nearest ancestor that takes orphans (`PR_SET_CHILD_SUBREAPER`), and the asker does for this
    moment. A process whose parent happens to end in the same moment comes to the asker too.

Note [What a fork inherits]
    The server has imported modules and called `django.setup()`. It has no thread, no connection, and has run nothing.
    A fork reads the settings anew, in its own environment. Where they differ in what `setup()` or an import has
    used, it executes the interpreter instead. So it does where they cannot be read.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import inspect
import io
import os
import pickle
import pkgutil
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

__all__ = ["Popen", "ServerGone", "for_shells", "run"]

_CHECKOUT = Path(__file__).resolve().parent.parent.parent
_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE = 120.0
_USUAL = "tests.settings"
_WITH_THEIR_OWN = ("tests.support.worker_settings",)
"""Settings with other apps, which need a server of their own."""
_LATE = {"ALLOWED_HOSTS", "AUDIT", "AUDIT_HOME", "DATABASES", "DEBUG", "LOGGING", "SECRET_KEY"}
"""Settings that are read where they are used."""
_PACKAGES = ("audit.management.commands", "audit.worker", "audit.ledger.tlog")
"""Their modules are loaded before the first fork, with what they import."""
_AS_USUAL = {
    **dict.fromkeys(("executable", "preexec_fn", "gid", "gids", "uid")),
    "close_fds": True,
    "restore_signals": True,
    "shell": False,
    "umask": -1,
}
_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
_OF_ENDS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)

# Without any import of this project: it starts for each command of a shell.
_CLIENT = """
import os, sys
targets = []
for each in range(3):
    try:
        os.fstat(each)
        targets.append(each)
    except OSError:
        pass
import array, pickle, socket
server = socket.socket(socket.AF_UNIX)
server.connect(sys.argv[1])
asked = {"words": [sys.executable, *sys.argv[2:]], "cwd": os.getcwd(), "environment": dict(os.environ)}
asked = pickle.dumps(asked | {"targets": targets})
server.sendmsg([len(asked).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", targets))])
server.sendall(asked)
os._exit(int(server.makefile().read() or 70))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """What to start, and how."""

    words: list[str]
    cwd: str
    environment: dict[str, str]
    targets: list[int]
    """The numbers that the descriptors which come along have in the process."""
    ignored: tuple[int, ...] = ()
    """The signals that it ignores from the start."""
    new_session: bool = False
    group: int = -1
    forks: bool = False
    """Whether it starts its own Python children in this way too."""


class Popen(subprocess.Popen):
    """A process, started as a fork where that can be."""

    def __init__(
        self, words: Sequence[str], *, ignored: Sequence[int] | None = None, forks: bool = False, **options: Any
    ) -> None:
        """Start it.

        Args:
            words: the program and its arguments.
            ignored: those of SIGINT, SIGHUP and SIGTERM that the process ignores from the start; when left out, those
                that this process ignores, as always.
            forks: whether it starts its own Python children in this way too. Then it has one child more.
            options: of `subprocess.Popen`.
        """
        self._ignored = ignored
        self._forks = forks
        super().__init__(words, **options)

    def _execute_child(self, *given: Any) -> None:
        asked = inspect.signature(super()._execute_child).bind(*given).arguments
        environment = dict(os.environ if asked["env"] is None else asked["env"])
        if not _can_fork(asked) or (server := _server(environment)) is None:
            if self._ignored is not None:
                asked["preexec_fn"] = lambda: _dispose(_OF_ENDS, self._ignored)
            super()._execute_child(*asked.values())
            return
        pipes = asked["p2cread"], asked["c2pwrite"], asked["errwrite"]
        wanted = {target: target if pipe == -1 else pipe for target, pipe in enumerate(pipes)}
        wanted |= {each: each for each in asked["pass_fds"]}
        wanted = {target: descriptor for target, descriptor in wanted.items() if _is_open(descriptor)}
        request = _Request(
            words=list(asked["args"]),
            cwd=os.fspath(asked["cwd"] or Path.cwd()),
            environment=environment,
            targets=list(wanted),
            ignored=_ignored_here() if self._ignored is None else tuple(self._ignored),
            new_session=asked["start_new_session"],
            group=asked["process_group"],
            forks=self._forks,
        )
        try:
            self.pid = server.start(request, list(wanted.values()))
            self._child_created = True
        finally:
            self._close_pipe_fds(*(asked[name] for name in _PIPES))


def run(
    words: Sequence[str],
    *,
    input: str | bytes | None = None,  # noqa: A002 - as `subprocess.run` has it
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """Run a program to its end; arguments, return and errors are those of `subprocess.run`."""
    if input is not None:
        options["stdin"] = subprocess.PIPE
    if capture_output:
        options["stdout"] = options["stderr"] = subprocess.PIPE
    with Popen(words, **options) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(words, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def for_shells() -> list[str]:
    """Return the words that stand for `python` where a shell starts it."""
    server = _server(_ENVIRONMENT | {"DJANGO_SETTINGS_MODULE": _USUAL}) if sys.platform == "linux" else None
    return server.words if server else [sys.executable]


# The asker


class ServerGone(Exception):
    """The process that forks has ended."""


class _Server:
    """The process that forks, as its asker sees it.

    Args:
        settings: the module of the settings; none when it is at the other end of `connection` already.
        connection: what leads to it.
    """

    def __init__(self, settings: str, connection: socket.socket | None = None) -> None:
        self.settings = settings
        self.words: list[str] = []
        """What stands for `python` in a shell."""
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._busy = threading.Lock()
        if connection is None:
            connection, theirs = socket.socketpair()
            code = "import sys; from tests.support.preloaded import _main; _main(*sys.argv[1:])"
            self._folder = Path(tempfile.mkdtemp(prefix="audit-forks-"))
            client, address = self._folder / "client.py", str(self._folder / "socket")
            client.write_text(_CLIENT)
            self.words = [sys.executable, "-I", "-S", str(client), address]
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", code, str(theirs.fileno()), address],
                    cwd=_CHECKOUT,
                    env=_ENVIRONMENT | {"DJANGO_SETTINGS_MODULE": settings},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
        connection.settimeout(_PATIENCE)
        self._connection = connection
        os.register_at_fork(after_in_child=self._connection.close)
        try:
            self.pid = int.from_bytes(self._hear(4), "big")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End it; what it has forked goes on."""
        self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def start(self, request: _Request, descriptors: list[int]) -> int:
        """Start a process that is a child of this one.

        Returns:
            Its process id.

        Raises:
            ServerGone: the process that forks has ended. The next one that is asked for has a new one.
        """
        pid = 0
        with self._busy:
            try:
                _send(self._connection, request, descriptors)
                pid = int.from_bytes(self._hear(4), "big")
                # Note [Whose child it is].
                _adopt(True)
                try:
                    self._connection.sendall(b".")
                    self._hear(1)
                finally:
                    _adopt(False)
            except (OSError, ServerGone) as error:
                self._forget()
                if pid:
                    os.kill(pid, signal.SIGKILL)
                raise ServerGone(f"The process that forks for tests is gone: {error}") from error
        return pid

    def _hear(self, count: int) -> bytes:
        if len(heard := self._connection.recv(count, socket.MSG_WAITALL)) < count:
            raise ServerGone("it has ended")
        return heard

    def _forget(self) -> None:
        if _servers.get(self.settings) is self:
            del _servers[self.settings]
            atexit.unregister(self.close)
        self.close()


_ENVIRONMENT = dict(os.environ)
_servers: dict[str, _Server] = {}
_only: _Server | None = None
"""In a process that was started with `forks`."""
_making = threading.Lock()


def _server(environment: dict[str, str]) -> _Server | None:
    settings = environment.get("DJANGO_SETTINGS_MODULE")
    # What an interpreter reads when it begins, a fork has from the server.
    if settings is None or _of_interpreter(environment) != _of_interpreter(_ENVIRONMENT):
        return None
    if _only is not None:
        return _only
    settings = settings if settings in _WITH_THEIR_OWN else _USUAL
    with _making:
        if settings not in _servers:
            _servers[settings] = _Server(settings)
            atexit.register(_servers[settings].close)
        return _servers[settings]


def _of_interpreter(environment: dict[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(("PYTHON", "LC_", "LANG")) and name != "PYTHONPATH"
    }


def _can_fork(asked: dict[str, Any]) -> bool:
    """Whether a call of `Popen` asks for nothing that a fork lacks."""
    words = asked["args"]
    return (
        sys.platform == "linux"
        and isinstance(words, list | tuple)
        and len(words) > 1
        and words[0] == sys.executable
        and (words[1] in ("-m", "-c") or words[1].endswith(".py"))
        and all(asked[name] == value for name, value in _AS_USUAL.items())
    )


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _ignored_here() -> tuple[int, ...]:
    # Python ignores these two, and a child does not.
    own = (signal.SIGPIPE, signal.SIGXFSZ)
    return tuple(n for n in signal.valid_signals() if n not in own and signal.getsignal(n) == signal.SIG_IGN)


def _adopt(whether: bool) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, *map(ctypes.c_ulong, (whether, 0, 0, 0))):
        raise OSError(ctypes.get_errno(), "prctl")


def _send(connection: socket.socket, request: _Request, descriptors: list[int]) -> None:
    asked = pickle.dumps({name: getattr(request, name) for name in request.__slots__})
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    connection.sendmsg([len(asked).to_bytes(4, "big")], [rights] if descriptors else [])
    connection.sendall(asked)


# The server


def _main(number: str, address: str) -> None:
    # Who sends a signal to a group means the forks, and they get it when they are ready.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    control = socket.socket(fileno=int(number))
    control.set_inheritable(False)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    found = _load()
    gc.collect()
    gc.freeze()
    _serve(control, listener, found)
    os._exit(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """What was there before the first fork."""

    settings: dict[str, Any]
    modules: tuple[str, ...]
    """Those that make up the settings."""
    path: list[str]
    """Where modules are looked for, without the entries of PYTHONPATH."""


def _load() -> _Loaded:
    before = set(sys.modules)
    path = [each for each in sys.path[1:] if each not in _python_path(os.environ)]
    from django.conf import settings

    made = _values(settings)
    modules = tuple(
        each
        for each in sys.modules.keys() - before
        if each.rpartition(".")[2].endswith("settings") and not each.startswith("django.")
    )
    import django

    django.setup()
    import django.core.management.commands.migrate
    import django.db.backends.postgresql.base

    for name in _PACKAGES:
        package = importlib.import_module(name)
        for each in pkgutil.iter_modules(package.__path__, f"{name}."):
            importlib.import_module(each.name)
    assert threading.active_count() == 1, "something that is loaded before a fork has started a thread"
    return _Loaded(settings=made, modules=modules, path=path)


def _values(settings: Any) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in dir(settings) if name.isupper()}


def _python_path(environment: Any) -> list[str]:
    found = environment.get("PYTHONPATH", "")
    return [str(Path(each).absolute()) for each in found.split(os.pathsep)] if found else []


def _serve(control: socket.socket, listener: socket.socket | None, loaded: _Loaded) -> None:
    control.sendall(os.getpid().to_bytes(4, "big"))
    poll = select.poll()
    for each in (control, listener):
        if each is not None:
            poll.register(each, select.POLLIN)
    while True:
        for number, _ in poll.poll():
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if number == control.fileno():
                if (asked := _receive(control)) is None:
                    return
                _fork_for_asker(control, *asked, loaded)
            elif listener is not None:
                client, _ = listener.accept()
                with client:
                    if (asked := _receive(client)) is not None:
                        _fork_for_client(client, *asked, loaded)


def _receive(connection: socket.socket) -> tuple[_Request, list[int]] | None:
    descriptors = array.array("i")
    length, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(200 * descriptors.itemsize))
    if len(length) < 4:
        return None
    for _, _, data in ancillary:
        descriptors.frombytes(data)
    size = int.from_bytes(length, "big")
    asked = connection.recv(size, socket.MSG_WAITALL)
    return (_Request(**pickle.loads(asked)), list(descriptors)) if len(asked) == size else None


def _fork_for_asker(control: socket.socket, request: _Request, descriptors: list[int], loaded: _Loaded) -> None:
    reader, writer = os.pipe()
    between = os.fork()
    if not between:
        if os.fork():
            control.recv(1)
            os._exit(0)
        os.close(writer)
        if request.new_session:
            os.setsid()
        if request.group >= 0:
            os.setpgid(0, request.group)
        control.sendall(os.getpid().to_bytes(4, "big"))
        os.read(reader, 1)  # ends when it has its new parent
        _become(request, descriptors, loaded)
    for each in (reader, *descriptors):
        os.close(each)
    os.waitpid(between, 0)
    os.close(writer)
    with contextlib.suppress(OSError):
        control.sendall(b".")


def _fork_for_client(client: socket.socket, request: _Request, descriptors: list[int], loaded: _Loaded) -> None:
    if not os.fork():
        worker = os.fork()
        if not worker:
            _become(request, descriptors, loaded)
        status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
        with contextlib.suppress(OSError):
            client.sendall(str(status if status >= 0 else 128 - status).encode())
        os._exit(0)
    for each in descriptors:
        os.close(each)


# The fork


def _become(request: _Request, descriptors: list[int], loaded: _Loaded) -> NoReturn:
    """Be the process that was asked for."""
    try:
        _take(descriptors, request.targets)
        os.chdir(request.cwd)
        os.environ.clear()
        os.environ.update(request.environment)
        time.tzset()
        if request.forks:
            _let_it_fork(loaded)
        _dispose(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}, request.ignored)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        sys.orig_argv[:] = request.words
        sys.argv[:] = request.words[2:] if request.words[1] in ("-m", "-c") else request.words[1:]
        if request.words[1] in ("-m", "-c"):
            sys.argv[0] = request.words[1]
        first = {"-m": str(Path.cwd()), "-c": ""}.get(request.words[1], str(Path(request.words[1]).resolve().parent))
        sys.path[:] = [first, *(each for each in _python_path(os.environ) if each not in loaded.path), *loaded.path]
        if _of_interpreter(request.environment) != _of_interpreter(_ENVIRONMENT) or not _has_settings(loaded):
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


def _dispose(numbers: Iterable[int], ignored: Sequence[int]) -> None:
    """Let signals do what they do in a program that begins."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)


def _let_it_fork(loaded: _Loaded) -> None:
    ours, theirs = socket.socketpair()
    if not os.fork():
        ours.close()
        _close_all_but([theirs.fileno()])
        for _ in range(3):
            os.open(os.devnull, os.O_RDWR)
        _serve(theirs, None, loaded)
        os._exit(0)
    theirs.close()
    global _only
    _only = _Server("", connection=ours)
    _ENVIRONMENT.clear()
    _ENVIRONMENT.update(os.environ)
    subprocess.Popen = Popen


def _has_settings(loaded: _Loaded) -> bool:
    """Read the settings anew; returns whether what is loaded goes with them."""
    from django.conf import empty, settings
    from django.db import connections

    for each in (*loaded.modules, os.environ.get("DJANGO_SETTINGS_MODULE")):
        sys.modules.pop(each, None)
    importlib.invalidate_caches()
    settings._wrapped = empty
    try:
        found = _values(settings)
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
    if not _is_open(number):
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
