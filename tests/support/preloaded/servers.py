"""The servers, as the process that asks them sees them; see Note [Whose child it is]."""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.support.preloaded.request import Request, of_interpreter, send

__all__ = ["ENVIRONMENT", "SERVERS", "USUAL", "Server", "ServerGone", "ask_only", "server_for"]

_CHECKOUT = Path(__file__).resolve().parents[3]
_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE = 120.0
USUAL = "tests.settings"
_WITH_THEIR_OWN = ("tests.support.worker_settings",)
"""Settings with other apps, which need a server of their own."""

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


class ServerGone(Exception):
    """The process that forks has ended."""


class Server:
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
            code = "import sys; from tests.support.preloaded.serving import main; main(*sys.argv[1:])"
            self._folder = Path(tempfile.mkdtemp(prefix="audit-forks-"))
            client, address = self._folder / "client.py", str(self._folder / "socket")
            client.write_text(_CLIENT)
            self.words = [sys.executable, "-I", "-S", str(client), address]
            environment = {name: value for name, value in ENVIRONMENT.items() if name != "PYTHONPATH"}
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", code, str(theirs.fileno()), address],
                    cwd=_CHECKOUT,
                    env=environment | {"DJANGO_SETTINGS_MODULE": settings},
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

    def start(self, request: Request, descriptors: list[int]) -> int:
        """Start a process that is a child of this one.

        Returns:
            Its process id.

        Raises:
            ServerGone: the process that forks has ended. The next one that is asked for has a new one.
        """
        pid = 0
        with self._busy:
            try:
                send(self._connection, request, descriptors)
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
        if SERVERS.get(self.settings) is self:
            del SERVERS[self.settings]
            atexit.unregister(self.close)
        self.close()


ENVIRONMENT = dict(os.environ)
SERVERS: dict[str, Server] = {}
_only: Server | None = None
"""In a process that was started with `forks`."""
_making = threading.Lock()


def ask_only(server: Server) -> None:
    """Ask this server alone from now on; for a process that was started with `forks`."""
    global _only
    _only = server
    ENVIRONMENT.clear()
    ENVIRONMENT.update(os.environ)


def server_for(environment: dict[str, str]) -> Server | None:
    settings = environment.get("DJANGO_SETTINGS_MODULE")
    # What an interpreter reads when it begins, a fork has from the server.
    if settings is None or of_interpreter(environment) != of_interpreter(ENVIRONMENT):
        return None
    if _only is not None:
        return _only
    settings = settings if settings in _WITH_THEIR_OWN else USUAL
    with _making:
        if settings not in SERVERS:
            SERVERS[settings] = Server(settings)
            atexit.register(SERVERS[settings].close)
        return SERVERS[settings]


def _adopt(whether: bool) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, *map(ctypes.c_ulong, (whether, 0, 0, 0))):
        raise OSError(ctypes.get_errno(), "prctl")
