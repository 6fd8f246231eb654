"""An audit trail of tasks that PostgreSQL itself enforces."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit.events import aemit_event, emit_event
    from audit.recording import record
    from audit.worker.handlers import handler

__all__ = ["aemit_event", "emit_event", "handler", "record"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Not at import: Django imports this package before its settings are complete.
    if name == "record":
        from audit.recording import record

        return record
    if name in ("emit_event", "aemit_event"):
        from audit import events

        return getattr(events, name)
    if name == "handler":
        from audit.worker.handlers import handler

        return handler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
