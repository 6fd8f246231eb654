"""A witness of one's own: it remembers the last checkpoint of each log and cosigns only what grew from it.

The rules of c2sp.org/tlog-witness, by file instead of by HTTP. Kept on a machine that the log's operators cannot write
to, it makes a rewritten or rolled-back log visible to whoever checks a proof with the witness's key.

Its state is a JSON object: the last cosigned checkpoint of each log by origin, signatures included, so that a fork
leaves evidence signed by the log itself.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from audit.ledger.tlog import files
from audit.ledger.tlog.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint
from audit.ledger.tlog.errors import InvalidKey, LedgerError, Malformed, shown
from audit.ledger.tlog.merkle import EMPTY_ROOT
from audit.ledger.tlog.note import KeyKind, Note, Signature, Signer, Verifier, sign
from audit.ledger.tlog.proof import Growth

__all__ = ["Conflict", "FirstSight", "cosign", "remembered"]


class Conflict(LedgerError):
    """The proof starts from another size than the witness remembers: `origin`, `size` (the remembered one)."""

    def __init__(self, origin: str, size: int, old_size: int) -> None:
        self.origin = origin
        self.size = size
        super().__init__(
            f"The proof starts from {old_size} leaves of {shown(origin)}, the witness remembers {size}. "
            f"Send one that starts from {size}."
        )


class FirstSight(LedgerError):
    """The witness knows nothing of this log: `origin`."""

    def __init__(self, origin: str, state: Path) -> None:
        self.origin = origin
        super().__init__(
            f"{state} remembers nothing of the log {shown(origin)}. If this is its first checkpoint here, allow that "
            "expressly (--first); if not, the witness's state was lost or is elsewhere."
        )


def cosign(
    request: str,
    state: Path,
    signer: Signer,
    verifiers: Iterable[Verifier],
    *,
    now: int,
    origin: str | None = None,
    first: bool = False,
) -> Signature:
    """Cosign a checkpoint that grew from the one remembered, and remember it.

    The state is on disk before this returns, so that no cosignature can get out and be forgotten. Several processes
    may use one state.

    Args:
        request: the checkpoint with its consistency proof (`proof.Growth`), from the remembered size on; from 0 for a
            log that is new here.
        state: file that the witness remembers in.
        signer: the witness's key.
        verifiers, origin: as for `open_checkpoint`: whom to believe that it is the log's.
        now: the time, in seconds since 1970-01-01 UTC.
        first: whether a log that is new here is taken as it is.

    Raises:
        Malformed: no such request, or the state is damaged.
        InvalidKey: not a witness's key, or not a log's.
        Unproven: not signed by the log, rolled back, or not grown from what is remembered (a fork).
        Conflict: the proof starts from another size.
        FirstSight: a log that is new here, and `first` is not set.
        OSError: the state cannot be read or written.
    """
    if signer.kind is not KeyKind.COSIGNATURE:
        raise InvalidKey(f"The key {shown(signer.verifier.label)} is a log's key; a witness needs one of its own.")
    growth = Growth.parse(request)
    new = open_checkpoint(growth.checkpoint, verifiers, origin=origin)
    with _locked(state):
        notes = _read(state)
        known = notes.get(new.checkpoint.origin)
        if known is None and not first:
            raise FirstSight(new.checkpoint.origin, state)
        _judge(growth, new, Checkpoint.parse(known.text) if known else None)
        cosigned = sign(new.note, signer, at=now)
        _write(state, notes | {new.checkpoint.origin: cosigned})
    return cosigned.signatures[-1]


def remembered(state: Path) -> dict[str, Checkpoint]:
    """Tell what a witness remembers: the last cosigned checkpoint of each log, by origin.

    Raises:
        Malformed: the state is damaged.
        OSError: it cannot be read.
    """
    return {origin: Checkpoint.parse(note.text) for origin, note in sorted(_read(state).items())}


def _judge(growth: Growth, new: SignedCheckpoint, old: Checkpoint | None) -> None:
    size, root = (old.size, old.root) if old else (0, EMPTY_ROOT)
    # A smaller tree is a roll-back whatever the proof says; else a proof from elsewhere is only asked for again.
    if new.checkpoint.size >= size != growth.old_size:
        raise Conflict(new.checkpoint.origin, size, growth.old_size)
    growth.verify(size, root, new)


def _read(state: Path) -> dict[str, Note]:
    try:
        text = state.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise Malformed(f"state of a witness ({state})", "it is not UTF-8") from None
    try:
        notes = {origin: Note.parse(note) for origin, note in json.loads(text).items()}
        fits = all(Checkpoint.parse(note.text).origin == origin for origin, note in notes.items())
    except (ValueError, AttributeError, TypeError, RecursionError):
        fits = False
    if not fits:
        raise Malformed(f"state of a witness ({state})", "it is damaged; restore it, do not begin anew")
    return notes


def _write(state: Path, notes: dict[str, Note]) -> None:
    text = json.dumps({origin: str(note) for origin, note in sorted(notes.items())}, ensure_ascii=False, indent=1)
    files.replace(state, f"{text}\n")


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    """Keep other processes with the same state waiting; the lock goes with the process."""
    descriptor = os.open(state.with_name(f"{state.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
