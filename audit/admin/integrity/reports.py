"""A stored verification, read for a page: of a report that may be megabytes long no more than is shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections
from django.http import HttpResponse
from django.utils.translation import gettext_lazy as _

from audit.admin.shared.base import NotThere, json_file
from audit.admin.shared.wording import shown
from audit.ledger.verify.findings import Code

__all__ = ["FINDINGS", "LABELS", "Found", "Stored", "code_label", "newest", "read", "report"]

FINDINGS = 100
"""How many findings a page shows; the report has them all."""
_LONGEST = 256 * 1024
_SAID = 50

LABELS = {
    Code.RELATION_REPLACED: _("A table is not the table"),
    Code.SCHEMA_CHANGED: _("Columns were changed"),
    Code.GUARD_OFF: _("A guard is off"),
    Code.FORGED_CHECKPOINT: _("Forged checkpoint"),
    Code.WRONG_ORIGIN: _("Checkpoint of another log"),
    Code.CHECKPOINT_DELETED: _("Checkpoint deleted"),
    Code.HISTORY_BROKEN: _("History broken"),
    Code.FORK: _("Fork: two signed trees of one size"),
    Code.ROLLBACK: _("Set back behind what was signed"),
    Code.ROW_DELETED: _("Row deleted"),
    Code.ROW_TAMPERED: _("Row changed"),
    Code.STATUS_UNLOGGED: _("Status is not the last one logged"),
    Code.PLAN_CHANGED: _("Plan is not the approved one"),
    Code.PAUSE_BROKEN: _("Pause queue does not fit the tasks"),
    Code.ROW_INSERTED: _("Row put in behind the sealer's back"),
    Code.LEAF_GAP: _("Leaf missing"),
    Code.LEAF_CHANGED: _("Leaf changed"),
    Code.LEAVES_MISSING: _("End of the tree missing"),
    Code.LEAVES_UNSIGNED: _("Leaves without a signature"),
    Code.TILE_CORRUPT: _("Tile corrupt"),
    Code.FRONTIER_ALTERED: _("Head of the ledger altered"),
    Code.ROOT_MISMATCH: _("Root is not the signed one"),
}
"""What each code says to people."""
_LABELS = {str(code): label for code, label in LABELS.items()}

_READ = f"""
SELECT id, started_at, finished_at, verdict, size, unsealed, oldest_unsealed, left(actor, 200),
    left(jsonb_path_query_array(report, 'lax $.findings[0 to {FINDINGS - 1}]')::text, {_LONGEST}),
    left((report -> 'counts')::text, {_LONGEST}),
    left((report -> 'covered')::text, {_LONGEST}),
    left((report -> 'not_covered')::text, {_LONGEST}),
    left((report -> 'signed')::text, 20)
FROM audit_ledger_verification
"""  # noqa: S608 - our own numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One finding, as text."""

    code: str
    label: Any
    message: str
    task: UUID | None
    log: int | None
    leaf: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A verification as it was stored. What is in its report and not what a report holds, is left out."""

    id: int
    started_at: datetime
    finished_at: datetime
    verdict: str
    size: int
    signed: int | None
    unsealed: int
    oldest_unsealed: datetime | None
    actor: str
    findings: Sequence[Found]
    """The first of them, causes before what follows."""
    counts: Sequence[tuple[str, Any, int]]
    """Of each code how many there were, with its label."""
    covered: dict[str, int]
    not_covered: Sequence[str]

    @property
    def total(self) -> int:
        """How many findings there were."""
        return sum(number for *_, number in self.counts)

    @property
    def first_row(self) -> Found | None:
        """The first finding about a row of a task or of its log."""
        return next((each for each in self.findings if each.task or each.log is not None), None)


def newest(using: str) -> Stored | None:
    """Read the newest verification; None when there was never one."""
    return _one(using, f"{_READ} ORDER BY finished_at DESC, id DESC LIMIT 1", [])


def read(using: str, object_id: str) -> Stored:
    """Read one verification.

    Args:
        using: the database alias.
        object_id: its number, as the URL has it.

    Raises:
        NotThere: there is no such verification.
    """
    found = _one(using, f"{_READ} WHERE id = %s", [_key(object_id)])
    if found is None:
        raise NotThere
    return found


def report(using: str, object_id: str) -> HttpResponse:
    """Answer with the whole report as JSON, as it is stored.

    Raises:
        NotThere: there is no such verification.
    """
    key = _key(object_id)
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT report::text FROM audit_ledger_verification WHERE id = %s", [key])
        for (text,) in cursor.fetchall():
            return json_file(text, f"verification-{key}")
    raise NotThere


def _key(object_id: str) -> int:
    if not object_id.isascii() or not object_id.isdigit() or len(object_id) > 18:
        raise NotThere
    return int(object_id)


def _one(using: str, query: str, parameters: list[Any]) -> Stored | None:
    with connections[using].cursor() as cursor:
        cursor.execute(query, parameters)
        rows = cursor.fetchall()
    for key, started, finished, verdict, size, unsealed, oldest, actor, found, counts, covered, left, signed in rows:
        return Stored(
            id=key,
            started_at=started,
            finished_at=finished,
            verdict=verdict,
            size=size,
            signed=_number(_json(signed)),
            unsealed=unsealed,
            oldest_unsealed=oldest,
            actor=shown(actor, 100),
            findings=[_found(each) for each in _list(found) if isinstance(each, dict)],
            counts=[(shown(code, 60), code_label(code), number) for code, number in _numbers(counts).items()],
            covered=_numbers(covered),
            not_covered=[shown(each, 1_000) for each in _list(left)[:_SAID]],
        )
    return None


def _found(told: dict[str, Any]) -> Found:
    try:
        task = UUID(told["task"]) if isinstance(told.get("task"), str) else None
    except ValueError:
        task = None
    code = str(told.get("code"))
    return Found(
        code=shown(code, 60),
        label=code_label(code),
        message=shown(told.get("message"), 1_000),
        task=task,
        log=_number(told.get("log")),
        leaf=_number(told.get("leaf")),
    )


def code_label(code: str) -> Any:
    """Say to people what a code means; one that this version does not know stands for itself."""
    return _LABELS.get(code) or shown(code, 60)


def _json(text: str | None) -> Any:
    try:
        return json.loads(text or "null")
    except (ValueError, RecursionError):
        return None


def _list(text: str | None) -> list[Any]:
    value = _json(text)
    return value if isinstance(value, list) else []


def _numbers(text: str | None) -> dict[str, int]:
    value = _json(text)
    given = value.items() if isinstance(value, dict) else ()
    return {str(name): number for name, each in given if (number := _number(each)) is not None}


def _number(value: Any) -> int | None:
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    return value if known else None
