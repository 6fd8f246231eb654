"""What the offline half of the ledger raises; needs no Django, unlike `audit.exceptions`.

Two kinds matter to a caller: `Unproven` says that well-formed evidence does not hold; everything else says that there
was nothing to judge.
"""

from __future__ import annotations

__all__ = [
    "InvalidKey",
    "InvalidProof",
    "InvalidSignature",
    "LedgerError",
    "Malformed",
    "Unproven",
    "Unsigned",
    "Unwitnessed",
    "WrongOrigin",
    "shown",
]


class LedgerError(ValueError):
    """Base of every error of the ledger's formats."""


class Malformed(LedgerError):
    """A text or value does not follow its format: `what` (a note, a tile, …), `problem`."""

    def __init__(self, what: str, problem: str) -> None:
        self.what = what
        self.problem = problem
        super().__init__(f"This is not a valid {what}: {problem}.")


class InvalidKey(LedgerError):
    """A signing or verifier key cannot be used: `problem`. The message never shows a signing key."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class Unproven(LedgerError):
    """Base: the evidence is well-formed and does not prove what it should."""


class InvalidProof(Unproven):
    """A Merkle proof does not hold: `problem` says what."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class InvalidSignature(Unproven):
    """A known key's signature does not fit the text: `name`, `key_id` (4 bytes)."""

    def __init__(self, name: str, key_id: bytes) -> None:
        self.name = name
        self.key_id = key_id
        super().__init__(
            f"The signature by {shown(name)} ({key_id.hex()}) does not fit the text: one of them was changed or forged."
        )


class Unsigned(Unproven):
    """No known key signed: `signed_by` and `known` are names with key ids (`name+0123abcd`)."""

    def __init__(self, signed_by: tuple[str, ...], known: tuple[str, ...]) -> None:
        self.signed_by = signed_by
        self.known = known
        super().__init__(f"None of the known keys signed this: known {_listed(known)}, signed by {_listed(signed_by)}.")


class Unwitnessed(Unproven):
    """Too few known witnesses cosigned a checkpoint: `cosigned_by` (names with key ids), `quorum`."""

    def __init__(self, cosigned_by: tuple[str, ...], quorum: int) -> None:
        self.cosigned_by = cosigned_by
        self.quorum = quorum
        super().__init__(
            f"Of the known witnesses {quorum} must have cosigned the checkpoint; it was {_listed(cosigned_by)}."
        )


class WrongOrigin(Unproven):
    """A checkpoint belongs to another log: `origin`, `expected`."""

    def __init__(self, origin: str, expected: tuple[str, ...]) -> None:
        self.origin = origin
        self.expected = expected
        super().__init__(
            f"The checkpoint is of the log {shown(origin)}, not of {_listed(expected)}. "
            "Name the log as the expected origin if its name is not that of its key."
        )


def shown(value: object) -> str:
    """Write a value for a message: quoted, controls escaped, cut after 120 characters."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= 120 else f"{text[:120]}… ({len(text)} characters)"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(shown, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "") or "nobody"
