"""Checkpoints: the head of a log at one size, as a note that the log signs (c2sp.org/tlog-checkpoint).

    example.com/behind-the-sofa
    20852163
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+…

The log's name (its origin), how many leaves its tree has, and the tree's root.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from audit.ledger.tlog import note as notes
from audit.ledger.tlog.errors import InvalidKey, Malformed, Unsigned, Unwitnessed, WrongOrigin, shown
from audit.ledger.tlog.merkle import EMPTY_ROOT, HASH_SIZE
from audit.ledger.tlog.note import KeyKind, Note, Signer, Verified, Verifier, from_base64, to_base64
from audit.ledger.tlog.origins import epoch_of

__all__ = ["MAX_LEAVES", "Checkpoint", "SignedCheckpoint", "open_checkpoint", "read_number", "sign"]

MAX_LEAVES = 2**63 - 1
"""The largest size: what readers in other languages take."""

_NUMBER = re.compile("0|[1-9][0-9]{0,18}", re.ASCII)
_LINE_BREAKING = re.compile(r"[\x00-\x1f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The head of a log at one size. `str(checkpoint)` is the text that is signed and that `parse` reads.

    Raises:
        Malformed: on construction, if it could not be read back.
    """

    origin: str
    """The log's name."""
    size: int
    """Leaves of the tree."""
    root: bytes
    """Root of the tree, 32 bytes."""
    extensions: tuple[str, ...] = ()
    """Further lines, which mean nothing here and are kept."""

    def __post_init__(self) -> None:
        for line in (self.origin, *self.extensions):
            if not line or _LINE_BREAKING.search(line):
                raise Malformed("checkpoint", f"a line is empty or holds control characters: {shown(line)}")
        if not 0 <= self.size <= MAX_LEAVES:
            raise Malformed("checkpoint", f"{self.size} is not a size of a tree")
        if len(self.root) != HASH_SIZE:
            raise Malformed("checkpoint", f"its root has {len(self.root)} bytes, not {HASH_SIZE}")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise Malformed("checkpoint", "its root is not that of the tree without leaves")

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a checkpoint's text, without signatures.

        Raises:
            Malformed: anything but what `str` writes.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1]:
            raise Malformed("checkpoint", "it lacks one of the lines origin, size and root, or a line break")
        origin, size, root, *extensions = lines[:-1]
        try:
            hashed = from_base64(root)
        except ValueError as error:
            raise Malformed("checkpoint", f"its root {error}") from None
        return cls(origin=origin, size=read_number(size, "checkpoint"), root=hashed, extensions=tuple(extensions))

    def __str__(self) -> str:
        return "\n".join([self.origin, str(self.size), to_base64(self.root), *self.extensions, ""])


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """A checkpoint whose signatures were verified."""

    checkpoint: Checkpoint
    note: Note
    """As it was read, with the signatures of unknown keys."""
    signed: tuple[Verified, ...]
    """By the log's own keys; at least one."""
    cosigned: tuple[Verified, ...]
    """By witnesses, each with the time it gives."""


def sign(checkpoint: Checkpoint, *signers: Signer) -> Note:
    """Sign a checkpoint with a log's keys: several while one follows the other.

    Raises:
        InvalidKey: a witness's key; it cosigns the finished note (`note.sign`).
        Malformed: nobody signs.
    """
    _check_kinds((signer.verifier for signer in signers), KeyKind.ED25519)
    return notes.sign(str(checkpoint), *signers)


def open_checkpoint(
    data: Note | str | bytes,
    verifiers: Iterable[Verifier],
    *,
    witnesses: Iterable[Verifier] = (),
    origin: str | None = None,
    quorum: int = 0,
) -> SignedCheckpoint:
    """Read a signed checkpoint and verify who signed it.

    Args:
        data: the signed note.
        verifiers: keys of the log, of kind ED25519. One that signed is enough; one whose signature does not fit is
            too many.
        witnesses: keys of witnesses, of kind COSIGNATURE. A signature by one that does not fit is too many.
        origin: the log's name. Without it, it must be the name of a key that signed, or that of a later epoch of
            the same log, so that a key which signs another log's checkpoints too cannot pass them off as this one's.
        quorum: how many of the witnesses must have cosigned.

    Raises:
        Malformed: no signed checkpoint.
        InvalidKey: a key of the wrong kind.
        InvalidSignature: the signature of a known key does not fit.
        Unsigned: no key of the log signed it.
        WrongOrigin: it belongs to another log.
        Unwitnessed: too few witnesses cosigned it.
    """
    verifiers, witnesses = tuple(verifiers), tuple(witnesses)
    _check_kinds(verifiers, KeyKind.ED25519)
    _check_kinds(witnesses, KeyKind.COSIGNATURE)
    note = data if isinstance(data, Note) else Note.parse(data)
    checkpoint = Checkpoint.parse(note.text)
    signed = notes.verify(note, verifiers)
    try:
        cosigned = notes.verify(note, witnesses)
    except Unsigned:
        cosigned = ()
    names = tuple(dict.fromkeys(each.verifier.name for each in signed))
    if origin is None:
        expected = any(epoch_of(name, checkpoint.origin) for name in names)
    else:
        expected = checkpoint.origin == origin
    if not expected:
        raise WrongOrigin(checkpoint.origin, names if origin is None else (origin,))
    cosigners = {each.verifier.label for each in cosigned}
    if len(cosigners) < quorum:
        raise Unwitnessed(tuple(sorted(cosigners)), quorum)
    return SignedCheckpoint(checkpoint=checkpoint, note=note, signed=signed, cosigned=cosigned)


def read_number(text: str, what: str) -> int:
    """Read a size or index: ASCII digits without leading zeros, at most 2**63 - 1.

    Raises:
        Malformed: anything else; names `what` it stands in.
    """
    if not _NUMBER.fullmatch(text) or int(text) > MAX_LEAVES:
        raise Malformed(what, f"{shown(text)} is not a number of leaves")
    return int(text)


def _check_kinds(verifiers: Iterable[Verifier], kind: KeyKind) -> None:
    for verifier in verifiers:
        if verifier.kind is not kind:
            role = {KeyKind.ED25519: "a log's", KeyKind.COSIGNATURE: "a witness's"}
            raise InvalidKey(
                f"The key {shown(verifier.label)} is {role[verifier.kind]} key where {role[kind]} belongs."
            )
