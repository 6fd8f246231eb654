"""A stored verification, read for a page: of a report that may be megabytes long no more than is shown."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections
from django.http import HttpResponse

from audit.admin.shared.files import json_document
from audit.admin.shared.findings import code_label
from audit.admin.shared.ids import BadId, read_id
from audit.admin.shared.read_only_admin import NotThere
from audit.admin.shared.wording import shown

__all__ = ["FINDINGS", "StoredFinding", "StoredVerification", "newest", "read", "report", "without_ids"]

FINDINGS = 100
"""How many findings a page shows; the report has them all."""
_LONGEST = 256 * 1024
_NOT_COVERED = 50

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
class StoredFinding:
    """One finding, as text."""

    code: str
    label: Any
    message: str
    task: UUID | None
    log: int | None
    leaf: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVerification:
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
    findings: Sequence[StoredFinding]
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
    def first_row(self) -> StoredFinding | None:
        """The first finding about a row of a task or of its log."""
        return next((each for each in self.findings if each.task or each.log is not None), None)


def newest(using: str) -> StoredVerification | None:
    """Read the newest verification; None when there was never one."""
    return _one(using, f"{_READ} ORDER BY finished_at DESC, id DESC LIMIT 1", [])


def read(using: str, key: int) -> StoredVerification:
    """Read one verification.

    Args:
        using: the database alias.
        key: its number.

    Raises:
        NotThere: there is no such verification.
    """
    stored = _one(using, f"{_READ} WHERE id = %s", [key])
    if stored is None:
        raise NotThere
    return stored


def without_ids(text: str) -> str:
    """Leave out the ids of tasks, for a person who may not see tasks."""
    return _ID.sub("…", text)


_ID = re.compile("[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)


def report(using: str, tasks: bool, key: int) -> HttpResponse:
    """Answer with the whole report as JSON, as it is stored.

    Args:
        using: the database alias.
        tasks: whether the person may see tasks; their ids are left out otherwise.
        key: the verification's number.

    Raises:
        NotThere: there is no such verification.
    """
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT report::text FROM audit_ledger_verification WHERE id = %s", [key])
        for (text,) in cursor.fetchall():
            return json_document(text if tasks else without_ids(text), f"verification-{key}")
    raise NotThere


def _one(using: str, query: str, parameters: list[Any]) -> StoredVerification | None:
    with connections[using].cursor() as cursor:
        cursor.execute(query, parameters)
        rows = cursor.fetchall()
    for key, started, finished, verdict, size, unsealed, oldest, actor, findings, counts, covered, left, signed in rows:
        return StoredVerification(
            id=key,
            started_at=started,
            finished_at=finished,
            verdict=verdict,
            size=size,
            signed=_number(_json(signed)),
            unsealed=unsealed,
            oldest_unsealed=oldest,
            actor=shown(actor, 100),
            findings=[_finding(each) for each in _list(findings) if isinstance(each, dict)],
            counts=[(shown(code, 60), code_label(code), number) for code, number in _numbers(counts).items()],
            covered=_numbers(covered),
            not_covered=[shown(each, 1_000) for each in _list(left)[:_NOT_COVERED]],
        )
    return None


def _finding(stored: dict[str, Any]) -> StoredFinding:
    try:
        task = read_id(stored["task"], UUID) if isinstance(stored.get("task"), str) else None
    except BadId:
        task = None
    code = str(stored.get("code"))
    return StoredFinding(
        code=shown(code, 60),
        label=code_label(code),
        message=shown(stored.get("message"), 1_000),
        task=task,
        log=_number(stored.get("log")),
        leaf=_number(stored.get("leaf")),
    )


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
