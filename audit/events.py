"""Events that paused work waits for: emitted once under a name, kept, and passed to the work that waits.

Note [Emit and pause at the same moment]
    Neither transaction sees the other, so the pause may be stored beside an event that was emitted already. So both
    look once more when they have committed: whoever commits last sees the other. What a killed process leaves there
    waits until the next `audit.recovery.recover`.
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections, router, transaction

from audit.exceptions import InvalidValue
from audit.leases.wakeup import ANY, announce
from audit.models import Event
from audit.statements.retry import persistently, reconnecting
from audit.statements.rows import columns, fetch
from audit.values import validation
from audit.verbs.arguments import acting, jsonb
from audit.verbs.end_waits import PausedWork, end_waits
from audit.verbs.pausing import MAX_EVENT_NAME, AwaitedEvent

__all__ = ["MAX_PAYLOAD_BYTES", "AwaitedEvent", "aemit_event", "emit_event"]

MAX_PAYLOAD_BYTES = 64 * 1024
"""The largest payload of an event: everybody who waits gets a copy into the log."""
_AT_ONCE = 10_000
_THIS = PausedWork(where="entry.event = %s AND entry.event <> ''")


def emit_event(name: str, payload: Any = None, *, actor: str | None = None, using: str | None = None) -> Event:
    """Say that something has happened, and let the work go on that waits for it, in one transaction.

    The first emit of a name is kept; a later one returns it, unchanged, and lets go on who waits by then. An event may
    come before the pause: the work then goes on at once. Of more than 10 000 that wait, or while somebody changes one
    of them, the rest is left to the next recovery.

    Args:
        name: what happened, at most 200 characters, such as `build-42`; what may happen again needs a new name.
        payload: what those who wait should know, any JSON of at most 64 KiB.
        actor: who says so; the `actor` block when left out, else the database role is named.
        using: the alias to write through.

    Returns:
        The event as it is kept: the first of this name.

    Raises:
        InvalidValue: an empty or long name, or a payload that cannot be stored or is too large.
    """
    validation.label("name", name, max_length=MAX_EVENT_NAME)
    text = jsonb("payload", payload)
    if text is not None and len(text.encode()) > MAX_PAYLOAD_BYTES:
        raise InvalidValue(
            "payload", f"{len(text.encode())} bytes of JSON", f"has more than {MAX_PAYLOAD_BYTES}; store a reference"
        )
    db = using or router.db_for_write(Event)
    who = acting(actor)

    def look() -> None:
        if end_waits(db, _THIS, [name], limit=_AT_ONCE, actor=who):
            announce(db, [ANY])

    def attempt() -> Event:
        with transaction.atomic(using=db, savepoint=False):
            event = _kept(db, name, text, who)
            look()
            # Note [Emit and pause at the same moment]
            transaction.on_commit(look, using=db, robust=True)
        return event

    connection = connections[db]
    # Repeated, it finds the event that it kept itself.
    return reconnecting(connection, lambda: persistently(connection, attempt))


async def aemit_event(*args: Any, **kwargs: Any) -> Event:
    """Emit from async code; see `emit_event`."""
    return await sync_to_async(emit_event)(*args, **kwargs)


def _kept(db: str, name: str, payload: str | None, actor: str) -> Event:
    """Insert the event, or find the one that is kept."""
    sql = (
        "INSERT INTO audit_event (name, payload, emitted_by) VALUES (%s, %s::jsonb, %s) ON CONFLICT (name) DO NOTHING"  # noqa: S608 - column names of our own model; every value is a parameter
        f" RETURNING {columns(Event, 'audit_event')}"
    )
    made = fetch(Event, db, sql, [name, payload, actor])
    return made[0] if made else Event.objects.using(db).get(name=name)
