"""Where signing keys are kept: the environment, or a file that nobody but its owner can read.

Never the settings and never the database: whoever holds the key can sign a forged log, so it belongs to the process
that seals and to no other.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from audit.ledger.tlog import files
from audit.ledger.tlog.errors import InvalidKey
from audit.ledger.tlog.note import KeyKind, Signer, Verifier
from audit.ledger.tlog.trusted import Untrusted, open_trusted

__all__ = ["FILE_VARIABLE", "KEY_VARIABLE", "advice", "is_configured", "load", "read", "verifier_of", "write"]

KEY_VARIABLE = "AUDIT_LEDGER_KEY"
"""The environment variable that holds signing keys, separated by white space."""
FILE_VARIABLE = "AUDIT_LEDGER_KEY_FILE"
"""The environment variable that names a file of them instead."""

_MAX_FILE = 64 * 1024


def is_configured(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether this process could sign, without reading a key."""
    return bool(environment.get(KEY_VARIABLE) or environment.get(FILE_VARIABLE))


def load(environment: Mapping[str, str] = os.environ) -> tuple[Signer, ...]:
    """Load the signing keys that the environment names: several while one follows the other.

    Raises:
        InvalidKey: none or both of the variables are set, or what they hold is not a key; says what to do.
        OSError: the file cannot be read.
    """
    text, path = environment.get(KEY_VARIABLE, ""), environment.get(FILE_VARIABLE, "")
    if bool(text) == bool(path):
        raise InvalidKey(
            f"{'Both' if text else 'Neither'} of {KEY_VARIABLE} and {FILE_VARIABLE} {'are' if text else 'is'} set; set "
            "one: the signing key, or the path of a file that holds it. `audit_keygen` makes one."
        )
    return _parse(text, KEY_VARIABLE) if text else read(Path(path))


def read(path: Path, owners: Collection[int] = ()) -> tuple[Signer, ...]:
    """Read a file of signing keys, one a line; empty lines and those that begin with `#` say nothing.

    Args:
        path: the file, or a link to it, as Kubernetes mounts a secret.
        owners: ids of users, beside root and the one of this process, who may have written it.

    Raises:
        InvalidKey: others than its owner can read it, somebody else could have written it, or it holds no key.
        OSError: it cannot be read.
    """
    try:
        descriptor = open_trusted(path, owners)
    except Untrusted as error:
        raise InvalidKey(f"{error.problem}. Find out who did that, and make a new key.") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        # A file of root's can be read through its group alone: so Kubernetes mounts secrets for other accounts.
        mounted = status.st_uid == 0 != os.geteuid()
        if status.st_mode & (stat.S_IRWXO | (stat.S_IWGRP | stat.S_IXGRP if mounted else stat.S_IRWXG)):
            raise InvalidKey(
                f"{path} can be read by others than its owner (mode {stat.S_IMODE(status.st_mode):o}), so its key may "
                f"be known. Make a new one, or, if nobody looked: chmod 600 {path}"
            )
        data = file.read(_MAX_FILE + 1)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    if len(data) > _MAX_FILE or not text.strip():
        raise InvalidKey(f"{path} holds no signing key.")
    return _parse("\n".join(line for line in text.splitlines() if not line.startswith("#")), str(path))


def write(path: Path, signer: Signer) -> None:
    """Write a signing key to a new file that only its owner can read; on disk when this returns.

    Raises:
        FileExistsError: there is such a file; it is left alone.
        OSError: it cannot be written.
    """
    files.create(path, f"{signer.secret()}\n")


def verifier_of(text: str, kind: KeyKind = KeyKind.ED25519) -> Verifier:
    """Read a verifier key that somebody wrote on a command line or into the settings.

    Args:
        text: the key.
        kind: what it must be: a log's key, or a witness's.

    Raises:
        InvalidKey: it is none, or of the other kind, or the name of a file. The text is not shown, because it may be a
            part of a signing key.
    """
    try:
        verifier = Verifier.parse(text)
    except InvalidKey as error:
        if not os.path.isfile(text):  # noqa: PTH113 - False for what cannot be a path
            raise
        hint = f'{text} is a file. Give the key that it holds: "$(cat {shlex.quote(text)})"'
        raise InvalidKey(hint) from error
    if verifier.kind is not kind:
        whose, other = ("a log's", "a witness's") if kind is KeyKind.ED25519 else ("a witness's", "a log's")
        raise InvalidKey(f"{verifier.label} is {other} key, and {whose} key is needed.")
    return verifier


def advice(signer: Signer, path: Path | None) -> Iterator[str]:
    """Yield lines that say what to do with a new key; they do not hold its secret.

    Args:
        signer: the key.
        path: where it was written; None if it was printed.
    """
    where = f"in {path}, which only you can read" if path else "the line on standard output"
    yield f"The signing key is {where}. Keep it secret: whoever has it can sign as {signer.name}."
    if signer.kind is KeyKind.COSIGNATURE:
        yield f"For whoever checks proofs: --witness '{signer.verifier}'"
        yield f"To sign: python -m audit.ledger witness … --signing-key {path or 'FILE'}"
        return
    yield f'In the settings of every process: AUDIT = {{"LEDGER_VERIFIERS": ["{signer.verifier}"]}}'
    secret = f"{FILE_VARIABLE}={path.absolute()}" if path else f"{KEY_VARIABLE}=<the signing key>"
    yield f"In the environment of the sealer only: {secret}"


def _parse(text: str, where: str) -> tuple[Signer, ...]:
    signers = []
    for each in text.split():
        try:
            signers.append(Signer.parse(each))
        except InvalidKey as error:
            raise InvalidKey(f"{where}: {error.problem}") from None
    if not signers:
        raise InvalidKey(f"{where} holds no signing key.")
    if len({signer.verifier.label for signer in signers}) < len(signers):
        raise InvalidKey(f"{where} holds the same signing key twice.")
    return tuple(signers)
