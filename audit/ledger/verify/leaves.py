"""Every leaf in order, with the row it stands for, hashed in Python with the leaf's salt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from audit.ledger.binary_rows import Raw, number
from audit.ledger.tlog.canonical import EPOCH_V1, LOG_V1, TASK_V1, Form, Uncanonical
from audit.ledger.tlog.wire import wire_hashes
from audit.ledger.verify.findings import Code, Findings
from audit.ledger.verify.signed_roots import Expected
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
        while batch := self._raw.narrow(_LEAVES, after, _BATCH):
            tasks: _Sealed = {}
            logs: _Sealed = {}
            epochs: _Sealed = {}
            places = []
            for raw_index, task, log, epoch, salt, leaf in batch:
                index = number(raw_index)
                place = index, salt or b"", leaf or b""
                places.append((index, place[2]))
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
            self._compare(TASK_V1, tasks, "tasks")
            self._compare(LOG_V1, logs, "log_rows")
            self._compare(EPOCH_V1, epochs, "epochs")
            after, count = places[-1][0], count + len(batch)
            if self._progress:
                self._progress(self.tree.size, max(self._total, self.tree.size))
        self._all_read(count)

    def _all_read(self, count: int) -> None:
        ((there,),) = self._raw.narrow("SELECT count(*) FROM audit_ledger_leaf")
        if (stored := number(there)) != count:
            self._findings.add(
                Code.LEAF_CHANGED,
                f"{stored - count} leaves have the number of another leaf, or stand outside the order.",
            )

    def _compare(self, form: Form, sealed: _Sealed, counted: str) -> None:
        """Compare the rows of one table with their leaves."""
        if not sealed:
            return
        self.covered[counted] += len(sealed)
        missing = dict(sealed)
        for together in self._raw.sealed(form, sealed):
            rows, places = [], []
            for values in together:
                key = values[0]
                of = missing.pop(key, None)
                if of is None:
                    of = sealed.get(key, [])
                    self._report(Code.ROW_INSERTED, form, key, of[0][0] if of else None, "is stored twice")
                for place in of:
                    rows.append(values)
                    places.append(place)
            if rows:
                self._hash(form, rows, places)
        for key, places in missing.items():
            self._report(Code.ROW_DELETED, form, key, places[0][0], "was sealed and is gone")

    def _hash(self, form: Form, rows: list[tuple[Any, ...]], places: list[_Place]) -> None:
        """Compare rows with a leaf each."""
        try:
            hashes = wire_hashes(form, [salt for _, salt, _ in places], rows)
        except Uncanonical as error:
            if len(rows) > 1:  # which of them?
                for row, place in zip(rows, places, strict=True):
                    self._hash(form, [row], [place])
                return
            what = f"has no canonical form any more: {error}"
            self._report(Code.ROW_TAMPERED, form, rows[0][0], places[0][0], what)
            return
        for row, (index, _, leaf), found in zip(rows, places, hashes, strict=True):
            if found != leaf:
                what = "does not fit its leaf: it was changed after it was sealed, or the leaf was"
                self._report(Code.ROW_TAMPERED, form, row[0], index, what)

    def _report(self, code: Code, form: Form, key: bytes, leaf: int | None, what: str) -> None:
        if form is TASK_V1:
            task = str(UUID(bytes=key)) if len(key) == 16 else repr(key)
            self._findings.add(code, f"The task {task} {what}.", task=task, leaf=leaf)
        elif form is LOG_V1:
            log = number(key)
            self._findings.add(code, f"The row {log} of the execution log {what}.", log=log, leaf=leaf)
        else:
            self._findings.add(code, f"The epoch {number(key)} {what}.", leaf=leaf)


# The number, the salt and the hash of a leaf.
_Place = tuple[int, bytes, bytes]
# By the rows' keys: each leaf that stands for it.
_Sealed = dict[bytes, list[_Place]]

_LEAVES = """
SELECT index, task_id, log_id, epoch, salt, leaf_hash FROM audit_ledger_leaf WHERE index > %s ORDER BY index LIMIT %s
"""
