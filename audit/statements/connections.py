"""Connections of a thread's own: never one of a pool, of which the work may hold the last until it ends.

Note [Answers that do not come]
    The options of `LIVENESS` notice a network that loses every packet. They do not notice a proxy that still answers
    for a server which it cannot reach any more: for TCP all is well, and the wait for an answer would last for ever. So
    whoever holds such a connection ends a wait that takes too long. First it has the server cancel the statement, so
    that a server that was only slow does not do later what nobody waits for any more. If that does not end the wait,
    it closes the socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["LIVENESS", "Destination", "answered_within", "end_wait", "is_direct", "own"]

LIVENESS: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Options of connections that must notice a network that drops what it is given; the system would wait for hours."""
_CANCEL_SECONDS = 10.0
"""How long a wait may go on after the server was asked to cancel the statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a connection leads. Two that lead to the same place are equal."""

    kind: type[BaseDatabaseWrapper]
    alias: str
    settings: dict[str, Any]

    @classmethod
    def of(cls, connection: BaseDatabaseWrapper, **options: Any) -> Destination:
        """Return where a connection of this thread leads.

        Args:
            connection: which.
            options: options of the driver that the settings do not give.
        """
        settings = dict(connection.settings_dict)
        # A connection of `own` has those of `LIVENESS`, which nobody chose.
        given = settings.get("OPTIONS", {}).items()
        options |= {name: value for name, value in given if name not in options or LIVENESS.get(name) != value}
        options.pop("pool", None)
        return cls(kind=type(connection), alias=connection.alias, settings=settings | {"OPTIONS": options})

    def connect(self) -> BaseDatabaseWrapper:
        """Make a connection for the thread that calls this."""
        return self.kind(self.settings | {"OPTIONS": dict(self.settings["OPTIONS"])}, self.alias)


def own(using: str) -> Callable[[], BaseDatabaseWrapper]:
    """Return what makes a connection that a thread keeps.

    Args:
        using: the alias; it leads where it leads in the thread that calls this.

    Returns:
        To be called in the thread that uses the connection.
    """
    return Destination.of(connections[using], **LIVENESS).connect


def is_direct(using: str) -> bool:
    """Whether the session of this thread's connection is its own, and not one that a pooler lends out."""
    connection: Any = connections[using]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    # A pooler gives its clients numbers of its own.
    return bool(pid == connection.connection.info.backend_pid)


@contextlib.contextmanager
def answered_within(seconds: float, connection: BaseDatabaseWrapper) -> Iterator[None]:
    """End the wait for an answer in the block when it takes longer; it raises OperationalError then.

    Args:
        seconds: how long the block may take, and again after each wait that was ended.
        connection: that the block uses, itself and not Django's proxy, which is another one in another thread.
    """
    over = threading.Event()

    def watch() -> None:
        # Again and again: the block may connect anew, and wait there.
        while not over.wait(seconds):
            end_wait(connection.connection, lambda: not over.is_set())

    threading.Thread(target=watch, name="audit-answers", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def end_wait(raw: Any, waits: Callable[[], bool]) -> None:
    """End the wait of another thread for an answer: Note [Answers that do not come]. Returns at once.

    Args:
        raw: the driver's connection; nothing is done while there is none, for `connect_timeout` ends that.
        waits: returns whether that thread still waits.
    """
    if raw is None or raw.closed:
        return

    def cancel() -> None:
        if waits():
            with contextlib.suppress(Exception):
                raw.cancel_safe(timeout=_CANCEL_SECONDS)

    def hang_up() -> None:
        if waits() and not raw.closed:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(raw.fileno())) as same:
                same.shutdown(socket.SHUT_RDWR)

    # With an old libpq `cancel` may wait for ever itself.
    for thread in (threading.Thread(target=cancel), threading.Timer(_CANCEL_SECONDS, hang_up)):
        thread.daemon = True
        thread.start()
