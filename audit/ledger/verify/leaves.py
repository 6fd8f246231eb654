"""Every leaf in order, with the row it stands for, hashed in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from audit.ledger.rows import Raw
from audit.ledger.tlog.canonical import EPOCH_V1, LOG_V1, TASK_V1, Form, Uncanonical
from audit.ledger.tlog.wire import wire_hash
from audit.ledger.verify.expected import Expected
from audit.ledger.verify.findings import Code, Findings
from audit.ledger.verify.tree import Tree

__all__ = ["Leaves", "Progress"]

Progress = Callable[[int, int], None]

_BATCH = 5_000
_BEFORE_ALL = -(2**63)


class Leaves:
    """Reads every leaf in order, with the row it stands for."""

    def __init__(self, using: str, raw: Raw, wanted: Expected, findings: Findings, progress: Progress | None) -> None:
        self.tree = Tree(using, wanted, findings)
        self.covered = {"tasks": 0, "log_rows": 0, "epochs": 0}
        self._raw = raw
        self._findings = findings
        self._progress = progress
        self._total = wanted.size

    def read(self) -> None:
        """Read all of them."""
        after, count = _BEFORE_ALL, 0
        while batch := list(self._raw.rows(_LEAVES, after, _BATCH)):
            tasks: _Sealed = {}
            logs: _Sealed = {}
            epochs: _Sealed = {}
            places = []
            for raw_index, task, log, epoch, leaf in batch:
                index = _number(raw_index)
                place = index, leaf or b""
                places.append(place)
                if (task is None) + (log is None) + (epoch is None) != 2:
                    self._findings.add(Code.LEAF_CHANGED, f"The leaf {index} stands for no one row.", leaf=index)
                # A leaf that stands for several rows is compared with each: one of them was never sealed.
                for sealed, key in ((tasks, task), (logs, log), (epochs, epoch)):
                    if key is not None and sealed.setdefault(key, [place])[-1] is not place:
                        self._findings.add(
                            Code.LEAF_CHANGED,
                            f"The leaves {sealed[key][-1][0]} and {index} stand for the same row.",
                            leaf=index,
                        )
                        sealed[key].append(place)
            self.tree.add(places)
            self._compare(TASK_V1, "id", [UUID(bytes=each) for each in tasks], tasks, "tasks")
            self._compare(LOG_V1, "id", [_number(each) for each in logs], logs, "log_rows")
            self._compare(EPOCH_V1, "number", [_number(each) for each in epochs], epochs, "epochs")
            after, count = places[-1][0], count + len(batch)
            if self._progress:
                self._progress(self.tree.size, max(self._total, self.tree.size))
        self._all_read(count)

    def _all_read(self, count: int) -> None:
        ((there,),) = self._raw.rows("SELECT count(*) FROM audit_ledger_leaf")
        if (stored := _number(there)) != count:
            self._findings.add(
                Code.LEAF_CHANGED,
                f"{stored - count} leaves have the number of another leaf, or stand outside the order.",
            )

    def _compare(self, form: Form, key: str, keys: list[Any], sealed: _Sealed, counted: str) -> None:
        """Compare the rows of one table with their leaves."""
        if not keys:
            return
        self.covered[counted] += len(keys)
        missing = dict(sealed)
        for *values, stored in self._raw.sealed(form, key, keys):
            places = missing.pop(values[0], None)
            if places is None:
                index = sealed[values[0]][0][0] if values[0] in sealed else None
                self._tell(Code.ROW_INSERTED, form, values[0], index, "is stored twice")
                places = sealed.get(values[0], [])
            for index, leaf in places:
                try:
                    computed = wire_hash(form, values)
                except Uncanonical as error:
                    self._tell(Code.ROW_TAMPERED, form, values[0], index, f"has no canonical form any more: {error}")
                    continue
                self._judge(form, values[0], index, computed, computed if form is EPOCH_V1 else stored, leaf)
        for each, places in missing.items():
            self._tell(Code.ROW_DELETED, form, each, places[0][0], "was sealed and is gone")

    def _judge(self, form: Form, key: bytes, index: int, computed: bytes, stored: bytes | None, leaf: bytes) -> None:
        """Tell what is wrong where a row's content, the hash it carries and its leaf are not one."""
        if computed == leaf == stored:
            return
        if stored == leaf or form is EPOCH_V1:
            self._tell(Code.ROW_TAMPERED, form, key, index, "was changed after it was sealed")
        elif computed == leaf:
            self._tell(Code.ROW_HASH_CHANGED, form, key, index, "has another row_hash than was sealed")
        elif computed == stored:
            self._tell(
                Code.ROW_HASH_CHANGED, form, key, index, "was changed, and its row_hash with it, or its leaf was"
            )
        else:
            self._tell(Code.ROW_TAMPERED, form, key, index, "was changed, and its row_hash too, to no avail")

    def _tell(self, code: Code, form: Form, key: bytes, leaf: int | None, what: str) -> None:
        if form is TASK_V1:
            task = str(UUID(bytes=key)) if len(key) == 16 else repr(key)
            self._findings.add(code, f"The task {task} {what}.", task=task, leaf=leaf)
        elif form is LOG_V1:
            log = _number(key)
            self._findings.add(code, f"The row {log} of the execution log {what}.", log=log, leaf=leaf)
        else:
            self._findings.add(code, f"The epoch {_number(key)} {what}.", leaf=leaf)


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big", signed=True)


_Sealed = dict[bytes, list[tuple[int, bytes]]]

_LEAVES = """
SELECT index, task_id, log_id, epoch, leaf_hash FROM audit_ledger_leaf WHERE index > %s ORDER BY index LIMIT %s
"""
