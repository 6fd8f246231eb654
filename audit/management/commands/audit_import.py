"""`manage.py audit_import`: store tasks from files."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from audit.contrib import cloudtrail
from audit.interchange import Counts, Importer, Read, Refusal, find_sources, read_json_lines
from audit.interchange.sources import JSON_LINES
from audit.management.base import FAILED, FINE, UNABLE, AuditCommand, path
from audit.management.output import count, safe
from audit.management.progress import Progress
from audit.reading.filters import add_database

_FORMATS = {"jsonl": (read_json_lines, JSON_LINES), "cloudtrail": (cloudtrail.read_events, cloudtrail.SUFFIXES)}
# So many are named; a file of another kind may have millions.
_REFUSALS_NAMED = 10_000
_PASSED_OVER_NAMED = 100


class Command(AuditCommand):
    """Store tasks from files, the good ones, and say what is refused."""

    outcome = UNABLE
    writes = True
    help = (
        "Import finished tasks from files. Each line or event is checked. The valid ones are stored. The others are "
        "refused, and a message names file, line, field and value. A second import of the same file adds nothing."
    )
    examples = (
        "audit_import tasks.jsonl",
        "audit_import --format cloudtrail --dry-run AWSLogs/",
        "audit_import --strict -",
    )
    exits = "0 all is stored, 1 some was refused, 2 could not read or store"

    synopsis = "[--format cloudtrail] [--strict] [--live] [--redact] [--dry-run] PATH …  (--help explains)"

    def add_arguments(self, parser: CommandParser) -> None:
        """Take files, their format, and what to do with them."""
        parser.add_argument(
            "paths",
            nargs="+",
            type=path,
            metavar="PATH",
            help="a file, a directory (with all files below it), or - for standard input",
        )
        parser.add_argument(
            "--format", choices=_FORMATS, default="jsonl", help="the format of the files (default jsonl)"
        )
        parser.add_argument("--strict", action="store_true", help="store nothing if anything is refused")
        parser.add_argument(
            "--live",
            action="store_true",
            help="also import tasks that are not finished; workers of this database will claim them",
        )
        parser.add_argument("--redact", action="store_true", help="mask secrets in outcomes and logs")
        parser.add_argument(
            "--dry-run", action="store_true", help="check everything against the database, but store nothing"
        )
        add_database(parser)

    def run(self, **options: Any) -> int:
        """Import, print a summary, and return 1 if anything was refused."""
        read, suffixes = _FORMATS[options["format"]]
        sources = find_sources(map(str, options["paths"]), suffixes)
        self._refusals = 0
        self._passed_over: list[str] = []
        with Progress(self.stderr, "Read") as progress:
            importer = Importer(
                using=options["database"],
                live=options["live"],
                strict=options["strict"],
                redact=options["redact"],
                dry_run=options["dry_run"],
                on_refusal=self._report_refusal,
                on_passed_over=self._keep_passed_over,
                on_batch=lambda counts: progress.advance(counts.seen - progress.done),
            )
            try:
                importer.run(
                    each
                    for source in sources
                    for each in ([Read.other(source.name, source.passed_over)] if source.passed_over else read(source))
                )
            except BaseException:
                if importer.counts.seen:
                    self.note(f"Interrupted: {_summary(importer.counts, options)}")
                raise
        self.acted = bool(importer.counts.stored)
        self.line(_summary(importer.counts, options))
        for text in self._passed_over:
            self.line(f"Passed over: {text}")
        if unnamed := importer.counts.passed_over - len(self._passed_over):
            self.line(f"Passed over: {count(unnamed)} more.")
        return FAILED if importer.counts.refused else FINE

    def _report_refusal(self, refusal: Refusal) -> None:
        self._refusals += 1
        if self._refusals <= _REFUSALS_NAMED:
            self.note(f"refused: {safe(refusal)}")
        elif self._refusals == _REFUSALS_NAMED + 1:
            self.note(f"refused: more than {count(_REFUSALS_NAMED)}; the others are counted and not named")

    def _keep_passed_over(self, read: Read) -> None:
        if len(self._passed_over) < _PASSED_OVER_NAMED:
            self._passed_over.append(safe(f"{read.place} ({read.passed_over})"))


def _summary(counts: Counts, options: dict[str, Any]) -> str:
    stored = "would be stored" if options["dry_run"] else "stored"
    parts = [f"{count(counts.stored)} {stored}", f"{count(counts.present)} already present"]
    parts.append(f"{count(counts.refused)} refused")
    nothing = "; --strict stores nothing then" if options["strict"] and counts.refused else ""
    return f"{', '.join(parts)}{nothing}."
