"""`manage.py audit_recover`: put right what was left behind, once or for ever."""

from __future__ import annotations

import random
from contextlib import nullcontext, suppress
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError, CommandParser
from django.db import Error, connections

from audit.management.base import FINE, PASS_SECONDS, UNABLE, AuditCommand
from audit.management.output import count, safe
from audit.models import Task
from audit.process.signals import StopRequest
from audit.reading.filters import add_database, positive
from audit.recovery import RecoveryReport, Sweep, next_moment, recover
from audit.statements.answers import answered_within

_KINDS = {
    "leases": "whose lease had run out",
    "restarted": "left executing by that worker",
    "entries_made": "paused without an entry in the queue",
    "entries_removed": "with an entry in the queue, and not paused",
    "approvals": "that nobody approved in time: rejected",
    "events": "whose event was emitted",
    "timeouts": "whose wait for an event timed out",
}


class Command(AuditCommand):
    """Recovers leases, waits, approvals and the queue."""

    model = Task
    writes = True
    outcome = UNABLE
    help = (
        "Repair what was left behind: leases that expired, tasks whose event came or whose wait timed out, approvals "
        "whose deadline passed, paused tasks without an entry in the queue, and entries without a paused task. Workers "
        "do this by themselves. If no worker runs, run this command from cron, or as a service with --loop. Several "
        "of them can run at the same time."
    )
    examples = (
        "audit_recover --dry-run",
        "audit_recover --loop --interval 30",
        "audit_recover --worker orch-1",
    )
    exits = "0 done, 2 could not do it"

    def add_arguments(self, parser: CommandParser) -> None:
        """Take whose work, how much, and how often."""
        parser.add_argument(
            "--worker",
            metavar="NAME",
            help="also release what the worker of this name was executing; use it before that worker starts again",
        )
        parser.add_argument(
            "--limit",
            type=positive,
            default=100,
            metavar="N",
            help="repair at most N tasks of each kind in one pass (default 100)",
        )
        parser.add_argument("--dry-run", action="store_true", help="only report what one pass would do")
        parser.add_argument("--loop", action="store_true", help="repeat until a signal stops it")
        parser.add_argument(
            "--interval",
            type=positive,
            default=30,
            metavar="S",
            help="with --loop, seconds between two passes (default 30)",
        )
        add_database(parser)
        self.add_format(parser)

    def run(self, **options: Any) -> int:
        """Recover."""
        if options["loop"] and options["dry_run"]:
            raise CommandError("--loop and --dry-run exclude each other.", returncode=UNABLE)
        self.refuse_endless("--loop", options)
        sweep = Sweep() if options["loop"] else None
        with StopRequest() as stop:
            if options["loop"]:
                self.note(f"Recovering every {options['interval']} s, and at each deadline, until stopped.")
            self._passes(options, stop, sweep, options["worker"])
            while options["loop"] and not stop.requested:
                stop.wait(self._pause(options))
                if not stop.requested:
                    # The worker has started since: what is under its name now is its own.
                    self._passes(options, stop, sweep, None)
        return FINE

    def _pause(self, options: dict[str, Any]) -> float:
        """Return how many seconds to wait: until the next deadline or time-out, at most the interval."""
        using = options["database"]
        with suppress(Error), answered_within(PASS_SECONDS, connections[using]):  # the next pass says so
            _, seconds = next_moment(using=using)
            if seconds is not None and seconds < options["interval"]:
                return seconds + random.uniform(0, 0.5)  # noqa: S311 - a wait, no secret
        # Those that were started together must not come together for ever.
        return float(options["interval"] * random.uniform(0.8, 1.2))  # noqa: S311 - a wait, no secret

    def _passes(self, options: dict[str, Any], stop: StopRequest, sweep: Sweep | None, worker: str | None) -> None:
        """Make passes until one is not full; with --loop, a database that is away is waited for."""
        using, limit = options["database"], options["limit"]
        reports: list[RecoveryReport] = []
        try:
            while True:
                # A network that fails in silence must not end the loop; a single run may take its time.
                with answered_within(PASS_SECONDS, connections[using]) if options["loop"] else nullcontext():
                    report = recover(worker=worker, limit=limit, dry_run=options["dry_run"], sweep=sweep, using=using)
                self.acted = self.acted or (report.total > 0 and not report.dry_run)
                reports.append(report)
                if report.dry_run or stop.requested or not report.is_full(limit):
                    break
        except Error as error:
            if not options["loop"]:
                raise
            problem = str(error).partition("\n")[0]
            self.note(safe(f"The database cannot be used: {problem}. Trying again."))
            connections[using].close()
        found = {kind: [key for each in reports for key in getattr(each, kind)] for kind in _KINDS}
        total = {kind: len(keys) for kind, keys in found.items()}
        if not self.for_programs:
            self._table(found, options)
        elif any(total.values()) or not options["loop"]:
            kinds = {kind: [str(key) for key in keys] for kind, keys in found.items()}
            self.json({"dry_run": options["dry_run"], "total": sum(total.values()), **kinds})
        self.flush()

    def _table(self, found: dict[str, list[UUID]], options: dict[str, Any]) -> None:
        for kind, keys in found.items():
            if keys:
                more = " or more" if options["dry_run"] and len(keys) >= options["limit"] else ""
                self.line(f"{count(len(keys), 'task')}{more} {_KINDS[kind]}")
                for key in keys if options["dry_run"] else ():
                    self.line(f"  {key}")
        if not any(found.values()) and not options["loop"]:
            self.routine("There is nothing to recover.")
