"""`manage.py audit_record -- CMD …`: any command as a recorded task."""

import argparse
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError, CommandParser
from django.db import Error

from audit.exceptions import AuditError, InvalidValue, NotDurable
from audit.management.base import UNABLE, AuditCommand, os_user
from audit.models import Task
from audit.reading.filters import database_alias
from audit.reading.filters.lookup import find_task
from audit.recording import Recording, record
from audit.recording.block import ACTOR_VARIABLE, alias_of
from audit.recording.running import OUTPUTS, describe, run_recorded, run_unrecorded
from audit.values import validation
from audit.values.validation import storable_text

_AROUND = "AUDIT_TASK_ID"
_OPTIONS = {name: f"--{name.replace('_', '-')}" for name in ("action", "summary", "actor", "correlation_id")}
_OPTIONS["services"] = "--service"


class Command(AuditCommand):
    """Runs a command and records it; prints nothing of its own unless something is wrong."""

    needs_settings = False  # --best-effort runs the command all the same

    help = (
        "Run a command as a recorded task. Its exit status, duration, resources and the end of its output are stored "
        "for ever. If the output contains personal data, give --no-stdout or --no-stderr. Input, output, signals "
        "and the exit status pass through. The exit status is 124 if the time ran out, 126 or 127 if the command could "
        "not be run, 128 + n if signal n ended it, and 2 if it was not run because it could not be recorded."
    )
    examples = (
        "audit_record --service db --action backup -- /usr/local/bin/backup.sh",
        "audit_record --timeout 600 -- rsync -a /srv backup:/srv",
    )
    exits = ""

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the options; everything from the first word on, or after `--`, is the command."""
        parser.add_argument("--action", metavar="NAME", help="the kind of work (default: the name of the program)")
        parser.add_argument(
            "--summary", metavar="TEXT", help="what is done (default: the command, with secrets masked)"
        )
        parser.add_argument(
            "--service",
            action="append",
            default=[],
            metavar="NAME",
            help="a service that it touches; repeat the option for several",
        )
        parser.add_argument(
            "--actor",
            metavar="NAME",
            help="who does it (default: the actor of the enclosing audit_record, else cli:USER)",
        )
        parser.add_argument(
            "--parent",
            metavar="ID",
            help="the task that it belongs to: its id, or its first digits (default: the enclosing audit_record)",
        )
        parser.add_argument("--correlation-id", default="", metavar="TEXT", help="the id of a request, trace or batch")
        for name in OUTPUTS:
            parser.add_argument(
                f"--no-{name}",
                action="store_true",
                help=f"do not store the end of its {'standard output' if name == 'stdout' else 'standard error'}, "
                "only the number of bytes",
            )
        parser.add_argument(
            "--timeout",
            type=_seconds,
            metavar="SECONDS",
            help="end the command after SECONDS: with SIGTERM, and ten seconds later with SIGKILL. The exit status is "
            "then 124 (default: no limit)",
        )
        parser.add_argument(
            "--database",
            type=database_alias,
            metavar="ALIAS",
            help="the database to record through (default: AUDIT['RECORD_USING'], else the one that DATABASE_ROUTERS "
            "choose)",
        )
        parser.add_argument(
            "--best-effort",
            action="store_true",
            help="run the command even if it cannot be recorded, with a warning",
        )
        parser.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- CMD …", help="the command")

    def database(self, options: Mapping[str, Any]) -> str | None:
        """Leave it to `record`, which knows of `AUDIT["RECORD_USING"]`."""
        return None

    def run(self, **options: Any) -> int:
        """Run it, and return its exit status."""
        argv = options["argv"][1:] if options["argv"][:1] == ["--"] else options["argv"]
        if not argv:
            raise CommandError("Name the command to run: audit_record [options] -- CMD …", returncode=UNABLE)
        try:
            try:
                keep = [name for name in OUTPUTS if not options[f"no_{name}"]]
                return run_recorded(self._recording(argv, options), argv, timeout=options["timeout"], keep=keep)
            except InvalidValue as error:
                option = _OPTIONS.get(error.field.partition("[")[0])
                if option is None:
                    raise
                raise InvalidValue(option, error.value, error.problem) from error
        except (AuditError, Error, ImproperlyConfigured) as error:
            if not options["best_effort"] or _is_misuse(error, options):
                self.note(f"The command was not run, because it could not be recorded: {_command_shown(argv)}")
                raise
            self.note(f"{str(error).strip()}\nThe command is run without being recorded: {_command_shown(argv)}")
        return run_unrecorded(argv, timeout=options["timeout"])

    def _recording(self, argv: list[str], options: dict[str, Any]) -> Recording:
        return record(
            options["action"] or describe([Path(argv[0]).name])[:100],
            summary=options["summary"] or describe(argv),
            services=options["service"],
            actor=options["actor"] or (None if os.environ.get(ACTOR_VARIABLE) else os_user()),
            parent=_parent(options),
            correlation_id=options["correlation_id"],
            using=options["database"],
        )


def _parent(options: dict[str, Any]) -> UUID | str | None:
    text = options["parent"]
    if not text:
        around = os.environ.get(_AROUND)
        return validation.uuid(_AROUND, around) if around else None
    with contextlib.suppress(ValueError):
        return UUID(text)
    return find_task(text, Task.objects.using(alias_of(options["database"])).only("id"), "--parent").pk


def _is_misuse(error: Exception, options: dict[str, Any]) -> bool:
    """Whether the command line is wrong, and not the settings or the database."""
    if isinstance(error, InvalidValue):
        return error.field not in {"lease", _AROUND, ACTOR_VARIABLE} and (
            error.field != "using" or bool(options["database"])
        )
    return isinstance(error, NotDurable)


def _command_shown(argv: list[str]) -> str:
    """The command as one may show it: without its arguments, of which nobody may know here which are secret."""
    return storable_text(Path(argv[0]).name) + (" …" if argv[1:] else "")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 10**8:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0 and below 100000000, not {text!r}")
    return seconds
