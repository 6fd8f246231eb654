"""`manage.py audit_list`: which tasks there are, newest first."""

from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction
from django.db.models import Q

from audit.management import presentation
from audit.management.base import FINE, AuditCommand
from audit.management.output import duration, moment, safe
from audit.management.tables import Column, is_narrow
from audit.models import Task
from audit.models.querysets.search_text import fails_with
from audit.reading.beginnings import beginnings
from audit.reading.filters import DEFAULT_WINDOW, LISTED, TaskFilter, add_arguments, span_text
from audit.reading.filters.actors import close_to, is_pattern
from audit.reading.filters.build import quoted
from audit.reading.filters.lookup import find_task
from audit.reading.filters.search import found
from audit.reading.filters.values import GROUPS, short_id
from audit.reading.spans import COLUMNS
from audit.status import Status
from audit.values import moments


class Command(AuditCommand):
    """Lists tasks."""

    help = "List tasks, newest first. For the next page, repeat the command with --before and the last id."
    examples = (
        "audit_list --status failed --since 7d",
        "audit_list --service billing --search 'timeout outcome.exit_code:1'",
        "audit_list --since all --limit 100000 --format jsonl",
    )
    synopsis = "[--status failed] [--service billing] [--since 7d] [--search TEXT] …  (--help names all)"

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the filters of every command, and where to go on."""
        add_arguments(parser, limit=50, window=LISTED)
        parser.add_argument(
            "--before", metavar="ID", help="start after this task of an earlier list: its id, or the first digits of it"
        )
        self.add_format(parser)

    def run(self, **options: Any) -> int:
        """Print the tasks."""
        wanted = TaskFilter.from_options(options)
        if wanted.needs_window and wanted != wanted.within():
            wanted = wanted.within()
            self.note(f"Searched the last {span_text(DEFAULT_WINDOW)} only; --since all searches everything.")
        tasks = Task.objects.using(options["database"])
        rows = found(wanted, tasks)
        if options["before"]:
            last = find_task(options["before"], tasks.only("id", "created_at"), "--before")
            # The first condition alone would do by meaning; the index is entered by it.
            rows = rows.filter(Q(created_at__lt=last.created_at) | Q(id__lt=last.pk), created_at__lte=last.created_at)
        rows = rows.order_by("-created_at", "-id")[: options["limit"] + 1]
        counted = _Counted(options["limit"])
        # Without one the cursor of the server would be WITH HOLD: a copy of all, lost behind a pooler of transactions.
        with transaction.atomic(using=options["database"]):
            if self.for_programs:
                self.json_each(
                    map(presentation.task_values, counted(beginnings(rows, "summary").iterator(chunk_size=500)))
                )
            elif not self._table(counted(beginnings(rows.only(*_SHOWN), "summary").iterator(chunk_size=500))):
                self.note(
                    "No tasks match."
                    if wanted or options["before"]
                    else "No tasks yet. Task.objects.request(…) makes one."
                )
        self.note_if_backwards(wanted)
        if counted.last is None:
            self._suggest(wanted, options["database"])
        if counted.more:
            self.note(f"There are more: --before {counted.last}")
        return FINE

    def _suggest(self, wanted: TaskFilter, using: str) -> None:
        """Name actors that look like those that no task names, and conditions for words that no text has."""
        for name in wanted.actors:
            if is_pattern(name) or Task.objects.using(using).by(name).exists():
                continue
            close = close_to(using, name)
            meant = f" Close names: {', '.join(close)}." if close else ""
            self.note(safe(f"No task names the actor {name!r}.{meant} A part of a name: --actor '*{name}*'"))
        for word in wanted.words:
            if word.lower() in Status.values or word.lower() in GROUPS:
                self.note(
                    f"Words are looked for in the texts of a task. For its status: --search status:{word.lower()}"
                )
            elif Task.objects.using(using).filter(fails_with((word,))).exists():
                self.note(safe(f"{word} is the error type of a task. For those: --search error_type:{quoted(word)}"))

    def _table(self, tasks: Iterator[Task]) -> bool:
        narrow = is_narrow()
        now = moments.now()

        def row(task: Task) -> tuple[object, ...]:
            ran = presentation.life_of(task, now).ran
            took = duration(ran) + (" …" if task.status == Status.EXECUTING and ran is not None else "")
            return (
                presentation.short_moment(task.created_at, now) if narrow else moment(task.created_at),
                task.status,
                short_id(task.pk) if narrow else str(task.pk),
                task.action,
                task.summary,
                ", ".join(task.services_touched),
                task.requested_by or None,
                took,
            )

        return self.table(
            (
                Column(title=f"Created ({presentation.zone()})", rank=1),
                Column(title="Status", paint=self.paint),
                Column(title="Id"),
                Column(title="Action", least=8, rank=2),
                Column(title="Summary", least=16),
                Column(title="Services", least=8, rank=4),
                Column(title="Requested by", name=True, least=6, rank=5),
                Column(title="Ran", right=True, rank=3),
            ),
            (row(task) for task in tasks),
        )


_SHOWN = (
    "id",
    "action",
    "summary",
    "services_touched",
    "requested_by",
    "actor",
    *COLUMNS,
)


class _Counted:
    """Passes on at most `limit` tasks, and knows the last of them and whether there was one more."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.last: object = None
        self.more = False

    def __call__(self, tasks: Iterator[Task]) -> Iterator[Task]:
        for number, task in enumerate(tasks):
            if number == self._limit:
                self.more = True
                return
            self.last = task.pk
            yield task
