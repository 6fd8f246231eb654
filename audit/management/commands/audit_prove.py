"""`manage.py audit_prove`: a file that proves a task to whoever has nothing but a verifier key."""

from __future__ import annotations

import re
from typing import Any

from django.core.management.base import CommandError, CommandParser

from audit.ledger.prove import CannotProve, prove, prove_growth
from audit.management.base import FAILED, FINE, UNABLE, AuditCommand, path
from audit.management.ledger_options import add_keys, naming, read_file, verifiers
from audit.models import LedgerHead, Task
from audit.reading.filters import add_database
from audit.reading.filters.lookup import find_task


class Command(AuditCommand):
    """Writes proofs."""

    model = LedgerHead
    outcome = UNABLE
    help = (
        "Write a proof of a sealed task to standard output. Anyone can check it without this database and without "
        "Django: python -m audit.ledger check FILE --key VKEY"
    )
    examples = (
        "audit_prove 019bd8a3-1b2c-7d4e > task.proof",
        "audit_prove --since old.checkpoint > growth.proof",
    )
    exits = "0 the proof is written, 1 there is none, for example because the task is not sealed yet, 2 could not do it"
    synopsis = "TASK [--with-log] [--key VKEY] > FILE   |   --since CHECKPOINT_FILE > FILE"

    def add_arguments(self, parser: CommandParser) -> None:
        """Take which task, or since when."""
        parser.add_argument("task", nargs="?", metavar="TASK", help="the id of the task, or the first digits of it")
        parser.add_argument("--with-log", action="store_true", help="also prove the rows of its execution log")
        parser.add_argument(
            "--since",
            type=path,
            metavar="FILE",
            help="prove no task, but that the log has only grown since the checkpoint in FILE. To check that proof: "
            "python -m audit.ledger consistency FILE PROOF. A witness needs a number of leaves in place of FILE",
        )
        parser.add_argument(
            "--checkpoint",
            type=path,
            metavar="FILE",
            help="prove the task with the checkpoint in FILE, such as one that a witness has cosigned (default: the "
            "newest one in the database)",
        )
        add_keys(parser)
        add_database(parser)

    def run(self, **options: Any) -> int:
        """Write the proof."""
        if options["task"] and options["since"]:
            raise CommandError("Name a task or --since FILE, not both.", returncode=UNABLE)
        if not options["task"] and not options["since"]:
            raise CommandError("Name a task, or --since FILE.", returncode=UNABLE)
        using, known = options["database"], verifiers(options["key"])
        try:
            if options["since"]:
                size = re.fullmatch("[0-9]{1,19}", str(options["since"]))
                with naming(options["since"]):
                    text = prove_growth(using, int(size[0]) if size else read_file(options["since"]), known)
            else:
                task = find_task(options["task"], Task.objects.using(using).only("id"))
                under = read_file(options["checkpoint"]) if options["checkpoint"] else None
                with naming(options["checkpoint"]):
                    text = prove(using, task.pk, known, with_log=options["with_log"], checkpoint=under)
        except CannotProve as error:
            raise CommandError(str(error), returncode=FAILED) from error
        self.data([text])
        return FINE
