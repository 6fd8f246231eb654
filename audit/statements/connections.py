"""Connections of a thread's own: never one of a pool, of which the work may hold the last until it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["LIVENESS", "Destination", "is_direct", "own"]

LIVENESS: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Options of connections that must notice a network that drops what it is given; the system would wait for hours."""


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
