"""Masks what the rules find in a text."""

import re
from collections.abc import Iterable

from audit.values.redaction.assignments import assigned_to
from audit.values.redaction.keys import MASK, fold
from audit.values.redaction.rules import Rules
from audit.values.redaction.texts import spans
from audit.values.redaction.value import Span

__all__ = ["masked_by_patterns", "masked_by_rules", "masked_text"]

_UNSEEN = re.compile(
    "[\u00ad\u200b-\u200f\u2060\ufeff]|\x1b\\[[0-9;]{0,20}[A-Za-z]|\\\\(?:x1b|u001b|033|e)\\[[0-9;]{0,20}m"
)


# So short, and without a sign, it is a word or a number: no token has less than twelve characters.
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{0,11}")
# Short texts in which nothing was masked: the values of documents are the same few. None that holds a secret is kept.
_seen: set[str] = set()


def masked_text(text: str, rules: Rules) -> str:
    """Return a text with its secrets masked, by the rules and by the patterns of the project."""
    if len(text) > 5 and text not in _seen and not _PLAIN.fullmatch(text):
        if (masked := masked_by_rules(text)) != text:
            # What is left beside a mask may be a secret by itself.
            text = masked_by_rules(masked)
        elif len(text) < 200:
            if len(_seen) >= 4096:
                _seen.clear()
            _seen.add(text)
    return masked_by_patterns(text, rules)


def masked_by_rules(text: str) -> str:
    """Return a text without what the rules find.

    They look at it without its colours, unseen characters and look-alike letters.
    """
    shown = fold(text)
    places: list[int] | None = None
    if ("\x1b" in shown or "\\" in shown or not shown.isascii()) and _UNSEEN.search(shown):
        places, kept, position = [], [], 0
        for match in _UNSEEN.finditer(shown):
            kept.append(shown[position : match.start()])
            places.extend(range(position, match.start()))
            position = match.end()
        kept.append(shown[position:])
        places.extend(range(position, len(shown)))
        shown = "".join(kept)
    small = shown.lower()
    if len(small) != len(shown):
        small = "".join(each.lower() if len(each.lower()) == 1 else each for each in shown)
    found = sorted(spans(shown, small))
    if not found:
        return text
    if places is not None:
        found = [(places[start], places[end - 1] + 1) for start, end in found if end > start]
    return _splice(text, found)


def _splice(text: str, found: Iterable[Span]) -> str:
    kept: list[str] = []
    position = begin = -1
    last = 0
    for start, end in found:
        if start >= end:
            continue
        if start <= position and position >= 0:
            position = max(position, end)
            continue
        if position >= 0:
            kept += [text[last:begin], MASK]
            last = position
        begin, position = start, end
    if position < 0:
        return text
    kept += [text[last:begin], MASK, text[position:]]
    return "".join(kept)


def masked_by_patterns(text: str, rules: Rules) -> str:
    """Return a text without the values of the project's keys, and without what its patterns find."""
    if rules.names:
        text = _splice(text, assigned_to(rules.names, text))
    for expression in rules.patterns:
        text = expression.sub(lambda _: MASK, text)
    return text
