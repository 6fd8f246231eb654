"""Signed notes and their keys (c2sp.org/signed-note, c2sp.org/tlog-cosignature).

    This is an example message.

    — example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=

A text, an empty line, and one line for each signature: the name of the key and, in base64, its four-byte id and the
signature. Keys are written as Go's `golang.org/x/mod/sumdb/note` writes them.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256

from cryptography.exceptions import InvalidSignature as _BadSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.ledger.tlog.errors import InvalidKey, InvalidSignature, Malformed, Unsigned, shown

__all__ = [
    "MAX_SIGNATURES",
    "MAX_SIZE",
    "KeyKind",
    "Note",
    "Signature",
    "Signer",
    "Verified",
    "Verifier",
    "from_base64",
    "generate",
    "sign",
    "to_base64",
    "verify",
]

MAX_SIZE = 1_000_000
"""Bytes of a note, signatures included; as Go's reader."""
MAX_SIGNATURES = 100
"""Signatures of a note; as Go's reader."""

_DASH = "— "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_SEED_SIZE = _PUBLIC_SIZE = 32
_SIGNATURE_SIZE = 64
_TIME_SIZE = 8
_LATEST = 2**63 - 1


class KeyKind(IntEnum):
    """What a key signs, and how: the signature type byte of c2sp.org/signed-note."""

    ED25519 = 0x01
    """The text, by Ed25519: what a log's key does."""
    COSIGNATURE = 0x04
    """A checkpoint and the time of the day, by Ed25519 (cosignature/v1): what a witness's key does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature line of a note. `str(signature)` is what `parse` reads; a `Note` checks that it can be one."""

    name: str
    """The key's name."""
    key_id: bytes
    """The key's id, 4 bytes."""
    data: bytes
    """The signature itself: 64 bytes by Ed25519, behind 8 bytes of time in a cosignature; anything by other keys."""

    @classmethod
    def parse(cls, line: str) -> Signature:
        """Read a signature line, without its line break.

        Raises:
            Malformed: it is none.
        """
        name, space, encoded = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not space:
            raise Malformed("signed note", f"{shown(line)} is not a signature line (— name base64)")
        try:
            data = from_base64(encoded)
        except ValueError as error:
            raise Malformed("signed note", f"in the signature by {shown(name)}, {error}") from None
        return cls(name=name, key_id=data[:4], data=data[4:])

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {to_base64(self.key_id + self.data)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A text and its signatures, not yet verified. `str(note)` is what `Note.parse` reads.

    Raises:
        Malformed: on construction, if it could not be read back.
    """

    text: str
    """Ends in a line break, which is signed too."""
    signatures: tuple[Signature, ...] = ()

    def __post_init__(self) -> None:
        _check_text(self.text)
        if not self.signatures:
            raise Malformed("signed note", "it has no signature")
        if len(self.signatures) > MAX_SIGNATURES:
            raise Malformed("signed note", f"it has more than {MAX_SIGNATURES} signatures")
        for signature in self.signatures:
            _check_name(
                signature.name, Malformed("signed note", f"{shown(signature.name)} cannot be the name of a key")
            )
            if len(signature.key_id) != 4 or not signature.data:
                raise Malformed("signed note", f"the signature by {shown(signature.name)} is too short")
        if len(str(self).encode()) > MAX_SIZE:
            raise Malformed("signed note", f"it has more than {MAX_SIZE} bytes")

    @classmethod
    def parse(cls, data: str | bytes) -> Note:
        """Read a signed note.

        Raises:
            Malformed: not UTF-8, control characters, no signature, a line that is none, or too large.
        """
        if len(data) > MAX_SIZE:
            raise Malformed("signed note", f"it has more than {MAX_SIZE} bytes")
        if isinstance(data, bytes):
            try:
                data = data.decode()
            except UnicodeDecodeError as error:
                raise Malformed("signed note", f"byte {error.start} is not UTF-8") from None
        # The text may have empty lines of its own: the last one ends it.
        text, blank, lines = data.rpartition("\n\n")
        if not blank or not lines.endswith("\n"):
            raise Malformed("signed note", "there are no signature lines after an empty line at its end")
        _check_text(data)
        signatures = tuple(map(Signature.parse, lines[:-1].split("\n", MAX_SIGNATURES)))
        return cls(text=f"{text}\n", signatures=signatures)

    def __str__(self) -> str:
        return "\n".join([self.text, *map(str, self.signatures), ""])


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """The public half of a key. `str(verifier)` is the verifier key, `<name>+<id>+<base64>`, that `parse` reads.

    Raises:
        InvalidKey: on construction, for a bad name or size.
    """

    name: str
    kind: KeyKind
    public: bytes
    """The Ed25519 public key, 32 bytes."""

    def __post_init__(self) -> None:
        _check_name(self.name, InvalidKey(f"{shown(self.name)} cannot be the name of a key: {_NAME_RULE}"))
        if len(self.public) != _PUBLIC_SIZE:
            raise InvalidKey(f"The public key of {shown(self.name)} has {len(self.public)} bytes, not {_PUBLIC_SIZE}.")

    @classmethod
    def parse(cls, vkey: str) -> Verifier:
        """Read a verifier key such as `example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k`.

        Raises:
            InvalidKey: it is none, or of a kind that is not known here, or its id does not fit.
        """
        if vkey.startswith(_PRIVATE):
            raise InvalidKey("This is a signing key where a verifier key belongs. Keep it secret, and give the other.")
        name, key_id, material = _parts(vkey, "verifier key")
        verifier = cls(name=name, kind=_kind(material, name), public=material[1:])
        if verifier.key_id.hex() != key_id:
            raise InvalidKey(f"The key of {shown(name)} has the id {verifier.key_id.hex()}, not {shown(key_id)}.")
        return verifier

    @property
    def key_id(self) -> bytes:
        """First four bytes of SHA-256(name ‖ 0x0A ‖ kind ‖ public key)."""
        return sha256(f"{self.name}\n".encode() + bytes([self.kind]) + self.public).digest()[:4]

    @property
    def label(self) -> str:
        """Name and id, as messages show the key: `example.com/foo+530d903a`."""
        return f"{self.name}+{self.key_id.hex()}"

    def __str__(self) -> str:
        return f"{self.label}+{to_base64(bytes([self.kind]) + self.public)}"

    def check(self, text: str, signature: Signature) -> int | None:
        """Check a signature by this key.

        Returns:
            When a witness says it saw the text, in seconds since 1970-01-01 UTC; None for a key that states no time.

        Raises:
            InvalidSignature: it does not fit the text.
        """
        data, at = signature.data, None
        if self.kind is KeyKind.COSIGNATURE:
            at, data = int.from_bytes(data[:_TIME_SIZE]), data[_TIME_SIZE:]
        if len(data) != _SIGNATURE_SIZE or (at is not None and at > _LATEST):
            raise InvalidSignature(self.name, self.key_id)
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(data, _message(text, at))
        except _BadSignature:
            raise InvalidSignature(self.name, self.key_id) from None
        return at


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A signing key. It shows its secret only when asked for it: `secret()`.

    Raises:
        InvalidKey: on construction, for a bad name or size.
    """

    name: str
    kind: KeyKind
    seed: bytes = field(repr=False)
    """The Ed25519 private key, 32 bytes."""

    def __post_init__(self) -> None:
        _check_name(self.name, InvalidKey(f"{shown(self.name)} cannot be the name of a key: {_NAME_RULE}"))
        if len(self.seed) != _SEED_SIZE:
            raise InvalidKey(f"The signing key of {shown(self.name)} has {len(self.seed)} bytes, not {_SEED_SIZE}.")

    @classmethod
    def parse(cls, skey: str) -> Signer:
        """Read a signing key: `PRIVATE+KEY+<name>+<id>+<base64>`.

        Raises:
            InvalidKey: it is none, or of a kind that is not known here, or its id does not fit.
        """
        if not skey.startswith(_PRIVATE):
            raise InvalidKey(f"A signing key begins with {_PRIVATE}.")
        name, key_id, material = _parts(skey.removeprefix(_PRIVATE), "signing key")
        signer = cls(name=name, kind=_kind(material, name), seed=material[1:])
        if signer.verifier.key_id.hex() != key_id:
            raise InvalidKey(f"The signing key of {shown(name)} does not fit its id {shown(key_id)}.")
        return signer

    @property
    def verifier(self) -> Verifier:
        """The public half."""
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        return Verifier(name=self.name, kind=self.kind, public=public)

    def secret(self) -> str:
        """Write the signing key as `parse` reads it. Whoever has this text can sign."""
        return f"{_PRIVATE}{self.verifier.label}+{to_base64(bytes([self.kind]) + self.seed)}"

    def sign(self, text: str, *, at: int | None = None) -> Signature:
        """Sign a text.

        Args:
            text: ends in a line break.
            at: when a witness's key signs, in seconds since 1970-01-01 UTC; for other keys None.

        Raises:
            Malformed: the text cannot be a note's.
            ValueError: a time for a key that states none, or none for one that must.
        """
        _check_text(text)
        if (at is not None) != (self.kind is KeyKind.COSIGNATURE) or (at is not None and not 0 <= at <= _LATEST):
            raise ValueError(f"A key of kind {self.kind.name} cannot sign with the time {at}.")
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(_message(text, at))
        time = b"" if at is None else at.to_bytes(_TIME_SIZE)
        return Signature(name=self.name, key_id=self.verifier.key_id, data=time + signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A signature that fits, and whose it is."""

    verifier: Verifier
    signature: Signature
    at: int | None
    """When a witness says it saw the text, in seconds since 1970-01-01 UTC; None from a key that states no time."""


def generate(name: str, kind: KeyKind = KeyKind.ED25519) -> Signer:
    """Make a key.

    Args:
        name: of the log, or of the witness; best a name below a domain of one's own, `example.com/audit`.
        kind: for a witness COSIGNATURE.

    Raises:
        InvalidKey: empty, or with white space, `+` or control characters in it.
    """
    return Signer(name=name, kind=kind, seed=secrets.token_bytes(_SEED_SIZE))


def sign(note: Note | str, *signers: Signer, at: int | None = None) -> Note:
    """Sign a text, or add signatures to a note: each behind those it has, in place of one by the same key.

    Args:
        note: a text that ends in a line break, or a note, whose signatures stay.
        signers: the keys.
        at: for witnesses' keys, the time in seconds since 1970-01-01 UTC.

    Raises:
        Malformed: the text cannot be a note's, or nobody signs.
        ValueError: a time for a key that states none, or none for one that must.
    """
    text, kept = (note, ()) if isinstance(note, str) else (note.text, note.signatures)
    fresh = {
        (each.name, each.key_id): each
        for each in (signer.sign(text, at=at if signer.kind is KeyKind.COSIGNATURE else None) for signer in signers)
    }
    others = [each for each in kept if (each.name, each.key_id) not in fresh]
    return Note(text=text, signatures=(*others, *fresh.values()))


def verify(note: Note, verifiers: Iterable[Verifier]) -> tuple[Verified, ...]:
    """Tell which known keys signed a note. Signatures by others say nothing and are passed over.

    Returns:
        At least one, in the order of the note's lines.

    Raises:
        InvalidSignature: a known key's signature does not fit; the whole note is then worth nothing.
        Unsigned: no known key signed.
    """
    known = {(each.name, each.key_id): each for each in verifiers}
    verified = tuple(
        Verified(verifier=verifier, signature=signature, at=verifier.check(note.text, signature))
        for signature in note.signatures
        if (verifier := known.get((signature.name, signature.key_id)))
    )
    if not verified:
        raise Unsigned(
            tuple(f"{signature.name}+{signature.key_id.hex()}" for signature in note.signatures),
            tuple(each.label for each in known.values()),
        )
    return verified


def to_base64(data: bytes) -> str:
    """Write bytes as RFC 4648 §4 does, padding included."""
    return base64.b64encode(data).decode()


def from_base64(text: str) -> bytes:
    """Read exactly what `to_base64` writes: padding, no white space, no stray bits, so that one value has one form.

    Raises:
        ValueError: anything else.
    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        data = b""
    if to_base64(data) != text:
        raise ValueError(f"{shown(text)} is not base64")
    return data


_PRIVATE = "PRIVATE+KEY+"
_NAME_RULE = "it must not be empty or hold white space, '+' or control characters"


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise Malformed("signed note", "its text does not end in a line break")
    if control := _CONTROL.search(text):
        raise Malformed("signed note", f"it holds the control character U+{ord(control[0]):04X}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Malformed("signed note", f"it holds a lone surrogate at index {error.start}") from None


def _check_name(name: str, error: Exception) -> None:
    # Surrogates cannot be encoded; the other checks are the format's.
    if (
        not name
        or "+" in name
        or _CONTROL.search(name)
        or any(map(str.isspace, name))
        or re.search("[\ud800-\udfff]", name)
    ):
        raise error


def _parts(key: str, what: str) -> tuple[str, str, bytes]:
    """Cut a key into name, id and material; base64 may hold `+` itself."""
    name, _, rest = key.partition("+")
    key_id, plus, encoded = rest.partition("+")
    if not plus:
        raise InvalidKey(f"This is not a {what}: it has the form <name>+<id>+<base64>.")
    try:
        material = from_base64(encoded)
    except ValueError:
        raise InvalidKey(f"The {what} of {shown(name)} ends in something that is not base64.") from None
    return name, key_id, material


def _kind(material: bytes, name: str) -> KeyKind:
    try:
        return KeyKind(material[0])
    except (ValueError, IndexError):
        raise InvalidKey(
            f"The key of {shown(name)} is of a kind that is not known here "
            f"(known: {', '.join(f'{each:#04x} {each.name}' for each in KeyKind)})."
        ) from None


def _message(text: str, at: int | None) -> bytes:
    """Build what is signed: the text, or what c2sp.org/tlog-cosignature puts before it."""
    return (text if at is None else f"cosignature/v1\ntime {at}\n{text}").encode()
