"""The keys of a seal: who signs, and whose signatures count."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audit.ledger.seal.refusals import CannotSeal, RefusesToSeal
from audit.ledger.tlog.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint
from audit.ledger.tlog.damage import Damage, Damaged, read_kept
from audit.ledger.tlog.errors import LedgerError, Unsigned, WrongOrigin
from audit.ledger.tlog.note import Note, Signer, Verifier
from audit.ledger.tlog.origins import epoch_of

__all__ = ["Keys"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Who signs, and whose signatures count."""

    name: str
    signers: tuple[Signer, ...]
    verifiers: tuple[Verifier, ...]

    @classmethod
    def of(cls, signers: Sequence[Signer], verifiers: Iterable[Verifier]) -> Keys:
        """Put the keys of a seal together.

        Raises:
            CannotSeal: they do not sign for one log.
        """
        names = {signer.name for signer in signers}
        if len(names) != 1:
            listed = ", ".join(sorted(names)) or "none"
            raise CannotSeal(f"The signing keys must be of one name, the log's; these are of: {listed}.")
        own = tuple(signer.verifier for signer in signers)
        return cls(name=names.pop(), signers=tuple(signers), verifiers=tuple({*own, *verifiers}))

    def open(self, text: str, what: str) -> tuple[SignedCheckpoint, int]:
        """Read a checkpoint of this log, and its epoch."""
        try:
            return self._opened(text)
        except LedgerError as error:
            raise self._distrust(what, error) from error

    def open_kept(self, text: str, what: str) -> tuple[SignedCheckpoint, int, Damage | None]:
        """Read a checkpoint that was kept outside, its epoch, and what had to be put right in it.

        Raises:
            Damaged: it cannot be put right.
        """
        try:
            (opened, epoch), damage = read_kept(text, self._opened)
        except Damaged:
            raise
        except LedgerError as error:
            raise self._distrust(what, error) from error
        return opened, epoch, damage

    def _opened(self, text: str) -> tuple[SignedCheckpoint, int]:
        origin = Checkpoint.parse(Note.parse(text).text).origin
        epoch = epoch_of(self.name, origin)
        if epoch is None:
            raise WrongOrigin(origin, (self.name,))
        return open_checkpoint(text, self.verifiers, origin=origin), epoch

    def _distrust(self, what: str, error: LedgerError) -> CannotSeal:
        if isinstance(error, WrongOrigin):
            return CannotSeal(f"The {what} is of the log {error.origin!r}, and the key signs for {self.name!r}.")
        missed = ""
        if isinstance(error, Unsigned) and any(each.startswith(f"{self.name}+") for each in error.signed_by):
            missed = (
                " If the log's key was changed, this is not tampering: add the verifier key of the one that signed it "
                "to AUDIT['LEDGER_VERIFIERS'], or sign once with both."
            )
        return RefusesToSeal(f"The {what} cannot be trusted: {error}{missed}")
