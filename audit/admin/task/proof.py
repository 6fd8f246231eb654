"""The proof of a sealed task as a file, for whoever may see the task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, connections, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from audit import __version__, conf
from audit.admin.shared.files import text_file
from audit.admin.shared.read_only_admin import NotThere
from audit.admin.shared.wording import grouped, shown
from audit.inspection.rights import said
from audit.ledger.prove import CannotProve, prove
from audit.ledger.tlog.errors import InvalidKey
from audit.ledger.tlog.note import Verifier
from audit.models import ExecutionLog, Task

if TYPE_CHECKING:
    from audit.admin.shared.read_only_admin import ReadOnlyAdmin

__all__ = ["MOST_LOG_ROWS", "ProofOffer", "outside_transactions", "proof_offer", "send_proof"]

MOST_LOG_ROWS = 1_000
"""How many rows of a task's log a page proves; `manage.py audit_prove --with-log` has no limit."""

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofOffer:
    """The way to a proof, or why there is none."""

    url: str = ""
    check: str = ""
    """Commands that check the file on any other machine."""
    hint: str = ""


def proof_offer(page: ReadOnlyAdmin, key: UUID) -> ProofOffer:
    """Offer the proof of a sealed task.

    Args:
        page: a page of tasks.
        key: the task.
    """
    if not conf.settings().LEDGER_VERIFIERS:
        return ProofOffer(hint=_("No proof to download: AUDIT['LEDGER_VERIFIERS'] names no key."))
    keys = " ".join(f"--key '{each}'" for each in conf.settings().LEDGER_VERIFIERS)
    check = (
        "python -m pip install cryptography\n"
        f"python -m pip install --no-deps django_task_audit-{__version__}-py3-none-any.whl\n"
        f"python -m audit.ledger check {key}.tlog-proof {keys}"
    )
    return ProofOffer(url=page.url("proof", key, model="task"), check=check)


def outside_transactions(view: View) -> View:
    """Keep `ATOMIC_REQUESTS` from opening a transaction around a view: a proof reads from a snapshot of its own."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


def send_proof(page: ReadOnlyAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """Answer with the proof of a task and its log, checked with the verifier keys of the settings, or say why not."""
    if not page.has_view_permission(request):
        raise PermissionDenied
    looked: list[tuple[UUID, bool]] = []

    def look(key: UUID) -> HttpResponse:
        if not Task.objects.using(page.using).filter(pk=key).values("pk").first():
            raise NotThere
        looked.append((key, _has_long_log(page.using, key)))
        return HttpResponse()

    # What the pages' own limits apply to; the proof itself is read outside of that transaction.
    response = page.row_page(request, object_id, look)
    if not looked:
        return response
    [(key, long_log)] = looked
    try:
        verifiers = tuple(map(Verifier.parse, conf.settings().LEDGER_VERIFIERS))
        if not verifiers:
            raise CannotProve(_("AUDIT['LEDGER_VERIFIERS'] names no key to check a proof with."))
        if long_log:
            problem = _(
                "Its log has more than %(count)s rows. On the server: manage.py audit_prove %(task)s --with-log"
            )
            raise CannotProve(problem % {"count": grouped(MOST_LOG_ROWS), "task": key})
        text = prove(page.using, key, verifiers, with_log=True)
    except (CannotProve, InvalidKey, DatabaseError) as error:
        return page.problem(request, 409, "unproven", reason=shown(said(error, page.using), 1_000))
    return text_file(text, f"{key}.tlog-proof")


def _has_long_log(using: str, key: UUID) -> bool:
    rows = ExecutionLog.objects.using(using).filter(task_id=key).order_by("id").values_list("pk")
    return len(rows[: MOST_LOG_ROWS + 1]) > MOST_LOG_ROWS
