"""The range of time that a list covers, and how it is written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from audit.admin.shared.wording import moment
from audit.reading.filters import TaskFilter
from audit.values import moments

__all__ = ["DEFAULT_SPAN", "SPANS", "TimeRange"]

DEFAULT_SPAN = timedelta(hours=24)
"""What a list covers whose URL names no range."""
SPANS = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "24h": DEFAULT_SPAN,
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
"""The ranges that have a button."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRange:
    """A range of time: between two moments, up to now, or without a beginning or an end."""

    start: datetime | None
    """Where it begins; None when it is all time."""
    end: datetime | None
    """Where it ends; None when it is now."""
    span: timedelta | None
    """How long it is, where it was given as a length up to now."""
    now: datetime

    @classmethod
    def of(cls, wanted: TaskFilter, now: datetime) -> TimeRange:
        """Read the range of a filter, at a moment."""
        since, until = wanted.since, wanted.until
        return cls(
            start=now - since if isinstance(since, timedelta) else since,
            end=now - until if isinstance(until, timedelta) else until,
            span=since if isinstance(since, timedelta) and until is None else None,
            now=now,
        )

    @property
    def name(self) -> str:
        """Which of the range buttons is pressed: a key of `SPANS`, `all` or `custom`."""
        if self.start is None and self.end is None:
            return "all"
        return next((name for name, span in SPANS.items() if span == self.span), "custom")

    @property
    def is_backwards(self) -> bool:
        """Whether it ends before it begins."""
        return self.start is not None and self.end is not None and self.end < self.start

    @property
    def start_local(self) -> str:
        """The beginning of a custom range, as a `datetime-local` field takes it."""
        return _local(self.start)

    @property
    def end_local(self) -> str:
        """The end of a custom range, as a `datetime-local` field takes it."""
        return _local(self.end)

    @property
    def zone(self) -> str:
        """The time zone that moments are written and read in."""
        return timezone.get_current_timezone_name()

    def described(self) -> str:
        """The range in words, with the time zone it is written in."""
        if self.start is None:
            if self.end is None:
                return _("All time, shown in %(zone)s") % {"zone": self.zone}
            return _("All time until %(end)s, %(zone)s") % {"end": moment(self.end, self.now), "zone": self.zone}
        return _("%(start)s – %(end)s, %(zone)s") % {  # noqa: RUF001 - an en dash, as ranges are written
            "start": moment(self.start, self.now),
            "end": moment(self.end, self.now) if self.end else _("now"),
            "zone": self.zone,
        }


def _local(value: datetime | None) -> str:
    return moments.local(value).replace(tzinfo=None).isoformat(timespec="seconds") if value else ""
