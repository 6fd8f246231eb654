"""Proofs of single tasks, and that the log only grew: text files that `python -m audit.ledger` checks anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from struct import Struct
from uuid import UUID

from audit.exceptions import AuditError
from audit.ledger.binary_rows import Raw, snapshot
from audit.ledger.tables import nodes
from audit.ledger.tlog import proof
from audit.ledger.tlog.canonical import LOG_V1, TASK_V1, Form, Uncanonical, leaf_hash
from audit.ledger.tlog.checkpoint import Checkpoint, open_checkpoint
from audit.ledger.tlog.damage import Damaged, read_kept
from audit.ledger.tlog.errors import LedgerError
from audit.ledger.tlog.merkle import Node, consistency_proof, inclusion_proof
from audit.ledger.tlog.note import Note, Verifier
from audit.ledger.tlog.proof import Growth, Proof
from audit.ledger.tlog.wire import wire_bytes
from audit.models import ExecutionLog, LedgerCheckpoint, LedgerLeaf, Task
from audit.status import FINISHED

__all__ = ["CannotProve", "prove", "prove_growth"]


_LOG_ID = Struct("!q")


class CannotProve(AuditError):
    """There is no proof to give: `problem`."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


def prove(
    using: str,
    task_id: UUID,
    verifiers: Sequence[Verifier],
    *,
    with_log: bool = False,
    checkpoint: str | None = None,
) -> str:
    """Write the proof of a finished task, as a C2SP tlog-proof that carries the row.

    Args:
        using: alias of the database; a replica will do.
        task_id: which task.
        verifiers: keys of the log; the proof is checked with them before it is handed out.
        with_log: prove each row of its execution log that is sealed, too, in the same file.
        checkpoint: the text of a signed checkpoint to prove it under, such as one that witnesses cosigned; the newest
            of the database when left out.

    Returns:
        The file's text; whoever has it and a verifier key needs nothing else.

    Raises:
        CannotProve: there is no such task, it is not finished or not sealed yet, or what is stored of it is not what
            was sealed.
        Damaged: the checkpoint is damaged.
    """
    if checkpoint is not None:
        _opened(checkpoint, verifiers, "checkpoint")
    with snapshot(using) as (raw, _):
        signed = _signed(using) if checkpoint is None else checkpoint
        rows = [(TASK_V1, _leaf(using, task_id))]
        if with_log:
            logged = ExecutionLog.objects.using(using).filter(task_id=task_id).order_by("id")
            ids = list(logged.values_list("pk", flat=True))
            rows += [
                (LOG_V1, leaf) for leaf in LedgerLeaf.objects.using(using).filter(log_id__in=ids).order_by("log_id")
            ]
        node = nodes(using)
        text = "".join(_proof(raw, *row, signed, node) for row in rows)
    try:
        proof.check(text, verifiers)
    except LedgerError as error:
        raise CannotProve(f"The proof would not hold: {error} See manage.py audit_verify.") from error
    return text


def prove_growth(using: str, older: str | int, verifiers: Iterable[Verifier]) -> str:
    """Write the proof that the log of now begins with an older tree.

    Args:
        using: alias of the database.
        older: the older checkpoint's text, signatures included; or its number of leaves alone, 0 for the empty tree.
        verifiers: keys of the log; what comes out is checked with them first.

    Returns:
        The newest checkpoint with the proof: the request that a C2SP witness takes.

    Raises:
        CannotProve: the log does not continue that checkpoint.
        Damaged: the older one is damaged, or no checkpoint.
    """
    verifiers = tuple(verifiers)
    with snapshot(using):
        signed = _signed(using)
        new = Checkpoint.parse(Note.parse(signed).text)
        size = older if isinstance(older, int) else _opened(older, verifiers, "older checkpoint").size
        if size > new.size:
            if isinstance(older, int):
                raise CannotProve(f"The log has {new.size} leaves, fewer than {size}.")
            raise CannotProve(f"That checkpoint has {size} leaves, and the log has {new.size}: it was set back.")
        try:
            hashes = consistency_proof(size, new.size, nodes(using))
            text = str(Growth(old_size=size, hashes=hashes, checkpoint=signed))
            if isinstance(older, str):
                proof.check_growth(text, older, verifiers)
            else:
                open_checkpoint(signed, verifiers)
        except (LedgerError, ValueError) as error:
            raise CannotProve(f"The log does not continue that checkpoint: {error}") from error
    return text


def _opened(text: str, verifiers: Iterable[Verifier], what: str) -> Checkpoint:
    """Read a checkpoint that was kept outside.

    Raises:
        CannotProve: the log did not sign it.
        Damaged: it is damaged; a proof needs it as it was signed.
    """
    try:
        opened, damage = read_kept(text, lambda text: open_checkpoint(text, verifiers))
    except Damaged:
        raise
    except LedgerError as error:
        raise CannotProve(f"The {what} cannot be used: {error}") from error
    if damage:
        raise Damaged(damage)
    return opened.checkpoint


def _signed(using: str) -> str:
    newest = LedgerCheckpoint.objects.using(using).order_by("-epoch", "-size").values_list("note", flat=True).first()
    if newest is None:
        raise CannotProve("Nothing is sealed yet. Run manage.py audit_seal.")
    return newest


def _leaf(using: str, task_id: UUID) -> LedgerLeaf:
    leaf = LedgerLeaf.objects.using(using).filter(task_id=task_id).first()
    if leaf is not None:
        return leaf
    status = Task.objects.using(using).filter(pk=task_id).values_list("status", flat=True).first()
    if status is None:
        raise CannotProve(f"There is no task {task_id}.")
    if status not in FINISHED:
        raise CannotProve(f"The task {task_id} is {status}: it is sealed when it has finished.")
    raise CannotProve(f"The task {task_id} is not sealed yet. Run manage.py audit_seal.")


def _proof(raw: Raw, form: Form, leaf: LedgerLeaf, signed: str, node: Node) -> str:
    size = Checkpoint.parse(Note.parse(signed).text).size
    if leaf.index >= size:
        raise CannotProve(f"The leaf {leaf.index} is covered by no checkpoint. See manage.py audit_verify.")
    key = leaf.task_id or leaf.log_id
    keys = [leaf.task_id.bytes if leaf.task_id else _LOG_ID.pack(leaf.log_id)]
    rows = list(chain.from_iterable(raw.sealed(form, keys)))
    if not rows:
        raise CannotProve(f"The row {key} of {form.table} was sealed and is gone. See manage.py audit_verify.")
    try:
        data = wire_bytes(form, bytes(leaf.salt), rows[0])
        if leaf_hash(data) != bytes(leaf.leaf_hash):
            raise CannotProve(
                f"The row {key} of {form.table} was changed after it was sealed. See manage.py audit_verify."
            )
        hashes = inclusion_proof(leaf.index, size, node)
        return str(Proof(index=leaf.index, hashes=hashes, checkpoint=signed, extra=data))
    except (LedgerError, Uncanonical) as error:
        raise CannotProve(f"The row {key} of {form.table} cannot be proven: {error}") from error
