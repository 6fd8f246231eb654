"""The ledger of the demo: its key, who seals, and who verifies.

Run as `python -m auditproj.demo.ledger seal|verify`; it goes on until its standard input ends. The sealer is the only
process that knows where the key is.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from django.conf import settings

from auditproj.demo import tied

__all__ = ["Key", "key", "once", "started"]

SEAL_S = 5
VERIFY_S = 60
_NAME = "demo.example/audit"


class Key:
    """A signing key in a file, and the verifier key beside it.

    Args:
        folder: where both lie.
    """

    def __init__(self, folder: Path) -> None:
        self.secret = folder / "ledger-signing-key"
        self.public = folder / "ledger-verifier-key"

    def made(self) -> str:
        """Make what is missing; the verifier key."""
        from audit.ledger.tlog import keys
        from audit.ledger.tlog.note import generate
        from auditproj.embedded.places import keep_file, make_home

        owner, _ = make_home(self.secret.parent)
        if not self.secret.exists():
            keep_file(self.secret, f"{generate(_NAME).secret()}\n", owner)
        (signer,) = keys.read(self.secret, [owner.uid])
        if not self.public.exists() or self.public.read_text().strip() != str(signer.verifier):
            keep_file(self.public, f"{signer.verifier}\n", owner, mode=0o644, exchange=True)
        return str(signer.verifier)

    def environment(self) -> dict[str, str]:
        """What the sealer's environment has and no other."""
        from audit.ledger.tlog.keys import FILE_VARIABLE

        return {FILE_VARIABLE: str(self.secret)}


def key() -> Key:
    """The demo's key, beside its data."""
    return Key(settings.AUDIT_HOME)


def once(*argv: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of the app in a process of its own, such as one that may sign."""
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "django", *argv],
        **tied.place(environment),
        capture_output=True,
        text=True,
        check=False,
    )


def started(what: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start `seal` or `verify` as a process of the demo."""
    return tied.started("auditproj.demo.ledger", what, environment=environment)


def main(what: str) -> None:
    """Seal or verify until standard input ends."""
    ended = tied.set_up()
    from django.core.management import CommandError, call_command
    from django.db import connection

    if what == "seal":
        call_command("audit_seal", loop=SEAL_S)
        return
    while not ended.wait(VERIFY_S):
        # What it found is stored; a database that is away is asked again.
        with contextlib.suppress(CommandError, SystemExit):
            call_command("audit_verify")
        connection.close()


if __name__ == "__main__":
    main(sys.argv[1])
