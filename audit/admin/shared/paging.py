"""Keyset paging: a page begins where the other ended, so that page 20 000 costs what page 1 does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import F, Func, Value
from django.db.models.lookups import GreaterThan, LessThan
from django.utils.translation import gettext_lazy as _

from audit.admin.shared.ids import BadId, read_id
from audit.admin.shared.wording import shown
from audit.values import validation

__all__ = ["PAGE_SIZE", "BadCursor", "Cursor", "Order", "Page", "read_cursor", "read_page"]

PAGE_SIZE = 50

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_WRITTEN = re.compile(r"(-?\d{1,18})_([0-9a-f]{32}|\d{1,18})")


class BadCursor(ValueError):
    """A page's place in the URL that nobody wrote there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How a list is sorted: by a moment, ties by the primary key, both in the same direction."""

    moment: str
    key: type[UUID] | type[int] = UUID
    descending: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A place between two rows of a list: right after a row, or (`back`) right before it."""

    moment: datetime
    key: UUID | int
    back: bool = False

    @classmethod
    def read(cls, query: Mapping[str, str], order: Order) -> Cursor | None:
        """Read the place from the URL keys `after` and `before`; None at the beginning of the list.

        Raises:
            BadCursor: it is not as `written` writes it.
        """
        for name in ("after", "before"):
            if text := query.get(name):
                match = _WRITTEN.fullmatch(text)
                if match is None:
                    raise BadCursor(text)
                try:
                    moment = _EPOCH + int(match[1]) * _MICROSECOND
                    key = read_id(match[2], order.key)
                except (BadId, OverflowError):
                    raise BadCursor(text) from None
                if not validation.EARLIEST <= moment < validation.LATEST:
                    raise BadCursor(text)
                return cls(moment=moment, key=key, back=name == "before")
        return None

    def written(self) -> str:
        """Write moment and key for a URL: microseconds since 1970, and the key's digits."""
        key = self.key.hex if isinstance(self.key, UUID) else self.key
        return f"{(self.moment - _EPOCH) // _MICROSECOND}_{key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows of one page, and the cursors of its neighbours where there are any."""

    rows: list[dict[str, Any]]
    before: str = ""
    after: str = ""
    first: bool = True


def read_cursor(query: Mapping[str, str], order: Order) -> tuple[Cursor | None, list[str]]:
    """Read the place in the URL of a list; one that means nothing is the beginning, and a problem in words."""
    try:
        return Cursor.read(query, order), []
    except BadCursor as error:
        return None, [_("The place %(place)s means nothing; this is the first page.") % {"place": shown(error)}]


def read_page(queryset: Any, order: Order, cursor: Cursor | None, size: int = PAGE_SIZE) -> Page:
    """Read one page, in one query.

    Args:
        queryset: a `values()` queryset that has the order's moment and `id`.
        order: how the list is sorted.
        cursor: where the page begins; None for the beginning.
        size: rows a page.
    """
    back = cursor is not None and cursor.back
    down = order.descending != back
    sign = "-" if down else ""
    rows_wanted = queryset.order_by(f"{sign}{order.moment}", f"{sign}id")
    if cursor is not None:
        beyond = LessThan if down else GreaterThan
        rows_wanted = rows_wanted.filter(beyond(_row(F(order.moment), F("id")), _place(queryset.model, order, cursor)))
    rows = list(rows_wanted[: size + 1])
    more = len(rows) > size
    rows = rows[:size]
    if back:
        rows.reverse()
    if not rows:
        return Page(rows=[], first=cursor is None)
    first = Cursor(moment=rows[0][order.moment], key=rows[0]["id"])
    last = Cursor(moment=rows[-1][order.moment], key=rows[-1]["id"])
    return Page(
        rows=rows,
        before=first.written() if (more if back else cursor is not None) else "",
        after=last.written() if back or more else "",
        first=cursor is None,
    )


def _row(*parts: Any) -> Func:
    """Compare as rows: `ROW(created_at, id) < ROW(…)` is one range of the index, ties included; an OR is not."""
    return Func(*parts, function="ROW", output_field=models.TextField())


def _place(model: type[models.Model], order: Order, cursor: Cursor) -> Func:
    moment = Value(cursor.moment, output_field=models.DateTimeField())
    return _row(moment, Value(cursor.key, output_field=model._meta.pk))
