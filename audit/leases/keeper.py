"""Keeps the leases of recorded work alive: one daemon thread a process, however many records are open.

The thread looks at the process's memory about once a second, and prolongs every lease when a third of it has
passed. Work shorter than that costs no connection; a longer one costs a connection of the thread's own for one
statement, closed right after, so that an idle one cannot go stale.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import psutil
from django.db import connections

from audit.leases.prolong import Hold, prolong

if TYPE_CHECKING:
    from audit.models import Task
    from audit.process.resources import Meter

__all__ = ["Keeper", "Watched", "keeper"]

logger = logging.getLogger("audit")

_SAMPLING_SECONDS = 1.0
_LINGER_SECONDS = 10.0


class Watched:
    """An open record: whose lease is to be kept, through which alias, and who measures.

    `lost` becomes true when the database says that the claim is gone.
    """

    __slots__ = ("due", "hold", "lost", "meter", "task", "tick", "using")

    def __init__(self, task: Task, hold: Hold, using: str, meter: Meter) -> None:
        self.task = task
        self.hold = hold
        self.using = using
        self.meter = meter
        self.tick = hold.lease.total_seconds() / 3
        self.due = time.monotonic() + self.tick
        self.lost = False


class Keeper:
    """Watches open records from a thread that starts with the first and ends some seconds after the last."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._watched: set[Watched] = set()
        self._thread: threading.Thread | None = None
        self._wakes_at = 0.0

    def watch(self, record: Watched) -> None:
        """Keep a lease alive from now on."""
        if self._pid != os.getpid():
            # A forked child has neither the thread nor the records, which are its parent's.
            self._forget()
        with self._changed:
            self._watched.add(record)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="audit-record-leases", daemon=True)
                self._thread.start()
            elif self._wakes_at > time.monotonic() + min(_SAMPLING_SECONDS, record.tick):
                self._changed.notify()

    def unwatch(self, record: Watched) -> None:
        """Leave a lease alone from now on; a statement that is under way may still prolong it."""
        if self._pid == os.getpid():
            with self._changed:
                self._watched.discard(record)

    def _run(self) -> None:
        process = psutil.Process()
        lingers_until = 0.0
        while True:
            with self._changed:
                now = time.monotonic()
                if self._watched:
                    lingers_until = now + _LINGER_SECONDS
                    self._wakes_at = min(now + _SAMPLING_SECONDS, *(record.due for record in self._watched))
                elif now < lingers_until:
                    self._wakes_at = lingers_until
                else:
                    self._thread = None
                    return
                self._changed.wait(max(self._wakes_at - now, 0))
                now = time.monotonic()
                watched = list(self._watched)
            if watched:
                rss = process.memory_info().rss
                for record in watched:
                    record.meter.sample(rss)
                self._prolong([record for record in watched if record.due <= now])

    def _prolong(self, due: list[Watched]) -> None:
        by_alias: dict[str, list[Watched]] = defaultdict(list)
        for record in due:
            by_alias[record.using].append(record)
        for using, records in by_alias.items():
            # Whatever happens, this thread is the last that may end.
            try:
                self._prolong_through(using, records)
            except Exception as error:  # noqa: BLE001 - the database is away, or its settings are; the work goes on
                logger.warning("The leases of %d open records could not be prolonged: %s", len(records), error)
                for record in records:
                    record.due = time.monotonic() + record.tick / 4

    def _prolong_through(self, using: str, records: list[Watched]) -> None:
        try:
            found = prolong(using, [record.hold for record in records])
        finally:
            connections[using].close()
        now = time.monotonic()
        for record in records:
            kept = found[record.hold.task_id]
            if kept.prolonged:
                record.due = now + record.tick
                record.task.cancel_requested_at = kept.cancel_requested_at
            elif kept.held:
                record.due = now + min(_SAMPLING_SECONDS, record.tick / 4)
            else:
                self._lose(record)

    def _lose(self, record: Watched) -> None:
        with self._changed:
            if record not in self._watched:
                return
            self._watched.discard(record)
        record.lost = True
        logger.error("The lease of the record %s (%s) is lost.", record.hold.task_id, record.task.action)


keeper = Keeper()
