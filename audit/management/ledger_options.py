"""What the commands of the ledger share: whose signatures count, and where checkpoints are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from audit import conf
from audit.ledger.exported import MAX_BYTES, Exports
from audit.ledger.tlog.damage import Damaged
from audit.ledger.tlog.errors import InvalidKey
from audit.ledger.tlog.keys import verifier_of
from audit.ledger.tlog.note import Verifier
from audit.management.base import UNABLE, path
from audit.management.output import safe

__all__ = ["add_checkpoints", "add_keys", "exports", "naming", "read_file", "verifiers"]


def add_keys(parser: CommandParser) -> None:
    """Add `--key`."""
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="VKEY",
        help="trust this verifier key too, beside those of AUDIT['LEDGER_VERIFIERS']; repeat the option for several",
    )


def add_checkpoints(parser: CommandParser, use: str) -> None:
    """Add `--checkpoints`."""
    parser.add_argument(
        "--checkpoints",
        type=path,
        metavar="DIR",
        help=f"{use} (default: AUDIT['LEDGER_CHECKPOINTS'])",
    )


def verifiers(given: Iterable[str], *, needed: bool = True) -> tuple[Verifier, ...]:
    """Read the verifier keys of the command line and of the settings.

    Raises:
        InvalidKey: one is not a verifier key; says which, and never shows it, for it may be a part of another one.
        CommandError: there is none and some are needed.
    """
    keys = {key: f"AUDIT['LEDGER_VERIFIERS'][{place}]" for place, key in enumerate(conf.settings().LEDGER_VERIFIERS)}
    keys |= dict.fromkeys(given, "--key")
    if needed and not keys:
        raise CommandError(
            "No verifier key: give --key VKEY, or set AUDIT['LEDGER_VERIFIERS'] to what audit_keygen printed.",
            returncode=UNABLE,
        )
    return tuple(_parsed(key, place) for key, place in keys.items())


def _parsed(key: str, place: str) -> Verifier:
    try:
        return verifier_of(key)
    except InvalidKey as error:
        raise InvalidKey(f"{place}: {error}") from None


def exports(options: dict[str, Any], *, git: bool = False, make: bool = True) -> Exports | None:
    """Open the directory of exported checkpoints; None when none is named.

    Raises:
        CannotExport: it is not a directory, or it is not there and is not to be made.
    """
    directory = options["checkpoints"] or conf.settings().LEDGER_CHECKPOINTS
    return Exports(Path(directory), git=git, make=make) if directory else None


def read_file(file: Path) -> str:
    """Read a checkpoint that the command line names, as `naming` takes it: bytes that are not UTF-8 are escaped.

    Raises:
        CommandError: it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}", returncode=UNABLE) from None
    if len(data) > MAX_BYTES:
        raise CommandError(f"{file} is not a checkpoint: it has more than {MAX_BYTES} bytes.", returncode=UNABLE)
    return data.decode("utf-8", "surrogateescape")


@contextmanager
def naming(file: Path | None) -> Iterator[None]:
    """Name the file of a checkpoint that proves to be damaged.

    Raises:
        CommandError: it is damaged; says in which way.
    """
    try:
        yield
    except Damaged as error:
        raise CommandError(f"{safe(file)}: {safe(error)}", returncode=UNABLE) from error
