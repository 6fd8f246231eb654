"""`manage.py audit_worker`: runs the handlers of approved work."""

from __future__ import annotations

import time
from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser

from audit.management.base import FAILED, FINE, UNABLE, AuditCommand
from audit.reading.filters import add_database
from audit.worker import Summary, Worker

__all__ = ["Command"]


class Command(AuditCommand):
    """Runs a worker until it is told to stop."""

    outcome = UNABLE
    writes = True
    help = (
        "Claim approved tasks and run their handlers, which are in audit_handlers.py of the installed apps. The worker "
        "runs until SIGTERM, SIGINT or SIGHUP. The first signal stops claiming and lets running tasks finish. A second "
        "one ends them at once, and they become claimable again."
    )
    synopsis = "[--name NAME] [--concurrency N] [--actions A,B] [--labels L,M] [--once | --drain] …  (--help names all)"
    examples = (
        "audit_worker --name web-1 --concurrency 4",
        "audit_worker --actions deploy,backup --drain",
    )
    exits = (
        "0 stopped in good order, even if --drain left tasks that are not due yet (a message says so), "
        "1 some tasks failed (only with --once or --drain), 2 could not start, "
        "128 + n a second signal n stopped it at once"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take what `Worker` takes."""
        parser.add_argument(
            "--name",
            metavar="NAME",
            help="the worker's name, as it stands in its claims (default host:pid). Keep it across restarts: the next "
            "worker of that name can take over what this one leaves",
        )
        parser.add_argument(
            "-c",
            "--concurrency",
            type=_count,
            metavar="N",
            help="run at most N tasks at the same time (default: the number of CPUs)",
        )
        parser.add_argument(
            "--actions",
            type=_names,
            metavar="A,B",
            help="run only tasks of these actions (default: of every action that has a handler); `deploy:*` means all "
            "actions that begin with `deploy:`",
        )
        parser.add_argument(
            "--labels",
            type=_names,
            default=[],
            metavar="L,M",
            help="the labels of this worker, such as gpu. A handler that requires labels runs only where all of them "
            "are given",
        )
        parser.add_argument(
            "--batch",
            type=_count,
            metavar="N",
            help="claim at most N tasks in one query. Tasks that cannot start yet wait in this worker (default: as "
            "many as can start now)",
        )
        parser.add_argument(
            "--poll-interval",
            type=_seconds,
            default=5.0,
            metavar="S",
            help="query for new tasks about every S seconds, even without a notification (default 5)",
        )
        parser.add_argument(
            "--lease",
            type=_seconds,
            metavar="S",
            help='seconds without a heartbeat after which a claim expires (default: AUDIT["LEASE_SECONDS"])',
        )
        parser.add_argument(
            "--shutdown-timeout",
            type=_seconds_or_none,
            default=30.0,
            metavar="S",
            help="seconds that running tasks have to finish after the first signal (default 30, 0 is allowed)",
        )
        parser.add_argument(
            "--max-tasks",
            type=_count,
            metavar="N",
            help="stop after N attempts; a retry of the same task is one more (default: no limit)",
        )
        ways = parser.add_mutually_exclusive_group()
        ways.add_argument("--once", action="store_true", help="claim one time, run what was claimed, and stop")
        ways.add_argument("--drain", action="store_true", help="run all tasks that can be claimed, then stop")
        add_database(parser)

    def run(self, **options: Any) -> int:
        """Run the worker."""
        lease = options["lease"]
        worker = Worker(
            name=options["name"],
            concurrency=options["concurrency"],
            actions=options["actions"],
            labels=options["labels"],
            batch=options["batch"],
            poll_interval=options["poll_interval"],
            lease=None if lease is None else timedelta(seconds=lease),
            shutdown_timeout=options["shutdown_timeout"],
            max_tasks=options["max_tasks"],
            once=options["once"],
            drain=options["drain"],
            using=options["database"],
            say=self._say,
        )
        summary = worker.run()
        if summary.interrupted:
            return 128 + summary.interrupted
        return FAILED if (worker.once or worker.drain) and _failed(summary) else FINE

    def _say(self, line: str) -> None:
        self.note(f"{time.strftime('%H:%M:%S')} {line}")


def _failed(summary: Summary) -> int:
    return summary.counts["failed"] + summary.counts["lost"]


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:10]) < 2**31:
        raise ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def _seconds(text: str) -> float:
    return _number(text, above_zero=True)


def _seconds_or_none(text: str) -> float:
    return _number(text, above_zero=False)


def _number(text: str, *, above_zero: bool) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 315_360_000 or (above_zero and not seconds):
        raise ArgumentTypeError(f"{text!r} is not a number of seconds{' above zero' if above_zero else ''}")
    return seconds


def _names(text: str) -> list[str]:
    names = [each.strip() for each in text.split(",")]
    if not all(names):
        raise ArgumentTypeError(f"{text!r} is not a list of names with commas between them")
    return names
