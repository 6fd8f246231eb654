"""`manage.py audit_show ID`: all about one task."""

from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from audit.exceptions import InvalidFilter
from audit.management import presentation
from audit.management.base import FAILED, FINE, UNABLE, AuditCommand
from audit.management.output import safe, terminal_width
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.reading.beginnings import beginnings
from audit.reading.filters import add_database, positive
from audit.reading.filters.lookup import find_task
from audit.reading.seal_state import TaskSeal, seal_of
from audit.values import moments


class Command(AuditCommand):
    """Shows tasks."""

    exits = "0 fine, 1 some of several are not there, 2 could not do it"
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
        """Print each task."""
        using, several, shown = options["database"], len(options["ids"]) > 1, 0
        for text in options["ids"]:
            try:
                task = find_task(text, beginnings(Task.objects.using(using), "summary"))
            except InvalidFilter as error:
                if not several:
                    raise
                self.note(safe(error))
                continue
            rows = beginnings(ExecutionLog.objects.using(using).of(task), "output_summary")
            log = list(rows[: options["log"] + 1])
            more, log = len(log) > options["log"], log[: options["log"]]
            entry = beginnings(PauseQueueEntry.objects.using(using), "note").filter(task_id=task.pk).first()
            seal = seal_of(task.pk, using)
            shown += 1
            if options["format"] == "json":
                self._json(task, log, entry, seal, more)
                continue
            if shown > 1:
                self.line()
            for line in presentation.task_page(
                task, log, entry, seal, more_log=more, heading=self.heading, paint=self.paint, width=terminal_width()
            ):
                self.line(line)
        if shown < len(options["ids"]):
            return FAILED if shown else UNABLE
        return FINE

    def _json(
        self, task: Task, log: list[ExecutionLog], entry: PauseQueueEntry | None, seal: TaskSeal, more: bool
    ) -> None:
        self.json(
            presentation.task_values(task)
            | {
                "pause_entry": presentation.entry_values(entry, moments.now()) if entry else None,
                "seal": asdict(seal),
                "log": [presentation.log_values(row) for row in log],
                "log_complete": not more,
            }
        )
