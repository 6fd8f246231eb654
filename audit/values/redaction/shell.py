"""What shells and their logs hold: command lines of known programs, pipes, `.netrc` and `.pgpass`."""

import re
from collections.abc import Iterator

from audit.values.redaction.commands import programs, secrets_of
from audit.values.redaction.keys import MASK
from audit.values.redaction.looks import is_reference
from audit.values.redaction.value import Span, is_key_like

__all__ = ["commands", "files", "listed", "pgpass", "redis"]

_NETRC = re.compile(
    r"(?:\bmachine\s{1,20}\S{1,200}\s{1,20}|\bdefault\s{1,20}|^[ \t]{0,20})(?:login|user)[ \t]+\S{1,100}\s{1,20}password[ \t]+(\S{1,300})",  # noqa: E501
    re.MULTILINE,
)
# Without these two in a row no line of `.netrc` is there, and they are found faster.
_GIVEN = re.compile(r"password(?<=\spassword)[ \t]+\S")
_LOGIN = re.compile(r"(?:login|user)[ \t]+\S{1,100}\s{1,20}\Z")
_PGPASS = re.compile(r"^[\w.*-]{1,100}:(?:\d{4,5}|\*):[\w.*-]{1,100}:[\w.*@-]{1,100}:(\S{1,300})$", re.MULTILINE)
_PORT = re.compile(r":(?:\d{4,5}|\*):")
_REDIS = re.compile(
    r"""(?:config[ ]+set[ ]+(?:requirepass|masterauth)|:\d{2,5}(?:\[\d+\])?>[ ]*auth(?:[ ]+\S{1,100}(?=[ ]+\S))?)
        [ ]+["']?(?P<pw>[^\s"']{1,300})""",
    re.VERBOSE,
)
_PIPED = re.compile(
    r"""\b(?:echo|printf|print)[ ]+(?:-[neE]+[ ]+)?(?:['"]?%s(?:\\n)?['"]?[ ]+)?(?:"(?P<a>[^"\r\n]{1,300})"|'(?P<b>[^'\r\n]{1,300})'|(?P<c>[^\s|'"]{1,300}))[ ]*\|[^|\r\n]{0,80}?
        (?:-stdin|sudo[ ]+-S|chpasswd|passwd|with-token|password|smbclient|cryptsetup)""",  # noqa: E501
    re.VERBOSE | re.IGNORECASE,
)
_HERE = re.compile(
    r"""(?:-stdin|sudo[ ]+-s|chpasswd|with-token)[^\r\n<]{0,40}<<<[ ]*["']?([^\s"']{1,300})""", re.VERBOSE
)


def files(text: str, small: str) -> Iterator[Span]:
    """Lines of `.netrc` and `.pgpass`, and what a shell pipes into a program that reads a password."""
    if any(_LOGIN.search(small, max(0, each.start() - 150), each.start()) for each in _GIVEN.finditer(small)):
        for match in _NETRC.finditer(small):
            yield match.span(1)
    for match in _PIPED.finditer(text) if "|" in text and ("echo" in small or "print" in small) else ():
        span = match.span(match.lastgroup or 0)
        if not is_reference(text[slice(*span)]):
            yield span
    for match in _HERE.finditer(small) if "<<<" in text else ():
        if not is_reference(text[slice(*match.span(1))]):
            yield match.span(1)


def redis(text: str, small: str) -> Iterator[Span]:
    """What somebody types at the prompt of `redis-cli`."""
    for match in _REDIS.finditer(small):
        span = match.span("pw")
        if not text.startswith(MASK, span[0]) and not is_reference(text[slice(*span)]):
            yield span


def pgpass(text: str, small: str) -> Iterator[Span]:
    for match in _PGPASS.finditer(text) if _PORT.search(text) else ():
        yield match.span(1)


_LIST_ITEM = re.compile(r"""b?"(?:[^"\\\r\n]|\\.){0,2000}+"|b?'[^'\r\n]{0,2000}+'""")
_SHELL_WORD = re.compile(
    r"""\[masked\]|\$?"(?:[^"\\\r\n]|\\.){0,2000}+"|'[^'\r\n]{0,2000}+'|[^\s"'\[]{1,2000}+(?:"[^"\r\n]{0,500}"|'[^'\r\n]{0,500}')?|["'\[]"""
)
_END_OF_LIST = re.compile(r"\]")
_STOP = re.compile(r"[\r\n]|\|\||&&|[|;](?=\s|$)")


def commands(text: str, small: str, words: set[bytes]) -> Iterator[Span]:
    """Command lines of known programs, as a shell, a log or a repr writes them."""
    done = 0
    for begin, end in programs(small, words):
        if begin < done:
            continue
        quote = text[end : end + 1]
        listed = quote != "" and quote in "\"'"  # ['mysql', '-p…'], as a repr writes it
        stop = (_END_OF_LIST if listed else _STOP).search(text, end, begin + 4000)
        done = stop.start() if stop else min(len(text), begin + 4000)
        found = [(begin, end)]
        for token in (_LIST_ITEM if listed else _SHELL_WORD).finditer(text, end + listed, done):
            first, last = token.span()
            if last - first == 1 and token[0] in "[](),\"'":
                continue
            if token[0][:2] in {"b'", '$"'}:
                first += 1
            if text[first] in "\"'" and text[last - 1] == text[first] and last - first > 1:
                first, last = first + 1, last - 1
            found.append((first, last))
        given = [text[first:last] for first, last in found]
        for index, offset in secrets_of(given).items():
            word = given[index][offset:]
            if MASK in word or is_reference(word):
                continue
            if word := word.rstrip("'\"])"):
                first = found[index][0] + offset
                yield first, first + len(word)


_LISTED = re.compile(r"""(?P<q>["'])-(?:p|P|w|a|k|u|t)(?P=q),\s{1,40}(?P<r>["'])(?P<value>[^"'\r\n]{6,200})(?P=r)""")


def listed(text: str, small: str) -> Iterator[Span]:
    """`['-p', '…']` of a program that is not known, if the value could be nothing else."""
    for match in _LISTED.finditer(text):
        value = match["value"]
        _, colon, after = value.partition(":")
        if is_key_like(value, 8):
            yield match.span("value")
        elif colon and is_key_like(after, 8):
            yield match.end("value") - len(after), match.end("value")
