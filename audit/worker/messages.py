"""What a worker and its children say to each other: pickled tuples over a socket, each behind its length.

Both run the same code with the same rights, so a pickle from the other side does no more than the other side could.
"""

from __future__ import annotations

import pickle
import select
import socket
import struct
from collections.abc import Iterator
from typing import Any

__all__ = ["Reader", "receive", "send"]

_LENGTH = struct.Struct("!Q")
_CHUNK = 1 << 18


def send(connection: socket.socket, message: tuple[Any, ...]) -> None:
    """Send one message.

    Raises:
        OSError: the other side is gone, or takes nothing within the time limit of the socket.
    """
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    connection.sendall(_LENGTH.pack(len(data)) + data)


def receive(connection: socket.socket) -> tuple[Any, ...] | None:
    """Wait for one message; None when the other side is gone."""
    head = _exactly(connection, _LENGTH.size)
    data = head and _exactly(connection, _LENGTH.unpack(head)[0])
    return pickle.loads(data) if data else None  # noqa: S301 - see the module


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        try:
            piece = connection.recv(min(size - len(data), _CHUNK))
        except ConnectionError:
            return None
        if not piece:
            return None
        data += piece
    return bytes(data)


class Reader:
    """Takes messages out of what comes, and never waits: the other side may stop in the middle of one."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._data = bytearray()
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self.ended = False
        """Whether the other side is gone."""

    def read(self) -> Iterator[tuple[Any, ...]]:
        """Give the messages that are here whole."""
        while not self.ended and self._poll.poll(0):
            try:
                piece = self._connection.recv(_CHUNK)
            except OSError:
                piece = b""
            self.ended = not piece
            self._data += piece
        while len(self._data) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._data)[0]
            if len(self._data) < end:
                break
            data = bytes(self._data[_LENGTH.size : end])
            del self._data[:end]
            yield pickle.loads(data)  # noqa: S301 - see the module
