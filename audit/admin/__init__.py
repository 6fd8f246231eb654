"""The audit browser: read-only pages on the stock admin.

On an `AdminSite` of your own: `register(my_site)`. Each folder is a page; pages share `shared` and `decide`, and know
nothing of each other. `pages` puts together what a site gets.
"""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Model
from django.utils.functional import SimpleLazyObject

from audit.models import Agent, Event, ExecutionLog, LedgerVerification, PauseQueueEntry, Task

if TYPE_CHECKING:
    from audit.admin.pages import (
        AgentAdmin,
        EventAdmin,
        ExecutionLogAdmin,
        LedgerVerificationAdmin,
        PauseQueueEntryAdmin,
        TaskAdmin,
    )

__all__ = [
    "AgentAdmin",
    "EventAdmin",
    "ExecutionLogAdmin",
    "LedgerVerificationAdmin",
    "PauseQueueEntryAdmin",
    "TaskAdmin",
    "register",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from audit.admin import pages

    return getattr(pages, name)


class _Pages(SimpleLazyObject):  # type: ignore[type-arg]  # generic in the stubs only
    """The pages of a model on a site, made when something is first asked of them.

    Django loads this package in every command and every child of a worker, where nobody looks at a page; and the pages
    import most of the app.
    """

    def __init__(self, model: type[Model], site: admin.AdminSite) -> None:
        super().__init__(lambda: __getattr__(f"{model.__name__}Admin")(model, site))


def register(site: admin.AdminSite) -> None:
    """Put the pages of the audit browser on an admin site."""
    for model in (Task, ExecutionLog, PauseQueueEntry, Agent, Event, LedgerVerification):
        site.register(model, _Pages)  # type: ignore[arg-type]  # an instance passes for one of the model's `ModelAdmin`


register(admin.site)
