"""Links of a list: to the same list under another filter, over another range of time, or at another place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote_plus, urlencode

from django.utils.translation import gettext_lazy as _

from audit.admin.shared.timerange import DEFAULT_SPAN, SPANS, TimeRange
from audit.admin.shared.wording import grouped
from audit.exceptions import InvalidFilter
from audit.reading.filters import TaskFilter, when_text
from audit.reading.filters.values import BY_FIELD
from audit.values import validation

__all__ = ["FilterLinks", "Link", "filter_url"]

_RANGE = ("since", "until")
# Stands in a link for a value that comes later; whoever filters by this very text is served the slow way.
_PLACEHOLDER = "a-value-of-many-rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Something to choose: what it says, where it leads, whether it is chosen now."""

    label: Any
    url: str
    chosen: bool = False
    key: str = ""
    value: str = ""
    title: Any = ""
    """What it means, for a pointer that rests on it."""
    count: int | None = None
    tone: str = ""

    @property
    def number(self) -> str:
        """The count as it is written: `4,248`; empty where nothing was counted."""
        return "" if self.count is None else grouped(self.count)


def filter_url(wanted: TaskFilter, **more: str) -> str:
    """Write a filter as a link within the same page.

    Args:
        wanted: the filter.
        more: further URL keys, such as the place in the list, which a filter does not keep.
    """
    query = {**wanted.to_query(), **{key: [value] for key, value in more.items() if value}}
    return f"?{urlencode(query, doseq=True)}" if query else "?"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterLinks:
    """The links from a list under one filter, as its URL has it, over one range of time."""

    filter: TaskFilter
    range: TimeRange
    _written: dict[Any, Any] = field(default_factory=dict, init=False, compare=False, repr=False)
    """What was written before: a page has the same services and actors in many rows."""

    def page(self, **place: str) -> str:
        """Link to another page of this very list: `after` or `before` a cursor; without one, to the first."""
        return filter_url(self.filter, **place)

    # One condition more or less

    def adding(self, field: str, value: str) -> str:
        """Link with one more value of a field; empty for a value that no filter can hold."""
        if (field, value) not in self._written:
            self._written[field, value] = self._adding(field, value)
        written: str = self._written[field, value]
        return written

    def _adding(self, field: str, value: str) -> str:
        """Write a link in full, or put the value where another one stood in such a link: a tenth of the work."""
        key, there = BY_FIELD[field], getattr(self.filter, field)

        def whole(name: str) -> str:
            more: dict[str, Any] = {field: (*there, name)}
            return filter_url(replace(self.filter, **more))

        try:
            if key.longest and (name := key.read(field, value)[0]) not in there:
                if field not in self._written:
                    self._written[field] = whole(_PLACEHOLDER).split(_PLACEHOLDER)
                if len(self._written[field]) == 2:
                    return quote_plus(name).join(self._written[field])
            return whole(value)
        except InvalidFilter:
            return ""

    def removing(self, key: str, value: str) -> str:
        """Link without one value; `key` is its name in the URL."""
        return filter_url(self.filter.without(key, value))

    def toggling(self, key: str, field: str, value: str) -> str:
        """Link that adds a value, or takes it away when it is there."""
        return self.removing(key, value) if value in getattr(self.filter, field) else self.adding(field, value)

    def cleared(self) -> str:
        """Link to the same range without any other condition."""
        kept = {name: getattr(self.filter, name) for name in ("since", "until", "all_time")}
        return filter_url(TaskFilter(**kept))

    # Another range of time

    def spans(self) -> list[Link]:
        """The range buttons."""
        pressed = self.range.name
        spans = [Link(label=name, url=self._over(since=span), chosen=name == pressed) for name, span in SPANS.items()]
        return [*spans, Link(label=_("all"), url=self._over(all_time=True), chosen=pressed == "all")]

    def all_time(self) -> str:
        """Link to all time; empty when it is that already."""
        return self._over(all_time=True) if self.range.start or self.range.end else ""

    def widened(self, span: timedelta) -> str:
        """Link to such a span of time up to the same end; empty when it looks as far back already."""
        start, end, now = self.range.start, self.range.end, self.range.now
        if start is None or (end or now) - start >= span:
            return ""
        if end is None or end > now:
            return self._over(since=span)
        return self._over(since=end - min(span, end - validation.EARLIEST), until=end)

    def narrower(self) -> list[tuple[str, str]]:
        """Short ranges, as words and links."""
        spans = ((_("Last hour"), SPANS["1h"]), (_("Last 24 hours"), DEFAULT_SPAN))
        return [(str(words), self._over(since=span)) for words, span in spans]

    def between(self, since: datetime, until: datetime | None) -> str:
        """Link to a bar's stretch of time; without an end for the last one there can be."""
        if "range" not in self._written:
            self._written["range"] = self._ranged(since=since, until=since).to_query()
        query = {**self._written["range"], "since": [when_text(since)], "until": [when_text(until)] if until else []}
        return f"?{urlencode(query, doseq=True)}"

    def _over(self, **given: Any) -> str:
        return filter_url(self._ranged(**given))

    def _ranged(self, **given: Any) -> TaskFilter:
        return replace(self.filter, **({"since": None, "until": None, "all_time": False} | given))

    # What forms carry along

    def hidden(self, *without: str) -> Iterator[tuple[str, str]]:
        """The conditions as keys and values, except those that a form asks for itself."""
        for key, values in self.filter.to_query().items():
            if key not in without:
                yield from ((key, value) for value in values)

    def hidden_range(self) -> list[tuple[str, str]]:
        """What the form of a custom range carries along."""
        return list(self.hidden(*_RANGE))

    def hidden_search(self) -> list[tuple[str, str]]:
        """What the search form carries along."""
        return list(self.hidden("q"))
