"""Helpers for the tests of a project with this app.

Audit tables refuse TRUNCATE, and a flush is a TRUNCATE. `TransactionTestCase`, `LiveServerTestCase` and pytest-django's
`transactional_db` flush after every test. Under pytest, the plugin of this distribution lets that flush through. For
unittest runners, use `audit.testing.runner.AuditDiscoverRunner`, or `GuardedFlushMixin` for single classes.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit.testing.flush import GuardedFlushMixin, flushable
    from audit.testing.refusal import Refusal, refused

__all__ = ["GuardedFlushMixin", "Refusal", "flushable", "refused"]

_HOMES = {"GuardedFlushMixin": "flush", "flushable": "flush", "Refusal": "refusal", "refused": "refusal"}


def __getattr__(name: str) -> Any:
    # Lazy, because pytest imports this package for its plugin in projects that have nothing to do with Django.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
