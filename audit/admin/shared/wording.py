"""How moments, spans of time, sizes and foreign text are written on a page."""

from __future__ import annotations

import unicodedata
from datetime import datetime, timedelta
from typing import Any

from django.utils.dates import MONTHS_3
from django.utils.formats import date_format, number_format
from django.utils.translation import get_language_bidi
from django.utils.translation import gettext as _

from audit.values import moments
from audit.values.names import cut

__all__ = ["ago", "clock", "grouped", "isolated", "milliseconds", "moment", "offset", "shown", "size", "span"]

# Characters that would move, hide or end the text around them stand as their code points.
_KEPT = {"\n", "\t"}
_NAMED = {"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"}


def shown(text: Any, limit: int = 300, *, name: bool = False) -> str:
    """Write foreign text so that it is seen for what it is: cut to a length, invisible characters named.

    Args:
        text: anything; None is empty.
        limit: characters at most; an ellipsis stands for what was cut.
        name: whether it is cut in the middle, as names are, which often begin alike.
    """
    given = "" if text is None else str(text)
    kept = given if len(given) <= limit else cut(given, limit) if name else f"{given[:limit]}…"
    return kept if kept.isprintable() else "".join(_visible(each) for each in kept)


def _visible(character: str) -> str:
    if character in _KEPT or character.isprintable() or unicodedata.category(character) not in _NAMED:
        return character
    # A joiner between emoji or letters of some scripts is part of how they are written.
    if character in "\u200c\u200d":
        return character
    return f"⟨U+{ord(character):04X}⟩"


def isolated(text: str) -> str:
    """Keep a number and its unit together on a page that is read from right to left."""
    return f"\N{FIRST STRONG ISOLATE}{text}\N{POP DIRECTIONAL ISOLATE}" if get_language_bidi() else text


def span(value: timedelta | None) -> str:
    """Write a span of time in its two largest units: `812 ms`, `49.2 s`, `7m 17s`, `3d 04h`."""
    return "—" if value is None else isolated(_span(value))


def _span(value: timedelta) -> str:
    seconds = value.total_seconds()
    if seconds < 0:
        return f"−{_span(-value)}"  # noqa: RUF001 - a minus sign
    if seconds < 1:
        return _("%(count)d ms") % {"count": round(seconds * 1000)} if seconds < 0.9995 else _("1.0 s")
    if seconds < 59.95:
        return _("%(count)s s") % {"count": number_format(round(seconds, 1), 1)}
    whole = round(seconds)
    if whole < 3600:
        return _("%(minutes)dm %(seconds)02ds") % {"minutes": whole // 60, "seconds": whole % 60}
    if whole < 86400:
        return _("%(hours)dh %(minutes)02dm") % {"hours": whole // 3600, "minutes": whole % 3600 // 60}
    return _("%(days)dd %(hours)02dh") % {"days": whole // 86400, "hours": whole % 86400 // 3600}


def milliseconds(count: int | None) -> str:
    """Write so many milliseconds as `span` does; nothing for none. More than Python can count with are `> …`."""
    if count is None:
        return ""
    most = timedelta.max // timedelta(milliseconds=1)
    written = span(timedelta(milliseconds=min(count, most)))
    return written if count <= most else f"> {written}"


def ago(value: datetime, now: datetime) -> str:
    """Write how far a moment is from now: the past in its largest unit, `just now`, `39m ago`; the future, which one
    waits for, in two: `in 2h 58m`.

    What is some seconds ahead is not `just now`: an entry of the pause queue that waits is due `in 8s`.
    """
    seconds = int((now - value).total_seconds())
    distance = abs(seconds)
    if -1 <= seconds < 10:
        return _("just now")
    if distance < 60:
        length = _("%(count)ds") % {"count": distance}
    elif distance < 3600:
        length = _("%(count)dm") % {"count": distance // 60}
    elif seconds < 0:
        length = span(timedelta(seconds=distance))
    elif distance < 86400:
        length = _("%(count)dh") % {"count": distance // 3600}
    else:
        length = _("%(count)dd") % {"count": distance // 86400}
    return (_("%(span)s ago") if seconds > 0 else _("in %(span)s")) % {"span": length}


def moment(value: datetime, now: datetime) -> str:
    """Write a moment in the page's time zone: `23 Nov 05:12:42`, with the year unless it is this one, and with the
    offset from UTC where the clocks show this time twice: `25 Oct 02:30:00 +01:00`.

    As `date_format(…, "j M H:i:s")` writes it, in a tenth of the time: a list has a hundred of them.
    """
    local = moments.local(value)
    year = "" if local.year == moments.local(now).year else f"{local.year:04d} "
    return f"{local.day} {MONTHS_3[local.month].title()} {year}{local:%H:%M:%S}{offset(local)}"


def offset(local: datetime) -> str:
    """Write how far a local time is from UTC, after a blank, where the clocks show that time twice: ` +01:00`."""
    if local.replace(fold=1 - local.fold).utcoffset() == local.utcoffset():
        return ""
    written = f"{local:%z}"
    return f" {written[:3]}:{written[3:5]}"


def grouped(count: int) -> str:
    """Write a number with its thousands apart; most numbers of a page have none."""
    return str(count) if 0 <= count < 1000 else number_format(count, force_grouping=True)


def clock(value: datetime) -> str:
    """Write the time of day in the page's time zone: `05:12:42`, with its offset as `moment` does."""
    local = moments.local(value)
    return date_format(local, "H:i:s") + offset(local)


def size(count: int) -> str:
    """Write a number of bytes: `812 B`, `64 KB`, `12.4 MB`."""
    for unit, name in ((1024 * 1024, "MB"), (1024, "KB")):
        if count >= unit:
            return isolated(f"{number_format(round(count / unit, 1), 1)} {name}")
    return isolated(f"{count} B")
