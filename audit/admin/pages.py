"""The classes of the pages, as an admin site has them. Tasks have two pages, their list and the page of one."""

from audit.admin.agents.page import AgentAdmin
from audit.admin.decide.view import DecidingAdmin
from audit.admin.events.page import EventAdmin
from audit.admin.integrity.page import LedgerVerificationAdmin
from audit.admin.log.page import ExecutionLogAdmin
from audit.admin.queue.page import PauseQueueEntryAdmin
from audit.admin.statistics.page import StatisticsAdmin
from audit.admin.task.page import TaskPageAdmin
from audit.admin.tasks.page import TaskListAdmin

__all__ = [
    "AgentAdmin",
    "EventAdmin",
    "ExecutionLogAdmin",
    "LedgerVerificationAdmin",
    "PauseQueueEntryAdmin",
    "TaskAdmin",
]


class TaskAdmin(TaskListAdmin, TaskPageAdmin, StatisticsAdmin, DecidingAdmin):
    """What was asked, who decided, who did it, and how it ended."""
