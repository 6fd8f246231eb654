"""What a verification can find, and its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from audit.values import moments

__all__ = ["MAX_FINDINGS", "Code", "Finding", "Findings", "Report"]

MAX_FINDINGS = 1_000
"""How many findings of one code a report has in full. More are counted."""


class Code(StrEnum):
    """Kinds of findings, causes before what follows from them: reports are in this order."""

    RELATION_REPLACED = "relation_replaced"
    """A table is missing, a view, a temporary table, or row security may hide rows of it."""
    SCHEMA_CHANGED = "schema_changed"
    """A column is missing, has another type, or is new and covered by no hash."""
    GUARD_OFF = "guard_off"
    """A trigger, function or CHECK that guards the tables is missing, disabled or another one."""
    CHECKPOINT_DELETED = "checkpoint_deleted"
    """A checkpoint that was kept outside is not in the database any more."""
    FORGED_CHECKPOINT = "forged_checkpoint"
    """A checkpoint that no known key signed, or whose signature does not fit what it says."""
    WRONG_ORIGIN = "wrong_origin"
    """A checkpoint of another log."""
    FORK = "fork"
    """A checkpoint that was kept outside is validly signed and of another tree of that size."""
    ROLLBACK = "rollback"
    """A checkpoint that was kept outside covers more than this database has."""
    ROW_DELETED = "row_deleted"
    """A sealed row is gone."""
    ROW_TAMPERED = "row_tampered"
    """A sealed row does not fit the salt and hash in its leaf."""
    ROW_INSERTED = "row_inserted"
    """A row that no sealer could have seen when it says it was written, or a task that the log does not know."""
    HISTORY_BROKEN = "history_broken"
    """A transition in the execution log does not go on from the one before it, or is none: one is forged or missing."""
    STATUS_UNLOGGED = "status_unlogged"
    """The last transition in the log is not the task's status: a change was not logged, or one was forged."""
    PLAN_CHANGED = "plan_changed"
    """A task holds another plan than the one whose approval was logged."""
    PAUSE_BROKEN = "pause_broken"
    """An entry of the pause queue without a paused task, or a paused task without one."""
    LEAF_GAP = "leaf_gap"
    """Leaves are missing between others."""
    LEAF_CHANGED = "leaf_changed"
    """A leaf is not the one that the tree's tiles and signatures cover, or stands for no one row, or has no place."""
    LEAVES_MISSING = "leaves_missing"
    """The end of the tree is missing: a signed checkpoint, or the head, counts more leaves."""
    LEAVES_UNSIGNED = "leaves_unsigned"
    """Leaves that no checkpoint covers."""
    TILE_CORRUPT = "tile_corrupt"
    """A stored tile does not hold the tree's hashes."""
    FRONTIER_ALTERED = "frontier_altered"
    """The ledger's head does not describe the tree, or names a transaction that is still to come."""
    ROOT_MISMATCH = "root_mismatch"
    """The tree's root is not the one that was signed."""


_ORDER = {code: place for place, code in enumerate(Code)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it was sealed."""

    code: Code
    message: str
    task: str | None = None
    """Id of the task concerned."""
    log: int | None = None
    """Id of the row of the execution log."""
    leaf: int | None = None
    """Number of the leaf."""

    def as_json(self) -> dict[str, Any]:
        """What a report says of it."""
        return {"code": self.code.value, "message": self.message, "task": self.task, "log": self.log, "leaf": self.leaf}


class Findings:
    """Collects findings in bounded memory."""

    def __init__(self) -> None:
        self.counts: Counter[Code] = Counter()
        self._kept: list[Finding] = []

    def __bool__(self) -> bool:
        return bool(self.counts)

    def add(self, code: Code, message: str, **where: Any) -> None:
        """Take a finding; arguments as those of `Finding`."""
        self.counts[code] += 1
        if self.counts[code] <= MAX_FINDINGS:
            self._kept.append(Finding(code=code, message=message, **where))

    def extend(self, findings: Iterable[Finding]) -> None:
        """Take several."""
        for finding in findings:
            self.add(finding.code, finding.message, task=finding.task, log=finding.log, leaf=finding.leaf)

    def ordered(self) -> list[Finding]:
        """What was kept, causes first, each code in the order of the tree."""
        return sorted(self._kept, key=lambda each: _ORDER[each.code])


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a verification came to."""

    started_at: datetime
    size: int
    """Leaves that were read."""
    signed: int
    """Leaves that the newest valid checkpoint of the database covers."""
    findings: list[Finding]
    counts: dict[str, int]
    """How many of each code there were; `findings` keeps at most `MAX_FINDINGS` of one."""
    covered: dict[str, int]
    """What was checked: `tasks`, `log_rows`, `epochs`, `checkpoints`, `external_checkpoints`."""
    unsealed: int
    """Finished tasks and log rows that have no leaf yet."""
    oldest_unsealed: datetime | None
    not_covered: list[str] = field(default_factory=list)
    """What the verification says nothing about, in words."""
    accepted_epochs: list[int] = field(default_factory=list)
    """The epochs that were allowed to leave checkpoints behind."""

    @property
    def intact(self) -> bool:
        """Whether nothing was found."""
        return not self.counts

    def as_json(self) -> dict[str, Any]:
        """The report as it is stored and printed."""
        return {
            "verdict": "intact" if self.intact else "tampering",
            "started_at": moments.iso(self.started_at),
            "size": self.size,
            "signed": self.signed,
            "findings": [finding.as_json() for finding in self.findings],
            "counts": self.counts,
            "covered": self.covered,
            "unsealed": self.unsealed,
            "oldest_unsealed": moments.iso(self.oldest_unsealed) if self.oldest_unsealed else None,
            "not_covered": self.not_covered,
            "accepted_epochs": self.accepted_epochs,
        }
