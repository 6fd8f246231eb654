"""How many rows are newer than an open list; the list itself never moves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.forms import Media
from django.forms.widgets import Script
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path
from django.utils.translation import ngettext

from audit.admin.shared.export import ExportingAdmin
from audit.admin.shared.paging import Cursor, Order, Page, read_cursor, read_page
from audit.admin.shared.panels import panel

__all__ = ["MOST", "SECONDS", "TailingAdmin"]

MOST = 99
"""How many new rows are counted; more are `99+`."""
SECONDS = 10
"""How often an open list asks."""


class TailingAdmin(ExportingAdmin):
    """Pages whose list counts newer rows while it is open."""

    order: Order

    def more_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_newer"
        return [*super().more_urls(), path("newer/", self.admin_site.admin_view(self.newer_view), name=name)]

    def newer_view(self, request: HttpRequest) -> HttpResponse:
        """Count the rows of a list's URL that are newer than the place it names with `before`, as JSON."""
        return self.page(request, "", lambda: self._newer(request))

    def live(self, query: Sequence[tuple[str, str]], page: Page, now: datetime) -> dict[str, Any]:
        """What a list's first page needs to ask for newer rows.

        Args:
            query: the list's own URL keys, without its place.
            page: what it shows.
            now: when it was read, for a page without rows.
        """
        if page.rows:
            top = Cursor(moment=page.rows[0][self.order.moment], key=page.rows[0]["id"])
        else:
            top = Cursor(moment=now, key=0 if self.order.key is int else UUID(int=0))
        return {
            "url": f"{self.url('newer')}?{urlencode([*query, ('before', top.written())])}",
            "reload": f"?{urlencode(query)}",
            "seconds": SECONDS,
        }

    def _newer(self, request: HttpRequest) -> HttpResponse:
        cursor, _problems = read_cursor(request.GET, self.order)
        if cursor is None or not cursor.back:
            return JsonResponse({"error": "before must be the place of a row"}, status=400)
        # Nothing but the columns of the index that the list is sorted by.
        rows = self.to_export(request).rows.values(self.order.moment, "id")
        counted = panel(self.using, partial(read_page, rows, self.order, cursor, MOST))
        if counted.value is None:
            return JsonResponse({"error": "counting took too long"}, status=503)
        count, more = len(counted.value.rows), bool(counted.value.before)
        label = ngettext("%(count)s new", "%(count)s new", count) % {"count": f"{count}+" if more else count}
        return JsonResponse({"count": count, "more": more, "label": label})

    @property
    def media(self) -> Media:
        """The script that asks, beside those of every page."""
        return super().media + Media(js=[Script("audit/tail.js", defer=True)])  # type: ignore[list-item]  # as there
