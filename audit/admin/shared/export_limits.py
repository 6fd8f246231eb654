"""How many exports run at once, and how long one waits for its reader: connections are kept for pages.

Note [Two bounds]
    A file that is sent holds a connection to the database and a thread of the server. The thread is held until the
    reader has read or left, so each process counts its own (`Slot`). The connection is held in every process, so the
    database counts them all (`reserve`), by locks that end with the transaction of the export, whatever becomes of the
    process. Who takes these locks otherwise keeps people from exports, and from nothing else.

Note [Readers that do not read]
    A server waits as long as its reader, inside of a write that nothing here can end. The database ends the
    transaction instead, when nothing was fetched for `IDLE_MS`. A reader who takes a little now and then is ended by
    the average (`Patience`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter

from django.db import connections

__all__ = ["IDLE_MS", "IN_ALL", "PER_USER", "Patience", "Slot", "TooManyExports", "TooSlow", "look", "reserve"]

PER_USER = 2
"""How many exports of one person run at once."""
IN_ALL = 8
"""How many exports run at once."""
IDLE_MS = 30_000
"""How long an export waits for its reader between two pieces, in milliseconds."""
_GRACE_S = 60
_SLOWEST_BYTES_PER_S = 16 * 1024

_lock = threading.Lock()
_running: Counter[str] = Counter()


class TooManyExports(Exception):
    """No more exports may run now."""


class TooSlow(Exception):
    """The reader takes too long."""


class Slot:
    """A place among the exports of this process, until it is given back or forgotten.

    Args:
        user: who exports.

    Raises:
        TooManyExports: there is none.
    """

    def __init__(self, user: str) -> None:
        self._user: str | None = None
        with _lock:
            if _running.get(user, 0) >= PER_USER or _running.total() >= IN_ALL:
                raise TooManyExports
            _running[user] += 1
        self._user = user

    def leave(self) -> None:
        """Give the place back; once more is once."""
        user, self._user = self._user, None
        if user is not None:
            with _lock:
                _running[user] -= 1
                if not _running[user]:
                    del _running[user]

    def __del__(self) -> None:
        self.leave()


_PLACES = "FROM generate_series(1, %s) AS place (number), hashtext(%s) AS whose (key)"
# A try would take what another export is about to take.
_FREE = f"""
SELECT true {_PLACES}
WHERE NOT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid::bigint = (key::bigint + 4294967296) %% 4294967296 AND objid::bigint = number AND objsubid = 2
      AND granted AND pid <> pg_backend_pid()
) LIMIT 1
"""  # noqa: S608 - no values
_TAKE = f"SELECT true {_PLACES} WHERE pg_try_advisory_xact_lock(key, number) LIMIT 1"


def look(using: str, user: str) -> None:
    """See whether there is a place among the exports of all processes.

    Raises:
        TooManyExports: there is none.
    """
    _each(_FREE, using, user)


def reserve(using: str, user: str) -> None:
    """Take a place among the exports of all processes, until the transaction ends.

    Raises:
        TooManyExports: there is none.
    """
    _each(_TAKE, using, user)


def _each(sql: str, using: str, user: str) -> None:
    for places, whose in ((PER_USER, f"audit export of {user}"), (IN_ALL, "audit export")):
        with connections[using].cursor() as cursor:
            cursor.execute(sql, [places, whose])
            if cursor.fetchone() is None:
                raise TooManyExports


class Patience:
    """Measures how long a reader lets an export wait."""

    def __init__(self) -> None:
        self._waited = 0.0
        self._sent = 0
        self._since = 0.0

    def begin(self, size: int) -> None:
        """Note that so many characters are handed to the reader."""
        self._sent += size
        self._since = time.monotonic()

    def end(self) -> None:
        """Note that they were taken.

        Raises:
            TooSlow: on average too little is read.
        """
        self._waited += time.monotonic() - self._since
        if self._waited > _GRACE_S + self._sent / _SLOWEST_BYTES_PER_S:
            raise TooSlow(f"{self._sent} characters in {self._waited:.0f} s")
