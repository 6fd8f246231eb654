"""`manage.py audit_resume`: resume paused work that is due and for which there is capacity."""

from __future__ import annotations

import random
from typing import Any

from django.core.management.base import CommandParser
from django.db import Error, connections

from audit.management.base import FINE, PASS_SECONDS, UNABLE, AuditCommand
from audit.management.output import count
from audit.models import PauseQueueEntry, Task
from audit.pausing import PauseManager
from audit.process.signals import StopRequest
from audit.reading.filters import add_database, positive
from audit.statements.answers import answered_within

_COUNTED = 1000


class Command(AuditCommand):
    """Resumes what is due and fits."""

    model = PauseQueueEntry
    writes = True
    outcome = UNABLE
    help = (
        "Resume paused tasks that are due: those that somebody paused until a time, and those that waited for "
        "capacity, as many as there are free slots. Workers do this by themselves. Run this command only if no worker "
        "runs."
    )
    examples = ("audit_resume", "audit_resume --loop --interval 5 --format jsonl")
    exits = "0 done, 2 could not do it"

    def add_arguments(self, parser: CommandParser) -> None:
        """Take how much and how often."""
        parser.add_argument(
            "--limit",
            type=positive,
            default=100,
            metavar="N",
            help="resume at most N tasks in one pass (default 100)",
        )
        parser.add_argument("--loop", action="store_true", help="repeat until a signal stops it")
        parser.add_argument(
            "--interval",
            type=positive,
            default=5,
            metavar="SECONDS",
            help="with --loop, seconds between two passes (default 5)",
        )
        add_database(parser)
        self.add_format(parser)

    def run(self, **options: Any) -> int:
        """Make a pass, or many."""
        self.refuse_endless("--loop", options)
        if not options["loop"]:
            due = PauseQueueEntry.objects.using(options["database"]).due()[: _COUNTED + 1].count()
            resumed = self._pass(options)
            self._print(resumed, options)
            if not resumed:
                self.routine(_why_none(due))
            return FINE
        with StopRequest() as stop:
            self.note(f"Resuming every {options['interval']} s until stopped.")
            while not stop.requested:
                try:
                    with answered_within(PASS_SECONDS, connections[options["database"]]):
                        resumed = self._pass(options)
                    self._print(resumed, options)
                except Error as error:
                    problem = str(error).partition("\n")[0]
                    self.note(f"The database cannot be used: {problem}. Trying again.")
                    connections[options["database"]].close()
                # Those that began together must not look together.
                stop.wait(options["interval"] * random.uniform(0.5, 1.0))  # noqa: S311 - a wait, no secret
        return FINE

    def _pass(self, options: dict[str, Any]) -> list[Task]:
        return PauseManager(options["database"]).resume_due(options["limit"])

    def _print(self, tasks: list[Task], options: dict[str, Any]) -> None:
        self.acted = self.acted or bool(tasks)
        if self.for_programs:
            self.json_each({"task_id": task.pk, "action": task.action, "priority": task.priority} for task in tasks)
        elif tasks:
            self.line(f"Resumed {count(len(tasks), 'task')}.")
        self.flush()


def _why_none(due: int) -> str:
    if not due:
        return "Nothing is due."
    number = f"More than {_COUNTED} tasks" if due > _COUNTED else count(due, "task")
    return f"{number} {'is' if due == 1 else 'are'} due, and no agent has room; audit_agents shows what is free."
