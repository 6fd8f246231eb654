"""Ends waits for an answer of the database that does not come.

Note [Answers that do not come]
    The options of `connections.LIVENESS` notice a network that loses every packet. They do not notice a proxy that
    still answers for a server which it cannot reach any more. For TCP all is well, and the wait for an answer would
    last for ever. So whoever holds such a connection ends a wait that takes too long. First it has the server cancel
    the statement, so that a server that was only slow does not do later what nobody waits for any more. If that does
    not end the wait, it closes the socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["answered_within", "end_wait"]

_CANCEL_SECONDS = 10.0
"""How long a wait may go on after the server was asked to cancel the statement."""


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
