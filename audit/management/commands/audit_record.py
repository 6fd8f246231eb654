"""`manage.py audit_record -- CMD …`: any command as a recorded task."""

import argparse
import getpass
import os
import socket
import sys
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from audit.exceptions import AuditError, InvalidValue, NotDurable
from audit.recording import record
from audit.running import describe, run, run_recorded

__all__ = ["Command"]


class Command(BaseCommand):
    """Runs a command and records it; prints nothing of its own unless something is wrong."""

    help = (
        "Run a command as a recorded task: exit status, duration, resources and the end of its output are stored. "
        "Its output and input pass through, signals are passed on, and its exit status becomes this command's own "
        "(124 when it ran out of time, 126 and 127 when it could not be run, 128 + n when signal n ended it; "
        "2 when it was not run because it could not be recorded)."
    )
    # A cron job runs whatever a check may have to say.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Name the options; everything from the first word on, or after `--`, is the command."""
        parser.add_argument("--action", help="The kind of work; by default the name of the program.")
        parser.add_argument("--summary", help="What is done, in words; by default the command, redacted.")
        parser.add_argument(
            "--service", action="append", default=[], metavar="NAME", help="A service it touches; repeatable."
        )
        parser.add_argument("--actor", help="Who does it; by default user@host.")
        parser.add_argument(
            "--parent", metavar="ID", help="The task this one belongs to; by default that of an audit_record around it."
        )
        parser.add_argument("--correlation-id", default="", metavar="TEXT", help="A request, trace or batch id.")
        parser.add_argument(
            "--timeout",
            type=_seconds,
            metavar="SECONDS",
            help="End it after so long: SIGTERM, ten seconds later SIGKILL; exit status 124.",
        )
        parser.add_argument("--database", metavar="ALIAS", help="The alias to record through.")
        parser.add_argument(
            "--best-effort",
            action="store_true",
            help="Run the command, with a warning, even when it cannot be recorded.",
        )
        parser.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- CMD …", help="The command.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it, and exit with its status."""
        argv = options["argv"][1:] if options["argv"][:1] == ["--"] else options["argv"]
        if not argv:
            raise CommandError("Name the command to run: audit_record [options] -- CMD …", returncode=2)
        command = describe(argv)
        recording = record(
            options["action"] or _program(argv[0]),
            summary=options["summary"] or command,
            services=options["service"],
            actor=options["actor"] or _user(),
            parent=options["parent"] or os.environ.get("AUDIT_TASK_ID") or None,
            correlation_id=options["correlation_id"],
            using=options["database"],
        )
        try:
            status = run_recorded(recording, argv, timeout=options["timeout"])
        except (InvalidValue, NotDurable) as error:
            raise CommandError(f"{error} The command was not run: {command}", returncode=2) from error
        except (Error, ImproperlyConfigured, AuditError) as error:
            reason = str(error).strip()
            if not options["best_effort"]:
                raise CommandError(
                    f"{reason}\nThe command was not run, because it could not be recorded: {command}", returncode=2
                ) from error
            self.stderr.write(self.style.WARNING(f"{reason}\nThe command is run without being recorded: {command}"))
            status = run(argv, timeout=options["timeout"]).status
        if status:
            sys.exit(status)


def _program(path: str) -> str:
    return describe([Path(path).name])[:100]


def _user() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user id without a name
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 10**8:
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, not {text!r}")
    return seconds
