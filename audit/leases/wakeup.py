"""NOTIFY: tells workers that there is work, or that something was asked of one, so that they look at once.

It is a courtesy: sent after the commit that made the work claimable, by the application and never by a trigger, in a
statement of its own. Where it is lost, workers find the work when they look, and hear the rest with their heartbeats.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable

from django.db import connections, transaction

from audit import conf

__all__ = ["ANY", "CHANNEL", "WORKERS", "announce", "notify", "nudge"]

logger = logging.getLogger("audit")

CHANNEL = "audit_task"
"""The channel; the payload of each notification is an action, or `ANY`."""
ANY = ""
"""The payload for work of any action."""
WORKERS = "audit_worker"
"""The other channel; the payload of each notification is the name of the worker of which something was asked."""


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


def notify(using: str, actions: Iterable[str], *, channel: str = CHANNEL) -> None:
    """Tell workers now; what goes wrong is logged, for the work stands.

    Args:
        using: the alias of the database.
        actions: kinds of work that there is, or other payloads.
        channel: to whom.
    """
    try:
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, action) FROM unnest(%s::text[]) AS action", [channel, list(actions)])
    except Exception as error:  # noqa: BLE001 - whatever it is: polling finds the work
        logger.warning("Workers could not be notified; they find the work when they look next: %s", error)
        with contextlib.suppress(Exception):
            connections[using].close_if_unusable_or_obsolete()
