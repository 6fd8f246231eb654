"""The seal badge: what the newest stored verification says of a task or a log row, and never more than that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import connections
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from audit.admin.shared.findings import code_label
from audit.admin.shared.panels import panel
from audit.admin.shared.read_only_admin import ReadOnlyAdmin
from audit.admin.shared.wording import ago, grouped, moment
from audit.models import LedgerVerification
from audit.reading.seal_state import NEWEST, OF_TASK, SealState, seal_state

__all__ = ["Seal", "badge", "integrity_url", "seal_of_task", "seals_of_log", "seals_of_tasks"]

# Of the page's rows alone, by the unique indexes of the leaves.
_OF_TASKS = f"""
WITH {NEWEST}
SELECT wanted.id, leaf.index, blamed.code, last.verdict, last.size, last.finished_at
FROM unnest(%s::uuid[]) AS wanted (id)
LEFT JOIN audit_ledger_leaf AS leaf ON leaf.task_id = wanted.id
LEFT JOIN blamed ON blamed.task = wanted.id
LEFT JOIN last ON true
"""  # noqa: S608 - our own text
_OF_LOG = f"""
WITH {NEWEST}, named AS MATERIALIZED (
    SELECT log, (array_agg(code ORDER BY place))[1] AS code FROM finding WHERE log IS NOT NULL GROUP BY 1
)
SELECT wanted.id, leaf.index, named.code, last.verdict, last.size, last.finished_at
FROM unnest(%s::bigint[]) AS wanted (id)
LEFT JOIN audit_ledger_leaf AS leaf ON leaf.log_id = wanted.id
LEFT JOIN named ON named.log = wanted.id
LEFT JOIN last ON true
"""  # noqa: S608 - our own text


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """How a row stands in the ledger, as far as it is known."""

    state: str
    """A `SealState`, `live`, or `unknown` (it could not be read in time)."""
    text: str
    """In a sentence."""
    words: str
    """In two words."""
    leaf: int | None = None
    """Number of its leaf."""
    where: str = ""
    """Its leaf and checkpoint in words, where they were asked for."""

    @property
    def sign(self) -> str:
        """One character, beside which the text always stands, seen or heard."""
        return _SIGNS[self.state]

    @property
    def is_sealed(self) -> bool:
        """Whether the row has a leaf."""
        return self.leaf is not None


@lru_cache(maxsize=256)
def badge(seal: Seal) -> SafeString:
    """Draw a seal; a list has many that are the same."""
    return render_to_string("audit/admin/shared/seal.html", {"seal": seal})


_SIGNS = {"live": "–", "unsealed": "○", "sealed": "◐", "unclear": "◐", "verified": "✓", "failed": "!", "unknown": ""}  # noqa: RUF001 - signs


def seals_of_tasks(using: str, finished: Mapping[UUID, bool], now: datetime) -> dict[UUID, Seal]:
    """Read the seals of a page's tasks, in one query and its own savepoint.

    Args:
        using: the database alias.
        finished: whether each task is finished; the others are sealed when they are.
        now: when the page is read.
    """
    keys = [key for key, ended in finished.items() if ended]
    live = Seal(state="live", text=_("Sealed when it is finished"), words=_("not finished"))
    return dict.fromkeys(finished, live) | _seals(using, _OF_TASKS, keys, now)


def seals_of_log(using: str, ids: Sequence[int], now: datetime) -> dict[int, Seal]:
    """Read the seals of rows of the execution log; as `seals_of_tasks`."""
    return _seals(using, _OF_LOG, list(ids), now)


def seal_of_task(using: str, key: UUID, now: datetime) -> Seal:
    """Read the seal of one finished task, with the checkpoint that was the first to cover it; as `seals_of_tasks`."""
    return _seals(using, OF_TASK, [key], now)[key]


def integrity_url(page: ReadOnlyAdmin, request: HttpRequest) -> str:
    """Link to the Integrity page, for who may see it; empty for the others, and where the site does not have it."""
    return page.url("changelist", model="ledgerverification") if page.sees(request, LedgerVerification) else ""


def _seals(using: str, query: str, keys: list[Any], now: datetime) -> dict[Any, Seal]:
    if not keys:
        return {}
    read = panel(using, lambda: _rows(using, query, [keys]))
    if read.value is None:
        text = _("The database role may not read the seal") if read.denied else _("The seal could not be read in time")
        unknown = Seal(state="unknown", text=text, words=_("not read"))
        return dict.fromkeys(keys, unknown)
    return {key: _seal(now, *columns) for key, *columns in read.value}


def _seal(
    now: datetime,
    leaf: int | None,
    code: str | None,
    verdict: str | None,
    size: int | None,
    at: datetime | None,
    covered: datetime | None = None,
) -> Seal:
    seal = _judged(now, leaf, code, verdict, size, at)
    if covered is None or leaf is None:
        return seal
    where = _("Leaf %(leaf)s, covered by the checkpoint of %(when)s") % {
        "leaf": grouped(leaf),
        "when": moment(covered, now),
    }
    return replace(seal, where=where)


def _judged(
    now: datetime, leaf: int | None, code: str | None, verdict: str | None, size: int | None, at: datetime | None
) -> Seal:
    state = seal_state(leaf, code, verdict, size)
    when = {"when": ago(at, now) if at else ""}
    if state == SealState.FAILED:
        text, words = _("Verification failed: %(found)s") % {"found": code_label(code or "")}, _("failed")
    elif state == SealState.UNSEALED:
        text, words = _("Not sealed yet"), _("not sealed yet")
    elif state == SealState.VERIFIED:
        text, words = _("Sealed and verified %(when)s") % when, _("verified")
    elif state == SealState.UNCLEAR:
        text = _("Sealed; the verification %(when)s found tampering, see Integrity") % when
        words = _("sealed, see Integrity")
    else:
        text, words = _("Sealed, not verified yet"), _("sealed")
    return Seal(state=state, text=text, leaf=leaf, words=words)


def _rows(using: str, query: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        cursor.execute(query, parameters)
        return list(cursor.fetchall())
