"""`manage.py audit_show ID`: all about one task."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from audit.exceptions import InvalidFilter
from audit.management import presentation
from audit.management.base import FAILED, FINE, UNABLE, AuditCommand
from audit.management.output import safe
from audit.management.presentation import Details
from audit.management.tables import terminal_width
from audit.management.waiting import why_it_waits
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.reading.beginnings import beginnings
from audit.reading.filters import add_database, positive
from audit.reading.filters.lookup import find_task
from audit.reading.seal_state import seal_of
from audit.values import moments


class Command(AuditCommand):
    """Shows tasks."""

    exits = "0 fine, 1 some of several tasks were not found, 2 could not do it"
    help = (
        "Show everything about one or more tasks: facts, why they wait, durations, seal, outcome, plan, suggestions "
        "and the execution log."
    )
    examples = ("audit_show 019bd8a3-1b2c-7d4e", "audit_show 019bd8a3-1b2c-7d4e --format json")

    def add_arguments(self, parser: CommandParser) -> None:
        """Take ids, and how much of the log to show."""
        parser.add_argument(
            "ids", nargs="+", metavar="ID", help="a task's id, or enough of its first digits to name one task"
        )
        parser.add_argument(
            "--log",
            type=positive,
            default=1000,
            metavar="N",
            help="show at most N rows of each execution log (default 1000)",
        )
        add_database(parser)
        self.add_format(parser)

    def run(self, **options: Any) -> int:
        """Print each task."""
        found = self._found(options)
        if not self.for_programs:
            for number, (task, details) in enumerate(found):
                if number:
                    self.line()
                for line in presentation.task_page(
                    task, details, heading=self.heading, paint=self.paint, width=terminal_width()
                ):
                    self.line(line)
        elif len(options["ids"]) == 1:
            for task, details in found:
                self.json(_values(task, details))
        else:
            self.json_each(_values(task, details) for task, details in found)
        if self._shown < len(options["ids"]):
            return FAILED if self._shown else UNABLE
        return FINE

    def _found(self, options: dict[str, Any]) -> Iterator[tuple[Task, Details]]:
        """Yield the tasks that are there; of several, those that are not are noted."""
        using, several, self._shown = options["database"], len(options["ids"]) > 1, 0
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
            self._shown += 1
            entry = beginnings(PauseQueueEntry.objects.using(using), "note").filter(task_id=task.pk).first()
            yield (
                task,
                Details(
                    log=log[: options["log"]],
                    more_log=len(log) > options["log"],
                    entry=entry,
                    seal=seal_of(task.pk, using),
                    waits=[] if self.for_programs else why_it_waits(task, entry, using, moments.now()),
                ),
            )

    _shown = 0


def _values(task: Task, details: Details) -> dict[str, Any]:
    entry = details.entry
    return presentation.task_values(task) | {
        "pause_entry": presentation.entry_values(entry, moments.now()) if entry else None,
        "seal": asdict(details.seal),
        "log": [presentation.log_values(row) for row in details.log],
        "log_complete": not details.more_log,
    }
