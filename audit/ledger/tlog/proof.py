"""Files that prove something to whoever has nothing else (c2sp.org/tlog-proof, c2sp.org/tlog-witness).

    c2sp.org/tlog-proof@v1
    extra YXVkaXQudGFzayB2MQppZCAzNjowMTkz…
    index 73894
    gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
    B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=

    example.com/audit
    109482
    sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=

    — example.com/audit hI2DJw…

The extra data is the row's canonical bytes: their hash is the leaf, so what is read from them is what is proven. A
file holds one such proof or several, one after another: a task's, and those of rows of its log.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

from audit.ledger.tlog.canonical import LOG_V1, TASK_V1, Form, Uncanonical, leaf_hash, parse
from audit.ledger.tlog.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint, read_number
from audit.ledger.tlog.errors import InvalidProof, Malformed, shown
from audit.ledger.tlog.merkle import HASH_SIZE, verify_consistency, verify_inclusion
from audit.ledger.tlog.note import Note, Verifier, from_base64, to_base64
from audit.ledger.tlog.origins import log_of

__all__ = ["Checked", "Growth", "Proof", "ProvenRow", "check", "check_growth", "parse_all", "plan_sha256"]

HEADER = "c2sp.org/tlog-proof@v1"
_MAX_HASHES = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One proof, not yet checked. `str(proof)` is what `Proof.parse` reads.

    Raises:
        Malformed: on construction, if it could not be read back.
    """

    index: int
    """Number of the leaf, from 0."""
    hashes: tuple[bytes, ...]
    """From the leaf's sibling up, 32 bytes each (`merkle.inclusion_proof`)."""
    checkpoint: str
    """The signed checkpoint, as it was read."""
    extra: bytes | None = None
    """The row's canonical bytes."""

    def __post_init__(self) -> None:
        read_number(str(self.index), "proof")
        _check_hashes(self.hashes, "proof")
        if not self.checkpoint.endswith("\n"):
            raise Malformed("proof", "its checkpoint does not end in a line break")
        if HEADER in self.checkpoint.split("\n"):
            raise Malformed("proof", "its checkpoint holds the first line of another proof")

    @classmethod
    def parse(cls, text: str) -> Proof:
        """Read one proof.

        Raises:
            Malformed: anything but what `str` writes.
        """
        head, blank, checkpoint = text.partition("\n\n")
        header, *lines = head.split("\n")
        if header != HEADER or not blank:
            raise Malformed("proof", f"it does not begin with {HEADER} and hold a checkpoint after an empty line")
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = _decoded(lines.pop(0).removeprefix("extra "), "proof")
        if not lines or not lines[0].startswith("index "):
            raise Malformed("proof", "the line with the index is missing")
        index = read_number(lines.pop(0).removeprefix("index "), "proof")
        return cls(
            index=index, hashes=tuple(_decoded(line, "proof") for line in lines), checkpoint=checkpoint, extra=extra
        )

    def __str__(self) -> str:
        extra = [] if self.extra is None else [f"extra {to_base64(self.extra)}"]
        return "\n".join([HEADER, *extra, f"index {self.index}", *map(to_base64, self.hashes), "", self.checkpoint])


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenRow:
    """A row, and where it stands in the log."""

    form: Form
    row: Mapping[str, Any]
    """The columns' values, as `canonical.parse` reads them."""
    row_hash: bytes
    """The leaf's hash, 32 bytes."""
    index: int
    """Number of the leaf, from 0."""
    head: SignedCheckpoint
    """The checkpoint under which it is proven."""

    @property
    def task_id(self) -> UUID:
        """The task that it is, or whose log it belongs to."""
        task_id: UUID = self.row["task_id" if self.form.name == LOG_V1.name else "id"]
        return task_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a file of proofs proves about one task."""

    task_id: UUID
    task: ProvenRow | None
    """The task; None when the file holds rows of its log only."""
    log: tuple[ProvenRow, ...]
    """Rows of its log in their order. The file need not hold all of them."""
    approval: ProvenRow | None = None
    """The row of its log that approves the plan that the task holds; None when the file has not both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """A newer checkpoint, and the proof that its tree begins with an older one: the request of c2sp.org/tlog-witness.

        old 20852014
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=

        example.com/audit
        20852163
        …

    `str(growth)` is what `Growth.parse` reads.

    Raises:
        Malformed: on construction, if it could not be read back.
    """

    old_size: int
    """Leaves of the older tree; 0 for a first checkpoint."""
    hashes: tuple[bytes, ...]
    """32 bytes each (`merkle.consistency_proof`)."""
    checkpoint: str
    """The newer signed checkpoint, as it was read."""

    def __post_init__(self) -> None:
        read_number(str(self.old_size), "consistency proof")
        _check_hashes(self.hashes, "consistency proof")

    @classmethod
    def parse(cls, text: str) -> Growth:
        """Read one.

        Raises:
            Malformed: anything but what `str` writes.
        """
        head, blank, checkpoint = text.partition("\n\n")
        first, *lines = head.split("\n")
        if not first.startswith("old ") or not blank:
            raise Malformed(
                "consistency proof", "it does not begin with 'old' and hold a checkpoint after an empty line"
            )
        return cls(
            old_size=read_number(first.removeprefix("old "), "consistency proof"),
            hashes=tuple(_decoded(line, "consistency proof") for line in lines),
            checkpoint=checkpoint,
        )

    def __str__(self) -> str:
        return "\n".join([f"old {self.old_size}", *map(to_base64, self.hashes), "", self.checkpoint])

    def verify(self, old_size: int, old_root: bytes, new: SignedCheckpoint) -> None:
        """Check that the newer tree begins with the older one.

        Args:
            old_size: leaves of the older tree, as somebody trusted remembers it.
            old_root: its root, 32 bytes.
            new: the newer checkpoint, opened.

        Raises:
            InvalidProof: it does not, or the proof starts from another size.
        """
        size, root = new.checkpoint.size, new.checkpoint.root
        if size < old_size:
            raise InvalidProof(f"The log had {old_size} leaves and now has {size}: it was rolled back.")
        if self.old_size != old_size:
            raise InvalidProof(f"The proof starts from {self.old_size} leaves, the older checkpoint has {old_size}.")
        if old_size:
            verify_consistency(old_size, old_root, size, root, self.hashes)
        elif self.hashes:
            raise InvalidProof("From an empty tree there is nothing to prove, but the proof has hashes.")


def parse_all(text: str) -> tuple[Proof, ...]:
    """Read a file of one proof or several.

    Raises:
        Malformed: there is none, or something that is none.
    """
    starts = [0]
    while (start := text.find(f"\n{HEADER}\n", starts[-1])) >= 0:
        starts.append(start + 1)
    return tuple(Proof.parse(text[start:end]) for start, end in zip(starts, [*starts[1:], len(text)], strict=True))


def check(
    text: str,
    verifiers: Iterable[Verifier],
    *,
    witnesses: Iterable[Verifier] = (),
    origin: str | None = None,
    quorum: int = 0,
) -> Checked:
    """Check a file of proofs: a task's, rows of its log, or both.

    Args:
        text: the file.
        verifiers, witnesses, origin, quorum: as for `open_checkpoint`.

    Raises:
        Malformed: no such file.
        InvalidKey: a key of the wrong kind.
        Unproven: something in it does not hold, or the task's plan is not the one that its log says was approved; the
            message says what.
    """
    verifiers, witnesses = tuple(verifiers), tuple(witnesses)
    heads: dict[str, SignedCheckpoint] = {}
    rows: dict[int, ProvenRow] = {}
    for proof in parse_all(text):
        if proof.checkpoint not in heads:
            heads[proof.checkpoint] = open_checkpoint(
                proof.checkpoint, verifiers, witnesses=witnesses, origin=origin, quorum=quorum
            )
        if proof.index in rows:
            raise InvalidProof(f"Leaf {proof.index} occurs twice in the file.")
        rows[proof.index] = _proven(proof, heads[proof.checkpoint])
    _agreeing([head.checkpoint for head in heads.values()])
    return _of_one_task(list(rows.values()))


def check_growth(
    text: str,
    old: Note | str | bytes,
    verifiers: Iterable[Verifier],
    *,
    witnesses: Iterable[Verifier] = (),
    origin: str | None = None,
    quorum: int = 0,
) -> tuple[SignedCheckpoint, SignedCheckpoint]:
    """Check that a log only grew since an older checkpoint.

    Args:
        text: the newer checkpoint with its proof (`Growth`).
        old: the older signed checkpoint.
        verifiers, witnesses, origin, quorum: as for `open_checkpoint`; they must know who signed both.

    Returns:
        The older and the newer checkpoint.

    Raises:
        Malformed, InvalidKey, Unproven: as for `check`.
    """
    verifiers, witnesses = tuple(verifiers), tuple(witnesses)
    growth = Growth.parse(text)
    before = open_checkpoint(old, verifiers, witnesses=witnesses, origin=origin, quorum=quorum)
    after = open_checkpoint(growth.checkpoint, verifiers, witnesses=witnesses, origin=origin, quorum=quorum)
    if log_of(before.checkpoint.origin) != log_of(after.checkpoint.origin):
        raise InvalidProof(
            f"The checkpoints are of different logs: {shown(before.checkpoint.origin)} and "
            f"{shown(after.checkpoint.origin)}."
        )
    growth.verify(before.checkpoint.size, before.checkpoint.root, after)
    return before, after


def _proven(proof: Proof, head: SignedCheckpoint) -> ProvenRow:
    if proof.extra is None:
        raise InvalidProof(f"The proof of leaf {proof.index} does not carry the row that it proves.")
    row_hash = leaf_hash(proof.extra)
    verify_inclusion(row_hash, proof.index, head.checkpoint.size, proof.hashes, head.checkpoint.root)
    try:
        form, row = parse(proof.extra)
    except Uncanonical as error:
        raise InvalidProof(
            f"Leaf {proof.index} is in the log, but it is not a row of an audit table: {error}."
        ) from None
    if form.table not in (TASK_V1.table, LOG_V1.table):
        raise InvalidProof(
            f"Leaf {proof.index} is in the log, but it is a row of {form.name}, not of a task or its log."
        )
    proven = ProvenRow(form=form, row=row, row_hash=row_hash, index=proof.index, head=head)
    if row.get("id") is None or proven.task_id is None:
        raise InvalidProof(f"Leaf {proof.index} is in the log, but it is not a row of an audit table: it has no id.")
    return proven


def _agreeing(heads: list[Checkpoint]) -> None:
    """See that the checkpoints of a file can all be true."""
    if len({head.origin for head in heads}) > 1:
        raise InvalidProof("The file mixes proofs from different logs.")
    if len({head.size for head in heads}) < len({(head.size, head.root) for head in heads}):
        raise InvalidProof("The file holds two signed checkpoints of one size with different roots: a fork.")


def _of_one_task(rows: list[ProvenRow]) -> Checked:
    """Put the rows in order, and see that they are of one task, which holds the plan that was approved."""
    log = [row for row in rows if row.form.name == LOG_V1.name]
    tasks = [row for row in rows if row.form.name != LOG_V1.name]
    first = (tasks or log)[0]
    if strange := next((row for row in rows if row.task_id != first.task_id), None):
        raise InvalidProof(
            f"The file is of task {first.task_id}, but leaf {strange.index} belongs to task {strange.task_id}."
        )
    if len(tasks) > 1:
        raise InvalidProof(f"Leaves {tasks[0].index} and {tasks[1].index} are both the task {first.task_id}.")
    log.sort(key=lambda each: each.row["id"])
    return Checked(
        task_id=first.task_id,
        task=tasks[0] if tasks else None,
        log=tuple(log),
        approval=_approval(tasks[0], log) if tasks else None,
    )


def _approval(task: ProvenRow, log: list[ProvenRow]) -> ProvenRow | None:
    """Find the row that approves the task, and see that it approves the plan that the task holds.

    Raises:
        InvalidProof: it approves another one.
    """
    approvals = [
        each
        for each in log
        if (each.row["kind"], each.row["to_status"]) == ("transition", "approved")
        and each.row["from_status"] in (None, "pending")
    ]
    holds = plan_sha256(task.row["plan"])
    for each in approvals:
        approved = _approved_plan(each)
        if approved != holds:
            raise InvalidProof(
                f"The plan is not the one that was approved: the task (leaf {task.index}) holds "
                f"{f'a plan with the SHA-256 {holds}' if holds else 'no plan'}, and its approval (log row "
                f"{each.row['id']}, leaf {each.index}) is of {f'the plan {approved}' if approved else 'no plan'}."
            )
    return approvals[0] if approvals else None


def plan_sha256(plan: str | None) -> str | None:
    """Compute what the approval of a plan says of it: the SHA-256 of the JSONB's own text, in hexadecimal."""
    return None if plan is None else sha256(plan.encode()).hexdigest()


def _approved_plan(approval: ProvenRow) -> str | None:
    try:
        detail = json.loads(approval.row["detail"])
        approved: str | None = detail["plan_sha256"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InvalidProof(
            f"The approval (log row {approval.row['id']}, leaf {approval.index}) does not say which plan it is of."
        ) from None
    return approved


def _decoded(text: str, what: str) -> bytes:
    try:
        return from_base64(text)
    except ValueError as error:
        raise Malformed(what, str(error)) from None


def _check_hashes(hashes: tuple[bytes, ...], what: str) -> None:
    if len(hashes) > _MAX_HASHES:
        raise Malformed(what, f"it has more than {_MAX_HASHES} hashes")
    for each in hashes:
        if len(each) != HASH_SIZE:
            raise Malformed(what, f"a hash has {len(each)} bytes, not {HASH_SIZE}")
