"""`manage.py audit_seal`: seal what has finished, once or for ever."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import Error, connections
from django.db.models import Q

from audit.inspection.rights import said
from audit.ledger.exported import CannotExport, Exports
from audit.ledger.seal import BATCH, Batch, Busy, RefusesToSeal, begin_epoch, seal
from audit.ledger.tlog import keys
from audit.ledger.tlog.note import Signer, Verifier
from audit.management.base import FAILED, FINE, PASS_SECONDS, UNABLE, AuditCommand, os_user, path
from audit.management.ledger_options import add_checkpoints, exports, naming, read_file, verifiers
from audit.management.output import count, safe
from audit.models import LedgerCheckpoint, LedgerHead
from audit.process.signals import StopRequest
from audit.reading.filters import add_database, positive
from audit.statements.answers import answered_within
from audit.values import moments

_ROW_SECONDS = 0.001
"""How much longer a batch may take for each row that it may seal: much longer than any takes."""


class Command(AuditCommand):
    """Seals finished tasks and the execution log."""

    model = LedgerHead
    writes = True
    outcome = UNABLE
    _printed = False
    """Whether this run has printed a checkpoint."""
    help = (
        "Append finished tasks and the execution log to the Merkle tree, and sign the tree. The signing key comes from "
        f"{keys.KEY_VARIABLE}, or from the file that {keys.FILE_VARIABLE} names; audit_keygen makes one. Run this "
        "command from a timer, or as a service with --loop, in an account whose key the web server and the workers "
        "cannot read."
    )
    examples = (
        "audit_seal --loop 5 --checkpoints /var/lib/audit/checkpoints --git",
        "audit_seal --checkpoints /var/lib/audit/checkpoints",
    )
    exits = "0 sealed, 1 refused, or sealed and a checkpoint is not kept, 2 could not seal"
    synopsis = "[--loop SECONDS] [--batch N] [--checkpoints DIR [--git]] [--print]  (--help names all)"

    def add_arguments(self, parser: CommandParser) -> None:
        """Take how often, how much, and where signatures go."""
        parser.add_argument(
            "--loop", type=positive, metavar="SECONDS", help="seal every SECONDS seconds, until a signal stops it"
        )
        parser.add_argument(
            "--batch",
            type=positive,
            default=BATCH,
            metavar="N",
            help=f"seal at most N rows in one transaction (default {BATCH})",
        )
        add_checkpoints(parser, "write each new checkpoint to this directory")
        parser.add_argument(
            "--git", action="store_true", help="commit each new checkpoint to the git repository in that directory"
        )
        parser.add_argument(
            "--first-export",
            action="store_true",
            help="begin to export to a directory that holds no checkpoint, although some were signed before; without "
            "this option that is refused",
        )
        parser.add_argument(
            "--print",
            action="store_true",
            help="print the newest checkpoint and then each new one, so that the journal of the service keeps them",
        )
        parser.add_argument(
            "--new-epoch",
            type=path,
            metavar="FILE",
            help="begin a new epoch, to continue after a backup was restored. FILE is the newest checkpoint that was "
            "signed before: a path, or a name in the directory of checkpoints",
        )
        parser.add_argument(
            "--reason", default="", metavar="TEXT", help="why the new epoch begins; required with --new-epoch"
        )
        add_database(parser)

    def run(self, **options: Any) -> int:
        """Seal."""
        kept = exports(options, git=options["git"])
        try:
            return self._seal(options, kept)
        except BaseException:
            if kept:
                kept.unmake()
            raise

    def _seal(self, options: dict[str, Any], kept: Exports | None) -> int:
        if options["git"] and kept is None:
            raise CommandError("--git needs --checkpoints DIR.", returncode=UNABLE)
        if options["first_export"] and kept is None:
            raise CommandError("--first-export needs --checkpoints DIR.", returncode=UNABLE)
        if bool(options["reason"]) != bool(options["new_epoch"]):
            raise CommandError("--new-epoch FILE and --reason TEXT belong together.", returncode=UNABLE)
        try:
            signers = keys.load()
        except OSError as error:
            problem = f"{keys.FILE_VARIABLE} names {error.filename}, which cannot be read: {error.strerror}"
            raise CommandError(problem, returncode=UNABLE) from error
        known = verifiers((), needed=False)
        _insist_on_named(signers, known)
        if not known:
            self.note(
                "AUDIT['LEDGER_VERIFIERS'] names no key, so audit_verify cannot check what this key signs. Add to the "
                f"settings of every process:\n    AUDIT = {{{_verifiers_line(signers)}}}"
            )
        if options["new_epoch"]:
            options["new_epoch"] = _named(options["new_epoch"], kept)
            return self._begin(options, signers, known, kept)
        if options["loop"]:
            return self._loop(options, signers, known, kept)
        try:
            sealed = self._once(options, signers, known, kept)
        except (RefusesToSeal, CannotExport) as error:
            raise _refused(error, kept) from error
        if sealed and not kept and not options["print"]:
            self.note(
                "The checkpoint is in the database only. To keep it elsewhere too, give --checkpoints DIR or set "
                "AUDIT['LEDGER_CHECKPOINTS']."
            )
        return FINE

    def _once(
        self,
        options: dict[str, Any],
        signers: tuple[Signer, ...],
        known: tuple[Verifier, ...],
        kept: Exports | None,
        *,
        stop: StopRequest | None = None,
    ) -> int:
        """Seal until nothing is left; returns how many rows."""
        quiet = stop is not None
        if options["print"] and not self._printed:
            # Before more is sealed: the run that signed it may have ended before it could print it.
            with _answered(options):
                note = _stored(options["database"]).order_by("-epoch", "-size").values_list("note", flat=True).first()
            self._print(note)
        newest = kept.newest() if kept else None
        place = newest.place if newest else None
        total, last = 0, None
        batches = seal(
            options["database"],
            signers,
            verifiers=known,
            limit=options["batch"],
            exported=newest.text if newest else None,
            empty=kept.directory if kept and not newest and not options["first_export"] else None,
        )
        while True:
            with naming(newest.path if newest else None), _answered(options):
                batch = next(batches, None)
            if batch is None:
                break
            if batch.note and (batch.sealed or not total):
                self._publish(batch, kept, place, options)
                options["first_export"] = False  # from now on something is kept there
                place = batch.epoch, batch.size
            total, last = total + batch.sealed, batch
            if not quiet and batch.sealed == options["batch"] and self.stderr.isatty():
                self.routine(f"{count(total, 'row')} sealed …")
            if stop and stop.requested:
                break
        if total and last:
            self.routine(f"Sealed {count(total, 'row')}; the tree has {count(last.size, 'leaf', 'leaves')}.")
        elif not quiet:
            self.routine(f"Nothing new to seal; the tree has {count(last.size if last else 0, 'leaf', 'leaves')}.")
        return total

    def _publish(
        self, batch: Batch, kept: Exports | None, place: tuple[int, int] | None, options: dict[str, Any]
    ) -> None:
        """Print and keep a checkpoint, and those after the one that is kept at `place`, its epoch and size."""
        if options["print"] and (batch.sealed or options["new_epoch"]):
            self._print(batch.note)
        if kept is None:
            return
        missed: Iterable[tuple[int, int, str]] = ()
        if place:
            # Earlier runs may have ended before they could keep them.
            epoch, size = place
            with _answered(options):
                missed = list(
                    _stored(options["database"])
                    .filter(
                        Q(epoch=epoch, size__gt=size) | Q(epoch__gt=epoch),
                        epoch__lte=batch.epoch,
                        size__lt=batch.size,
                    )
                    .order_by("epoch", "size")
                    .values_list("epoch", "size", "note")
                )
        try:
            lacking = sum(kept.write(*each) for each in missed)
            if lacking:
                self.note(f"{kept.directory} was behind the database: it lacked {count(lacking, 'older checkpoint')}.")
            kept.write(batch.epoch, batch.size, batch.note)
        except CannotExport as error:
            later = "--first-export keeps it then" if place is None else "the next run keeps it"
            raise CannotExport(error.path, f"{error.problem}. It is signed; when this is mended, {later}.") from error

    def _print(self, note: str | None) -> None:
        if note:
            self.data([note])
            self.flush()
        self._printed = True

    def _begin(
        self, options: dict[str, Any], signers: tuple[Signer, ...], known: tuple[Verifier, ...], kept: Exports | None
    ) -> int:
        newest = kept.newest() if kept else None
        try:
            with naming(options["new_epoch"]):
                batch = begin_epoch(
                    options["database"],
                    signers,
                    left_behind=read_file(options["new_epoch"]),
                    reason=options["reason"],
                    actor=os_user(),
                    verifiers=known,
                    newest=newest,
                )
        except RefusesToSeal as error:
            problem = f"{options['new_epoch']} cannot be left behind. {error}"
            raise CommandError(problem, returncode=FAILED) from error
        self._publish(batch, kept, newest.place if newest else None, options)
        self.note(f"Epoch {batch.epoch} begins at leaf {batch.size - 1}; run audit_seal as before.")
        return FINE

    def _loop(
        self, options: dict[str, Any], signers: tuple[Signer, ...], known: tuple[Verifier, ...], kept: Exports | None
    ) -> int:
        """Seal again and again until a signal; a refusal ends it.

        A database that is away and a lock that another session holds are waited for: a sealer that ends where nothing
        starts it again seals nothing. `manage.py check` sees the age of what is not sealed (W002).
        """
        failing_since: datetime | None = None
        with StopRequest() as stop:
            self.note(f"Sealing every {options['loop']} s until stopped.")
            while not stop.requested:
                try:
                    self._once(options, signers, known, kept, stop=stop)
                    failing_since = None
                except (RefusesToSeal, CannotExport) as error:
                    raise _refused(error, kept) from error
                except (Busy, Error) as error:
                    problem = str(error)
                    if isinstance(error, Error):
                        problem = f"The database cannot be used: {said(error, options['database']).rstrip('.')}."
                        connections[options["database"]].close()
                    if failing_since:
                        problem += f" No attempt has succeeded since {failing_since:%Y-%m-%d %H:%M:%S} UTC."
                    failing_since = failing_since or moments.now()
                    self.note(f"{safe(problem)} Trying again in {options['loop']} s.")
                stop.wait(options["loop"])
        return FINE


def _answered(options: dict[str, Any]) -> AbstractContextManager[None]:
    """End a wait for the database in the block that lasts too long, in a loop, which tries again.

    Each batch has its own bound: a pass with much to seal takes long by right.
    """
    if not options["loop"]:
        return nullcontext()
    return answered_within(PASS_SECONDS + options["batch"] * _ROW_SECONDS, connections[options["database"]])


def _refused(error: RefusesToSeal | CannotExport, kept: Exports | None) -> CommandError:
    missing = f"There was no directory {kept.directory}. " if kept and kept.made else ""
    return CommandError(f"{missing}{error}", returncode=FAILED)


def _verifiers_line(signers: tuple[Signer, ...]) -> str:
    named = ", ".join(f'"{each.verifier}"' for each in signers)
    return f'"LEDGER_VERIFIERS": [{named}]'


def _insist_on_named(signers: tuple[Signer, ...], known: tuple[Verifier, ...]) -> None:
    """Refuse a key whose signatures the verifier would call forged.

    Raises:
        CommandError: `LEDGER_VERIFIERS` are set and lack it; says what to add.
    """
    missing = [str(each.verifier) for each in signers if each.verifier not in known]
    if not known or not missing:
        return
    lines = "".join(f'\n    "{each}",' for each in missing)
    raise CommandError(
        "AUDIT['LEDGER_VERIFIERS'] does not name the key that would sign, so audit_verify would report its checkpoints "
        f"as forged. Nothing was sealed. Add this line to the list, in the settings of every process:{lines}\n"
        "Keep the keys that are there: they signed earlier checkpoints.",
        returncode=UNABLE,
    )


def _named(file: Path, kept: Exports | None) -> Path:
    """Find a checkpoint that is named without a directory among those that are kept."""
    inside = kept.directory / file if kept and file.name == str(file) else file
    return inside if inside.exists() else file


def _stored(using: str) -> Any:
    return LedgerCheckpoint.objects.using(using)
