"""`manage.py audit_stats`: how many tasks, how many failed, how long they took."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser

from audit.management.base import FINE, AuditCommand
from audit.management.output import Column, count, duration, moment, safe
from audit.management.presentation import zone
from audit.models import Task
from audit.reading.filters import TaskFilter, add_arguments, positive
from audit.reading.filters.search import found
from audit.reading.health import QueueHealth, health
from audit.reading.statistics import MOST_ROWS, Group, Statistics, statistics
from audit.status import Status

_WINDOW = timedelta(hours=24)
_BAR = 24


class Command(AuditCommand):
    """Counts and measures tasks."""

    help = (
        "Count tasks by status, action, service and error type, with failure rates and durations. "
        "Without a time it is about the last 24 hours; tasks that are named by an id, a parent, a correlation id or a "
        "seal are counted whatever their age."
    )
    synopsis = "[--since 7d] [--service billing] [--action deploy] …  (--help names all)"

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the filters of every command."""
        add_arguments(parser)
        parser.add_argument(
            "--top", type=positive, default=10, metavar="N", help="how many of each to name (default 10)"
        )
        parser.add_argument(
            "--limit",
            type=positive,
            default=MOST_ROWS,
            metavar="N",
            help=f"look at so many tasks at most, the newest (default {MOST_ROWS})",
        )
        self.add_format(parser)

    def run(self, **options: Any) -> int:
        """Print the figures."""
        wanted = TaskFilter.from_options(options).within(_WINDOW)
        tasks = found(wanted, Task.objects.using(options["database"]))
        figures = statistics(tasks, top=options["top"], most_rows=options["limit"])
        queue = health(options["database"])
        if options["format"] == "json":
            self.json({"filter": wanted.to_query(), **_values(figures), "queue": asdict(queue)})
        else:
            self._page(wanted, figures)
            self.line()
            self.line(_queue_line(queue))
        return FINE

    def _page(self, wanted: TaskFilter, found: Statistics) -> None:
        total = found.total
        self.line(self.heading(count(total.tasks, "task")) + _scope(found))
        self.line(safe(f"Filter: {wanted.to_text() or 'none'}"))
        if not total.tasks:
            return
        self.line(f"Created {moment(found.first)} to {moment(found.last)} {zone()}")
        if total.failure_rate is not None:
            self.line(f"Failure rate {_percent(total.failure_rate)} of those that ran to an end")
        self.line()
        most = max(total.statuses.values())
        self.table(
            (
                Column(title="Status", paint=self.paint),
                Column(title="Tasks", right=True),
                Column(title="Share", right=True),
                Column(title="", rank=1),
            ),
            (
                (status, count(tasks), _percent(tasks / total.tasks), "█" * round(_BAR * tasks / most) or "▏")
                for status, tasks in total.statuses.items()
            ),
        )
        self.line()
        self.table(
            (Column(title="Duration"), *(Column(title=each, right=True) for each in ("p50", "p90", "p99", "Longest"))),
            (
                (name, *map(duration, (spread.p50, spread.p90, spread.p99, spread.longest)))
                for name, spread in (("waited", total.waited), ("ran", total.ran), ("paused", total.paused))
            ),
        )
        self._groups("Action", found.actions)
        self._groups("Service", found.services)
        if found.error_types:
            self.line()
            self.table(
                (Column(title="Error type", least=16), Column(title="Tasks", right=True)),
                ((name, count(tasks)) for name, tasks in found.error_types),
            )

    def _groups(self, title: str, groups: Sequence[Group]) -> None:
        if not groups:
            return
        self.line()
        self.table(
            (
                Column(title=title, least=16),
                Column(title="Tasks", right=True),
                Column(title="Failed", right=True),
                Column(title="Failure rate", right=True),
                Column(title="Ran p50", right=True, rank=1),
                Column(title="p90", right=True, rank=2),
                Column(title="Longest", right=True, rank=3),
            ),
            (
                (
                    group.name,
                    count(group.tasks),
                    count(group.statuses.get(Status.FAILED, 0)),
                    None if group.failure_rate is None else _percent(group.failure_rate),
                    duration(group.ran.p50),
                    duration(group.ran.p90),
                    duration(group.ran.longest),
                )
                for group in groups
            ),
        )


def _values(found: Statistics) -> dict[str, Any]:
    return {
        "tasks": found.total.tasks,
        "complete": found.complete,
        "first": found.first,
        "last": found.last,
        **_group_values(found.total),
        "actions": [{"action": group.name, **_group_values(group)} for group in found.actions],
        "services": [{"service": group.name, **_group_values(group)} for group in found.services],
        "error_types": [{"error_type": name, "tasks": tasks} for name, tasks in found.error_types],
    }


def _group_values(group: Group) -> dict[str, Any]:
    return {
        "tasks": group.tasks,
        "statuses": {status: group.statuses.get(status, 0) for status in Status.values},
        "failure_rate": group.failure_rate,
        "waited_s": asdict(group.waited),
        "ran_s": asdict(group.ran),
        "paused_s": asdict(group.paused),
    }


def _queue_line(queue: QueueHealth) -> str:
    """Say in one line how the queue is doing now, whatever the filter."""
    parts = [
        f"{what} {duration(queue.at - since)}"
        for what, since in (
            ("approved work waits", queue.oldest_approved),
            ("a due entry waits", queue.oldest_due),
            ("a transaction is open", queue.oldest_snapshot),
        )
        if since is not None
    ]
    parts.append(f"{count(queue.expired, 'lease')} expired" + (f" ({queue.stuck} long ago)" if queue.stuck else ""))
    parts.append(f"{count(queue.dead_tuples, 'dead row')}")
    return f"Queue now: {', '.join(parts)}"


def _scope(found: Statistics) -> str:
    return "" if found.complete else " (the newest; --limit looks at more)"


def _percent(share: float) -> str:
    return f"{share:.1%}"
