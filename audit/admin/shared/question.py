"""What a list is asked: the filter in its URL, the range of time it covers, and links to other questions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any
from urllib.parse import quote_plus, urlencode

from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from audit.admin.shared.paging import BadCursor, Cursor, Order
from audit.admin.shared.wording import grouped, moment, shown
from audit.exceptions import InvalidFilter
from audit.reading.filters import TaskFilter, when_text
from audit.reading.filters.values import BY_FIELD, BY_NAME, ROOTS
from audit.status import FailureClass, Status
from audit.values import validation

__all__ = ["DEFAULT_SPAN", "SPANS", "Link", "Question", "strangers"]

DEFAULT_SPAN = timedelta(hours=24)
SPANS = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "24h": DEFAULT_SPAN,
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}

_LABELS = {
    "status": _("status"),
    "service": _("service"),
    "any_service": _("any service"),
    "action": _("action"),
    "actor": _("actor"),
    "since": _("since"),
    "until": _("until"),
    "finished_since": _("finished since"),
    "finished_until": _("finished until"),
    "correlation": _("correlation id"),
    "id": _("id"),
    "parent": _("parent"),
    "failure": _("failure"),
    "seal": _("seal"),
    "error_type": _("error"),
    "q": _("search"),
}
_CHOICES: dict[str, type[Status] | type[FailureClass]] = {"status": Status, "failure": FailureClass}
_RANGE = ("since", "until")
_PLACES = ("after", "before", "format")
# Stands in a link for a value that comes later; whoever filters by this very text is served the slow way.
_PLACE = "a-value-of-many-rows"


def strangers(query: Iterable[str], known: Sequence[str]) -> list[str]:
    """Tell which URL keys are no filter: mistyped, one would find more than was asked for.

    Args:
        query: the keys; Django's own begin with an underscore.
        known: those that are filters of the page, beside its place and paths into documents.
    """
    return [
        _("“%(key)s” is no filter; did you mean “%(close)s”?") % {"key": shown(key, 80), "close": close[0]}
        if (close := get_close_matches(key, known, n=1, cutoff=0.75))
        else _("“%(key)s” is no filter.") % {"key": shown(key, 80)}
        for key in query
        if not (key in known or key in _PLACES or key.startswith("_") or ("." in key and key.split(".")[0] in ROOTS))
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Something to choose: what it says, where it leads, whether it is chosen now."""

    label: Any
    url: str
    chosen: bool = False
    key: str = ""
    value: str = ""
    count: int | None = None
    tone: str = ""

    @property
    def number(self) -> str:
        """The count as it is written: `4,248`; empty where nothing was counted."""
        return "" if self.count is None else grouped(self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The filter as it was asked, the filter as it is answered (with a range of time), and the page's place."""

    asked: TaskFilter
    answered: TaskFilter
    cursor: Cursor | None
    problems: tuple[str, ...]
    now: datetime
    typed: str = ""
    """The search text as it was typed, where a part of it means nothing."""
    _written: dict[Any, Any] = field(default_factory=dict, init=False, compare=False, repr=False)
    """What was written before: a page has the same services and actors in many rows."""

    @classmethod
    def read(cls, request: HttpRequest, order: Order, own: Sequence[str] = ()) -> Question:
        """Read the URL; what means nothing is left out and told in `problems`.

        Args:
            request: whose URL.
            order: how the list is sorted.
            own: URL keys that the page reads itself.
        """
        refused: list[InvalidFilter] = []
        asked = TaskFilter.from_query(request.GET, refused)
        problems = [shown(error, 500) for error in refused]
        problems += strangers(request.GET, (*BY_NAME, "q", *own))
        try:
            cursor = Cursor.read(request.GET, order)
        except BadCursor as error:
            cursor = None
            problems.append(_("The place %(place)s means nothing; this is the first page.") % {"place": shown(error)})
        question = cls(
            asked=asked,
            answered=asked.within(DEFAULT_SPAN),
            cursor=cursor,
            problems=tuple(problems),
            now=timezone.now(),
            typed=shown(" ".join(request.GET.getlist("q")), 2000) if refused else "",
        )
        return question._forwards()

    def _forwards(self) -> Question:
        """This question; without its end, and telling so, where that lies before its beginning."""
        start, end = self.start, self.end
        if start is None or end is None or end >= start:
            return self
        told = _("The range ends at %(end)s, before it begins at %(start)s; its end is left out.") % {
            "end": moment(end, self.now),
            "start": moment(start, self.now),
        }
        asked = replace(self.asked, until=None)
        return replace(self, asked=asked, answered=asked.within(DEFAULT_SPAN), problems=(*self.problems, told))

    # The range of time

    @property
    def start(self) -> datetime | None:
        """Where the range begins; None when it is all time."""
        return self._moment(self.answered.since)

    @property
    def end(self) -> datetime | None:
        """Where the range ends; None when it is now."""
        return self._moment(self.answered.until)

    def _moment(self, when: datetime | timedelta | None) -> datetime | None:
        return self.now - when if isinstance(when, timedelta) else when

    @property
    def span_name(self) -> str:
        """Which of the range buttons is pressed: a key of `SPANS`, `all` or `custom`."""
        if self.answered.until is None:
            if self.answered.since is None:
                return "all"
            for name, span in SPANS.items():
                if self.answered.since == span:
                    return name
        return "custom"

    def ranges(self) -> list[Link]:
        """The range buttons."""
        pressed = self.span_name
        chosen = [
            Link(label=name, url=self.url(self._over(since=span)), chosen=name == pressed)
            for name, span in SPANS.items()
        ]
        return [*chosen, Link(label=_("all"), url=self.url(self.everything()), chosen=pressed == "all")]

    def everything(self) -> TaskFilter:
        """The same question over all time."""
        return self._over(all_time=True)

    def widened(self, span: timedelta) -> str:
        """Link to this question over such a span of time up to its end; empty when it looks as far back already."""
        start, end = self.start, self.end
        if start is None or (end or self.now) - start >= span:
            return ""
        if end is None or end > self.now:
            return self.url(self._over(since=span))
        return self.url(self.over(end - min(span, end - validation.EARLIEST), end))

    def narrower(self) -> list[tuple[str, str]]:
        """This question over short ranges, as words and links."""
        spans = ((_("Last hour"), SPANS["1h"]), (_("Last 24 hours"), DEFAULT_SPAN))
        return [(str(words), self.url(self._over(since=span))) for words, span in spans]

    def searched(self) -> str:
        """Link to this question over all time; empty when it is that already."""
        return self.url(self.everything()) if self.start or self.end else ""

    def over(self, since: datetime | timedelta, until: datetime | None = None) -> TaskFilter:
        """The same question over another range."""
        return self._over(since=since, until=until)

    def _over(self, **given: Any) -> TaskFilter:
        return replace(self.asked, **({"since": None, "until": None, "all_time": False} | given))

    # Links

    @staticmethod
    def url(asked: TaskFilter, **more: str) -> str:
        """Write a filter as a link within the same page; the place in the list is not kept."""
        query = {**asked.to_query(), **{key: [value] for key, value in more.items() if value}}
        return f"?{urlencode(query, doseq=True)}" if query else "?"

    def turned(self, **place: str) -> str:
        """Link to another page of this very list."""
        return self.url(self.asked, **place)

    def with_(self, field: str, value: str) -> str:
        """Link to this question with one more value; empty for a value that no filter can hold."""
        if (field, value) not in self._written:
            self._written[field, value] = self._with(field, value)
        written: str = self._written[field, value]
        return written

    def _with(self, field: str, value: str) -> str:
        """Write a link in full, or put the value where another one stood in such a link: a tenth of the work."""
        key, there = BY_FIELD[field], getattr(self.asked, field)

        def whole(name: str) -> str:
            more: dict[str, Any] = {field: (*there, name)}
            return self.url(replace(self.asked, **more))

        try:
            if key.longest and (name := key.read(field, value)[0]) not in there:
                if field not in self._written:
                    self._written[field] = whole(_PLACE).split(_PLACE)
                if len(self._written[field]) == 2:
                    return quote_plus(name).join(self._written[field])
            return whole(value)
        except InvalidFilter:
            return ""

    def zoomed(self, since: datetime, until: datetime | None) -> str:
        """Link to this question over a bar's stretch of time; without an end for the last one there can be."""
        if "range" not in self._written:
            self._written["range"] = self.over(since, since).to_query()
        query = {**self._written["range"], "since": [when_text(since)], "until": [when_text(until)] if until else []}
        return f"?{urlencode(query, doseq=True)}"

    def toggled(self, key: str, field: str, value: str) -> str:
        """Link that adds a value, or takes it away when it is there."""
        if value in getattr(self.asked, field):
            return self.url(self.asked.without(key, value))
        return self.with_(field, value)

    def statuses(self, counted: Sequence[Link] = (), others: Mapping[str, int] | None = None) -> list[Link]:
        """The statuses, each as a toggle, with the numbers that were counted.

        Args:
            counted: the legend of the chart.
            others: the numbers of all statuses, had none been chosen; none where that was not counted.
        """
        counts = {link.tone: link.count for link in counted}
        if others:
            counts |= {each: others.get(each, 0) for each in Status.values if each not in self.asked.statuses}
        return [
            Link(
                label=Status(each).label,
                url=self.toggled("status", "statuses", each),
                chosen=each in self.asked.statuses,
                value=each,
                tone=each,
                count=counts.get(each),
            )
            for each in map(str, Status)
        ]

    def seals(self) -> list[Link]:
        """What a seal may be looked for."""
        return [
            Link(
                label=_("Does not verify"),
                url=self.toggled("seal", "seals", "failed"),
                chosen="failed" in self.asked.seals,
                value="failed",
            )
        ]

    def chips(self) -> list[Link]:
        """What is asked beside the range, each with a link that takes it away."""
        return [
            Link(
                label=_LABELS.get(key, key),
                value=str(_CHOICES[key](value).label) if key in _CHOICES else shown(value, 80),
                url=self.url(self.asked.without(key, value)),
                tone=value if key == "status" else "",
            )
            for key, value in self.asked.pairs()
            if key not in _RANGE
        ]

    def cleared(self) -> str:
        """Link to the same range without any other condition."""
        kept = {name: getattr(self.asked, name) for name in ("since", "until", "all_time")}
        return self.url(TaskFilter(**kept))

    def hidden(self, *without: str) -> Iterator[tuple[str, str]]:
        """Conditions a form carries along, except those it asks for itself."""
        for key, values in self.asked.to_query().items():
            if key not in without:
                yield from ((key, value) for value in values)

    def hidden_range(self) -> list[tuple[str, str]]:
        """What the form of a custom range carries along."""
        return list(self.hidden(*_RANGE))

    def hidden_search(self) -> list[tuple[str, str]]:
        """What the search form carries along."""
        return list(self.hidden("q"))

    @property
    def start_local(self) -> str:
        """The beginning of a custom range, as a `datetime-local` field takes it."""
        return _local(self.start)

    @property
    def end_local(self) -> str:
        """The end of a custom range, as a `datetime-local` field takes it."""
        return _local(self.end)

    @property
    def words(self) -> str:
        """What stands in the search box."""
        return self.typed or " ".join(self.asked.to_query().get("q", []))

    @property
    def zone(self) -> str:
        """The time zone that moments are told and taken in."""
        return timezone.get_current_timezone_name()

    def described(self) -> str:
        """The range in words, with the time zone it is told in."""
        name = self.zone
        start, end = self.start, self.end
        if start is None:
            if end is None:
                return _("All time, shown in %(zone)s") % {"zone": name}
            return _("All time until %(end)s, %(zone)s") % {"end": moment(end, self.now), "zone": name}
        return _("%(start)s – %(end)s, %(zone)s") % {  # noqa: RUF001 - an en dash, as ranges are written
            "start": moment(start, self.now),
            "end": moment(end, self.now) if end else _("now"),
            "zone": name,
        }


def _local(value: datetime | None) -> str:
    return timezone.localtime(value).replace(tzinfo=None).isoformat(timespec="seconds") if value else ""
