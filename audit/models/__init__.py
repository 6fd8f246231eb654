"""The tables of the audit trail and the verbs that move their rows."""

from audit.models.agent import Agent, ResourceMetric
from audit.models.event import Event
from audit.models.ledger import (
    LedgerCheckpoint,
    LedgerEpoch,
    LedgerHead,
    LedgerLeaf,
    LedgerTile,
    LedgerVerification,
    Verdict,
)
from audit.models.log import ExecutionLog
from audit.models.pause import PauseQueueEntry
from audit.models.task import Task

__all__ = [
    "Agent",
    "Event",
    "ExecutionLog",
    "LedgerCheckpoint",
    "LedgerEpoch",
    "LedgerHead",
    "LedgerLeaf",
    "LedgerTile",
    "LedgerVerification",
    "PauseQueueEntry",
    "ResourceMetric",
    "Task",
    "Verdict",
]
