"""Runs approved work unattended: `@handler` says what an action does, a `Worker` claims and runs it.

`worker` takes the options, `shift` decides, `intake` claims, `places` runs handlers in `children` and `in_process`,
`clerk` speaks with the database, `run` is what a handler gets.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit.worker.handlers import Handler, handler
    from audit.worker.run import Run
    from audit.worker.summary import Summary
    from audit.worker.worker import Worker

__all__ = ["Handler", "Run", "Summary", "Worker", "handler"]

_HOMES = {"Handler": "handlers", "handler": "handlers", "Run": "run", "Summary": "summary", "Worker": "worker"}


def __getattr__(name: str) -> Any:
    # Not at import: a module that declares handlers needs neither the worker nor the models.
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(f"audit.worker.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
