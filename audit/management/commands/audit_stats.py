"""`manage.py audit_stats`: how many tasks, how many failed, how long they took."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import CommandParser

from audit.management.base import FINE, AuditCommand
from audit.management.output import count, duration, moment, safe
from audit.management.presentation import zone
from audit.management.tables import Column
from audit.models import Task
from audit.reading.filters import TaskFilter, add_arguments, positive
from audit.reading.filters.search import found
from audit.reading.health import QueueHealth, health
from audit.reading.statistics import GROUPS, MOST_ROWS, ORDERS, Group, Statistics, statistics
from audit.status import Status

_WINDOW = timedelta(hours=24)
_BAR = 24
_TROUBLES = {
    "oldest_approved": "approved work waits",
    "oldest_due": "a due entry waits",
    "expired": "leases expired",
    "oldest_snapshot": "a transaction is open",
    "dead_tuples": "dead rows",
}
"""The numbers about the queue that may stand out, in words."""


class Command(AuditCommand):
    """Counts and measures tasks."""

    help = (
        "Count tasks by status, by error type and by the groups that --by names, with failure rates and durations. "
        "Only the last 24 hours count, unless you filter by time, id, parent, correlation id or seal."
    )
    examples = (
        "audit_stats --since 7d --service billing",
        "audit_stats --by actor --order failed",
        "audit_stats --since 30d --format json",
    )
    synopsis = "[--by actor] [--order failed] [--since 7d] [--service billing] [--action deploy] …  (--help names all)"

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the filters of every command."""
        add_arguments(parser, window="the last 24 hours")
        parser.add_argument(
            "--by",
            action="append",
            choices=GROUPS,
            help="what to group by; repeat the option for several. An actor is who requested the task. An hour is the "
            "hour of the clock in which it was created (default: action and service)",
        )
        parser.add_argument(
            "--order",
            choices=[*ORDERS],
            help="put the groups first that have the most tasks, the most failures, the highest failure rate, the "
            "longest median run time (ran) or the longest single run (default: tasks; for hours, the order of time)",
        )
        parser.add_argument(
            "--top",
            type=positive,
            metavar="N",
            help="show at most N groups of each kind (default 10; for hours, the newest 168)",
        )
        parser.add_argument(
            "--limit",
            type=positive,
            default=MOST_ROWS,
            metavar="N",
            help=f"count only the newest N tasks (default {MOST_ROWS})",
        )
        self.add_format(parser)

    def run(self, **options: Any) -> int:
        """Print the figures."""
        asked = TaskFilter.from_options(options)
        wanted = asked.within(_WINDOW)
        tasks = found(wanted, Task.objects.using(options["database"]))
        by = tuple(dict.fromkeys(options["by"] or ("action", "service")))
        figures = statistics(tasks, by=by, order=options["order"], top=options["top"], most_rows=options["limit"])
        queue = health(options["database"])
        rated = not wanted.chooses_by_end
        if self.for_programs:
            self.json({"filter": wanted.to_query(), **_values(figures, rated), "queue": asdict(queue)})
        else:
            self._page(wanted, figures, rated)
            self.line()
            self.line(_queue_line(queue))
            for what, advice in queue.advice().items():
                self.line(f"  {_TROUBLES[what]}: {advice}")
        if wanted != asked:
            span = "the last 24 hours" if wanted.until is None else "the 24 hours before --until"
            self.note(f"Counted {span} only; --since 7d looks further back, --since all counts everything.")
        self.note_if_backwards(wanted)
        if not rated:
            self.note("No failure rates: the filter chooses tasks by how they ended.")
        return FINE

    def _page(self, wanted: TaskFilter, found: Statistics, rated: bool) -> None:
        total = found.total
        self.line(self.heading(count(total.tasks, "task")) + _scope(found))
        self.line(safe(f"Filter: {wanted.to_text() or 'none'}"))
        if not total.tasks:
            return
        self.line(f"Created {moment(found.first)} to {moment(found.last)} {zone()}")
        if rated and total.failure_rate is not None:
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
        for kind, groups in found.groups.items():
            self._groups(kind, groups, rated)
        if found.error_types:
            self.line()
            self.table(
                (Column(title="Error type", least=16), Column(title="Tasks", right=True)),
                ((name, count(tasks)) for name, tasks in found.error_types),
            )

    def _groups(self, kind: str, groups: Sequence[Group], rated: bool) -> None:
        if not groups:
            return
        self.line()
        self.table(
            (
                Column(
                    title=f"Hour ({zone()})" if kind == "hour" else kind.capitalize(), name=kind == "actor", least=16
                ),
                Column(title="Tasks", right=True),
                Column(title="Failed", right=True),
                Column(title="Failure rate", right=True),
                Column(title="Ran p50", right=True, rank=1),
                Column(title="p90", right=True, rank=2),
                Column(title="Longest", right=True, rank=3),
            ),
            (
                (
                    moment(datetime.fromisoformat(group.name)) if kind == "hour" else group.name,
                    count(group.tasks),
                    count(group.statuses.get(Status.FAILED, 0)),
                    _percent(group.failure_rate) if rated and group.failure_rate is not None else None,
                    duration(group.ran.p50),
                    duration(group.ran.p90),
                    duration(group.ran.longest),
                )
                for group in groups
            ),
        )


def _values(found: Statistics, rated: bool) -> dict[str, Any]:
    return {
        "tasks": found.total.tasks,
        "complete": found.complete,
        "first": found.first,
        "last": found.last,
        **_group_values(found.total, rated),
        **{
            f"{kind}s": [{kind: group.name, **_group_values(group, rated)} for group in groups]
            for kind, groups in found.groups.items()
        },
        "error_types": [{"error_type": name, "tasks": tasks} for name, tasks in found.error_types],
    }


def _group_values(group: Group, rated: bool) -> dict[str, Any]:
    return {
        "tasks": group.tasks,
        "statuses": {status: group.statuses.get(status, 0) for status in Status.values},
        "failure_rate": group.failure_rate if rated else None,
        "waited_s": asdict(group.waited),
        "ran_s": asdict(group.ran),
        "paused_s": asdict(group.paused),
    }


def _queue_line(queue: QueueHealth) -> str:
    """Say in one line how the queue is doing now, whatever the filter."""
    parts = [
        f"{what} {duration(queue.at - since)}"
        for what, since in (
            (_TROUBLES["oldest_approved"], queue.oldest_approved),
            (_TROUBLES["oldest_due"], queue.oldest_due),
            (_TROUBLES["oldest_snapshot"], queue.oldest_snapshot if queue.snapshot_is_old else None),
        )
        if since is not None
    ]
    if queue.expired:
        parts.append(f"{count(queue.expired, 'lease')} expired" + (f" ({queue.stuck} long ago)" if queue.stuck else ""))
    if queue.is_bloated:
        parts.append(f"{count(queue.dead_tuples, 'dead row')} beside {count(queue.live_tuples, 'live one')}")
    return f"Queue now: {', '.join(parts) or 'nothing waits'}"


def _scope(found: Statistics) -> str:
    return "" if found.complete else " (the newest; --limit looks at more)"


def _percent(share: float) -> str:
    return f"{share:.1%}"
