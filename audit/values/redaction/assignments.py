"""Values of names: `password=…`, `"db_password": "…"`, `--token …`, and YAML's values on the lines below."""

import re
from collections.abc import Iterator, Sequence

from audit.values.redaction.keys import MASK, Kind, fold, is_strong, kind_of
from audit.values.redaction.looks import is_opaque, is_reference
from audit.values.redaction.value import (
    ESCAPED_QUOTE,
    HARMLESS,
    LITERAL,
    LONGEST,
    LOOK,
    REST,
    Span,
    find_value,
    is_exempt,
)

__all__ = ["STEMS", "assigned", "assigned_to", "name_pattern"]

# No rule for names finds anything in a text without one of these, in small letters. Grouped by their first letters:
# so the search needs one look at most places of a text.
STEMS = fold(
    "p(?:ass|w|s[wk]|in|hrase)|s(?:e(?:cret|ss|nha)|i[gd]|a(?:s|ml|lasana))|token|key|c(?:red|o(?:okie|de|nn|ntrase)|srf)"
    "|a(?:uth|ssertion)|otp|jw[tk]|xsrf|dsn|h(?:mac|as[lł]o|eslo)|mnemonic|bearer|ur[il]|w(?:ort|achtwoord)|lösenord"
    "|пароль|密码|密碼|口令|パスワード|비밀번호"
)
_HEAD = re.compile(
    rf"""
    (?:{STEMS})[\w.-]*+
    (?:
        (?P<quote>(?:{ESCAPED_QUOTE}))?+ \]?+ [ \t]*+
        (?P<sign>[:=]{{1,2}}>?|->|[=-]>|→|%3a|%3d)
      | (?P<gap>(?:\\*["'])?+,?+\s++(?=[^\s-]|-[^-\s]))
    )?
    """,
    re.VERBOSE,
)
_NAME_BREAK = re.compile(r"[^\w.-]")
_WORDS_BEFORE = re.compile(r"(?:[A-Za-z]+ ){1,2}\Z")


def assigned(text: str, small: str) -> Iterator[Span]:
    """Values of names: `password=…`, `"db_password": "…"`, `--token …`, `'--password', '…'`."""
    done = 0
    for match in _HEAD.finditer(small):
        sign, gap = match["sign"], match["gap"]
        if (sign is None and gap is None) or match.start() < done:
            continue
        start, stop = match.start(), match.end()
        if gap and gap[0].isspace():
            before = text[max(done, start - 250) : start]
            if before.find("-", before.rfind(" ") + 1) < 0:
                continue  # a word in a sentence, and no option
        name_end = match.start("gap") if sign is None else _name_end(match)
        while start > done and (text[start - 1].isalnum() or text[start - 1] in "_.-") and match.start() - start < 250:
            start -= 1
        name = text[start:name_end]
        found = _after_option(text, name, gap, stop) if gap else _after_sign(text, match, start, name, stop)
        if found:
            if found[1] - found[0] >= LONGEST - 100 and (rest := REST.match(text, found[1])):
                found = found[0], rest.end()
            yield found
            done = found[1]


def name_pattern(names: Sequence[Sequence[str]]) -> re.Pattern[str]:
    """Make a pattern that finds names with a sign behind them: `tax_id=`, `taxId: `, `"tax-id": `.

    Args:
        names: the words of each name, in small letters. A longer name that ends in these words is another one.
    """
    each = "|".join("[-_. ]?".join(map(re.escape, name)) for name in names)
    quote, sign = rf"(?P<quote>{ESCAPED_QUOTE})?\]?[ \t]{{0,20}}", r"(?P<sign>[:=]{1,2}>?|%3a|%3d)"
    return re.compile(rf"(?<![\w.])(?<!\w-)(?P<name>{each}){quote}{sign}", re.IGNORECASE)


def assigned_to(names: re.Pattern[str], text: str) -> Iterator[Span]:
    """Values of the names that a `name_pattern` finds, as those of names that hold a secret whatever it looks like."""
    for match in names.finditer(fold(text)):
        quoted = bool(match["quote"])
        if found := find_value(text, match.end(), quoted):
            value = text[found[0] : min(found[1], found[0] + LOOK)]
            marked = quoted or (text[found[0] - 1] in "\"'`" and found[0] > match.end())
            prose = ":" in match["sign"] and not marked
            if not is_exempt(value, match["name"], Kind.ALL, marked, prose, text, found):
                rest = REST.match(text, found[1]) if found[1] - found[0] >= LONGEST - 100 else None
                yield found[0], rest.end() if rest else found[1]


def _name_end(match: re.Match[str]) -> int:
    for group in ("quote", "sign"):
        if match[group]:
            return match.start(group)
    return match.end()


def _after_option(text: str, name: str, gap: str, stop: int) -> Span | None:
    bare = name.lstrip("-")
    dashes = len(name) - len(bare)
    if not dashes and gap[0] in "\"'" and "," in gap:
        return _after_item(text, name, stop)
    if not dashes or bare.startswith("no-") or (not is_strong(bare) and kind_of(bare) is not Kind.OPAQUE):
        return None
    if dashes == 1 and len(bare) < 4:
        return None
    quoted = gap[0] in "\\\"'"
    if quoted != ("," in gap):
        return None
    found = find_value(text, stop, quoted)
    if found and (shown := text[slice(*found)].rstrip("])}")).isupper() and _as_placeholder(bare).endswith(shown):
        return None  # what a help text writes: `--password PASSWORD`
    if found and "\n" in gap and _MORE.match(text, found[1]) and not is_opaque(text[slice(*found)][:LOOK]):
        return None  # the option ended its line, and the next one is another command or message
    if found is None or text[slice(*found)].startswith("-") or (dashes == 1 and kind_of(bare) is not Kind.ALL):
        return found if found and is_opaque(text[slice(*found)][:LOOK]) else None
    return None if is_reference(text[slice(*found)][:LOOK]) or HARMLESS.match(text[slice(*found)][:LOOK]) else found


_MORE = re.compile(r"[ \t]+[^\s\\]")


def _as_placeholder(option: str) -> str:
    return option.upper().replace("-", "_")


def _after_item(text: str, name: str, stop: int) -> Span | None:
    """`["Authorization", "…"]`, `("password", "…")`: a pair and nothing more."""
    before = text[max(0, stop - len(name) - 44) : stop].rpartition(name)[0]
    found = find_value(text, stop, True) if re.search(r"[\[(]\s{0,20}b?[\"']$", before) else None
    if found is None or not re.match(r"[\"'],?\s{0,20}[\])]", text[found[1] : found[1] + 24]):
        return None
    header = name.lower() in {"authorization", "proxy-authorization", "cookie", "set-cookie"}
    return found if is_strong(name) and (header or is_opaque(text[slice(*found)][:LOOK])) else None


def _after_sign(text: str, match: re.Match[str], start: int, name: str, stop: int) -> Span | None:
    name = name.strip()
    kind = kind_of(name)
    if (
        kind is None
        and start
        and text[start - 1] == " "
        and (before := _WORDS_BEFORE.search(text[max(0, start - 30) : start]))
    ):
        kind = kind_of(before[0] + name)
        if kind is Kind.OPAQUE:
            kind = None
    if kind is None or (start and text[start - 1] == "/" and name == "passwd"):
        return None
    if start and text[start - 1] == ":" and match["sign"] == ":" and not text[stop : stop + 1].isspace():
        return None  # a resource's name: arn:aws:secretsmanager:…:secret:…
    quoted = bool(match["quote"])
    sign = match["sign"]
    if not quoted and start and text[start - 1] in "\"'" and text.startswith(text[start - 1], stop):
        # The sign ends an item of a list, and the value is the next one.
        following = _NEXT_ITEM.match(text, stop)
        found = find_value(text, following.end() - 1, True) if following and kind is Kind.ALL else None
        return found if found and is_opaque(text[slice(*found)][:LOOK]) else None
    if sign == ":" and not quoted and _BLOCK_SIGN.match(text, stop):
        return _indented(text, start, stop, kind)
    if quoted and kind in (Kind.ALL, Kind.TEXT) and (brackets := _NESTED.match(text, stop)):
        texts = [each for each in LITERAL.finditer(text, *brackets.span()) if is_opaque(each["value"])]
        return (texts[0].start("value"), texts[-1].end("value")) if texts else None
    found = find_value(text, stop, quoted)
    if found is None:
        return _indented(text, start, stop, kind) if sign == ":" and not quoted else None
    value = text[found[0] : min(found[1], found[0] + LOOK)]
    opened = text[found[0] - 1] in "\"'`;" and found[0] > stop
    if is_exempt(value, name, kind, quoted or opened, ":" in sign and not quoted and not opened, text, found):
        return None
    return found


_NEXT_ITEM = re.compile(r"""["'],\s{1,20}["']""")
_NESTED = re.compile(r"\s{0,40}[\[{][^\]}]{0,2000}[\]}]?")
_BLOCK_SIGN = re.compile(r"[ \t]*+[|>][+-]?\d?[+-]?[ \t]*+\r?\n")
_BLOCK = re.compile(r"[ \t]*+[|>]?[+-]?\d?[ \t]*+\r?\n(?P<indent>[ \t]*)(?P<value>[^\s#-][^\r\n]*)")


def _indented(text: str, start: int, stop: int, kind: Kind) -> Span | None:
    """A value on the lines below its name, as YAML writes it."""
    if not (match := _BLOCK.match(text, stop)) or kind in (Kind.OPAQUE, Kind.ADDRESS):
        return None
    line = max(text.rfind("\n", max(0, start - 250), start) + 1, start - 250, 0)
    margin = len(text[line:start]) - len(text[line:start].lstrip(" \t"))
    value = match["value"]
    if len(match["indent"]) <= margin or value.startswith(MASK):
        return None
    begin, end = match.span("value")
    if not re.match(r"[ \t]*+[|>]", text[stop : stop + 20]):
        bare = value.rstrip().strip("\"'")
        return (
            None
            if re.match(r"[\w.-]+:(?:\s|$)", value) or " " in bare or is_reference(bare) or HARMLESS.match(bare)
            else (begin, begin + len(value.rstrip()))
        )
    while further := re.compile(rf"\r?\n(?:[ \t]{{{len(match['indent'])}}}[^\r\n]*|[ \t]*(?=\r?\n))").match(text, end):
        end = further.end()
    return begin, end
