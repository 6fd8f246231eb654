"""What a process that forks is asked for, and how it is sent."""

from __future__ import annotations

import array
import os
import pickle
import signal
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["OF_ENDS", "Request", "dispose", "is_open", "of_interpreter", "python_path", "receive", "send"]

OF_ENDS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
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


def send(connection: socket.socket, request: Request, descriptors: list[int]) -> None:
    asked = pickle.dumps({name: getattr(request, name) for name in request.__slots__})
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    connection.sendmsg([len(asked).to_bytes(4, "big")], [rights] if descriptors else [])
    connection.sendall(asked)


def receive(connection: socket.socket) -> tuple[Request, list[int]] | None:
    descriptors = array.array("i")
    length, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(200 * descriptors.itemsize))
    if len(length) < 4:
        return None
    for _, _, data in ancillary:
        descriptors.frombytes(data)
    size = int.from_bytes(length, "big")
    asked = connection.recv(size, socket.MSG_WAITALL)
    return (Request(**pickle.loads(asked)), list(descriptors)) if len(asked) == size else None


def of_interpreter(environment: dict[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(("PYTHON", "LC_", "LANG")) and name != "PYTHONPATH"
    }


def python_path(environment: Any) -> list[str]:
    found = environment.get("PYTHONPATH", "")
    return [str(Path(each).absolute()) for each in found.split(os.pathsep)] if found else []


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def dispose(numbers: Iterable[int], ignored: Sequence[int]) -> None:
    """Let signals do what they do in a program that begins."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
