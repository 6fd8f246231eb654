"""`manage.py audit_queue`: what is paused, and the decisions about it."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import router, transaction

from audit.decisions import Decision, carry_out
from audit.exceptions import AuditError, InvalidFilter
from audit.management import arguments, presentation
from audit.management.base import FAILED, FINE, UNABLE, ListingCommand, os_user
from audit.management.output import age, duration, safe
from audit.management.tables import Column
from audit.models import Event, PauseQueueEntry, Task
from audit.models.querysets.pause import PauseQueueQuerySet
from audit.reading.beginnings import beginnings
from audit.reading.filters import TaskFilter, add_arguments, add_database
from audit.reading.filters.lookup import find_entry
from audit.status import PauseReason, Status
from audit.values import moments

_STATES = ("due", "leased", "waiting", "held")
_REASONS: dict[str, str] = {
    PauseReason.INSUFFICIENT_CAPACITY: "capacity",
    PauseReason.MANUAL_PAUSE: "by hand",
    PauseReason.AWAITING_APPROVAL: "approval",
    PauseReason.AWAITING_EVENT: "event",
}
_DONE = {"resume": "resumed", "hold": "held", "defer": "deferred", "cancel": "cancelled"}
_HELP = {
    "resume": "let workers claim the task now; its work_plan says what remains to be done",
    "hold": "keep the task paused until somebody resumes or defers it",
    "defer": "change the time at which the task is due; if it is held, release it",
    "cancel": "reject the task: the rest of its work is not done",
}


class Command(ListingCommand):
    """Lists paused work, and resumes, holds, defers or cancels it."""

    outcome = UNABLE
    verbs = _HELP
    model = PauseQueueEntry
    help = (
        "List paused work, and resume, hold, defer or cancel it. Without a verb it lists. "
        "`VERB --help` shows the options of each verb."
    )
    examples = (
        "audit_queue",
        "audit_queue list --state due --state held",
        "audit_queue resume 4711 --reason 'the disk was replaced'",
        "audit_queue defer 4711 --until 2h",
    )
    exits = "0 done, 1 some of it was refused, 2 could not do it"

    def add_arguments(self, parser: CommandParser) -> None:
        """Take a verb with its own options."""
        verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
        epilog = parser.epilog
        listed = "list paused work: first what is due, then what waits for its time, then what is held"
        listing = verbs.add_parser("list", help=listed, description=f"{listed.capitalize()}.", epilog=epilog)
        add_arguments(listing, limit=50)
        listing.add_argument(
            "--state",
            action="append",
            choices=_STATES,
            help="list only entries in this state; repeat the option for several",
        )
        self.add_format(listing)
        self.add_shared(listing)
        for verb, purpose in _HELP.items():
            each = verbs.add_parser(
                verb, help=purpose, description=purpose[0].upper() + purpose[1:] + ".", epilog=epilog
            )
            each.add_argument(
                "ids",
                nargs="+",
                metavar="ID",
                help="the number of an entry, or the id of its task, or its first digits",
            )
            each.add_argument(
                "--actor", type=arguments.actor, metavar="NAME", help=f"who decides (default {os_user()})"
            )
            stored = "it becomes the outcome of the task" if verb == "cancel" else "it is written into the log"
            each.add_argument(
                "--reason", type=arguments.reason, metavar="TEXT", help=f"why; {stored} (default: no text)"
            )
            if verb == "defer":
                each.add_argument(
                    "--until",
                    type=arguments.ahead,
                    required=True,
                    metavar="WHEN",
                    help="when it is due: a time such as 2026-11-24T05:48+01:00, or a span from now such as 30m or 2d",
                )
            add_database(each)
            self.add_format(each)
            self.add_shared(each)

    def database(self, options: Mapping[str, Any]) -> str | None:
        """A listing may come from a replica, a decision may not."""
        return router.db_for_read(self.model) if options["verb"] == "list" else router.db_for_write(self.model)

    def run(self, **options: Any) -> int:
        """List, or decide about each of the entries."""
        return self._list(options) if options["verb"] == "list" else self._decide(options["verb"], options)

    def _list(self, options: dict[str, Any]) -> int:
        self.outcome = FINE
        wanted = TaskFilter.from_options(options)
        entries = PauseQueueEntry.objects.using(options["database"])
        if wanted:
            tasks = wanted.apply(Task.objects.using(options["database"])).filter(status=Status.PAUSED)
            entries = entries.filter(task_id__in=tasks.values("pk"))
        now = moments.now()
        found = list(_in_order(entries, options["state"] or _STATES, options["limit"] + 1, now))
        more = len(found) > options["limit"]
        found = found[: options["limit"]]
        if self.for_programs:
            self.json_each(_values(entry, now) for entry in found)
        elif not self._table(found, now, _emitted(found, options["database"])):
            self.note("Nothing is paused." if not wanted and not options["state"] else "Nothing paused matches.")
        if more:
            self.note("There are more: --limit N, or narrow it with --state and the other conditions.")
        return FINE

    def _table(self, entries: list[PauseQueueEntry], now: datetime, emitted: set[str]) -> bool:
        return self.table(
            (
                Column(title="Entry", right=True),
                Column(title="State", paint=self.paint),
                Column(title="Paused for", right=True, rank=4),
                Column(title="Due", rank=1),
                Column(title="Pri", right=True, rank=5),
                Column(title="Reason", least=10, rank=2),
                Column(title="Task"),
                Column(title="What", least=12, rank=3),
                Column(title="By", name=True, least=6, rank=6),
            ),
            (
                (
                    entry.pk,
                    state := presentation.entry_state(entry, now),
                    age(entry.paused_at, now),
                    "emitted: at the next recovery" if entry.event in emitted else _due(entry, state, now),
                    entry.priority,
                    _reason(entry),
                    str(entry.task_id)[:18],
                    f"{entry.task.action}: {entry.task.summary}" if entry.task.summary else entry.task.action,
                    entry.claimed_by if state == "leased" else entry.paused_by,
                )
                for entry in entries
            ),
        )

    def _decide(self, verb: str, options: dict[str, Any]) -> int:
        self._refused = 0
        done = self._decided(verb, options)
        if self.for_programs:
            self.json_each(done)
        elif len(set(options["ids"])) == 1:
            (each,) = done
            if each["refused"]:
                raise CommandError(_refusal(each), returncode=FAILED)
            self._print(each)
        else:
            for each in done:
                self.note(_refusal(each)) if each["refused"] else self._print(each)
        if self._refused:
            raise CommandError(f"{self._refused} of {len(set(options['ids']))} refused.", returncode=FAILED)
        return FINE

    _refused = 0

    def _decided(self, verb: str, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Decide about each entry, and yield what came of it."""
        using, name, reason = options["database"], options["actor"] or os_user(), options["reason"]
        for text in dict.fromkeys(options["ids"]):
            try:
                with transaction.atomic(using=using):
                    entry = find_entry(text, using)
                    carry_out(
                        Decision(verb),
                        entry.task,
                        entry,
                        reason=reason or "",
                        actor=name,
                        until=options.get("until"),
                        using=using,
                    )
                self.acted = True
            except AuditError as error:
                self._refused += 1
                problem = f"it {error.problem}" if isinstance(error, InvalidFilter) else str(error)
                yield {
                    "id": text,
                    "done": None,
                    "refused": problem,
                    "task_id": None,
                    "entry_id": None,
                    "due_at": None,
                    "action": None,
                }
                continue
            yield {
                "id": text,
                "done": _DONE[verb],
                "refused": None,
                "task_id": entry.task_id,
                "entry_id": entry.pk,
                "due_at": entry.due_at if verb == "defer" else None,
                "action": entry.task.action,
            }

    def _print(self, done: dict[str, Any]) -> None:
        due = f", due {_moment_text(done['due_at'])}" if done["due_at"] else ""
        self.line(f"{safe(done['id'])}: {done['done']}{due} (task {done['task_id']}, {safe(done['action'])})")


def _refusal(done: dict[str, Any]) -> str:
    return f"{safe(done['id'])}: refused, {safe(done['refused'])}"


def _values(entry: PauseQueueEntry, now: datetime) -> dict[str, Any]:
    named = {name: getattr(entry.task, name) for name in ("action", "summary", "services_touched")}
    return presentation.entry_values(entry, now) | named


def _in_order(
    entries: PauseQueueQuerySet, states: list[str] | tuple[str, ...], limit: int, now: datetime
) -> Iterator[PauseQueueEntry]:
    """Yield entries as people ask for them, each part by an index: due and leased, then waiting, then held."""
    entries = beginnings(entries.select_related("task").defer(*_UNSHOWN), "note", "task__summary")
    free = entries.filter(held=False)
    parts = (
        (("due", "leased"), free.filter(due_at__lte=now).order_by("priority", "due_at", "id")),
        (("waiting", "leased"), free.listed().filter(due_at__gt=now)),
        (("held", "leased"), entries.listed().filter(held=True)),
    )
    for names, part in parts:
        wanted = [name for name in names if name in states]
        if not wanted or limit <= 0:
            continue
        if wanted == ["leased"]:
            part = part.filter(claim_token__isnull=False, lease_expires_at__gt=now)
        elif "leased" not in wanted:
            part = part.exclude(lease_expires_at__gt=now)
        for entry in part[:limit]:
            limit -= 1
            yield entry


_UNSHOWN = tuple(
    f"task__{name}"
    for name in ("plan", "estimated_resources", "resources_used", "outcome", "suggestions", "origin", "work_plan")
)


def _reason(entry: PauseQueueEntry) -> str:
    event = f" {entry.event}" if entry.event else ""
    return _REASONS[entry.reason] + event + (f": {entry.note}" if entry.note else "")


def _emitted(entries: list[PauseQueueEntry], using: str) -> set[str]:
    """Return which of the events that are waited for have been emitted."""
    awaited = {entry.event for entry in entries if entry.event}
    return set(Event.objects.using(using).filter(name__in=awaited).values_list("name", flat=True)) if awaited else set()


def _due(entry: PauseQueueEntry, state: str, now: datetime) -> str:
    if entry.reason == PauseReason.AWAITING_APPROVAL and entry.resume_after is not None:
        # A deadline: nothing goes on by itself at its end.
        left = entry.resume_after - now
        return f"approve within {duration(left)}" if left > timedelta(0) else f"expired {duration(-left)} ago"
    if entry.held:
        return "when emitted" if entry.event else "when released"
    if entry.event and entry.due_at > now:
        return f"times out in {duration(entry.due_at - now)}"
    if entry.due_at > now:
        return f"in {duration(entry.due_at - now)}"
    late = duration(now - entry.due_at)
    return f"{late} overdue" if state == "due" else f"since {late}"


def _moment_text(value: datetime) -> str:
    return f"{moments.local(value):%Y-%m-%d %H:%M:%S %Z}"
