"""An audit trail of tasks that PostgreSQL itself enforces."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit.recording import record

__all__ = ["record"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Not at import: Django imports this package before its settings are complete.
    if name == "record":
        from audit.recording import record

        return record
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
