"""Keeps leases alive: one daemon thread a process, however many claims its workers and records hold.

The thread prolongs a lease when a third of it has passed. Work shorter than that costs no connection; a longer one
costs a connection of the thread's own for one statement, closed right after, so that an idle one cannot go stale.

Note [Whose connection]
    The thread's connection leads where the caller's connection of the alias led when it called `keep`. Its session is
    set as the one that took the lease (`Lease.session`). It is never one of a pool: the work may hold the last of those
    until it ends, and by then its lease has run out.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.db import connections

from audit.leases.prolong import Lease, prolong
from audit.statements.answers import answered_within
from audit.statements.connections import LIVENESS, Destination

__all__ = ["KeptLease", "LeaseKeeper", "keeper"]

logger = logging.getLogger("audit")

_TICK_SECONDS = 1.0
_LOCKED_AGAIN_SECONDS = 1.0
_LINGER_SECONDS = 10.0
_ANSWER_MS = 10_000  # so that there is time for another try before the lease ends


def _nothing(*_: Any) -> None:
    """What happens where nobody asked to be called."""


class KeptLease:
    """A lease under the keeper's care; `LeaseKeeper.keep` makes them."""

    __slots__ = ("destination", "due", "lease", "lost", "on_cancel_requested", "on_lost", "on_tick", "period")

    def __init__(
        self,
        lease: Lease,
        on_lost: Callable[[], object],
        on_cancel_requested: Callable[[datetime], object],
        on_tick: Callable[[], object] | None,
    ) -> None:
        self.lease = lease
        self.destination = Destination.of(connections[lease.using], **LIVENESS | {"tcp_user_timeout": _ANSWER_MS})
        self.on_lost = on_lost
        self.on_cancel_requested = on_cancel_requested
        self.on_tick = on_tick
        self.period = lease.duration.total_seconds() / 3
        self.due = time.monotonic() + self.period
        self.lost = False
        """Whether the database said that the claim is gone."""

    def wakes_at(self, now: float) -> float:
        """The moment at which the thread must next look after this lease, on the monotonic clock."""
        return self.due if self.on_tick is None else min(self.due, now + _TICK_SECONDS)


class LeaseKeeper:
    """Keeps leases from a thread that starts with the first and ends some seconds after the last.

    A forked child has neither the thread nor the leases, which are its parent's; it may keep leases of its own.
    """

    def __init__(self) -> None:
        self._forget_all()

    def _forget_all(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._kept: set[KeptLease] = set()
        self._thread: threading.Thread | None = None
        self._wakes_at = 0.0

    def keep(
        self,
        lease: Lease,
        *,
        on_lost: Callable[[], object],
        on_cancel_requested: Callable[[datetime], object] = _nothing,
        on_tick: Callable[[], object] | None = None,
    ) -> KeptLease:
        """Keep a lease alive from now on, until `forget`, or until it is lost.

        The callbacks run in the keeper's thread, which prolongs nothing meanwhile: they must be short. One that
        raises is logged.

        Args:
            lease: just taken or prolonged; its first prolongation is due after a third of its duration.
            on_lost: called once, when the database says that the claim is gone.
            on_cancel_requested: called with the moment of the request, at each prolongation from the request on.
            on_tick: called about once a second.

        Returns:
            What `forget` takes.
        """
        if self._pid != os.getpid():
            self._forget_all()
        kept = KeptLease(lease, on_lost, on_cancel_requested, on_tick)
        with self._changed:
            self._kept.add(kept)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="audit-leases", daemon=True)
                self._thread.start()
            elif self._wakes_at > kept.wakes_at(time.monotonic()):
                self._changed.notify()
        return kept

    def hurry(self, kept: KeptLease) -> None:
        """Prolong a lease now, which also asks whether a person wants the work to stop."""
        if self._pid == os.getpid():
            with self._changed:
                kept.due = 0.0
                self._changed.notify()

    def forget(self, kept: KeptLease) -> None:
        """Leave a lease alone from now on; a statement that is under way may still prolong it."""
        if self._pid == os.getpid():
            with self._changed:
                self._kept.discard(kept)

    def _run(self) -> None:
        lingers_until = 0.0
        while True:
            with self._changed:
                now = time.monotonic()
                if self._kept:
                    lingers_until = now + _LINGER_SECONDS
                    self._wakes_at = min(each.wakes_at(now) for each in self._kept)
                elif now < lingers_until:
                    self._wakes_at = lingers_until
                else:
                    self._thread = None
                    return
                self._changed.wait(max(self._wakes_at - now, 0))
                now = time.monotonic()
                kept = list(self._kept)
            for each in kept:
                if each.on_tick is not None:
                    _call(each, each.on_tick)
            if any(each.due <= now for each in kept):
                # With those that would be due soon: what was claimed together is prolonged together.
                self._prolong([each for each in kept if each.due - each.period / 10 <= now])

    def _prolong(self, due: list[KeptLease]) -> None:
        alike: list[list[KeptLease]] = []
        for each in due:
            for kept in alike:
                if (kept[0].lease.session, kept[0].destination) == (each.lease.session, each.destination):
                    kept.append(each)
                    break
            else:
                alike.append([each])
        for kept in alike:
            # Whatever happens, this thread is the last that may end.
            try:
                self._prolong_alike(kept)
            except Exception as error:  # noqa: BLE001 - the database is away, or its settings are; the work goes on
                logger.warning("%s could not be prolonged: %s", _named(kept), error)
                for each in kept:
                    each.due = time.monotonic() + each.period / 4

    def _prolong_alike(self, kept: list[KeptLease]) -> None:
        planned = {each: each.due for each in kept}
        connection = kept[0].destination.connect()
        try:
            with answered_within(_ANSWER_MS / 1000, connection):
                found = prolong(connection, [each.lease for each in kept])
        finally:
            connection.close()
        now = time.monotonic()
        for each in kept:
            state = found[each.lease.task_id, each.lease.token]
            if state.prolonged:
                if each.due == planned[each]:  # else `hurry` came after the statement, which may not have seen why
                    each.due = now + each.period
                if state.cancel_requested_at is not None:
                    _call(each, each.on_cancel_requested, state.cancel_requested_at)
            elif state.locked:
                each.due = now + min(_LOCKED_AGAIN_SECONDS, each.period / 4)
            else:
                self._lose(each)

    def _lose(self, kept: KeptLease) -> None:
        with self._changed:
            if kept not in self._kept:
                return
            self._kept.discard(kept)
        kept.lost = True
        _call(kept, kept.on_lost)


def _named(kept: list[KeptLease]) -> str:
    lease = kept[0].lease
    session = f", search_path {lease.session.search_path}, role {lease.session.role}" if lease.session else ""
    return f"{len(kept)} leases (task {lease.task_id}; database {kept[0].destination.alias!r}{session})"


def _call(kept: KeptLease, callback: Callable[..., object], *args: object) -> None:
    try:
        callback(*args)
    except Exception:
        logger.exception("A callback of the lease of task %s failed.", kept.lease.task_id)


keeper = LeaseKeeper()
"""The keeper of this process."""
