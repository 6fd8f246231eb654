"""What the ledger signed, and where its sealing stands: the head, checkpoints and epochs, read and written as text."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models.functions import Left
from django.http import HttpResponse
from django.utils.translation import gettext as _

from audit.admin.shared.facts import Fact
from audit.admin.shared.files import text_file
from audit.admin.shared.read_only_admin import NotThere
from audit.admin.shared.wording import ago, grouped, moment, shown
from audit.ledger.tlog.errors import LedgerError
from audit.ledger.tlog.note import Note, to_base64
from audit.models import LedgerCheckpoint, LedgerEpoch, LedgerHead

__all__ = [
    "CHECKPOINTS",
    "checkpoint_row",
    "epoch_row",
    "head_facts",
    "read_checkpoints",
    "read_epochs",
    "read_head",
    "read_note",
]

CHECKPOINTS = 10
"""How many of the newest are shown."""
_EPOCHS = 20
_LONGEST_NOTE = 64 * 1024


def read_head(using: str) -> dict[str, Any] | None:
    """Read where sealing stands, as the sealer left it; None before the first sealing."""
    # The size of the tree without counting a leaf.
    for row in LedgerHead.objects.using(using).filter(id=1).values("size", "epoch", "sealed_at")[:1]:
        return dict(row)
    return None


def read_checkpoints(using: str) -> Any:
    """Read the newest checkpoints."""
    rows = LedgerCheckpoint.objects.using(using).order_by("-epoch", "-size")
    return list(
        rows.values("id", "epoch", "size", "root", "created_at", text=Left("note", _LONGEST_NOTE))[:CHECKPOINTS]
    )


def read_epochs(using: str) -> Any:
    """Read the newest epochs."""
    rows = LedgerEpoch.objects.using(using).order_by("-number")
    columns = {name: Left(column, 2_000) for name, column in (("why", "reason"), ("who", "actor"), ("name", "origin"))}
    return list(rows.values("number", "size", "started_at", **columns)[:_EPOCHS])


def read_note(using: str, key: int) -> HttpResponse:
    """Answer with a checkpoint's signed note as a file.

    Raises:
        NotThere: there is no such checkpoint.
    """
    notes = LedgerCheckpoint.objects.using(using).filter(pk=key).values_list("epoch", "size", "note")[:1]
    for epoch, size, text in notes:
        return text_file(text, f"{epoch}-{size}.checkpoint")
    raise NotThere


def head_facts(head: dict[str, Any] | None, now: datetime) -> list[Fact]:
    """Say where sealing stands now."""
    if head is None:
        return []
    sealed = head["sealed_at"]
    return [
        Fact(label=_("Leaves now"), value=grouped(head["size"])),
        Fact(label=_("Epoch"), value=str(head["epoch"])),
        Fact(
            label=_("Last sealed"),
            value=ago(sealed, now) if sealed else _("never"),
            title=moment(sealed, now) if sealed else "",
        ),
    ]


def checkpoint_row(values: dict[str, Any], now: datetime, url: str) -> dict[str, Any]:
    """Write a checkpoint as text; `url` is of its note."""
    root = to_base64(bytes(values["root"]))
    return {
        "id": values["id"],
        "epoch": values["epoch"],
        "size": grouped(values["size"]),
        "root": root,
        "short": root[:16],
        "when": ago(values["created_at"], now),
        "exact": moment(values["created_at"], now),
        "iso": values["created_at"].isoformat(),
        "signers": _signers(values["text"]),
        "text": shown(values["text"], 4_000),
        "url": url,
    }


def epoch_row(values: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Write an epoch as text."""
    return {
        "number": values["number"],
        "size": grouped(values["size"]),
        "when": ago(values["started_at"], now),
        "exact": moment(values["started_at"], now),
        "iso": values["started_at"].isoformat(),
        "reason": shown(values["why"], 1_000),
        "actor": shown(values["who"], 100),
        "origin": shown(values["name"], 300),
    }


def _signers(text: str) -> list[str]:
    """The names that a note bears; whether they signed it is for a verification to say."""
    try:
        return [shown(each.name, 100) for each in Note.parse(text).signatures]
    except LedgerError:
        return []
