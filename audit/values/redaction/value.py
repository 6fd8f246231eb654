"""The value behind a sign: where it begins and ends, and whether it is one at all."""

import re

from audit.values.redaction.keys import MASK, Kind
from audit.values.redaction.looks import is_opaque, is_reference

__all__ = [
    "ESCAPED_QUOTE",
    "HARMLESS",
    "LITERAL",
    "LONGEST",
    "LOOK",
    "REST",
    "Span",
    "find_value",
    "is_exempt",
    "is_key_like",
]

Span = tuple[int, int]

ESCAPED_QUOTE = r"""\\*["'`]|&quot;|&\#3[49];|&apos;|%22|%27|\\u0022|\\u0027"""
LITERAL = re.compile(r"""b?(?P<q>["'])(?P<value>[^"'\\\r\n]{1,200})(?P=q)""")

# What may stand between the sign and the value: colours are gone already.
_LEAD = re.compile(
    r"""[ \t]*+(?:!!?\w+[ \t]++)?+(?:[A-Z]\w{0,40}\((?=[bru]{0,2}["']))?+(?:[bBrRuU]{1,2}(?=["']))?+(?:<!\[CDATA\[)?+""",  # noqa: E501
    re.VERBOSE,
)
_OPENING = re.compile(ESCAPED_QUOTE, re.VERBOSE)
_QUOTED = {
    '"': re.compile(r'(?:[^"\\\r\n]|\\.)+'),
    "'": re.compile(r"(?:[^'\\\r\n]|\\.)+"),
    "`": re.compile(r"[^`\s]+(?=`)"),
}
_ESCAPED = re.compile(r"""[^"'`\\\r\n&%]+(?:(?:&(?!quot;|\#3[49];|apos;)|%(?!2[27]))[^"'`\\\r\n&%]*)*""", re.VERBOSE)
_BRACKETS = re.compile(r"\[[^\]\r\n]*\]?|\{[^}\r\n]*\}?")
_BARE = re.compile(
    r"""(?:
        [^\s;&,"'`\\<]
      | ;(?!\s|[\w .-]{1,40}=|$) | &(?!&|\s|amp;|quot;|[\w.%\[\]-]{1,60}=|$) | ,(?!\s|["'\[{]|[\w.-]{1,60}[=:]|$)
      | ["'`](?![\s,;)\]}:>]|$) | \\(?!["'nrt\\]) | <(?![/\w])
    )+""",
    re.VERBOSE,
)
_BARE_IN_JSON = re.compile(r"[^\s,;&\"'`\\\])}<]+")
LOOK = 300
"""So many characters of a value decide what it is."""
LONGEST = 320
REST = re.compile(r"[^\s\"'`&;,]+")
# A value is looked at up to here, and followed to its end only once it is known to be a secret.

HARMLESS = re.compile(
    r"""(?:
        none|null|nil|undefined|true|false|yes|no|on|off|required|missing|invalid|incorrect|wrong|expired|empty|unset|set
      | unchanged|changed|reset|updated|accepted|rejected|failed|ok|string|str|bytes|int|integer|bool|boolean|optional|any
      | object|text|varchar|char|secretstr|hidden|redacted|masked|removed|omitted|inherit|default|prompt|ask|field|n/a
    )(?:$|[.,;:!?)\]}\[|(\s])""",  # noqa: E501
    re.VERBOSE | re.IGNORECASE,
)
_PROSE = re.compile(
    r"""(?:must|should|cannot|can't|may|can|is|was|has|have|does|do|not|to|for|from|at|in|the|a|an|this|that|your|you|please
      | enter|type|use|using|with|authentication|contains|expected|unexpected|could|will|too|it|we|if|permission|access
      | both|only|passwords?|token|secret)\b[ ]+[\w'(]""",
    re.VERBOSE | re.IGNORECASE,
)


def find_value(text: str, at: int, quoted: bool) -> Span | None:
    """Find a value: in quotes, whose end may be missing, in brackets, or up to a blank or what begins the next pair."""
    lead = _LEAD.match(text, at)
    start = lead.end() if lead else at
    if text.startswith(MASK, start):
        return None
    if opening := _OPENING.match(text, start):
        start = opening.end()
        if text.startswith(MASK, start) or text.startswith(opening[0], start):
            return None
        inner = (_QUOTED[opening[0]] if len(opening[0]) == 1 else _ESCAPED).match(text, start, start + LONGEST)
        return inner.span() if inner else None
    if lead and lead[0].endswith("("):
        return None
    end = start
    if not quoted and (brackets := _BRACKETS.match(text, start, start + LONGEST)):
        end = brackets.end()
    elif quoted and text[start : start + 1] in {"{", "["}:
        return None
    inner = (_BARE_IN_JSON if quoted else _BARE).match(text, end, end + LONGEST)
    end = inner.end() if inner else end
    return (start, end) if end > start else None


def is_exempt(value: str, name: str, kind: Kind, marked: bool, prose: bool, text: str, found: Span) -> bool:
    """Whether a value is none: a word about it, a reference, a number of pieces."""
    if kind is Kind.ADDRESS:
        return "://" in value or "=" in value or is_reference(value) or not is_opaque(value, least=8)
    bare = value.rstrip(".,;:!?)]}")
    if is_reference(value) or (
        not marked and (HARMLESS.match(value) or bare.lower() == name.lower().lstrip("-").rpartition(".")[2])
    ):
        return True
    if marked and (HARMLESS.fullmatch(value) or (len(value) < 4 and not any(map(str.isalnum, value)))):
        return True
    if prose and _PROSE.match(text, found[0], found[0] + 40):
        return True
    if kind is Kind.OPAQUE or (prose and name.lower() in {"token", "secret"}) or "\n" in text[found[0] - 1 : found[0]]:
        return not is_opaque(bare)
    if kind is Kind.TEXT:
        if (bare.isdigit() and len(bare) < 4) or re.fullmatch(r"v?\d+(?:\.\d+)+", bare) or (not bare and not marked):
            return True
        # `Missing key: name`, `pass: 3 of 5`, and what stands behind `*_KEY:` in sentences.
        return prose and not is_opaque(bare) and bool(re.match(r"[\w'-]+[ ]+\w", text[found[0] : found[0] + 60]))
    return not bare.strip("\"'") and not marked


def is_key_like(value: str, least: int = 10) -> bool:
    return (
        is_opaque(value, least=least)
        and not re.search(r"[-./:%]", value)
        and any(each.isdigit() for each in value)
        and (len(value) >= 16 or (value != value.lower() and value != value.upper()))
    )
