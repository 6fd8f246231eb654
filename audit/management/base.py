"""What every command of this app shares: its exit codes, its errors in one message, its way to print."""

from __future__ import annotations

import os
import pwd
import re
from argparse import (
    OPTIONAL,
    SUPPRESS,
    Action,
    ArgumentParser,
    ArgumentTypeError,
    _AppendAction,
    _SubParsersAction,
)
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from difflib import get_close_matches
from enum import Enum
from itertools import chain
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError, CommandParser, DjangoHelpFormatter
from django.db import Error, InterfaceError, OperationalError, connections, router
from django.db.models import Model

from audit import conf
from audit.exceptions import AuditError
from audit.ledger.tlog.errors import LedgerError, Unproven
from audit.management import output
from audit.management.printing import Printing
from audit.models import Task
from audit.process import streams
from audit.process.signals import Terminated, terminable
from audit.values import moments

if TYPE_CHECKING:
    from audit.reading.filters import TaskFilter

__all__ = ["FAILED", "FINE", "PASS_SECONDS", "UNABLE", "AuditCommand", "ListingCommand", "os_user", "path"]

FINE = 0
"""It was done."""
FAILED = 1
"""It was done and found a problem, or a part of it was refused."""
UNABLE = 2
"""It could not be done: bad input, no database, not migrated."""

PASS_SECONDS = 120.0
"""How long one pass of a command that repeats may wait for the database; then it counts as away."""


class AuditCommand(Printing):
    """Base of the commands: `run` does the work and returns an exit code, or raises an error of this app.

    Exit codes are 0 (fine), 1 (found a problem) and 2 (could not do it). Raise `CommandError(…, returncode=…)` to end
    with a message, or an `AuditError` or `LedgerError`, which ends with 2 (an `Unproven` with 1). When what reads the
    output leaves early (`| head`), it ends with `outcome`; when the output cannot be written, with 2, unless `outcome`
    is known to be 1.
    """

    requires_system_checks = ()
    synopsis = ""
    """What follows the command's name in its usage, where listing every option would bury the error below it."""
    exits = "0 fine, 2 could not do it"
    """What the exit codes mean, for `--help`."""

    examples: tuple[str, ...] = ()
    """Command lines for `--help`, from the command's name on."""

    outcome = FINE
    """The exit code as far as `run` knows it: it holds even if nobody reads the rest of the output.

    A command that does more than print begins with 2.
    """
    model: type[Model] = Task
    """The model whose database is used without `--database`."""
    writes = False
    """Whether that is the database that the routers choose for writing."""
    needs_settings = True
    """Whether the command refuses a wrong `AUDIT` setting before it does anything."""
    acted = False
    """Whether something was done that stays, whatever becomes of the output."""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Make the parser as Django does, with the synopsis as its usage, the examples and the exit codes."""
        if self.synopsis:
            kwargs["usage"] = f"%(prog)s {self.synopsis}"
        examples = "".join(f"\n  {prog_name} {each}" for each in self.examples)
        kwargs["epilog"] = (f"Examples:{examples}" if examples else "") + (
            f"\n\nExit status: {self.exits}." if self.exits else ""
        )
        kwargs["formatter_class"] = _HelpFormatter
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        for verb in _verbs(parser):
            verb.formatter_class = _HelpFormatter
        refuse = parser.error

        def error(message: str) -> None:
            refuse(message + _suggestion(message, parser))

        parser.error = error  # type: ignore[method-assign]
        return parser

    def run(self, **options: Any) -> int:
        """Do what was asked and return the exit code."""
        raise NotImplementedError

    def handle(self, *args: Any, **options: Any) -> None:
        """Run, and turn what can go wrong into one message and an exit code."""
        self._open_streams()
        if not self._called_from_command_line:  # type: ignore[attr-defined]  # stubs do not know it
            options = self._parsed(options)
        self.configure(options)
        if "database" in options:
            options["database"] = options["database"] or self.database(options)
        with terminable():
            code = self._ended(options)
        if code:
            raise SystemExit(code)

    def _ended(self, options: dict[str, Any]) -> int:
        try:
            if self.needs_settings:
                conf.settings()
            with moments.aware(options.get("database") or router.db_for_write(self.model)):
                self.outcome = self.run(**options)
            self.flush()
        except BrokenPipeError:
            streams.discard(self.stdout)  # it has seen enough (`| head`)
        except streams.OutputLost as error:
            streams.discard(self.stdout)
            message = f"Standard output could not be written: {error.problem}."
            message += " What was done stands." if self.acted else ""
            raise CommandError(message, returncode=FAILED if self.outcome == FAILED else UNABLE) from error
        except Terminated:
            raise
        except KeyboardInterrupt:
            self.stderr.write("Stopped.")
            raise SystemExit(130) from None
        except Unproven as error:
            raise CommandError(output.safe(error), returncode=FAILED) from error
        except (AuditError, LedgerError) as error:
            raise CommandError(output.safe(error), returncode=UNABLE) from error
        except Error as error:
            alias = options.get("database") or router.db_for_write(self.model)
            raise CommandError(_message(error, alias), returncode=UNABLE) from error
        return self.outcome

    def database(self, options: Mapping[str, Any]) -> str | None:
        """Choose the database when `--database` names none: what the routers say of `model`.

        Args:
            options: those of the command line.

        Returns:
            An alias, or None when `run` chooses by itself.
        """
        return router.db_for_write(self.model) if self.writes else router.db_for_read(self.model)

    def note_if_backwards(self, wanted: TaskFilter) -> None:
        """Say that a range of time can hold nothing: its end is a moment, and a date is the first moment of its day."""
        if wanted.is_backwards(moments.now()):
            self.note(
                "The range of time is empty: it ends before it begins, or at the same moment. A date means the "
                "beginning of that day, so a whole day ends with the next date."
            )

    def _parsed(self, options: dict[str, Any]) -> dict[str, Any]:
        """Take what `call_command` was given by keyword, which Django leaves as it is, as the shell would take it."""
        actions = {each.dest: each for each in _actions(self.create_parser("manage.py", ""), options)}
        return {name: _converted(actions[name], value) if name in actions else value for name, value in options.items()}

    def add_shared(self, parser: CommandParser) -> None:
        """Let the options of every Django command follow a verb too, where people write them."""
        for name in ("settings", "pythonpath"):
            parser.add_argument(f"--{name}", default=SUPPRESS, help=SUPPRESS)
        for name in ("traceback", "no-color", "force-color"):
            parser.add_argument(f"--{name}", action="store_true", default=SUPPRESS, help=SUPPRESS)
        parser.add_argument("-v", "--verbosity", type=int, choices=range(4), default=SUPPRESS, help=SUPPRESS)


def _verbs(parser: ArgumentParser) -> Iterator[ArgumentParser]:
    """Yield the parsers of the verbs."""
    return chain(*(each.choices.values() for each in parser._actions if isinstance(each, _SubParsersAction)))


def _suggestion(message: str, parser: ArgumentParser) -> str:
    """Name the option that somebody may have meant."""
    given = re.match(r"unrecognized arguments: (--[\w-]+)", message)
    known = [name for each in (parser, *_verbs(parser)) for name in each._option_string_actions]
    close = get_close_matches(given[1].replace("_", "-"), known, 1, 0.7) if given else []
    return f"; did you mean {close[0]}?" if close else ""


class _HelpFormatter(DjangoHelpFormatter):
    """Keeps the lines of the epilog; wraps those that are none of a list. Breaks no value at its hyphens."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = text.strip().split("\n")
        return "\n".join(
            line if line.startswith("  ") else super(_HelpFormatter, self)._fill_text(line, width, indent)
            for line in lines
        )


def _actions(parser: ArgumentParser, options: Mapping[str, Any]) -> Iterator[Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, _SubParsersAction) and options.get(action.dest) in action.choices:
            yield from _actions(action.choices[options[action.dest]], options)


def _converted(action: Action, value: Any) -> Any:
    """Convert one option of `call_command`; a moment, a span and a flag stay what they are.

    Raises:
        CommandError: the option does not take it.
    """
    if value is None or action.nargs == 0 or isinstance(action, _SubParsersAction):
        return value
    if action.nargs in (None, OPTIONAL) and not isinstance(action, _AppendAction):
        return _one(action, value)
    alone = isinstance(value, str | bytes | Path) or not isinstance(value, Iterable)
    return [_one(action, each) for each in ([value] if alone else value)]


def _one(action: Action, value: Any) -> Any:
    if isinstance(value, datetime | timedelta):
        return value
    text = str(value.value if isinstance(value, Enum) else value)
    take: Any = action.type or str
    try:
        taken = take(text)
    except ArgumentTypeError as error:
        problem = str(error)
    except (TypeError, ValueError):
        problem = f"invalid value: {text!r}"
    else:
        if action.choices is None or taken in action.choices:
            return taken
        problem = f"invalid choice: {text!r} (choose from {', '.join(map(str, action.choices))})"
    name = "/".join(action.option_strings) or action.metavar or action.dest
    raise CommandError(f"argument {name}: {problem}", returncode=UNABLE)


def path(text: str) -> Path:
    """Take a path of the command line; an empty one, as of a variable that is not set, would be this directory.

    Raises:
        ArgumentTypeError: it is empty.
    """
    if not text:
        raise ArgumentTypeError("the path is empty; is a variable not set? (. names this directory)")
    return Path(text)


def os_user() -> str:
    """Name who runs this process, as the operating system knows them: `cli:alice`."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli:uid-{os.getuid()}"


# SQLSTATE classes and codes, and what they mean to whoever runs a command.
_MIGRATE = "its tables are missing or older than this code. Run: manage.py migrate --database {alias}"
_MEANINGS = {
    "42P01": _MIGRATE,
    "42703": _MIGRATE,
    "42883": _MIGRATE,
    "42501": "this role may not do that: {first}",
    "57014": "it took longer than the database allows. Narrow it, for example with --since 1h.",
    "25006": "it is read-only (a standby?), and this command writes: {first}",
}


def _message(error: Error, alias: str) -> str:
    from audit.inspection.rights import missing_right

    text = _refusal(error)
    if right := missing_right(error, alias):
        return f"Database {alias!r}: {output.safe(right)}"
    sqlstate = getattr(error.__cause__, "sqlstate", None) or ""
    if sqlstate in _MEANINGS:
        first = output.safe(str(error).partition("\n")[0])
        return f"Database {alias!r}: {_MEANINGS[sqlstate].format(alias=alias, first=first)}"
    if isinstance(error, OperationalError | InterfaceError) and not connections[alias].connection:
        return f"Database {alias!r} cannot be reached: {text}"
    return f"Database {alias!r} refused: {text}"


def _refusal(error: Error) -> str:
    """What the database says: its message, detail and hint, each on a line; not where in its code it was."""
    diag = getattr(error.__cause__, "diag", None)
    if diag is None or not diag.message_primary:
        return output.safe(output.sentences(str(error))[:2000])
    lines = [diag.message_primary, diag.message_detail, diag.message_hint and f"Hint: {diag.message_hint}"]
    return "\n".join(output.safe(" ".join(each.split())[:2000]) for each in lines if each)


class ListingCommand(AuditCommand):
    """Base of the commands with verbs; without one they list."""

    verbs: Collection[str] = ()
    """The other verbs."""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Make the parser; without a verb it reads the options of `list`."""
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parse = parser.parse_args

        def parse_args(args: Any = None, namespace: Any = None) -> Any:
            words = list(args or ())
            plain = not words or (words[0].startswith("-") and not {*self.verbs, "list", "-h", "--help"} & {*words})
            return parse(["list", *words] if plain else words, namespace)

        parser.parse_args = parse_args  # type: ignore[method-assign]
        return parser
