"""`manage.py audit_show ID`: one task's whole story."""

from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from audit.filters import add_database, positive
from audit.filters.lookup import find_task
from audit.management import story
from audit.management.base import FINE, AuditCommand
from audit.management.output import terminal_width
from audit.models import ExecutionLog, PauseQueueEntry, Task


class Command(AuditCommand):
    """Shows tasks."""

    help = "Show everything about a task: facts, durations, outcome, plan, suggestions and the execution log in order."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take ids, and how much of the log to show."""
        parser.add_argument("ids", nargs="+", metavar="ID", help="a task's id, or as many of its first digits as do")
        parser.add_argument(
            "--log", type=positive, default=1000, metavar="N", help="at most so many rows of its log (default 1000)"
        )
        add_database(parser)
        self.add_format(parser)

    def run(self, **options: Any) -> int:
        """Print each task's story."""
        using = options["database"]
        for number, text in enumerate(options["ids"]):
            task = find_task(text, Task.objects.using(using))
            log = list(ExecutionLog.objects.using(using).of(task)[: options["log"] + 1])
            more, log = len(log) > options["log"], log[: options["log"]]
            entry = PauseQueueEntry.objects.using(using).filter(task_id=task.pk).first()
            if options["format"] == "json":
                self._json(task, log, entry, more)
                continue
            if number:
                self.line()
            for line in story.story(
                task, log, entry, more_log=more, heading=self.heading, paint=self.paint, width=terminal_width()
            ):
                self.line(line)
        return FINE

    def _json(self, task: Task, log: list[ExecutionLog], entry: PauseQueueEntry | None, more: bool) -> None:
        self.json(
            story.task_values(task)
            | {
                "pause_entry": story.entry_values(entry, timezone.now()) if entry else None,
                "log": [story.log_values(row) for row in log],
                "log_complete": not more,
            }
        )
