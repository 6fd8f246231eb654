"""The Integrity page: what verifications found, how old that is, and what was signed. It hashes nothing itself."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.admin.integrity.checkpoints import (
    CHECKPOINTS,
    checkpoint_row,
    epoch_row,
    head_facts,
    read_checkpoints,
    read_epochs,
    read_head,
    read_note,
)
from audit.admin.integrity.reports import newest, read, report
from audit.admin.integrity.verification import alarms, growth, list_columns, verification, verification_row
from audit.admin.shared.paging import Order, read_cursor, read_page
from audit.admin.shared.panels import panel
from audit.admin.shared.read_only_admin import ReadOnlyAdmin
from audit.models import Task
from audit.values import moments

__all__ = ["LedgerVerificationAdmin"]

_ORDER = Order(moment="finished_at", key=int)
_VERIFICATIONS = 20


class LedgerVerificationAdmin(ReadOnlyAdmin):
    """What verifications of the ledger found, and what it signed; the page of a row is one verification."""

    list_template = "audit/admin/integrity/page.html"
    detail_template = "audit/admin/integrity/verification.html"

    def list_context(self, request: HttpRequest) -> dict[str, Any]:
        using, now = self.using, moments.now()
        cursor, problems = read_cursor(request.GET, _ORDER)
        last = panel(using, partial(newest, using))
        head = panel(using, partial(read_head, using))
        listed = panel(using, partial(read_page, list_columns(using), _ORDER, cursor, _VERIFICATIONS))
        checkpoints = panel(using, partial(read_checkpoints, using))
        epochs = panel(using, partial(read_epochs, using))
        page = listed.value
        signed = checkpoints.value[0]["size"] if checkpoints.value else None
        return {
            "title": _("Integrity"),
            "now": now,
            "problems": problems,
            "last": verification(self, request, last.value, now) if last.value else None,
            "last_degraded": last.degraded,
            "grown": growth(last.value, signed) if last.value else "",
            "alarms": alarms(last.value, signed, now) if last.value else [],
            "ledger": head_facts(head.value, now),
            "verifications": [verification_row(each, now, self.url("change", each["id"])) for each in page.rows]
            if page
            else [],
            "verifications_degraded": page is None,
            "newer": f"?before={page.before}" if page and page.before else "",
            "older": f"?after={page.after}" if page and page.after else "",
            "newest": "" if page is None or page.first else "?",
            "checkpoints": [checkpoint_row(each, now, self._note_url(each["id"])) for each in checkpoints.value or ()],
            "checkpoints_degraded": checkpoints.degraded,
            "checkpoints_shown": CHECKPOINTS,
            "epochs": [epoch_row(each, now) for each in epochs.value or ()],
            "epochs_degraded": epochs.degraded,
            "zone": timezone.get_current_timezone_name(),
        }

    def detail_context(self, request: HttpRequest, key: Any) -> dict[str, Any]:
        now = moments.now()
        last = verification(self, request, read(self.using, key), now)
        return {
            "title": _("Verification of %(when)s") % {"when": last.exact},
            "last": last,
            "is_detail": True,
            "zone": timezone.get_current_timezone_name(),
        }

    def more_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("checkpoint/<str:object_id>/note/", view(self.checkpoint_view), name="audit_ledgercheckpoint_note"),
            path("<str:object_id>/report/", view(self.report_view), name="audit_ledgerverification_report"),
        ]

    def report_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send the whole report of a verification as JSON."""
        return self.row_page(request, object_id, partial(report, self.using, self.sees(request, Task)))

    def checkpoint_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send a checkpoint's signed note as a file."""
        return self.row_page(request, object_id, partial(read_note, self.using))

    def _note_url(self, key: int) -> str:
        return reverse("admin:audit_ledgercheckpoint_note", args=[key], current_app=self.admin_site.name)
