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
        "Claim approved tasks and run their handlers (audit_handlers.py of the installed apps), until SIGTERM, SIGINT "
        "or SIGHUP. The first signal stops claiming and lets work finish; a second one stops at once."
    )
    synopsis = "[--name NAME] [--concurrency N] [--actions A,B] [--labels L,M] [--once | --drain] …  (--help names all)"
    examples = (
        "audit_worker --name web-1 --concurrency 4",
        "audit_worker --actions deploy,backup --drain",
    )
    exits = (
        "0 stopped in good order (also when --drain left work that is not due yet, which it says), "
        "1 with --once or --drain: some work failed, 2 could not start, "
        "128 + n stopped at once by a second signal n"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take what `Worker` takes."""
        parser.add_argument(
            "--name", metavar="NAME", help="the name that its claims carry (default host:pid); keep it across restarts"
        )
        parser.add_argument(
            "-c", "--concurrency", type=_count, metavar="N", help="tasks at once (default: the number of CPUs)"
        )
        parser.add_argument(
            "--actions", type=_names, metavar="A,B", help="only these actions (default: all with a handler)"
        )
        parser.add_argument(
            "--labels", type=_names, default=[], metavar="L,M", help="what this worker offers to handlers"
        )
        parser.add_argument(
            "--batch", type=_count, metavar="N", help="tasks to claim at a time (default: the free places)"
        )
        parser.add_argument(
            "--poll-interval", type=_seconds, default=5.0, metavar="S", help="seconds between two looks (default 5)"
        )
        parser.add_argument(
            "--lease",
            type=_seconds,
            metavar="S",
            help='seconds a claim lasts after its last heartbeat (default: AUDIT["LEASE_SECONDS"])',
        )
        parser.add_argument(
            "--shutdown-timeout",
            type=_seconds_or_none,
            default=30.0,
            metavar="S",
            help="seconds that work has to finish after the first signal (default 30, may be 0)",
        )
        parser.add_argument("--max-tasks", type=_count, metavar="N", help="stop after so many tasks")
        ways = parser.add_mutually_exclusive_group()
        ways.add_argument("--once", action="store_true", help="claim once, run that, and stop")
        ways.add_argument("--drain", action="store_true", help="stop when nothing is left to claim")
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
