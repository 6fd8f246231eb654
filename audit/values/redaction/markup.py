"""A name and its value apart: `{"name": "DB_PASSWORD", "value": …}`, XML, the data of a Kubernetes Secret."""

import re
from collections.abc import Iterator
from itertools import pairwise

from audit.values.redaction.keys import MASK, Kind, is_strong, kind_of
from audit.values.redaction.value import LOOK, Span, find_value, is_exempt

__all__ = ["elements", "kubernetes", "pairs"]

# Names and values apart: JSON, its repr, XML attributes, YAML.
# `(?<!\w.)` behind a first letter is `\b` before it, but the search looks for the letters first.
_PAIR_NAME = (
    r"(?:n(?<!\w.)ame|k(?<!\w.)(?:ey)?|i(?<!\w.)d|v(?<!\w.)ar(?:iable)?|p(?<!\w.)(?:arameter(?:name|key)?|roperty)"
    r"|h(?<!\w.)eader|f(?<!\w.)ield|o(?<!\w.)ption_name|e(?<!\w.)nv_?name)"
)
_PAIR_VALUE = (
    r"(?:v(?<!\w.)(?:al(?:ue)?)?|c(?<!\w.)ontent|p(?<!\w.)(?:arametervalue|laintext)|d(?<!\w.)efault(?:value)?"
    r"|s(?<!\w.)tringvalue|o(?<!\w.)ption_value)"
)
_Q = r"""(?:\\*["'`]|&quot;)"""
_PAIR = re.compile(
    rf"""{_PAIR_NAME}{_Q}?[ \t]*+[:=][ \t]*+(?:{_Q})?+(?P<name>[\w.:/ -]{{2,100}}?)(?:{_Q})?
         (?:[ \t]*+[,;][ \t]*+|[ \t]+|[ \t]*+,?[ \t]*+\r?\n[ \t]*+|[ \t]*+,?(?:\\r)?\\n[ \t]*+)
         (?:(?:type|source|encrypted|sensitive|secure|kind){_Q}?[ \t]*+[:=][ \t]*+[^\s,]{{1,40}}[,\s]\s{{0,40}}|(?:type|scope|id|class|autocomplete)=["'][\w -]{{0,40}}["'][ ]){{0,3}}
         (?:\\*["'])?{_PAIR_VALUE}(?=\\*["'`]?[ \t]*[:=]|&quot;)(?P<q>{_Q})?[ \t]*+[:=]""",  # noqa: E501
    re.VERBOSE,
)
_PAIR_REVERSED = re.compile(
    rf"""{_PAIR_VALUE}(?P<q>{_Q})?[ \t]*+[:=][ \t]*+(?P<open>{_Q})(?P<value>[^"'`\\\r\n<>]{{1,500}})(?:{_Q})[ \t]*+[,;]?\s{{0,40}}
         (?:\\*["'])?{_PAIR_NAME}{_Q}?[ \t]*+[:=][ \t]*+(?:{_Q})(?P<name>[\w.:/ -]{{2,100}}?)(?:{_Q})""",  # noqa: E501
    re.VERBOSE,
)
_GIVEN = re.compile(rf"{_PAIR_VALUE}{_Q}?[ \t]*[:=]")
_ELEMENT = re.compile(
    r"<(?P<name>[\w.:-]{2,100})(?:\s[^<>]{0,300})?>\s{0,40}(?:<!\[CDATA\[)?(?P<value>[^<>\]]{1,2000})(?:\]\]>)?\s{0,40}</"
)
_PLIST = re.compile(r"<key>(?P<name>[^<>]{2,100})</key>\s{0,40}<(?:string|data)>(?P<value>[^<>]{1,2000})<")
_NAMED_ELEMENT = re.compile(
    r"""<[\w.:-]{1,60}\s[^<>]{0,200}?\b(?:name|key|id)=["'](?P<name>[^"'<>]{2,100})["'][^<>]{0,200}>\s{0,40}(?:<value>)?(?P<value>[^<>]{1,2000})</"""
)


def pairs(text: str, small: str) -> Iterator[Span]:
    """`{"name": "DB_PASSWORD", "value": …}`, `<input name="password" value="…">`, YAML's `- name:` and `value:`."""
    if not _GIVEN.search(small):
        return
    for match in _PAIR.finditer(small):
        name = text[slice(*match.span("name"))]
        if (kind := kind_of(name)) and (found := find_value(text, match.end(), bool(match["q"]))):
            value = text[found[0] : min(found[1], found[0] + LOOK)]
            if not is_exempt(value, name, kind, True, False, text, found):
                yield found
    for match in _PAIR_REVERSED.finditer(small):
        if is_strong(text[slice(*match.span("name"))]) and not text.startswith(MASK, match.start("value")):
            yield match.span("value")


def elements(text: str, small: str) -> Iterator[Span]:
    """`<password>…</password>`."""
    for expression in (_ELEMENT, _PLIST, _NAMED_ELEMENT):
        for match in expression.finditer(text):
            start = match.start("value")
            value = match["value"].strip()
            start += match["value"].find(value)
            if not value or value == MASK or not (kind := kind_of(match["name"].rpartition(":")[2])):
                continue
            if kind is not Kind.ADDRESS and not is_exempt(
                value[:LOOK], match["name"], kind, True, False, text, (start, start)
            ):
                yield start, start + len(value)


_KUBE_DATA = re.compile(
    r"""^(?P<indent>[ ]*)["']?(?:string)?data["']?:[ ]*(?:\r?\n(?P<lines>(?:(?P=indent)[ ]+[^\r\n]*(?:\r?\n|\Z))+)|(?P<json>\{[^{}]*\}))""",  # noqa: E501
    re.VERBOSE | re.MULTILINE,
)
_KUBE_JSON = re.compile(r"""\\*["'](?:string)?data\\*["']\s{0,9}:\s{0,40}(?P<json>\{[^{}]*\})""")
_KUBE_KIND = re.compile(r"""\bkind\\*["']?[ ]*:[ ]*\\*["']?(?P<kind>\w+)""")
_KUBE_SECRET = re.compile(r"""kind\\*["']?[ ]*:[ ]*\\*["']?secret""")
_KUBE_LINE = re.compile(
    r"^[ \t]*[\w.-]+:[ \t]+(?P<value>[^\s|>][^\r\n]*)$|^[ \t]+(?P<more>[A-Za-z0-9+/=]{16,})$", re.MULTILINE
)
_KUBE_ITEM = re.compile(r""":\s{0,9}\\*["'](?P<value>[^"'\\]+)\\*["']""")


def kubernetes(text: str, small: str) -> Iterator[Span]:
    """The data of a Secret, in YAML and JSON; other kinds in the same text keep theirs."""
    if not _KUBE_SECRET.search(small):
        return
    documents = [0, *(match.start() for match in re.finditer(r"^---", small, re.MULTILINE)), len(small)]
    for begin, end in pairwise(documents):
        kinds = {match["kind"] for match in _KUBE_KIND.finditer(small, begin, end)}
        if "secret" not in kinds or kinds - {"secret", "list"}:
            continue
        for match in [*_KUBE_DATA.finditer(small, begin, end), *_KUBE_JSON.finditer(small, begin, end)]:
            group = "json" if match["json"] else "lines"
            line = _KUBE_ITEM if group == "json" else _KUBE_LINE
            for each in line.finditer(text, *match.span(group)):
                span = each.span(each.lastgroup or 0)
                if MASK not in text[slice(*span)]:
                    yield span
