"""NOTIFY and LISTEN: workers hear that there is work, or that something was asked of one, so that they look at once.

It is a courtesy: sent after the commit that made the work claimable, by the application and never by a trigger, in a
statement of its own. Where it is lost, workers find the work when they look, and hear the rest with their heartbeats.

The listener is a thread with a connection of its own. It connects again, with growing waits, and lets the worker look
once after each new connection, for what was announced meanwhile is lost.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Iterable
from typing import Any

from django.db import connections, transaction

from audit import conf
from audit.statements.answers import answered_within
from audit.statements.connections import own
from audit.values.backoff import backoff
from audit.values.patterns import covering

__all__ = ["ANY", "CHANNEL", "WORKERS", "Listener", "announce", "notify", "nudge"]

logger = logging.getLogger("audit")

CHANNEL = "audit_task"
"""The channel; the payload of each notification is an action, or `ANY`."""
ANY = ""
"""The payload for work of any action."""
WORKERS = "audit_worker"
"""The other channel; the payload of each notification is the name of the worker of which something was asked."""

_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 30.0
_CHECK_SECONDS = 60.0
_ANSWER_SECONDS = 30.0


def announce(using: str, actions: Iterable[str]) -> None:
    """Tell workers of claimable work of these actions, once the transaction that is open has committed.

    Args:
        using: the alias that the work was written through.
        actions: what it is.
    """
    if conf.settings().NOTIFY and (named := sorted(set(actions))):
        transaction.on_commit(lambda: notify(using, named), using=using)


def nudge(using: str, worker: str) -> None:
    """Have a worker give its next heartbeats at once, after the commit: it is to drain, or its work is to stop.

    Args:
        using: the alias that this was written through.
        worker: its name.
    """
    if conf.settings().NOTIFY and worker:
        transaction.on_commit(lambda: notify(using, [worker], channel=WORKERS), using=using)


def notify(using: str, actions: Iterable[str], *, channel: str | None = None) -> None:
    """Tell workers now; what goes wrong is logged, for the work stands.

    Args:
        using: the alias of the database.
        actions: kinds of work that there is, or other payloads.
        channel: another one than `CHANNEL`.
    """
    try:
        with connections[using].cursor() as cursor:
            cursor.execute(
                "SELECT pg_notify(%s, action) FROM unnest(%s::text[]) AS action", [channel or CHANNEL, list(actions)]
            )
    except Exception as error:  # noqa: BLE001 - whatever it is: polling finds the work
        logger.warning("Workers could not be notified; they find the work when they look next: %s", error)
        with contextlib.suppress(Exception):
            connections[using].close_if_unusable_or_obsolete()


class Listener:
    """The thread; started at once.

    Args:
        using: the alias of the database.
        actions: what the worker can do; what else is announced does not wake it.
        wake: called in the listener's thread when there is work.
        name: the worker's.
        nudged: called in the listener's thread when something was asked of this worker.
        pause: returns for how many seconds to gather what is announced before `wake` is called for all of it.
    """

    def __init__(
        self,
        using: str,
        actions: Collection[str],
        wake: Callable[[], None],
        *,
        name: str,
        nudged: Callable[[], None],
        pause: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._actions = frozenset(actions)
        self._wake = wake
        self._name = name
        self._nudged = nudged
        self._pause = pause
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
        lost = 0
        while not self._ended.is_set():
            try:
                self._connection.ensure_connection()
                raw: Any = self._connection.connection
                with answered_within(_ANSWER_SECONDS, self._connection), self._connection.cursor() as cursor:
                    cursor.execute(f"LISTEN {WORKERS}")
                    cursor.execute(f"LISTEN {CHANNEL}")
                self._wake()
                self._nudged()
                lost = 0
                self._listen(raw)
            except Exception as error:  # noqa: BLE001 - polling goes on
                logger.debug("The listener lost its connection: %s", error)
            self._close()
            self._ended.wait(backoff(_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS, lost))
            lost += 1

    def _listen(self, raw: Any) -> None:
        quiet = 0.0
        while not self._ended.is_set():
            heard = list(raw.notifies(timeout=1.0, stop_after=1))
            if self._concerned(heard):
                self._ended.wait(self._pause())
                # One look finds all that was announced until now.
                self._concerned(raw.notifies(timeout=0))
                self._wake()
            quiet = 0.0 if heard else quiet + 1.0
            if quiet >= _CHECK_SECONDS:
                quiet = 0.0
                # A connection that a firewall has dropped would stay silent for ever.
                with answered_within(_ANSWER_SECONDS, self._connection):
                    raw.execute("SELECT 1")

    def _concerned(self, heard: Iterable[Any]) -> bool:
        """Whether there is work that this worker can do; what was asked of it is passed on at once."""
        found = False
        for each in heard:
            if each.channel == WORKERS:
                if each.payload == self._name:
                    self._nudged()
            elif not found:
                found = each.payload == ANY or not self._actions.isdisjoint(covering(each.payload))
        return found

    def _close(self) -> None:
        with contextlib.suppress(Exception):  # it may be broken
            self._connection.close()
        self._connection.connection = None
