"""`manage.py audit_export`: write tasks as JSON Lines or CSV."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from audit.interchange import csv_lines, json_lines, whole_file
from audit.management.base import FINE, UNABLE, AuditCommand, path
from audit.management.output import count
from audit.management.progress import Progress
from audit.models import Task
from audit.reading.filters import TaskFilter, add_arguments
from audit.values.terminal import safe, safe_json


class Command(AuditCommand):
    """Write tasks to a file or to standard output."""

    help = (
        "Export tasks in the order of their ids, from one snapshot of the database. JSON Lines contain the execution "
        "log, and audit_import reads them. CSV is for spreadsheets. FILE appears only when it is complete."
    )
    examples = (
        "audit_export --output tasks.jsonl",
        "audit_export --since 30d --format csv --bom --output tasks.csv",
        "audit_export --since all | gzip > tasks.jsonl.gz",
    )

    synopsis = "[--output FILE] [--format csv] [--status failed] [--since 7d] …  (--help names all)"

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the filters, the format and where to write."""
        add_arguments(parser)
        parser.add_argument(
            "--format", choices=("jsonl", "csv"), default="jsonl", help="the format to write (default jsonl)"
        )
        parser.add_argument(
            "--bom", action="store_true", help="begin a CSV with a byte order mark, so that Excel reads it as UTF-8"
        )
        parser.add_argument(
            "--output",
            type=path,
            metavar="FILE",
            help="write to this file (default: standard output, which - names too)",
        )

    def run(self, **options: Any) -> int:
        """Write every task that the filters leave."""
        tasks = TaskFilter.from_options(options).apply(Task.objects.using(options["database"]))
        if options["bom"] and options["format"] != "csv":
            raise CommandError("--bom is for --format csv; JSON has no byte order mark.", returncode=UNABLE)
        lines = csv_lines(tasks, bom=options["bom"]) if options["format"] == "csv" else json_lines(tasks)
        if str(options["output"] or "-") == "-":
            # A terminal would obey what is in the texts. As JSON the lines say the same with it escaped.
            shown = safe if options["format"] == "csv" else safe_json
            self.data((f"{shown(line[:-1])}\n" for line in lines) if self.stdout.isatty() else lines)
            return FINE
        try:
            with whole_file(options["output"]) as file, Progress(self.stderr, "Wrote") as progress:
                for line in lines:
                    file.write(line)
                    progress.advance()
            rows = progress.done - (options["format"] == "csv")  # whose first line is a header
            self.routine(f"Wrote {count(rows, 'task')} to {options['output']}.")
        except OSError as error:
            raise CommandError(
                f"{options['output']} cannot be written: {error.strerror}.", returncode=UNABLE
            ) from error
        return FINE
