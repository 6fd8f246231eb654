"""Headers and URLs: `Authorization: …`, `Bearer …`, `scheme://user:password@host`."""

import re
from collections.abc import Iterator

from audit.values.redaction.keys import MASK
from audit.values.redaction.looks import is_opaque, is_reference
from audit.values.redaction.value import LOOK, Span, is_key_like

__all__ = ["headers", "schemes", "urls"]

_HEADER = re.compile(r"(?:(?P<auth>authorization)|cookie2?)[ \t]{0,4}[:=][ \t]{0,4}(?=\S)")
_ALNUM = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")


def headers(text: str, small: str) -> Iterator[Span]:
    """`Authorization: …`, to the end of the line, or of the quotes around the header."""
    done = 0
    for match in _HEADER.finditer(small):
        begin = match.start()
        for prefix in ("proxy-", "x-") if match["auth"] else ("set-",):
            first = begin - len(prefix)
            if first >= done and small.startswith(prefix, first) and small[first - 1 : first] not in _ALNUM:
                begin = first
                break
        before = small[begin - 1] if begin else ""
        if begin < done or before in _ALNUM:
            continue
        start = match.end()
        line = _END_OF_LINE.search(text, start)
        done = end = line.start() if line else len(text)
        quote = before if before in "\"'" else ""
        if quote and (closing := text.find(quote, start, end)) >= 0:
            end = closing
        if end > start and not text.startswith(MASK, start):
            yield start, end
            done = end


_END_OF_LINE = re.compile(r"[\r\n]|\\[rn](?![\w/])")

_SCHEME = re.compile(
    # `(?<!\w.)` behind a first letter is `\b` before it, but the search looks for the letters first.
    r"(?P<scheme>b(?<!\w.)(?:earer|asic)|a(?<!\w.)pi-?key|t(?<!\w.)oken|n(?<!\w.)(?:egotiate|tlm)|s(?<!\w.)so-key)"
    r"[ \t]+(?P<value>(?!http/\d)[\w.~+/%=-]{6,})"
)


def schemes(text: str, small: str) -> Iterator[Span]:
    """`Bearer …`, unless it is an English word that follows."""
    for match in _SCHEME.finditer(small):
        value = text[slice(*match.span("value"))]
        if is_opaque(value[:LOOK].rstrip("."), least=6) or (
            match["scheme"] == "bearer" and not re.fullmatch(r"[A-Za-z]?[a-z]{0,18}\.?|[A-Z]+", value[:LOOK])
        ):
            yield match.span("value")


_USER = re.compile(
    r"""://(?P<user>[^\s/?\#:@"'<>`]{0,200}+)
        (?: : (?P<pw>(?!\d{0,5}(?:[/?\#\s]|$))(?:[^\s/?\#"<>`]{1,500}(?=@)|[^\s"'<>@`]{1,200}(?=@)|[^\s/?\#"'<>`@]{1,500}\#[^\s/"'@]{0,99}(?=@))) )?
        (?P<at>@)?""",  # noqa: E501
    re.VERBOSE,
)
_BARE_USER = re.compile(
    r""":(?P<pw>[^\s:@/"'<>(){}\[\],]{3,100}+)@(?P<host>(?:tcp|unix)\(|[\w-]+(?:\.[\w-]+)*[:/]|[\w-]+(?:\.[\w-]+)+|localhost)"""
)
_ORACLE = re.compile(r"oracle:(?:thin|oci8?):[\w.$#-]{1,64}/(?P<pw>\"[^\"\r\n]{1,100}\"|[^\s@\"']{1,100})@")
_BEFORE_COLON = re.compile(r"(?<![\w/.@%+-])[\w.%+-]{1,64}\Z")


def urls(text: str, small: str) -> Iterator[Span]:
    """`scheme://user:password@host`, `scheme://token@host`, `user:password@host:port`, `jdbc:oracle:thin:user/…@`."""
    for match in _USER.finditer(text):
        if match["pw"]:
            if not is_reference(match["pw"]) and not match["pw"].startswith(MASK):
                yield match.span("pw")
        elif match["at"] and is_key_like(match["user"]):
            yield match.span("user")
    for match in _ORACLE.finditer(text):
        if not is_reference(match["pw"]) and match["pw"] != MASK:
            yield match.span("pw")
    done = 0
    for match in _BARE_USER.finditer(text):
        if _BEFORE_COLON.search(text, max(done, match.start() - 64), match.start()):
            done = match.end()
            if match["host"][-1] == "(" or is_opaque(match["pw"]):
                yield match.span("pw")
