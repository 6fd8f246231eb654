"""`manage.py audit_verify`: does the database still hold what was sealed?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.core.management.base import CommandParser
from django.db import Error, router

from audit import conf
from audit.exceptions import AuditError
from audit.inspection.rights import said
from audit.ledger.exported import Exports
from audit.ledger.tlog.note import Verifier
from audit.ledger.verify import keep, keep_unchecked, verify
from audit.ledger.verify.findings import Report
from audit.management.base import FAILED, FINE, UNABLE, AuditCommand, os_user
from audit.management.ledger_options import add_checkpoints, add_keys, exports, verifiers
from audit.management.output import count, safe
from audit.management.progress import Progress
from audit.models import LedgerCheckpoint, LedgerHead, LedgerVerification
from audit.reading.filters import add_database, positive
from audit.values import moments

_SHOWN = 20


class Command(AuditCommand):
    """Verifies the ledger."""

    model = LedgerHead
    outcome = UNABLE
    help = (
        "Verify each sealed task and log row against the signed Merkle tree. This command computes all hashes itself "
        "and trusts none that the database computes."
    )
    examples = (
        "audit_verify",
        "audit_verify --checkpoints /var/lib/audit/checkpoints --format json",
    )
    exits = "0 intact, 1 tampering was found, 2 could not check"
    synopsis = "[--checkpoints DIR] [--accept-epoch N] [--key VKEY] [--format json]  (--help names all)"

    def add_arguments(self, parser: CommandParser) -> None:
        """Take whom to trust and what to compare with."""
        add_keys(parser)
        add_checkpoints(parser, "compare the database with the exported checkpoints in this directory")
        parser.add_argument(
            "--accept-epoch",
            action="append",
            type=positive,
            default=[],
            metavar="N",
            help="accept the restore with which epoch N began: the exported checkpoints that it left behind are then "
            "no finding. Repeat the option for several. AUDIT['LEDGER_ACCEPTED_EPOCHS'] names those that each run "
            "accepts",
        )
        parser.add_argument(
            "--no-store", action="store_true", help="do not store the result, which the browser otherwise shows"
        )
        add_database(parser)
        self.add_format(parser, "text")

    def run(self, **options: Any) -> int:
        """Verify, store the result, and print it: a reader that leaves early must not take it away."""
        keys, started = verifiers(options["key"]), moments.now()
        try:
            report = self._verified(keys, options)
        except (AuditError, Error) as error:
            problem = said(error, options["database"])
            self._store(options, lambda using: keep_unchecked(using, os_user(), started, problem))
            raise
        self.outcome = FINE if report.intact else FAILED
        self._store(options, lambda using: keep(report, using, os_user()))
        if self.for_programs:
            self.json(report.as_json())
        else:
            self._print(report)
        if report.intact:
            self._note_if_behind(options)
        return self.outcome

    def _verified(self, keys: Sequence[Verifier], options: dict[str, Any]) -> Report:
        using, kept = options["database"], exports(options, make=False)
        accepted = dict.fromkeys(conf.settings().LEDGER_ACCEPTED_EPOCHS, "AUDIT['LEDGER_ACCEPTED_EPOCHS']")
        accepted |= dict.fromkeys(options["accept_epoch"], "--accept-epoch")
        with Progress(self.stderr, "Verified", unit="leaf", many="leaves") as progress:
            report = verify(
                using,
                keys,
                exported=None if kept is None else kept.read(),
                accepted_epochs=sorted(accepted),
                progress=lambda done, total: progress.advance(done - progress.done, total=total),
            )
        if report.intact:  # else what was found counts for more
            _insist_on_what_was_named(LedgerCheckpoint.objects.using(using), kept, accepted)
        return report

    def _note_if_behind(self, options: dict[str, Any]) -> None:
        """Say that the directory of checkpoints ends before the database does: what follows is not compared with it."""
        kept = exports(options, make=False)
        newest = kept.newest() if kept else None
        signed = LedgerCheckpoint.objects.using(options["database"]).order_by("-epoch", "-size")
        last = signed.values_list("epoch", "size").first()
        if kept and newest and newest.place and last and newest.place < last:
            self.note(
                f"{safe(kept.directory)} is behind the database: its newest checkpoint covers {newest.place[1]} leaves,"
                f" the newest in the database {last[1]}. audit_seal --checkpoints DIR writes those that are missing."
            )

    def _store(self, options: dict[str, Any], store: Callable[[str], object]) -> None:
        if options["no_store"]:
            return
        # A replica verifies as well as its primary, and the result belongs where it can be written.
        for using in dict.fromkeys((options["database"], router.db_for_write(LedgerVerification))):
            try:
                store(using)
            except Error as error:
                problem = said(error, using)
            else:
                return
        self.note(f"The result could not be stored for the browser: {safe(problem)}")

    def _print(self, report: Report) -> None:
        covered = report.covered
        if report.intact:
            self.line(self.heading("INTACT"))
        else:
            total = sum(report.counts.values())
            self.line(self.heading(f"TAMPERING: {count(total, 'finding')}"))
        for each in report.findings[:_SHOWN]:
            self.item(f"{each.code.value}: {safe(each.message)}", bullet="  ")
        if sum(report.counts.values()) > _SHOWN:
            counts = ", ".join(f"{count} {code}" for code, count in report.counts.items())
            self.line(f"  … in all: {counts} (--format json names them)")
        self.line()
        if covered:
            self.line(
                f"Covered: {count(covered['tasks'], 'task')}, {count(covered['log_rows'], 'log row')}, "
                f"{count(report.size, 'leaf', 'leaves')} of which {count(report.signed)} are signed, "
                f"{count(covered['checkpoints'], 'checkpoint')} in the database, "
                f"{count(covered['external_checkpoints'])} outside."
            )
        self.line("Not covered:")
        for limit in report.not_covered:
            self.item(safe(limit))


def _insist_on_what_was_named(signed: Any, kept: Exports | None, accepted: Mapping[int, str]) -> None:
    """Refuse to call intact what was to be compared with something that is not there."""
    if unknown := [each for each in accepted if not signed.filter(epoch=each).exists()]:
        newest = signed.order_by("-epoch").values_list("epoch", flat=True).first()
        raise AuditError(
            f"{accepted[unknown[0]]} {unknown[0]}: the log has no such epoch"
            + (f"; it is in epoch {newest}." if newest else "; nothing is sealed yet.")
        )
    if kept and kept.newest() is None and signed.exists():
        raise AuditError(
            f"{kept.directory} holds no checkpoint to compare with, and the log has signed ones. Name the directory "
            "that audit_seal --checkpoints keeps, and find out who emptied it if this is the one."
        )
