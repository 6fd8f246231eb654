"""An audit trail of tasks that PostgreSQL itself enforces."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit.recording import record
    from audit.worker.handlers import handler

__all__ = ["handler", "record"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Not at import: Django imports this package before its settings are complete.
    if name == "record":
        from audit.recording import record

        return record
    if name == "handler":
        from audit.worker.handlers import handler

        return handler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
