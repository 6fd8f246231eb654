"""The audit browser: read-only pages on the stock admin.

On an `AdminSite` of your own: `register(my_site)`.
"""

from django.contrib import admin

from audit.admin.integrity.page import LedgerVerificationAdmin
from audit.admin.log.page import ExecutionLogAdmin
from audit.admin.queue.page import PauseQueueEntryAdmin
from audit.admin.tasks.page import TaskAdmin
from audit.models import ExecutionLog, LedgerVerification, PauseQueueEntry, Task

__all__ = ["ExecutionLogAdmin", "LedgerVerificationAdmin", "PauseQueueEntryAdmin", "TaskAdmin", "register"]


def register(site: admin.AdminSite) -> None:
    """Put the pages of the audit browser on an admin site."""
    site.register(Task, TaskAdmin)
    site.register(ExecutionLog, ExecutionLogAdmin)
    site.register(PauseQueueEntry, PauseQueueEntryAdmin)
    site.register(LedgerVerification, LedgerVerificationAdmin)


register(admin.site)
