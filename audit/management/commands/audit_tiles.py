"""`manage.py audit_tiles`: the log as static files, for anyone to follow."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from audit.ledger.publish import publish
from audit.management.base import FINE, UNABLE, AuditCommand, path
from audit.management.ledger_options import add_keys, verifiers
from audit.management.output import count
from audit.models import LedgerHead
from audit.reading.filters import add_database


class Command(AuditCommand):
    """Publishes the log's tiles."""

    model = LedgerHead
    outcome = UNABLE
    help = (
        "Write the newest checkpoint and the tiles of its tree to a directory that a web server can serve "
        "(C2SP tlog-tiles). They contain hashes of salted rows, and no content. Run it again after each sealing: it "
        "adds what is new. Each epoch is a separate log and needs a directory of its own."
    )

    examples = ("audit_tiles /var/www/audit-log",)

    def add_arguments(self, parser: CommandParser) -> None:
        """Take where to."""
        parser.add_argument(
            "directory",
            type=path,
            metavar="DIR",
            help="the directory to write to; if it does not exist, the command makes it",
        )
        add_keys(parser)
        add_database(parser)

    def run(self, **options: Any) -> int:
        """Write them."""
        size, written = publish(options["database"], options["directory"], verifiers(options["key"], needed=False))
        new = f"{count(written, 'tile')} {'is' if written == 1 else 'are'}"
        self.routine(f"{options['directory']} holds the log of {count(size, 'leaf', 'leaves')}; {new} new.")
        return FINE
