"""What was signed: the checkpoints of the database and those kept outside, and the roots they promise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from audit.ledger.checkpoint import Checkpoint, open_checkpoint
from audit.ledger.errors import LedgerError
from audit.ledger.exported import Exported
from audit.ledger.note import Note, Verifier
from audit.ledger.origins import epoch_of
from audit.ledger.verify.findings import Code, Findings
from audit.models import LedgerCheckpoint, LedgerEpoch, LedgerHead, LedgerLeaf

__all__ = ["Expected", "Root", "expected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """The root that the first `size` leaves must have, as a checkpoint says."""

    size: int
    root: bytes
    code: Code
    """What it means when they have another."""
    source: str
    """Where the checkpoint is kept, for a message."""


@dataclass(slots=True, kw_only=True)
class Expected:
    """What the tree must be."""

    size: int
    """Leaves that the database has."""
    signed: int = 0
    """Leaves that its newest valid checkpoint covers."""
    roots: list[Root] = field(default_factory=list)
    """In the order of their sizes."""
    checkpoints: int = 0
    """Valid checkpoints of the database."""
    external: int = 0
    """Valid checkpoints kept outside that could be compared."""
    left_behind: int = 0
    """Valid ones of a past that a later epoch left behind."""


def expected(
    using: str,
    name: str,
    verifiers: Sequence[Verifier],
    head: LedgerHead,
    exported: Iterable[Exported] | None,
    findings: Findings,
) -> Expected:
    """Read every checkpoint and check who signed it.

    Args:
        using: alias of the database.
        name: the log's name.
        verifiers: its keys.
        head: where the database says that sealing stands.
        exported: checkpoints kept outside; None when none were given.
        findings: takes what is wrong with them.
    """
    last = LedgerLeaf.objects.using(using).order_by("-index").values_list("index", flat=True).first()
    found = Expected(size=0 if last is None else last + 1)
    reader = _Reader(name, verifiers, findings)
    for row in LedgerCheckpoint.objects.using(using).order_by("epoch", "size").iterator(chunk_size=1_000):
        source = f"the checkpoint of {row.size} leaves in the database"
        read = reader.read(row.note, source)
        if read is None:
            continue
        checkpoint, epoch = read
        if (row.epoch, row.size, bytes(row.root)) != (epoch, checkpoint.size, checkpoint.root):
            findings.add(Code.FORGED_CHECKPOINT, f"The columns of {source} are not what its signed note says.")
        found.checkpoints += 1
        found.signed = max(found.signed, checkpoint.size)
        found.roots.append(Root(size=checkpoint.size, root=checkpoint.root, code=Code.ROOT_MISMATCH, source=source))
    if found.signed > found.size:
        findings.add(
            Code.LEAVES_MISSING,
            f"{found.signed} leaves were signed, and the database has {found.size}: the end of the tree is missing.",
        )
    began = dict(LedgerEpoch.objects.using(using).values_list("number", "size"))
    for each in exported or ():
        _outside(each, reader, head, began, found, findings)
    found.roots.sort(key=lambda root: (root.size, root.code is Code.ROOT_MISMATCH))
    return found


def _outside(
    each: Exported, reader: _Reader, head: LedgerHead, began: dict[int, int], found: Expected, findings: Findings
) -> None:
    source = f"the external checkpoint {each.path.name}"
    read = reader.read(each.text, source)
    if read is None:
        return
    checkpoint, epoch = read
    later = min((number for number in began if number > epoch), default=None)
    if later is not None and checkpoint.size > began[later]:
        found.left_behind += 1
        return
    found.external += 1
    if epoch > head.epoch or checkpoint.size > found.size:
        findings.add(
            Code.ROLLBACK,
            f"{source.capitalize()} covers {checkpoint.size} leaves in epoch {epoch}; the database has {found.size} in "
            f"epoch {head.epoch}: it was set back to an older state, or its end was cut off.",
        )
        return
    found.roots.append(Root(size=checkpoint.size, root=checkpoint.root, code=Code.FORK, source=source))


class _Reader:
    """Reads checkpoints of one log."""

    def __init__(self, name: str, verifiers: Sequence[Verifier], findings: Findings) -> None:
        self._name = name
        self._verifiers = verifiers
        self._findings = findings

    def read(self, text: str, source: str) -> tuple[Checkpoint, int] | None:
        """Read a signed note; None when it is not worth reading, which is told."""
        try:
            origin = Checkpoint.parse(Note.parse(text).text).origin
            epoch = epoch_of(self._name, origin)
            checkpoint = open_checkpoint(text, self._verifiers, origin=origin).checkpoint
        except LedgerError as error:
            self._findings.add(Code.FORGED_CHECKPOINT, f"{source.capitalize()} is not signed by this log. {error}")
            return None
        if epoch is None:
            self._findings.add(
                Code.WRONG_ORIGIN, f"{source.capitalize()} is of the log {origin!r}, not of {self._name!r}."
            )
            return None
        return checkpoint, epoch
