"""Where secrets stand in a text: values of names that hold one, headers, URLs, prose, markup.

Each rule yields spans of the text and changes nothing; what is masked is their union. So what stands around a secret
cannot change. Rules look at a folded text, in which look-alike letters are Latin ones.

Every rule takes linear time: repetitions are bounded, possessive, or exclude what begins the next attempt.
"""

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

from audit.values.redaction.commands import programs, secrets_of
from audit.values.redaction.keys import MASK, Kind, fold, is_opaque, is_reference, is_strong, kind_of
from audit.values.redaction.shapes import key_blocks, shapes

__all__ = ["spans"]

Span = tuple[int, int]

# No rule for names finds anything in a text without one of these, in small letters.
_STEMS = (
    "pass|pwd|pw|psw|secret|token|key|cred|auth|cookie|sig|sas|pin|sess|sid|otp|psk|jwt|jwk|csrf|xsrf|dsn|hmac|saml|phrase"
    "|mnemonic|bearer|code|ur[il]|connstr|conn|assertion|wort|senha|contrase|wachtwoord|haslo|hasło|lösenord|salasana"
    "|heslo|пароль|密码|密碼|口令|パスワード|비밀번호"
)
_STEMS = fold(_STEMS)
_ESCAPED_QUOTE = r"""\\*["'`]|&quot;|&\#3[49];|&apos;|%22|%27|\\u0022|\\u0027"""
_HEAD = re.compile(
    rf"""
    (?:{_STEMS})[\w.-]*+
    (?:
        (?P<quote>(?:{_ESCAPED_QUOTE}))?+ \]?+ [ \t]*+
        (?P<sign>[:=]{{1,2}}>?|->|[=-]>|→|%3a|%3d)
      | (?P<gap>(?:\\*["'])?+,?+\s++(?=[^\s-]|-[^-\s]))
    )?
    """,
    re.VERBOSE,
)
_NAME_BREAK = re.compile(r"[^\w.-]")
_WORDS_BEFORE = re.compile(r"(?:[A-Za-z]+ ){1,2}\Z")

# What may stand between the sign and the value: colours are gone already.
_LEAD = re.compile(
    r"""[ \t]*+(?:!!?\w+[ \t]++)?+(?:[A-Z]\w{0,40}\((?=[bru]{0,2}["']))?+(?:[bBrRuU]{1,2}(?=["']))?+(?:<!\[CDATA\[)?+""",  # noqa: E501
    re.VERBOSE,
)
_OPENING = re.compile(_ESCAPED_QUOTE, re.VERBOSE)
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
_LOOK = 300
"""So many characters of a value decide what it is."""
_LONGEST = 320
_REST = re.compile(r"[^\s\"'`&;,]+")
# A value is looked at up to here, and followed to its end only once it is known to be a secret.

_HARMLESS = re.compile(
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


def spans(text: str, small: str) -> Iterator[Span]:
    """Yield where secrets stand in a text.

    Args:
        text: folded.
        small: the same in small letters, of the same length.
    """
    if "PRIVATE KEY" in text or "Private-Lines" in text:
        yield from key_blocks(text)
    yield from shapes(text)
    for needed, rule in _ALWAYS:
        if any(each in small for each in needed):
            yield from rule(text, small)
    if _NAMES.search(small):
        for needed, rule in _WITH_NAMES:
            if any(each in small for each in needed):
                yield from rule(text, small)


def _assigned(text: str, small: str) -> Iterator[Span]:
    """Values of names: `password=…`, `"db_password": "…"`, `--token …`, `'--password', '…'`."""
    done = 0
    for match in _HEAD.finditer(small):
        sign, gap = match["sign"], match["gap"]
        if match.start() < done or (sign is None and gap is None):
            continue
        start, stop = match.start(), match.end()
        name_end = match.start("gap") if sign is None else _name_end(match)
        while start > done and (text[start - 1].isalnum() or text[start - 1] in "_.-") and match.start() - start < 250:
            start -= 1
        name = text[start:name_end]
        found = _after_option(text, name, gap, stop) if gap else _after_sign(text, match, start, name, stop)
        if found:
            if found[1] - found[0] >= _LONGEST - 100 and (rest := _REST.match(text, found[1])):
                found = found[0], rest.end()
            yield found
            done = found[1]


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
    found = _value(text, stop, quoted)
    if found is None or text[slice(*found)].startswith("-") or (dashes == 1 and kind_of(bare) is not Kind.ALL):
        return found if found and is_opaque(text[slice(*found)][:_LOOK]) else None
    return None if is_reference(text[slice(*found)][:_LOOK]) or _HARMLESS.match(text[slice(*found)][:_LOOK]) else found


def _after_item(text: str, name: str, stop: int) -> Span | None:
    """`["Authorization", "…"]`, `("password", "…")`: a pair and nothing more."""
    before = text[max(0, stop - len(name) - 44) : stop].rpartition(name)[0]
    found = _value(text, stop, True) if re.search(r"[\[(]\s{0,20}b?[\"']$", before) else None
    if found is None or not re.match(r"[\"'],?\s{0,20}[\])]", text[found[1] : found[1] + 24]):
        return None
    header = name.lower() in {"authorization", "proxy-authorization", "cookie", "set-cookie"}
    return found if is_strong(name) and (header or is_opaque(text[slice(*found)][:_LOOK])) else None


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
        found = _value(text, following.end() - 1, True) if following and kind is Kind.ALL else None
        return found if found and is_opaque(text[slice(*found)][:_LOOK]) else None
    if sign == ":" and not quoted and _BLOCK_SIGN.match(text, stop):
        return _indented(text, start, stop, kind)
    if quoted and kind in (Kind.ALL, Kind.TEXT) and (brackets := _NESTED.match(text, stop)):
        texts = [each for each in _LITERAL.finditer(text, *brackets.span()) if is_opaque(each["value"])]
        return (texts[0].start("value"), texts[-1].end("value")) if texts else None
    found = _value(text, stop, quoted)
    if found is None:
        return _indented(text, start, stop, kind) if sign == ":" and not quoted else None
    value = text[found[0] : min(found[1], found[0] + _LOOK)]
    opened = text[found[0] - 1] in "\"'`;" and found[0] > stop
    if _is_exempt(value, name, kind, quoted or opened, ":" in sign and not quoted and not opened, text, found):
        return None
    return found


def _is_exempt(value: str, name: str, kind: Kind, marked: bool, prose: bool, text: str, found: Span) -> bool:
    """Whether a value is none: a word about it, a reference, a number of pieces."""
    if kind is Kind.ADDRESS:
        return "://" in value or "=" in value or is_reference(value) or not is_opaque(value, least=8)
    bare = value.rstrip(".,;:!?)]}")
    if is_reference(value) or (
        not marked and (_HARMLESS.match(value) or bare.lower() == name.lower().lstrip("-").rpartition(".")[2])
    ):
        return True
    if marked and (_HARMLESS.fullmatch(value) or (len(value) < 4 and not any(map(str.isalnum, value)))):
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


def _value(text: str, at: int, quoted: bool) -> Span | None:
    """Find a value: in quotes, whose end may be missing, in brackets, or up to a blank or what begins the next pair."""
    lead = _LEAD.match(text, at)
    start = lead.end() if lead else at
    if text.startswith(MASK, start):
        return None
    if opening := _OPENING.match(text, start):
        start = opening.end()
        if text.startswith(MASK, start) or text.startswith(opening[0], start):
            return None
        inner = (_QUOTED[opening[0]] if len(opening[0]) == 1 else _ESCAPED).match(text, start, start + _LONGEST)
        return inner.span() if inner else None
    if lead and lead[0].endswith("("):
        return None
    end = start
    if not quoted and (brackets := _BRACKETS.match(text, start, start + _LONGEST)):
        end = brackets.end()
    elif quoted and text[start : start + 1] in {"{", "["}:
        return None
    inner = (_BARE_IN_JSON if quoted else _BARE).match(text, end, end + _LONGEST)
    end = inner.end() if inner else end
    return (start, end) if end > start else None


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
            if re.match(r"[\w.-]+:(?:\s|$)", value) or " " in bare or is_reference(bare) or _HARMLESS.match(bare)
            else (begin, begin + len(value.rstrip()))
        )
    while further := re.compile(rf"\r?\n(?:[ \t]{{{len(match['indent'])}}}[^\r\n]*|[ \t]*(?=\r?\n))").match(text, end):
        end = further.end()
    return begin, end


_HEADER = re.compile(
    r"""(?<![a-z0-9])(?:(?P<open>["'])?(?<![a-z0-9]))(?:(?:proxy-|x-)?authorization|(?:set-)?cookie2?)[ \t]{0,4}[:=][ \t]{0,4}(?=[^\s])""",  # noqa: E501
    re.VERBOSE,
)


def _headers(text: str, small: str) -> Iterator[Span]:
    """`Authorization: …`, to the end of the line, or of the quotes around the header."""
    done = 0
    for match in _HEADER.finditer(small):
        if match.start() < done:
            continue
        start = match.end()
        line = _END_OF_LINE.search(text, start)
        done = end = line.start() if line else len(text)
        before = text[match.start() - 1] if match.start() else ""
        quote = match["open"] or (before if before in "\"'" else "")
        if quote and (closing := text.find(quote, start, end)) >= 0:
            end = closing
        if end > start and not text.startswith(MASK, start):
            yield start, end
            done = end


_END_OF_LINE = re.compile(r"[\r\n]|\\[rn](?![\w/])")

_SCHEME = re.compile(
    r"""\b(?P<scheme>bearer|basic|apikey|api-key|token|negotiate|ntlm|sso-key)[ \t]+(?P<value>[\w.~+/%=-]{6,})""",
    re.VERBOSE,
)


def _schemes(text: str, small: str) -> Iterator[Span]:
    """`Bearer …`, unless it is an English word that follows."""
    for match in _SCHEME.finditer(small):
        value = text[slice(*match.span("value"))]
        if is_opaque(value[:_LOOK].rstrip("."), least=6) or (
            match["scheme"] == "bearer" and not re.fullmatch(r"[A-Za-z]?[a-z]{0,18}\.?|[A-Z]+", value[:_LOOK])
        ):
            yield match.span("value")


_USER = re.compile(
    r"""://(?P<user>[^\s/?\#:@"'<>`]{0,200}+)
        (?: : (?P<pw>(?!\d{0,5}(?:[/?\#\s]|$))(?:[^\s/?\#"<>`]{1,500}(?=@)|[^\s"'<>@`]{1,200}(?=@)|[^\s/?\#"'<>`@]{1,500}\#[^\s/"'@]{0,99}(?=@))) )?
        (?P<at>@)?""",  # noqa: E501
    re.VERBOSE,
)
_BARE_USER = re.compile(
    r"""(?<![\w/.@%+-])[\w.%+-]{1,64}:(?P<pw>[^\s:@/"'<>(){}\[\],]{3,100})@(?P<host>(?:tcp|unix)\(|[\w-]+(?:\.[\w-]+)*[:/]|[\w-]+(?:\.[\w-]+)+|localhost)"""
)


def _urls(text: str, small: str) -> Iterator[Span]:
    """`scheme://user:password@host`, `scheme://token@host`, `user:password@host:port`."""
    for match in _USER.finditer(text):
        if match["pw"]:
            if not is_reference(match["pw"]) and not match["pw"].startswith(MASK):
                yield match.span("pw")
        elif match["at"] and _is_key_like(match["user"]):
            yield match.span("user")
    for match in _BARE_USER.finditer(text):
        if match["host"][-1] == "(" or is_opaque(match["pw"]):
            yield match.span("pw")


def _is_key_like(value: str, least: int = 10) -> bool:
    return (
        is_opaque(value, least=least)
        and not re.search(r"[-./:%]", value)
        and any(each.isdigit() for each in value)
        and (len(value) >= 16 or (value != value.lower() and value != value.upper()))
    )


_SAID = re.compile(
    r"""\b(?P<what>pass(?:word|phrase|code|wd)|pwd|secret|token|(?:api|access|secret|private|license|auth)[ _-]?(?:key|token)|pin|credentials?)\b['"]?
        (?P<how>
            (?:[ ]+(?:for|of|provided|received|found|given|supplied|in|by))(?:[ ]+[^\s:=]{1,60}){0,4}?[ ]*[:=]
          | [ ]+(?:is|was|are|will[ ]be|set[ ]to|changed[ ]to|reset[ ]to|now|to|as|being)(?:[ ]+now)?[ ]*[:=]?
          | (?=[ ])
        )
        [ ]+(?:["'`](?P<quoted>[^"'`\s]{1,300})["'`]|(?P<value>[^\s"'`,;]{6,300}))""",  # noqa: E501
    re.VERBOSE,
)


def _said(text: str, small: str) -> Iterator[Span]:
    """`password is …`, `Password for bob: …`, `IDENTIFIED BY '…'`, `PASSWORD '…'`."""
    for match in _SAID.finditer(small):
        if match["quoted"]:
            span = match.span("quoted")
            value = text[slice(*span)]
            sql = (
                match["what"].startswith("pass")
                and not match["how"].strip()
                and text[match.start() : match.start() + 8].isupper()
            )
            if value.startswith(MASK) or not (sql or is_opaque(value)):
                continue
        else:
            span = match.span("value")
            value = text[slice(*span)].rstrip(".,;:!?)")
            least = 6 if match["how"].strip() else 8
            if (
                MASK[1:-1] in value
                or not is_opaque(value, least=least)
                or (least == 8 and not any(map(str.isdigit, value)))
            ):
                continue
            span = span[0], span[0] + len(value)
        yield span


_SQL = re.compile(
    r"""\bidentified[ ]+by[ ]+(?:password[ ]+)?['"]([^'"\r\n]+)['"]|\bset[ ]+password[^\r\n;'=]{0,80}=[ ]*(?:password\()?'([^'\r\n]+)'""",  # noqa: E501
    re.VERBOSE,
)


def _sql(text: str, small: str) -> Iterator[Span]:
    for match in _SQL.finditer(small):
        yield match.span(match.lastindex or 1)


# Names and values apart: JSON, its repr, XML attributes, YAML.
_PAIR_NAME = r"(?:name|key|id|variable|parameter(?:name|key)?|header|field|option_name|var|property|env_?name|k)"
_PAIR_VALUE = r"(?:value|val|content|parametervalue|plaintext|default|defaultvalue|stringvalue|option_value|v)"
_Q = r"""(?:\\*["'`]|&quot;)"""
_PAIR = re.compile(
    rf"""\b{_PAIR_NAME}{_Q}?[ \t]*+[:=][ \t]*+(?:{_Q})?+(?P<name>[\w.:/ -]{{2,100}}?)(?:{_Q})?
         (?:[ \t]*+[,;][ \t]*+|[ \t]+|[ \t]*+,?[ \t]*+\r?\n[ \t]*+|[ \t]*+,?(?:\\r)?\\n[ \t]*+)
         (?:(?:type|source|encrypted|sensitive|secure|kind){_Q}?[ \t]*+[:=][ \t]*+[^\s,]{{1,40}}[,\s]\s{{0,40}}|(?:type|scope|id|class|autocomplete)=["'][\w -]{{0,40}}["'][ ]){{0,3}}
         (?:\\*["'])?{_PAIR_VALUE}(?=\\*["'`]?[ \t]*[:=]|&quot;)(?P<q>{_Q})?[ \t]*+[:=]""",  # noqa: E501
    re.VERBOSE,
)
_PAIR_REVERSED = re.compile(
    rf"""\b{_PAIR_VALUE}(?P<q>{_Q})?[ \t]*+[:=][ \t]*+(?P<open>{_Q})(?P<value>[^"'`\\\r\n<>]{{1,500}})(?:{_Q})[ \t]*+[,;]?\s{{0,40}}
         (?:\\*["'])?{_PAIR_NAME}{_Q}?[ \t]*+[:=][ \t]*+(?:{_Q})(?P<name>[\w.:/ -]{{2,100}}?)(?:{_Q})""",  # noqa: E501
    re.VERBOSE,
)
_ELEMENT = re.compile(
    r"<(?P<name>[\w.:-]{2,100})(?:\s[^<>]{0,300})?>\s{0,40}(?:<!\[CDATA\[)?(?P<value>[^<>\]]{1,2000})(?:\]\]>)?\s{0,40}</"
)
_PLIST = re.compile(r"<key>(?P<name>[^<>]{2,100})</key>\s{0,40}<(?:string|data)>(?P<value>[^<>]{1,2000})<")
_NAMED_ELEMENT = re.compile(
    r"""<[\w.:-]{1,60}\s[^<>]{0,200}?\b(?:name|key|id)=["'](?P<name>[^"'<>]{2,100})["'][^<>]{0,200}>\s{0,40}(?:<value>)?(?P<value>[^<>]{1,2000})</"""
)


def _pairs(text: str, small: str) -> Iterator[Span]:
    """`{"name": "DB_PASSWORD", "value": …}`, `<input name="password" value="…">`, YAML's `- name:` and `value:`."""
    for match in _PAIR.finditer(small):
        name = text[slice(*match.span("name"))]
        if (kind := kind_of(name)) and (found := _value(text, match.end(), bool(match["q"]))):
            value = text[found[0] : min(found[1], found[0] + _LOOK)]
            if not _is_exempt(value, name, kind, True, False, text, found):
                yield found
    for match in _PAIR_REVERSED.finditer(small):
        if is_strong(text[slice(*match.span("name"))]) and not text.startswith(MASK, match.start("value")):
            yield match.span("value")


def _elements(text: str, small: str) -> Iterator[Span]:
    """`<password>…</password>`."""
    for expression in (_ELEMENT, _PLIST, _NAMED_ELEMENT):
        for match in expression.finditer(text):
            start = match.start("value")
            value = match["value"].strip()
            start += match["value"].find(value)
            if not value or value == MASK or not (kind := kind_of(match["name"].rpartition(":")[2])):
                continue
            if kind is not Kind.ADDRESS and not _is_exempt(
                value[:_LOOK], match["name"], kind, True, False, text, (start, start)
            ):
                yield start, start + len(value)


_KUBE_DATA = re.compile(
    r"""^(?P<indent>[ ]*)["']?(?:string)?data["']?:[ ]*(?:\r?\n(?P<lines>(?:(?P=indent)[ ]+[^\r\n]*(?:\r?\n|\Z))+)|(?P<json>\{[^{}]*\}))""",  # noqa: E501
    re.VERBOSE | re.MULTILINE,
)
_KUBE_JSON = re.compile(r"""\\*["'](?:string)?data\\*["']\s{0,9}:\s{0,40}(?P<json>\{[^{}]*\})""")
_KUBE_KIND = re.compile(r"""\bkind\\*["']?[ ]*:[ ]*\\*["']?(?P<kind>\w+)""")
_KUBE_LINE = re.compile(
    r"^[ \t]*[\w.-]+:[ \t]+(?P<value>[^\s|>][^\r\n]*)$|^[ \t]+(?P<more>[A-Za-z0-9+/=]{16,})$", re.MULTILINE
)
_KUBE_ITEM = re.compile(r""":\s{0,9}\\*["'](?P<value>[^"'\\]+)\\*["']""")


def _kubernetes(text: str, small: str) -> Iterator[Span]:
    """The data of a Secret, in YAML and JSON; other kinds in the same text keep theirs."""
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


_NETRC = re.compile(
    r"(?:\bmachine\s{1,20}\S{1,200}\s{1,20}|\bdefault\s{1,20}|^[ \t]{0,20})(?:login|user)[ \t]+\S{1,100}\s{1,20}password[ \t]+(\S{1,300})",  # noqa: E501
    re.MULTILINE,
)
_PGPASS = re.compile(r"^[\w.*-]{1,100}:(?:\d{4,5}|\*):[\w.*-]{1,100}:[\w.*@-]{1,100}:(\S{1,300})$", re.MULTILINE)
_PIPED = re.compile(
    r"""\b(?:echo|printf|print)[ ]+(?:-[neE]+[ ]+)?(?:['"]?%s(?:\\n)?['"]?[ ]+)?(?:"(?P<a>[^"\r\n]{1,300})"|'(?P<b>[^'\r\n]{1,300})'|(?P<c>[^\s|'"]{1,300}))[ ]*\|[^|\r\n]{0,80}?
        (?:-stdin|sudo[ ]+-S|chpasswd|passwd|with-token|password|smbclient|cryptsetup)""",  # noqa: E501
    re.VERBOSE | re.IGNORECASE,
)
_HERE = re.compile(
    r"""(?:-stdin|sudo[ ]+-s|chpasswd|with-token)[^\r\n<]{0,40}<<<[ ]*["']?([^\s"']{1,300})""", re.VERBOSE
)
_URL_USERPASS = re.compile(r"^[\w.@+-]{1,64}:(?P<pw>\$?[^\s:]{3,300})$", re.MULTILINE)


def _files(text: str, small: str) -> Iterator[Span]:
    """Lines of `.netrc` and `.pgpass`, and what a shell pipes into a program that reads a password."""
    for match in _NETRC.finditer(small):
        yield match.span(1)
    for match in _PIPED.finditer(text):
        span = match.span(match.lastgroup or 0)
        if not is_reference(text[slice(*span)]):
            yield span
    for match in _HERE.finditer(small):
        if not is_reference(text[slice(*match.span(1))]):
            yield match.span(1)


def _pgpass(text: str, small: str) -> Iterator[Span]:
    for match in _PGPASS.finditer(text):
        yield match.span(1)


_CALL = re.compile(
    r"""(?:\b|_)(?:login|log_in|sign_?in|authenticate|set_password|check_password|make_password|basic_?auth|httpbasicauth|httpdigestauth|connect|set_secret
        |create_superuser|create_user|set_token|add_user|auth=|auth\s=\s|auth'?"?:\s?|credentials=|plaincredentials|usernamepassword\w{0,20}|encrypt|decrypt|hashpw|setenv|putenv|hset|setex|put_secret|set_env|_set)
        \(([^()\r\n]{1,300})\)?""",
    re.VERBOSE,
)
_LITERAL = re.compile(r"""b?(?P<q>["'])(?P<value>[^"'\\\r\n]{1,200})(?P=q)""")


def _calls(text: str, small: str) -> Iterator[Span]:
    """`login('bob', '…')`, `auth=('bob', '…')`: the last text, if it looks like a secret."""
    for match in _CALL.finditer(small):
        literals = list(_LITERAL.finditer(text, *match.span(1)))
        if literals and is_opaque(literals[-1]["value"]):
            yield literals[-1].span("value")


_LIST_ITEM = re.compile(r"""b?"(?:[^"\\\r\n]|\\.){0,2000}+"|b?'[^'\r\n]{0,2000}+'""")
_SHELL_WORD = re.compile(
    r"""\[masked\]|\$?"(?:[^"\\\r\n]|\\.){0,2000}+"|'[^'\r\n]{0,2000}+'|[^\s"'\[]{1,2000}+(?:"[^"\r\n]{0,500}"|'[^'\r\n]{0,500}')?|["'\[]"""
)
_END_OF_LIST = re.compile(r"\]")
_STOP = re.compile(r"[\r\n]|\|\||&&|[|;](?=\s|$)")


def _commands(text: str, small: str) -> Iterator[Span]:
    """Command lines of known programs, as a shell, a log or a repr writes them."""
    done = 0
    for begin, end in programs(small):
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


def _listed(text: str, small: str) -> Iterator[Span]:
    """`['-p', '…']` of a program that is not known, if the value could be nothing else."""
    for match in _LISTED.finditer(text):
        value = match["value"]
        _, colon, after = value.partition(":")
        if _is_key_like(value, 8):
            yield match.span("value")
        elif colon and _is_key_like(after, 8):
            yield match.end("value") - len(after), match.end("value")


_NAMES = re.compile(f"{_STEMS}|identified|sudo")
_Rule = tuple[tuple[str, ...], Callable[[str, str], Iterator[Span]]]
# Each rule with what it finds nothing without: to look for a few words takes a tenth of what a pattern takes.
_WITH_NAMES: tuple[_Rule, ...] = (
    ((":", "=", ">", "%", '"', "'", "-"), _assigned),
    (("authorization", "cookie"), _headers),
    (("pass", "pwd", "secret", "token", "key", "pin", "credential"), _said),
    (("identified", "set password"), _sql),
    (("val", "content", "plaintext", "default", "v'", 'v"'), _pairs),
    (("</",), _elements),
    (("kind",), _kubernetes),
    (("password", "stdin", "sudo", "passwd", "with-token", "smbclient"), _files),
)
_ALWAYS: tuple[_Rule, ...] = (
    (("@",), _urls),
    (("(",), _calls),
    (("",), _commands),
    (("bearer", "basic", "apikey", "api-key", "token", "negotiate", "ntlm", "sso-key"), _schemes),
    (("'-", '"-'), _listed),
    ((":",), _pgpass),
)
