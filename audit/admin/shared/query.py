"""What the URL of a list asks for: a filter, the range of time it covers, a place, and what of it means nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import partial
from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from audit.admin.shared.links import FilterLinks
from audit.admin.shared.paging import Cursor, Order, read_cursor
from audit.admin.shared.panels import page_now, panel
from audit.admin.shared.timerange import DEFAULT_SPAN, TimeRange
from audit.admin.shared.wording import moment, shown
from audit.exceptions import InvalidFilter
from audit.reading.filters import TaskFilter
from audit.reading.filters.actors import is_pattern, matching
from audit.reading.filters.values import BY_NAME, ROOTS

__all__ = ["ListQuery", "unknown_keys"]

_BESIDE = ("after", "before", "format")
_SPANS = ("since", "until", "finished_since", "finished_until")


def unknown_keys(query: Iterable[str], known: Sequence[str]) -> list[str]:
    """Say which URL keys are no filter: mistyped, one would find more than was asked for.

    Args:
        query: the keys; Django's own begin with an underscore.
        known: those that are filters of the page, beside its place and paths into documents.
    """
    return [
        _("“%(key)s” is not a filter; did you mean “%(close)s”?") % {"key": shown(key, 80), "close": close[0]}
        if (close := get_close_matches(key, known, n=1, cutoff=0.75))
        else _("“%(key)s” is not a filter.") % {"key": shown(key, 80)}
        for key in query
        if not (key in known or key in _BESIDE or key.startswith("_") or ("." in key and key.split(".")[0] in ROOTS))
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """The URL of a list, read."""

    filter: TaskFilter
    """The filter as the URL has it."""
    default_span: timedelta | None = DEFAULT_SPAN
    """How far back the list looks when the filter names no range; None for all time."""
    cursor: Cursor | None
    """Where the page begins."""
    problems: tuple[str, ...]
    """What of the URL means nothing and was left out, in words."""
    now: datetime
    names: tuple[str, ...] = ()
    """The actors that are meant, where the filter has patterns."""
    typed: str = ""
    """The search text as it was typed, where a part of it means nothing."""
    effective: TaskFilter = field(init=False)
    """The filter with the range that it is answered for, its ends as moments."""
    range: TimeRange = field(init=False)
    links: FilterLinks = field(init=False)

    def __post_init__(self) -> None:
        effective = self.filter.within(self.default_span) if self.default_span else self.filter
        if self.names:
            effective = replace(effective, actors=self.names)
        span = TimeRange.of(effective, self.now)
        object.__setattr__(self, "effective", self._fixed(effective))
        object.__setattr__(self, "range", span)
        object.__setattr__(self, "links", FilterLinks(filter=self.filter, range=span))

    def _fixed(self, wanted: TaskFilter) -> TaskFilter:
        """Write each span of time up to now as a moment: `now` is by the database's clock, as the rows are."""
        spans = {name: getattr(wanted, name) for name in _SPANS}
        moments: dict[str, Any] = {name: self.now - each for name, each in spans.items() if isinstance(each, timedelta)}
        return replace(wanted, **moments) if moments else wanted

    @classmethod
    def read(cls, request: HttpRequest, order: Order, own: Sequence[str] = ()) -> ListQuery:
        """Read the URL; what means nothing is left out and reported in `problems`.

        Args:
            request: whose URL.
            order: how the list is sorted.
            own: URL keys that the page reads itself.
        """
        refused: list[InvalidFilter] = []
        wanted = TaskFilter.from_query(request.GET, refused)
        problems = [shown(error, 500) for error in refused]
        problems += unknown_keys(request.GET, (*BY_NAME, "q", *own))
        cursor, unread = read_cursor(request.GET, order)
        query = cls(
            filter=wanted,
            cursor=cursor,
            problems=(*problems, *unread),
            now=page_now(),
            typed=shown(" ".join(request.GET.getlist("q")), 2000) if refused else "",
        )
        return query._without_backward_end()

    def naming(self, using: str) -> ListQuery:
        """Look up which actors the patterns of the filter fit; what cannot be looked up is left out and reported.

        Args:
            using: the alias of the `reading` transaction around it.
        """
        actors = self.filter.actors
        if not any(map(is_pattern, actors)):
            return self
        try:
            found = panel(using, partial(matching, using, actors))
            if found.value is not None:
                return replace(self, names=found.value)
            problem = str(_("Looking for the names of actors took too long; the condition was left out."))
        except InvalidFilter as error:
            problem = shown(error, 500)
        whole = tuple(name for name in actors if not is_pattern(name))
        return replace(self, filter=replace(self.filter, actors=whole), problems=(*self.problems, problem))

    def _without_backward_end(self) -> ListQuery:
        """This query; without its end, and saying so, where that lies before its beginning."""
        start, end = self.range.start, self.range.end
        if start is None or end is None or not self.range.is_backwards:
            return self
        problem = _("The range ends at %(end)s, before it begins at %(start)s; its end is left out.") % {
            "end": moment(end, self.now),
            "start": moment(start, self.now),
        }
        return replace(self, filter=replace(self.filter, until=None), problems=(*self.problems, problem))

    @property
    def words(self) -> str:
        """What stands in the search box."""
        return self.typed or " ".join(self.filter.to_query().get("q", []))
