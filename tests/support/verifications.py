"""Verifications as they are stored, and the pages that show them."""

from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from audit.ledger.tlog import checkpoint
from audit.ledger.verify import keep
from audit.models import LedgerCheckpoint, LedgerVerification, Task
from tests.support.ledger import KEY, verified

# What reads from a snapshot of its own, verifications and proofs, needs a connection without a transaction.
apart = pytest.mark.django_db(transaction=True)

PAGE = "/admin/audit/ledgerverification/"
TRUSTED = {"LEDGER_VERIFIERS": [str(KEY.verifier)]}


def stored(**given: Any) -> LedgerVerification:
    """A verification as a hand could have stored it."""
    now = timezone.now()
    values = {
        "started_at": now,
        "finished_at": now,
        "verdict": "intact",
        "size": 0,
        "unsealed": 0,
        "oldest_unsealed": None,
        "report": {},
        "actor": "cli:ops",
    }
    return LedgerVerification.objects.create(**{**values, **given})


def kept() -> LedgerVerification:
    """Verify now, and store the result."""
    return keep(verified(), "default", "cli:ops")


def page_of(task: Task, page: str = "change") -> str:
    return reverse(f"admin:audit_task_{page}", args=[task.pk])


def ahead() -> str:
    """A checkpoint of a tree that goes on from this one, as if a backup had been restored since."""
    newest = LedgerCheckpoint.objects.latest("id")
    wanted = checkpoint.Checkpoint(origin=KEY.name, size=newest.size + 7, root=b"\7" * 32)
    return str(checkpoint.sign(wanted, KEY))
