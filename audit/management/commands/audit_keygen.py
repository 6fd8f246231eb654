"""`manage.py audit_keygen NAME`: a key to sign the log with."""

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from audit.ledger import keys
from audit.ledger.note import generate
from audit.management.base import FINE, UNABLE, AuditCommand


class Command(AuditCommand):
    """Makes a signing key."""

    help = (
        "Make a key that signs the log, and tell what to do with it. Prints the signing key, or with --out the "
        "verifier key. A witness makes its own, without Django: python -m audit.ledger keygen --witness NAME"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the log's name and a file."""
        parser.add_argument("name", metavar="NAME", help="the log's name, such as example.com/audit")
        parser.add_argument("--out", type=Path, metavar="FILE", help="a new file to write it to, for your eyes only")

    def run(self, **options: Any) -> int:
        """Make it and print one key; the rest goes to stderr."""
        signer, path = generate(options["name"]), options["out"]
        if path:
            try:
                keys.write(path, signer)
            except OSError as error:
                raise CommandError(f"{path}: {error.strerror}. No key was kept.", returncode=UNABLE) from error
        for line in keys.advice(signer, path):
            self.note(line)
        self.line(str(signer.verifier) if path else signer.secret())
        return FINE
