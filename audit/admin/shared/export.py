"""Exactly what a list's filter finds, as a file: streamed with constant memory, and never quietly incomplete."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import urlencode

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path
from django.utils.translation import gettext as _

from audit.admin.shared.export_limits import IDLE_MS, IN_ALL, PER_USER, Patience, Slot, TooManyExports, look, reserve
from audit.admin.shared.links import Link
from audit.admin.shared.panels import reading, set_locally
from audit.admin.shared.read_only_admin import ReadOnlyAdmin
from audit.admin.shared.timerange import SPANS, TimeRange
from audit.admin.shared.wording import shown
from audit.interchange import csv_lines, json_lines
from audit.values import moments

__all__ = ["FETCH_MS", "INCOMPLETE", "Export", "ExportingAdmin", "range_name"]

FETCH_MS = 60_000
"""How long the database may take over one batch of an export, in milliseconds."""
INCOMPLETE = "INCOMPLETE: the export ended early, after {rows} rows. Ask for it again.\n"
"""The last line of a file that could not be finished: no JSON, and no row of the table."""

_PIECE = 64 * 1024
# With how many lines come before the first row.
_FORMATS: dict[str, tuple[str, str, Callable[[Any], Iterator[str]], int]] = {
    "csv": ("CSV", "text/csv", partial(csv_lines, bom=True), 1),
    "jsonl": ("JSONL", "application/x-ndjson", json_lines, 0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What is to be sent."""

    name: str
    """What the rows are, for the name of the file."""
    rows: Any
    """The queryset."""
    range: str
    """What part of it, for the name of the file."""
    problems: Sequence[str] = ()
    """What of the filter means nothing. A list leaves that out and says so; a file would hold more than was asked."""


class ExportingAdmin(ReadOnlyAdmin):
    """Pages whose list can be had as a file; subclasses give `to_export`."""

    def to_export(self, request: HttpRequest) -> Export:
        """Say what the list's URL asks for, all pages of it."""
        raise NotImplementedError

    def more_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_export"
        return [*super().more_urls(), path("export/", self.admin_site.admin_view(self.export_view), name=name)]

    def export_view(self, request: HttpRequest) -> HttpResponse:
        """Send the rows of a list's URL, in the format that `format` names."""
        return self.page(request, "", lambda: self._answer(request))

    def export_links(self, query: Sequence[tuple[str, str]]) -> list[Link]:
        """Link to the files of a list.

        Args:
            query: the list's own URL keys, without its place.
        """
        url = self.url("export")
        return [
            Link(label=label, url=f"{url}?{urlencode([*query, ('format', name)])}")
            for name, (label, _type, _lines, _head) in _FORMATS.items()
        ]

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        wanted = self.to_export(request)
        problems = list(wanted.problems)
        given = request.GET.get("format", "")
        if given not in _FORMATS:
            known = ", ".join(_FORMATS)
            problems.append(
                _("There is no format %(format)s; use one of %(known)s.") % {"format": shown(given), "known": known}
            )
        if problems:
            return HttpResponse("\n".join([*problems, ""]), status=400, content_type="text/plain; charset=utf-8")
        # What every page finds out by reading its rows: whether there are any tables. The rows come later, in a
        # transaction of their own, for this one may be part of the view's (ATOMIC_REQUESTS).
        self.model._default_manager.using(self.using).order_by().values("pk").first()
        _label, content_type, lines, head = _FORMATS[given]
        sent: Any = iter(())
        if request.method == "GET":
            user = str(request.user.pk)
            try:
                slot = Slot(user)
                look(self.using, user)
                sent = _Sent(slot, _pieces(self.using, user, lines(wanted.rows), head))
            except TooManyExports:
                return self._busy()
        if isinstance(request, ASGIRequest):
            sent = _Threaded(sent)
        response = StreamingHttpResponse(sent, content_type=f"{content_type}; charset=utf-8")
        name = f"audit-{wanted.name}_{wanted.range}_{_stamp(moments.now())}.{given}"
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        response["X-Content-Type-Options"] = "nosniff"
        return response

    def _busy(self) -> HttpResponse:
        text = _(
            "Too many exports are running. %(own)s of one person may run at once, %(all)s in all. "
            "Wait until one is complete, or stop one, and ask again."
        ) % {"own": PER_USER, "all": IN_ALL}
        answer = HttpResponse(f"{text}\n", status=429, content_type="text/plain; charset=utf-8")
        answer["Retry-After"] = "30"
        return answer


def range_name(span: TimeRange) -> str:
    """Write a range of time for the name of a file: `24h`, `all`, `20261101T000000Z-20261108T120000Z`."""
    if span.name in SPANS or (span.start is None and span.end is None):
        return span.name
    start = _stamp(span.start) if span.start else "start"
    return f"{start}-{_stamp(span.end or span.now)}"


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


class _Sent:
    """The pieces of a file, in a place of its own until the answer is closed."""

    def __init__(self, slot: Slot, pieces: Iterator[str]) -> None:
        self._slot = slot
        self._pieces: Any = pieces

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            return next(self._pieces)  # type: ignore[no-any-return]
        except BaseException:  # also its end
            self._slot.leave()
            raise

    def close(self) -> None:
        """End the transaction, and give the place back."""
        try:
            self._pieces.close()
        finally:
            self._slot.leave()


def _pieces(using: str, user: str, lines: Iterator[str], head: int) -> Iterator[str]:
    """Join lines to pieces worth sending, inside one read-only transaction.

    Whatever ends it early is reported in a last line, for not every client notices that a connection broke, and raised,
    which breaks the connection.
    """
    sent = 0
    held: list[str] = []
    size = 0
    patience = Patience()
    try:
        with reading(using, FETCH_MS), closing(lines):  # type: ignore[type-var]  # a generator
            set_locally(using, idle_in_transaction_session_timeout=str(IDLE_MS))
            reserve(using, user)
            for line in lines:
                sent += 1
                held.append(line)
                size += len(line)
                if size >= _PIECE:
                    piece, held = "".join(held), []
                    patience.begin(size)
                    size = 0
                    yield piece
                    patience.end()
    except Exception:
        yield "".join([*held, INCOMPLETE.format(rows=max(sent - head, 0))])
        raise
    yield "".join(held)


class _Threaded:
    """Takes an iterator's items in the thread of an asynchronous request, where its connection lives.

    Without it Django would read the whole answer into memory.
    """

    def __init__(self, items: Iterator[str]) -> None:
        self._items = items

    def __aiter__(self) -> _Threaded:
        return self

    async def __anext__(self) -> str:
        item = await sync_to_async(self._next)()
        if item is None:
            raise StopAsyncIteration
        return item

    def _next(self) -> str | None:
        return next(self._items, None)

    def close(self) -> None:
        """End the transaction of an answer that nobody reads any more; Django calls it in the same thread."""
        if hasattr(self._items, "close"):
            self._items.close()
