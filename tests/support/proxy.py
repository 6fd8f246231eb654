"""A network between a client and the test's server that can stop carrying anything, without closing a connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.db import connection

__all__ = ["Network", "network"]


class Network:
    """While it is `cut`, what is sent through it stays where it is; nobody is told."""

    def __init__(self) -> None:
        parameters = connection.get_connection_params()
        self._host, self._port = str(parameters.get("host", "")), int(parameters.get("port") or 5432)
        self._flows = threading.Event()
        self._flows.set()
        self._open: list[socket.socket] = []
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

    def mend(self) -> None:
        """Carry again, also what was held up."""
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
                server = self._server()
                self._open += [client, server]
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _server(self) -> socket.socket:
        if self._host.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(Path(self._host) / f".s.PGSQL.{self._port}"))
            return server
        return socket.create_connection((self._host or "127.0.0.1", self._port))

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while sent := source.recv(65536):
                self._flows.wait()
                target.sendall(sent)
            self._flows.wait()
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A network of its own."""
    made = Network()
    try:
        yield made
    finally:
        made.close()
