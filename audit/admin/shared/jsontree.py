"""A JSON document as foldable HTML: every key and value is text, and numbers keep the digits they were stored with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit.admin.shared.wording import shown

__all__ = ["LIMIT", "Tree", "tree"]

LIMIT = 64 * 1024
"""How much of a document a page draws: characters of its text."""

_DEEPEST = 40
_MOST_NODES = 4000
_LONG = 200
_OPEN_ITEMS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A drawn document: as HTML to fold, or as plain text where it is too large, too deep or unreadable."""

    html: SafeString | None = None
    text: str = ""
    note: str = ""


class _Number(str):
    """A number as it is written in the document."""

    __slots__ = ()


def tree(text: str, length: int) -> Tree:
    """Draw a document.

    Args:
        text: its text, at most `LIMIT` characters of it.
        length: how many characters the whole document has.
    """
    if length > len(text):
        note = _("Only the beginning is shown; the raw JSON has all of it.")
        return Tree(text=shown(text, LIMIT), note=note)
    try:
        value = json.loads(text, parse_int=_Number, parse_float=_Number)
        html = "".join(_Drawing().parts(value, 0))
    except (ValueError, RecursionError):
        return Tree(text=shown(text, LIMIT), note=_("Too deep or too long to fold; shown as text."))
    # Every part was escaped where it was made.
    return Tree(html=mark_safe(html))  # noqa: S308


class _Drawing:
    """Writes one document; counts what it writes, so that a page stays a page."""

    def __init__(self) -> None:
        self._nodes = 0

    def parts(self, value: Any, depth: int) -> Iterator[str]:
        self._nodes += 1
        if depth > _DEEPEST or self._nodes > _MOST_NODES:
            raise RecursionError
        if isinstance(value, dict):
            yield from self._group(
                ((f"<span class='json-key'>{escape(shown(key, _LONG))}</span>: ", each) for key, each in value.items()),
                len(value),
                "{}",
                depth,
            )
        elif isinstance(value, list):
            yield from self._group((("", each) for each in value), len(value), "[]", depth)
        else:
            yield _leaf(value)

    def _group(self, items: Iterator[tuple[str, Any]], count: int, ends: str, depth: int) -> Iterator[str]:
        if not count:
            yield ends
            return
        words = ngettext("%(count)d item", "%(count)d items", count) % {"count": count}
        is_open = " open" if depth == 0 or (depth < 3 and count <= _OPEN_ITEMS) else ""
        closed = f"<span class='json-count'> {escape(words)} {ends[1]}</span>"
        yield f"<details{is_open}><summary>{ends[0]}{closed}</summary><ul>"
        for label, each in items:
            yield f"<li>{label}"
            yield from self.parts(each, depth + 1)
            yield "</li>"
        yield f"</ul><span class='json-end'>{ends[1]}</span></details>"


def _leaf(value: Any) -> str:
    if isinstance(value, _Number):
        return format_html("<span class='json-number'>{number}</span>", number=shown(value, 1000))
    if isinstance(value, str):
        return _text(value)
    return f"<span class='json-word'>{json.dumps(value)}</span>"


def _text(value: str) -> str:
    if len(value) <= _LONG and "\n" not in value:
        return format_html('<span class="json-text">"<bdi>{text}</bdi>"</span>', text=shown(value, _LONG))
    length = ngettext("%(count)d character", "%(count)d characters", len(value)) % {"count": len(value)}
    first = value.lstrip().split("\n", 1)[0]
    return format_html(
        '<details class="json-long"><summary><span class="json-text">"<bdi>{first}</bdi></span>'
        " <small>{length}</small></summary><pre><bdi>{whole}</bdi></pre></details>",
        first=shown(first, 100) + ("" if len(first) > 100 else "…"),
        length=length,
        whole=shown(value, LIMIT),
    )
