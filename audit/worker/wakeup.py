"""LISTEN: hears of work as it becomes claimable, and when something is asked of this worker.

Polling and heartbeats find whatever is not heard of.

The listener is a thread with a connection of its own. It connects again, with growing waits, and lets the worker look
once after each new connection, for what was announced meanwhile is lost.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Callable, Collection
from typing import Any

from django.db import connections

from audit.leases.wakeup import ANY, CHANNEL, WORKERS, notify
from audit.values.patterns import covering
from audit.worker.connections import own

__all__ = ["Listener", "notify"]

logger = logging.getLogger("audit")

_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 30.0
_CHECK_SECONDS = 60.0


class Listener:
    """The thread; started at once.

    Args:
        using: the alias of the database.
        actions: what the worker can do; what else is announced does not wake it.
        wake: called in the listener's thread when there is work.
        name: the worker's.
        nudged: called in the listener's thread when something was asked of this worker.
    """

    def __init__(
        self,
        using: str,
        actions: Collection[str],
        wake: Callable[[], None],
        *,
        name: str,
        nudged: Callable[[], None],
    ) -> None:
        self._actions = frozenset(actions)
        self._wake = wake
        self._name = name
        self._nudged = nudged
        self._ended = threading.Event()
        self._using = using
        self._connect = own(using)
        threading.Thread(target=self._run, name="audit-worker-listener", daemon=True).start()

    def end(self) -> None:
        """End the thread; it closes its connection by itself."""
        self._ended.set()

    def _run(self) -> None:
        # As this thread's own under its alias, too: what listens to `connection_created` asks through that.
        connections[self._using] = self._connection = self._connect()
        wait = _FIRST_WAIT_SECONDS
        while not self._ended.is_set():
            try:
                self._connection.ensure_connection()
                raw: Any = self._connection.connection
                with self._connection.cursor() as cursor:
                    cursor.execute(f"LISTEN {WORKERS}")
                    cursor.execute(f"LISTEN {CHANNEL}")
                self._wake()
                self._nudged()
                wait = _FIRST_WAIT_SECONDS
                self._listen(raw)
            except Exception as error:  # noqa: BLE001 - polling goes on
                logger.debug("The listener lost its connection: %s", error)
            self._close()
            # Whoever lost the server together must not come back together.
            self._ended.wait(random.uniform(wait / 2, wait))  # noqa: S311 - a wait, no secret
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    def _listen(self, raw: Any) -> None:
        quiet = 0.0
        while not self._ended.is_set():
            heard = [(each.channel, each.payload) for each in raw.notifies(timeout=1.0, stop_after=1)]
            for channel, payload in heard:
                if channel == WORKERS:
                    if payload == self._name:
                        self._nudged()
                elif payload == ANY or not self._actions.isdisjoint(covering(payload)):
                    self._wake()
            quiet = 0.0 if heard else quiet + 1.0
            if quiet >= _CHECK_SECONDS:
                quiet = 0.0
                raw.execute("SELECT 1")  # a connection that a firewall has dropped would stay silent for ever

    def _close(self) -> None:
        with contextlib.suppress(Exception):  # it may be broken
            self._connection.close()
        self._connection.connection = None
