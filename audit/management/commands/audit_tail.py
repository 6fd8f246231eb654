"""`manage.py audit_tail`: the newest tasks, and with --follow what happens next."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.core.management.base import CommandParser
from django.db import InterfaceError, OperationalError, connections

from audit.management import presentation
from audit.management.base import FINE, AuditCommand
from audit.management.output import moment, safe, sentences
from audit.management.tables import Column, Table, is_narrow, terminal_width
from audit.models import Task
from audit.process.signals import StopRequest
from audit.process.streams import read_by_others
from audit.reading.beginnings import beginnings
from audit.reading.filters import DEFAULT_WINDOW, LISTED, TaskFilter, add_arguments, span_text
from audit.reading.filters.search import found
from audit.reading.filters.values import short_id
from audit.reading.following import Change, Follower
from audit.values import moments

_CANCELLED = "57014"
_LONGEST_WAIT = 30.0
_SHOWN = ("id", "created_at", "status", "action", "summary", "services_touched", "requested_by", "actor", "revision")


class Command(AuditCommand):
    """Shows the newest tasks, and follows."""

    help = (
        "Show the newest tasks, the newest last. With --follow, also show new tasks and changes of status as they are "
        "committed, until Ctrl-C. After a restart of the database server, the command goes on."
    )
    examples = ("audit_tail --lines 20", "audit_tail --follow --status failed", "audit_tail -f -n 0 --format jsonl")
    synopsis = "[--follow] [--lines N] [--status failed] [--service billing] [--since 7d] …  (--help names all)"

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the filters of every command, and how to follow."""
        add_arguments(parser, window=LISTED)
        parser.add_argument(
            "-f", "--follow", action="store_true", help="also show new tasks and changes of status from now on"
        )
        parser.add_argument(
            "-n",
            "--lines",
            type=_lines,
            default=10,
            metavar="N",
            help="how many tasks to show first (default 10, 0 is allowed)",
        )
        parser.add_argument(
            "--interval",
            type=_seconds,
            default=1.0,
            metavar="S",
            help="with --follow, seconds between two queries (default 1)",
        )
        self.add_format(parser)

    def run(self, **options: Any) -> int:
        """Print the tasks, and follow if asked to."""
        self.refuse_endless("--follow", options)
        wanted = TaskFilter.from_options(options)
        if wanted.needs_window and wanted != wanted.within():
            wanted = wanted.within()
            self.note(f"Searched the last {span_text(DEFAULT_WINDOW)} only; --since all searches everything.")
        if not options["follow"]:
            self._begin(wanted, options)
            return FINE
        with StopRequest(read_by_others(self.stdout)) as stop:
            # A task that changes to a status is news, whatever has become of it when it is looked up.
            narrow = replace(wanted, statuses=()).apply
            follower = Follower(options["database"], lambda tasks: self._columns(narrow(tasks)), wanted.statuses)
            follower.start()
            known = self._begin(wanted, options)
            self.flush()
            self._follow(follower, known, stop, options)
        return FINE

    def _begin(self, wanted: TaskFilter, options: dict[str, Any]) -> dict[UUID, int]:
        """Print the newest tasks; returns the revisions at which they were shown."""
        tasks = self._newest(wanted, options["database"], options["lines"]) if options["lines"] else []
        if not self.for_programs:
            self._following, self._narrow = options["follow"], is_narrow()
            sample = [
                *(_row(task, self._narrow) for task in tasks),
                *([_typical(self._narrow)] if self._following else []),
            ]
            if sample:
                self._table = Table(self._titles(), map(self._cells, sample), terminal_width())
                for text in self._table.head():
                    self.line(text)
        if self.for_programs:
            self.json_each(map(_values, tasks))
        else:
            for task in tasks:
                self._show(task)
        if not tasks and options["lines"] and not options["follow"]:
            self.note("No tasks match." if wanted else "No tasks yet. Task.objects.request(…) makes one.")
        return {task.pk: task.revision for task in tasks}

    def _newest(self, wanted: TaskFilter, using: str, count: int) -> list[Task]:
        """Read the newest tasks, the newest last."""
        rows = self._columns(found(wanted, Task.objects.using(using)))
        return list(rows.order_by("-created_at", "-id")[:count])[::-1]

    def _follow(self, follower: Follower, known: dict[UUID, int], stop: StopRequest, options: dict[str, Any]) -> None:
        pause = options["interval"]
        lost = False
        while stop.wait(pause):
            try:
                for change in _news(follower.look(), known):
                    self._show(change.task, change)
                    if stop.requested:
                        break
                self.flush()
            except (OperationalError, InterfaceError) as error:
                if getattr(error.__cause__, "sqlstate", None) == _CANCELLED:
                    raise
                if not lost:
                    problem = safe(sentences(str(error))[:500])
                    self.note(f"The connection to database {options['database']!r} is lost; trying again. ({problem})")
                connections[options["database"]].close()
                pause = min(max(pause, 0.5) * 2, _LONGEST_WAIT) if lost else options["interval"]
                lost = True
            else:
                if lost:
                    self.note("Connected again; nothing is left out.")
                pause, lost = options["interval"], False

    def _columns(self, tasks: Any) -> Any:
        return beginnings(tasks if self.for_programs else tasks.only(*_SHOWN), "summary")

    def _show(self, task: Task, change: Change | None = None) -> None:
        if self.for_programs:
            self.json(_values(task, change))
        else:
            self.line(self._table.line(self._cells(_row(task, self._narrow, change))))

    def _titles(self) -> tuple[Column, ...]:
        titles = (
            Column(title=f"At ({presentation.zone()})", rank=1),
            Column(title="Was", rank=5),
            Column(title="Status", paint=self.paint),
            Column(title="Id"),
            Column(title="Action", least=8, rank=2),
            Column(title="Summary", least=16),
            Column(title="Services", least=8, rank=3),
            Column(title="By", name=True, least=6, rank=4),
        )
        return self._cells(titles)

    def _cells(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Leave out what a task was before, unless changes are shown."""
        return row if self._following else (row[0], *row[2:])

    _following = _narrow = False
    _table: Table


def _news(changes: Iterator[Change], known: dict[UUID, int]) -> Iterator[Change]:
    """Pass over what the first lines have shown already."""
    return (each for each in changes if each.row.revision is None or each.row.revision > known.get(each.task.pk, 0))


def _values(task: Task, change: Change | None = None) -> dict[str, Any]:
    return presentation.task_values(task) | {"change": presentation.log_values(change.row) if change else None}


def _row(task: Task, narrow: bool, change: Change | None = None) -> tuple[object, ...]:
    key = short_id(task.pk) if narrow else task.pk
    at = change.row.at if change else task.created_at
    was = (change.row.from_status or "new") if change else ""
    status = change.row.to_status if change else task.status
    by = change.row.actor if change else task.requested_by or task.actor
    services = ", ".join(task.services_touched)
    when = presentation.short_moment(at, moments.now()) if narrow else moment(at)
    return (when, was, status, key, task.action, task.summary, services, by)


def _typical(narrow: bool) -> tuple[str, ...]:
    """What a line may hold that comes later, so that the widths of the first ones do for all."""
    at, key = (14, 18) if narrow else (19, 36)
    return ("x" * at, "executing", "completed", "x" * key, "x" * 14, "x" * 32, "x" * 16, "x" * 12)


def _lines(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 7:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 0 to 9999999")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 3600")
    return seconds
