"""What was signed: the checkpoints of the database and those kept outside, and the roots they promise."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from audit.ledger.exported import CannotExport, Exported
from audit.ledger.tables import epochs, left_behind
from audit.ledger.tlog.checkpoint import Checkpoint, open_checkpoint
from audit.ledger.tlog.damage import Damage, examine
from audit.ledger.tlog.errors import LedgerError, Malformed, Unproven, Unsigned, shown
from audit.ledger.tlog.note import Note, Verifier
from audit.ledger.tlog.origins import epoch_of
from audit.ledger.verify.findings import Code, Findings
from audit.models import LedgerCheckpoint, LedgerEpoch, LedgerLeaf

__all__ = ["Expected", "Root", "expected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """The root that the first `size` leaves must have, as a checkpoint says."""

    size: int
    root: bytes
    external: str = ""
    """Name of the checkpoint that is kept outside; empty for one of the database."""

    @property
    def source(self) -> str:
        """Where the checkpoint is kept, for a message."""
        return _outside(self.external) if self.external else _inside(self.size)


@dataclass(slots=True, kw_only=True)
class Expected:
    """What the tree must be."""

    size: int
    """Leaves that the database has, if their numbers are true."""
    signed: int = 0
    """Leaves that its newest valid checkpoint covers."""
    epoch: int = 1
    """The epoch of that checkpoint."""
    roots: list[Root] = field(default_factory=list)
    """In the order of their sizes."""
    checkpoints: int = 0
    """Valid checkpoints of the database."""
    external: int = 0
    """Valid checkpoints kept outside that could be compared."""
    began: dict[int, int] = field(default_factory=dict)
    """Leaves that later epochs began with: one less than the first checkpoint of each, which is signed at once."""
    left_behind: int = 0
    """Valid ones of a past that an accepted epoch left behind."""
    rotated: bool = False
    """Whether a key of the log's name that is not known signed in the database, as after a change of keys."""
    damaged: list[str] = field(default_factory=list)
    """Of each one kept outside that could not be checked as it is, which it is and why."""


def expected(
    using: str,
    name: str,
    verifiers: Sequence[Verifier],
    exported: Iterable[Exported] | None,
    accepted: Collection[int],
    findings: Findings,
) -> Expected:
    """Read every checkpoint and check who signed it.

    Args:
        using: alias of the database.
        name: the log's name.
        verifiers: its keys.
        exported: checkpoints kept outside; None when none were given.
        accepted: numbers of the epochs that may leave some of those behind.
        findings: takes what is wrong with them.
    """
    last = LedgerLeaf.objects.using(using).order_by("-index").values_list("index", flat=True).first()
    found = Expected(size=0 if last is None else last + 1)
    reader = _Reader(name, verifiers, findings)
    kept: set[tuple[int, int]] = set()
    for row in LedgerCheckpoint.objects.using(using).order_by("epoch", "size").iterator(chunk_size=1_000):
        kept.add((row.epoch, row.size))
        read = reader.read(row.note, _inside(row.size))
        if read is None:
            continue
        checkpoint, epoch = read
        if (row.epoch, row.size, bytes(row.root)) != (epoch, checkpoint.size, checkpoint.root):
            findings.add(
                Code.FORGED_CHECKPOINT, f"The columns of {_inside(row.size)} are not what its signed note says."
            )
        found.checkpoints += 1
        found.signed, found.epoch = max(found.signed, checkpoint.size), max(found.epoch, epoch)
        found.roots.append(Root(size=checkpoint.size, root=checkpoint.root))
        if epoch > 1:
            found.began[epoch] = min(found.began.get(epoch, checkpoint.size), checkpoint.size - 1)
    past = _Past.read(using, reader, found)
    found.rotated = bool(reader.rotated)
    try:
        for each in exported or ():
            _compare(each, reader, past, kept, accepted, found)
    except CannotExport as error:  # what is found in the database counts for more
        found.damaged.append(str(error))
    # Those of the database first, so that others are compared with them.
    found.roots.sort(key=lambda root: (root.size, root.external))
    return found


def _inside(size: int) -> str:
    return f"the checkpoint of {size} leaves in the database"


def _outside(name: str) -> str:
    return f"the external checkpoint {name}"


def _compare(
    each: Exported,
    reader: _Reader,
    past: _Past,
    kept: set[tuple[int, int]],
    accepted: Collection[int],
    found: Expected,
) -> None:
    source = _outside(each.path.name)
    read = reader.read_outside(each, source, found.damaged)
    if read is None:
        return
    checkpoint, epoch = read
    if later := past.left_behind(checkpoint, epoch):
        if not later - set(accepted):
            found.left_behind += 1
            return
        # Whoever has the signing key can declare an epoch: that one was declared excuses nothing by itself.
        found.external += 1
        listed = ", ".join(map(str, sorted(later - set(accepted))))
        reader.findings.add(
            Code.ROLLBACK,
            f"{_sentence(source)} covers {checkpoint.size} leaves in epoch {epoch}, and epoch {listed} went on from "
            "fewer. Whoever has the signing key can declare an epoch: if you know of this restore, say so with "
            "--accept-epoch.",
        )
        return
    found.external += 1
    if epoch > found.epoch or past.is_over(checkpoint, epoch):
        reader.findings.add(
            Code.ROLLBACK,
            f"{_sentence(source)} covers {checkpoint.size} leaves in epoch {epoch}, and the database is in epoch "
            f"{found.epoch} with {found.size}: it was set back to an older state, and no epoch explains that.",
        )
        return
    if (epoch, checkpoint.size) not in kept and checkpoint.size <= found.size:
        reader.findings.add(
            Code.CHECKPOINT_DELETED,
            f"{_sentence(source)} (epoch {epoch}, {checkpoint.size} leaves) is not among those of the database.",
        )
    found.roots.append(Root(size=checkpoint.size, root=checkpoint.root, external=each.path.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Past:
    """Where later epochs began, and what each says it left behind: the checkpoint and its epoch."""

    began: dict[int, int]
    left: dict[int, tuple[Checkpoint, int]]

    @classmethod
    def read(cls, using: str, reader: _Reader, found: Expected) -> _Past:
        past = cls(began=found.began, left={})
        placed = epochs(using)
        for row in LedgerEpoch.objects.using(using).order_by("number"):
            if row.number not in placed or row.number not in found.began:
                reader.findings.add(
                    Code.ROW_INSERTED,
                    f"The epoch {row.number} has no leaf where it says it began, or nothing was signed in it.",
                )
            elif left := reader.read(row.previous, f"what epoch {row.number} left behind"):
                past.left[row.number] = left
        return past

    def is_over(self, checkpoint: Checkpoint, epoch: int) -> bool:
        """Whether a later epoch began with less than a checkpoint covers."""
        return any(number > epoch and size < checkpoint.size for number, size in self.began.items())

    def left_behind(self, checkpoint: Checkpoint, epoch: int) -> set[int]:
        """Name the later epochs that went on from less than a checkpoint covers, if one of them says so."""
        # Where an epoch's row is not what it was, that is found by itself.
        return left_behind(checkpoint, epoch, self.began, self.left)


class _Reader:
    """Reads checkpoints of one log."""

    def __init__(self, name: str, verifiers: Sequence[Verifier], findings: Findings) -> None:
        self.findings = findings
        self._name = name
        self._verifiers = verifiers
        self.rotated: set[str] = set()
        """Keys of the log's name that are not known, and signed."""

    def read(self, text: str, source: str) -> tuple[Checkpoint, int] | None:
        """Read a signed note; None when it is not worth reading, which is reported."""
        try:
            checkpoint, epoch = self._opened(text)
        except LedgerError as error:
            self.findings.add(
                Code.FORGED_CHECKPOINT, f"{_sentence(source)} is not signed by this log. {error}{self._rotated(error)}"
            )
            return None
        if epoch is None:
            self.findings.add(
                Code.WRONG_ORIGIN, f"{_sentence(source)} is of the log {checkpoint.origin!r}, not of {self._name!r}."
            )
            return None
        return checkpoint, epoch

    def read_outside(self, each: Exported, source: str, damaged: list[str]) -> tuple[Checkpoint, int] | None:
        """Read a checkpoint that was kept outside.

        One that is damaged in a way that proves nothing is named in `damaged`. Where it can be put right, what it says
        is still compared: a log that was set back does not get away with a damaged file.
        """
        if each.problem:
            damaged.append(_damaged(each, each.problem))
            return None
        try:
            self._opened(each.text)
        except LedgerError as error:
            found = examine(each.text.encode("utf-8", "surrogateescape"))
            readable = self._readable(found)
            # What has the form of a checkpoint is forged, unless putting it right makes it a true one.
            if isinstance(error, Malformed) or readable:
                damaged.append(_damaged(each, str(found)))
                return self.read(found.text or "", source) if readable is not None else None
        return self.read(each.text, source)

    def _readable(self, found: Damage) -> bool | None:
        """Whether a damaged file, put right, is signed by a known key; None where that cannot be known."""
        if found.text is None:
            return None
        try:
            self._opened(found.text)
        except Unproven:
            return None if found.cut else False  # half a signature is not a wrong one
        except LedgerError:
            return None
        return True

    def _opened(self, text: str) -> tuple[Checkpoint, int | None]:
        origin = Checkpoint.parse(Note.parse(text).text).origin
        return open_checkpoint(text, self._verifiers, origin=origin).checkpoint, epoch_of(self._name, origin)

    def _rotated(self, error: LedgerError) -> str:
        """What to say of a signature by the log's name and another key: perhaps a verifier key was not added."""
        if not isinstance(error, Unsigned):
            return ""
        labels = [each for each in error.signed_by if each.startswith(f"{self._name}+")]
        if not labels:
            return ""
        self.rotated.update(labels)
        return (
            f" If the log's key was changed (key {', '.join(map(shown, labels))}), this is not tampering: add the "
            "verifier key that audit_keygen printed then to AUDIT['LEDGER_VERIFIERS'], or give it with --key."
        )


def _damaged(each: Exported, problem: str) -> str:
    return f"{each.path}: {problem}. Get it once more from where it was written, as it was."


def _sentence(text: str) -> str:
    # str.capitalize would also lower the rest, a file's name.
    return text[:1].upper() + text[1:]
