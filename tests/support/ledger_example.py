"""A small log without a database: the two rows of docs/ledger-format.md and others, sealed by a key of its own."""

import re
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from audit.ledger.tlog.canonical import LOG_V1, TASK_V1, canonical, parse
from audit.ledger.tlog.checkpoint import Checkpoint
from audit.ledger.tlog.checkpoint import sign as sign_checkpoint
from audit.ledger.tlog.merkle import consistency_proof, inclusion_proof, leaf_hash, tree_root
from audit.ledger.tlog.note import KeyKind, Note, Signer, sign
from audit.ledger.tlog.proof import Growth, Proof
from audit.ledger.tlog.tiles import Nodes, grow

__all__ = [
    "COSIGNED_AT",
    "DOCUMENT",
    "LOG",
    "LOG_ROW",
    "TASK",
    "TASK_ID",
    "WITNESS",
    "Log",
    "a_log_row",
    "a_task",
    "an_approval",
]

DOCUMENT = (Path(__file__).resolve().parent.parent.parent / "docs" / "ledger-format.md").read_text(encoding="utf-8")
TASK, LOG_ROW = (
    re.search(rf"^```text\n({name} v1\n.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)[1].encode()
    for name in (r"audit\.task", r"audit\.executionlog")
)
TASK_ID = UUID("01935a2e-7c00-7abc-8def-0123456789ab")

# Seeds that anybody can guess: for examples only.
LOG = Signer(name="example.com/audit", kind=KeyKind.ED25519, seed=bytes(range(32)))
WITNESS = Signer(name="example.com/witness", kind=KeyKind.COSIGNATURE, seed=bytes(range(32, 64)))
COSIGNED_AT = 1_732_375_330


def a_task(**changes: Any) -> bytes:
    """The document's task with other values."""
    return canonical(TASK_V1, parse(TASK)[1] | changes)


def a_log_row(**changes: Any) -> bytes:
    """The document's log row with other values."""
    return canonical(LOG_V1, parse(LOG_ROW)[1] | changes)


def an_approval(**changes: Any) -> bytes:
    """The row of the document's log that approves the document's plan, with other values."""
    digest = sha256(parse(TASK)[1]["plan"].encode()).hexdigest()
    values = {"id": 1200, "from_status": "pending", "to_status": "approved", "revision": 2, "actor": "bob"}
    return a_log_row(**values | {"detail": f'{{"plan_sha256": "{digest}"}}'} | changes)


class Log:
    """Rows in a tree, and the files that prove them."""

    def __init__(self, *rows: bytes) -> None:
        self.rows = rows
        self._tiles = grow(0, [leaf_hash(row) for row in rows], lambda _level, _index: b"")
        self.node = Nodes(lambda level, index: self._tiles[level, index])

    def head(self, size: int | None = None, *, origin: str = LOG.name) -> Checkpoint:
        size = len(self.rows) if size is None else size
        return Checkpoint(origin=origin, size=size, root=tree_root(size, self.node))

    def checkpoint(self, size: int | None = None, *signers: Signer, witness: Signer | None = WITNESS) -> Note:
        note = sign_checkpoint(self.head(size), *(signers or (LOG,)))
        return sign(note, witness, at=COSIGNED_AT) if witness else note

    def proof(self, index: int, size: int | None = None, /, **changes: Any) -> Proof:
        size = len(self.rows) if size is None else size
        values = {
            "index": index,
            "hashes": inclusion_proof(index, size, self.node),
            "checkpoint": str(self.checkpoint(size)),
            "extra": self.rows[index],
        }
        return Proof(**values | changes)

    def growth(self, old: int, size: int | None = None, /, **changes: Any) -> Growth:
        size = len(self.rows) if size is None else size
        values = {
            "old_size": old,
            "hashes": consistency_proof(old, size, self.node),
            "checkpoint": str(self.checkpoint(size)),
        }
        return Growth(**values | changes)
