"""A network between a client and the test's server that can stop carrying anything, without closing a connection.

It has three ways: it holds everything up (`cut`), it loses every packet (`lose`), or it takes what it is given and
never hands it on (`swallow`), as a device in between does that still answers for a server it cannot reach any more.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.db import connection

__all__ = ["CAN_LOSE", "Network", "network"]

CAN_LOSE = sys.platform == "linux"
"""Whether `Network.lose` works here."""
_ATTACH_FILTER, _DETACH_FILTER = 26, 27  # SO_ATTACH_FILTER and SO_DETACH_FILTER of Linux


class Network:
    """While it is `cut`, what is sent through it stays where it is; nobody is told."""

    def __init__(self) -> None:
        parameters = connection.get_connection_params()
        self._host, self._port = str(parameters.get("host", "")), int(parameters.get("port") or 5432)
        self._flows = threading.Event()
        self._flows.set()
        self._open: list[socket.socket] = []
        self._clients: list[socket.socket] = []
        self._answered = threading.Event()
        self._answered.set()
        self._swallowed = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.settings: dict[str, Any] = {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": "127.0.0.1",
            "PORT": str(self._listening.getsockname()[1]),
            "USER": str(parameters.get("user", "")),
            "PASSWORD": str(parameters.get("password", "") or ""),
        }
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Carry nothing from now on."""
        self._flows.clear()

    def lose(self) -> None:
        """Lose every packet of the client from now on: nothing is acknowledged, and nothing is refused."""
        for each in [self._listening, *self._clients]:
            _drop(each)

    def swallow(self) -> None:
        """Acknowledge and drop what comes from now on; the connections that are open now never carry again."""
        self._answered.clear()
        self._swallowed = len(self._open)

    def mend(self) -> None:
        """Carry again, also what was held up."""
        for each in [self._listening, *self._clients]:
            with contextlib.suppress(OSError):  # it lost nothing
                each.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)
        self._answered.set()
        self._flows.set()

    def close(self) -> None:
        """End it."""
        self.mend()
        for each in [self._listening, *self._open]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._clients.append(client)
                if not self._answered.is_set():
                    self._open.append(client)
                    continue
                server = self._server()
                self._open += [client, server]
                number = len(self._open)
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=(source, target, number), daemon=True).start()

    def _server(self) -> socket.socket:
        if self._host.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(Path(self._host) / f".s.PGSQL.{self._port}"))
            return server
        return socket.create_connection((self._host or "127.0.0.1", self._port))

    def _carry(self, source: socket.socket, target: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            while sent := source.recv(65536):
                self._flows.wait()
                if number > self._swallowed:
                    target.sendall(sent)
            self._flows.wait()
        with contextlib.suppress(OSError):
            if number > self._swallowed:
                target.shutdown(socket.SHUT_WR)


def _drop(each: socket.socket) -> None:
    """Have the kernel drop whatever comes for a socket: a filter of one instruction, which keeps no byte."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    each.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, bytes(Program(1, ctypes.addressof(code))))


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A network of its own."""
    made = Network()
    try:
        yield made
    finally:
        made.close()
