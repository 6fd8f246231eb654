"""The audit browser: read-only pages on the stock admin.

On an `AdminSite` of your own: `register(my_site)`. Each folder is a page; pages share `shared` and `decide`, and know
nothing of each other. Tasks have two, their list and the page of one, which are put together here.
"""

from django.contrib import admin

from audit.admin.agents.page import AgentAdmin
from audit.admin.decide.view import DecidingAdmin
from audit.admin.events.page import EventAdmin
from audit.admin.integrity.page import LedgerVerificationAdmin
from audit.admin.log.page import ExecutionLogAdmin
from audit.admin.queue.page import PauseQueueEntryAdmin
from audit.admin.statistics.page import StatisticsAdmin
from audit.admin.task.page import TaskPageAdmin
from audit.admin.tasks.page import TaskListAdmin
from audit.models import Agent, Event, ExecutionLog, LedgerVerification, PauseQueueEntry, Task

__all__ = [
    "AgentAdmin",
    "EventAdmin",
    "ExecutionLogAdmin",
    "LedgerVerificationAdmin",
    "PauseQueueEntryAdmin",
    "TaskAdmin",
    "register",
]


class TaskAdmin(TaskListAdmin, TaskPageAdmin, StatisticsAdmin, DecidingAdmin):
    """What was asked, who decided, who did it, and how it ended."""


def register(site: admin.AdminSite) -> None:
    """Put the pages of the audit browser on an admin site."""
    site.register(Task, TaskAdmin)
    site.register(ExecutionLog, ExecutionLogAdmin)
    site.register(PauseQueueEntry, PauseQueueEntryAdmin)
    site.register(Agent, AgentAdmin)
    site.register(Event, EventAdmin)
    site.register(LedgerVerification, LedgerVerificationAdmin)


register(admin.site)
