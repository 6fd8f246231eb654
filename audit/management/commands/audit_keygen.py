"""`manage.py audit_keygen NAME`: a key to sign the log with."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from audit.ledger.tlog import keys
from audit.ledger.tlog.note import generate
from audit.management.base import FINE, UNABLE, AuditCommand, path


class Command(AuditCommand):
    """Makes a signing key."""

    needs_settings = False

    help = (
        "Make a key that signs the log, and explain its use. Without --output, the command prints the secret signing "
        "key. With it, the command prints the public verifier key. A witness makes its key without Django: "
        "python -m audit.ledger keygen --witness NAME"
    )

    examples = ("audit_keygen example.com/audit --output /etc/audit/ledger.key",)

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the log's name and a file."""
        parser.add_argument("name", metavar="NAME", help="the log's name, such as example.com/audit")
        parser.add_argument(
            "--output",
            dest="out",
            type=path,
            metavar="FILE",
            help="write the signing key to this file, which must not exist; only you can read it",
        )

    def run(self, **options: Any) -> int:
        """Make it and print one key; the rest goes to stderr."""
        signer, out = generate(options["name"]), options["out"]
        if out:
            try:
                keys.write(out, signer)
            except OSError as error:
                left = "; it is left as it is" if isinstance(error, FileExistsError) else ""
                raise CommandError(f"{out}: {error.strerror}{left}. No key was made.", returncode=UNABLE) from error
        self.line(str(signer.verifier) if out else signer.secret())
        self.flush()  # first: a key that is lost needs no advice
        for line in keys.advice(signer, out):
            self.note(line)
        return FINE
