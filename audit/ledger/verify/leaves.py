"""Every leaf in order, with the row it stands for, hashed in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from audit.ledger.canonical import EPOCH_V1, LOG_V1, TASK_V1, Form, Uncanonical
from audit.ledger.rows import Raw
from audit.ledger.verify.expected import Expected
from audit.ledger.verify.findings import Code, Findings
from audit.ledger.verify.tree import Tree
from audit.ledger.wire import wire_hash

__all__ = ["Leaves", "Progress"]

Progress = Callable[[int, int], None]

_BATCH = 5_000


class Leaves:
    """Reads every leaf in order, with the row it stands for."""

    def __init__(self, using: str, raw: Raw, wanted: Expected, findings: Findings, progress: Progress | None) -> None:
        self.tree = Tree(using, wanted.roots, findings)
        self.covered = {"tasks": 0, "log_rows": 0, "epochs": 0}
        self._raw = raw
        self._findings = findings
        self._progress = progress
        self._total = wanted.size

    def read(self) -> None:
        """Read all of them."""
        after = -1
        while batch := list(self._raw.rows(_LEAVES, after, _BATCH)):
            tasks: _Sealed = {}
            logs: _Sealed = {}
            epochs: _Sealed = {}
            for index, task, log, epoch, leaf in batch:
                place = int.from_bytes(index, "big"), leaf
                if task is not None:
                    tasks[task] = place
                elif log is not None:
                    logs[log] = place
                else:
                    epochs[epoch] = place
            self.tree.add([(int.from_bytes(index, "big"), leaf) for index, *_, leaf in batch])
            self._compare(TASK_V1, "id", [UUID(bytes=each) for each in tasks], tasks, "tasks")
            self._compare(LOG_V1, "id", [int.from_bytes(each, "big", signed=True) for each in logs], logs, "log_rows")
            if epochs:
                self._compare(EPOCH_V1, "number", [int.from_bytes(each, "big") for each in epochs], epochs, "epochs")
            after = int.from_bytes(batch[-1][0], "big")
            if self._progress:
                self._progress(self.tree.size, max(self._total, self.tree.size))

    def _compare(self, form: Form, key: str, keys: list[Any], sealed: _Sealed, counted: str) -> None:
        """Compare the rows of one table with their leaves."""
        if not keys:
            return
        self.covered[counted] += len(keys)
        missing = dict(sealed)
        for *values, stored in self._raw.sealed(form, key, keys):
            place = missing.pop(values[0], None)
            if place is None:
                self._tell(Code.ROW_INSERTED, form, values[0], sealed.get(values[0], (None, b""))[0], "is stored twice")
                continue
            index, leaf = place
            try:
                computed = wire_hash(form, values)
            except Uncanonical as error:
                self._tell(Code.ROW_TAMPERED, form, values[0], index, f"has no canonical form any more: {error}")
                continue
            if computed == leaf and stored in (None, leaf):
                continue
            if stored in (None, leaf):
                self._tell(Code.ROW_TAMPERED, form, values[0], index, "was changed after it was sealed")
            elif computed == leaf:
                self._tell(Code.ROW_HASH_CHANGED, form, values[0], index, "has another row_hash than was sealed")
            elif computed == stored:
                self._tell(Code.ROW_HASH_CHANGED, form, values[0], index, "was changed, and its row_hash with it")
            else:
                self._tell(Code.ROW_TAMPERED, form, values[0], index, "was changed, and its row_hash too, to no avail")
        for each, (index, _) in missing.items():
            self._tell(Code.ROW_DELETED, form, each, index, "was sealed and is gone")

    def _tell(self, code: Code, form: Form, key: bytes, leaf: int | None, what: str) -> None:
        if form is TASK_V1:
            task = str(UUID(bytes=key))
            self._findings.add(code, f"The task {task} {what}.", task=task, leaf=leaf)
        elif form is LOG_V1:
            log = int.from_bytes(key, "big", signed=True)
            self._findings.add(code, f"The row {log} of the execution log {what}.", log=log, leaf=leaf)
        else:
            self._findings.add(code, f"The epoch {int.from_bytes(key, 'big')} {what}.", leaf=leaf)


_Sealed = dict[bytes, tuple[int, bytes]]

_LEAVES = """
SELECT index, task_id, log_id, epoch, leaf_hash FROM audit_ledger_leaf WHERE index > %s ORDER BY index LIMIT %s
"""
