"""How commands print: lines, tables and JSON, in the encoding, the width and the colours that there are."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.management import output, tables
from audit.process import streams
from audit.status import Status

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["Printing"]

_FOR_PROGRAMS = ("json", "jsonl")
_STYLES = {
    Status.COMPLETED: "green",
    Status.FAILED: "bold red",
    Status.REJECTED: "red",
    Status.EXECUTING: "cyan",
    Status.PAUSED: "yellow",
    "due": "yellow",
}


class Printing(BaseCommand):
    """Base of the commands: what prints. Whatever a text holds is shown as it is; markup is never read."""

    _format = _forced = _plain = None
    _verbosity = 1

    def configure(self, options: Mapping[str, Any]) -> None:
        """Take from the command line what concerns printing."""
        self._format, self._forced, self._plain = map(options.get, ("format", "force_color", "no_color"))
        self._verbosity = options.get("verbosity", 1)

    def add_format(self, parser: CommandParser, people: str = "table") -> None:
        """Add `--format`.

        Args:
            parser: the command's.
            people: what the form for people is called, the default.
        """
        parser.add_argument(
            "--format",
            choices=(people, *_FOR_PROGRAMS),
            default=people,
            help=f"the output format: {people} for people; json is one JSON document, jsonl one document a line "
            f"(default {people})",
        )

    def refuse_endless(self, option: str, options: Mapping[str, Any]) -> None:
        """Refuse one document of a command that never ends.

        Args:
            option: what makes it endless, such as `--loop`.
            options: the command's.

        Raises:
            CommandError: the option and `--format json` were given together.
        """
        if options[option.strip("-")] and options["format"] == "json":
            raise CommandError(
                f"{option} never ends, and --format json is one document. Give --format jsonl, a document a line.",
                returncode=2,
            )

    def line(self, text: str | Text = "") -> None:
        """Print a line, styled where that is seen; what the output's encoding cannot write is escaped."""
        shown = text if isinstance(text, str) else self._styled(text)
        self._put(f"{streams.encodable(shown, self.stdout)}\n")

    def _styled(self, text: Text) -> str:
        if not self.colourful:
            return text.plain
        with self._console.capture() as captured:
            self._console.print(text, end="", soft_wrap=True)
        return captured.get()

    def item(self, text: str, *, bullet: str = "  - ") -> None:
        """Print an item of a list, its further lines below its text where a terminal is too narrow."""
        width = tables.terminal_width()
        for number, line in enumerate(tables.wrapped(text, width and width - len(bullet))):
            self.line((" " * len(bullet) if number else bullet) + line)

    def note(self, text: str) -> None:
        """Print a line for the person, beside the output proper."""
        self.stderr.write(text, lambda shown: shown)

    def routine(self, text: str) -> None:
        """Print a note that asks nobody to do anything; `--verbosity 0` leaves it out, as cron needs it."""
        if self._verbosity:
            self.note(text)

    @property
    def for_programs(self) -> bool:
        """Whether JSON was asked for."""
        return self._format in _FOR_PROGRAMS

    def json(self, value: Mapping[str, Any]) -> None:
        """Print one JSON document: on one line with `--format jsonl`."""
        self._put(f"{self._json_text(value, indent=None if self._format == 'jsonl' else 2)}\n")

    def json_each(self, values: Iterable[Mapping[str, Any]]) -> None:
        """Print many as they come: each on a line with `--format jsonl`, else as one array."""
        if self._format == "jsonl":
            for value in values:
                self.json(value)
            return
        before = "[\n"
        for value in values:
            self._put(before + self._json_text(value))
            before = ",\n"
        self._put("[]\n" if before == "[\n" else "\n]\n")

    def _json_text(self, value: Mapping[str, Any], indent: int | None = None) -> str:
        return streams.json_for(output.json_text(value, indent=indent), self.stdout)

    def data(self, pieces: Iterable[str]) -> None:
        """Print a file that other programs read, in UTF-8 whatever the locale; its lines end as they are."""
        streams.in_utf8(self.stdout)
        for each in pieces:
            self._put(each)

    def flush(self) -> None:
        """Print now what is kept in memory."""
        with streams.printing():
            self.stdout.flush()

    def _put(self, text: str) -> None:
        with streams.printing():
            self.stdout.write(text, ending="")

    def _open_streams(self) -> None:
        streams.open_missing()
        self.stdout = streams.standard(self.stdout, 1)
        style = self.stderr.style_func
        self.stderr = streams.Notes(streams.standard(self.stderr, 2)._out)  # type: ignore[arg-type]
        self.stderr.style_func = style

    def table(self, columns: Iterable[tables.Column], rows: Iterable[Any]) -> bool:
        """Print a table that fits the terminal; returns whether there were any rows."""
        empty = True
        for text in tables.table(list(columns), rows, width=tables.terminal_width()):
            self.line(text)
            empty = False
        return not empty

    @property
    def colourful(self) -> bool:
        """Whether output goes to a terminal, or colours were asked for, and nobody asked it to be plain."""
        seen = self._forced or self.stdout.isatty()
        return bool(seen and not self._plain and not os.environ.get("NO_COLOR"))

    @cached_property
    def _console(self) -> Console:
        from rich.console import Console

        return Console(
            file=io.StringIO(),
            force_terminal=True,
            no_color=False,
            width=2**20,  # whatever `COLUMNS` says: nothing is wrapped here
            highlight=False,
            markup=False,
            emoji=False,
        )

    def paint(self, status: str) -> str:
        """Return the style of a status, as rich calls it."""
        return _STYLES.get(status, "")

    def heading(self, text: str) -> Text:
        """Make a heading stand out."""
        from rich.text import Text

        return Text(text, "bold cyan")
