"""Masks secrets in JSON and in text: a narrow default, which `AUDIT` extends.

Note [What counts as a secret]
    A key counts when it *ends* in the words of one of `ENDING` (`DB_PASSWORD`, `awsSecretAccessKey`), or when the
    whole of it is one of `ALONE` (`token`, but not `nextToken`). Words are compared whole, without regard to case,
    underscores, hyphens and the humps of camelCase: `keyId`, `SecretARN`, `passwordPolicy` and `tokenized` are no
    secrets. In text the same words count when a value is assigned to them, beside private key blocks, headers,
    passwords in URLs and tokens of a known shape.

    Broad patterns (anything with `key`, `token` or `pass` in it) hide what an audit trail is for. What a project
    knows beyond this belongs into `AUDIT["REDACT_KEYS"]` and `AUDIT["REDACT_PATTERNS"]`.

Every expression runs in linear time: repetitions either exclude the character that ends them or start only where
the one before has ended.
"""

import json
import re
import shlex
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from audit import conf
from audit.exceptions import AuditError, InvalidValue
from audit.values import validation

__all__ = ["ALONE", "ENDING", "MASK", "check", "redact", "redact_command", "redact_document", "redact_text"]

MASK = "[masked]"
"""What stands in place of a secret, whatever its length."""

ENDING = frozenset(
    {
        "password",
        "passwd",
        "passphrase",
        "pgpassword",
        "private key",
        "secret key",
        "secret access key",
        "secret string",
        "secret binary",
        "secret value",
        "client secret",
        "api key",
        "api token",
        "access token",
        "auth token",
        "bearer token",
        "id token",
        "refresh token",
        "session token",
    }
)
"""Keys that end in these words hold a secret."""

ALONE = frozenset(
    {
        "secret",
        "token",
        "authorization",
        "proxy authorization",
        "cookie",
        "cookies",
        "set cookie",
    }
)
"""Keys that are exactly these words hold a secret."""

_MAX_DEPTH = 400
_LONGEST = max(word.count(" ") + 1 for word in ENDING)


def redact(value: Any) -> Any:
    """Return a JSON value with its secrets masked; what was given stays as it is.

    Under a key that names a secret everything is masked, except null, true and false, which can hold none. All
    other text is treated as by `redact_text`.

    Args:
        value: any JSON: dict, list or tuple, str, number, bool or None. Anything else is returned as it is.

    Raises:
        AuditError: a pattern in `AUDIT["REDACT_PATTERNS"]` is no regular expression.
        InvalidValue: nested deeper than any task may store.
    """
    return _redact(value, _rules(), 0)


def redact_document(field: str, value: Any) -> Any:
    """Redact a document that is to be stored; one that cannot be is refused as it was given.

    Args:
        field: the name that an error gives it.
        value: any JSON, or a `JSONText`.

    Raises:
        AuditError: a pattern in `AUDIT["REDACT_PATTERNS"]` is no regular expression.
        InvalidValue: see `validation.document`.
    """
    validation.document(field, value)
    return redact(json.loads(value) if isinstance(value, validation.JSONText) else value)


def redact_text(text: str) -> str:
    """Return a text with its secrets masked.

    Raises:
        AuditError: a pattern in `AUDIT["REDACT_PATTERNS"]` is no regular expression.
    """
    return _redact_text(text, _rules())


def redact_command(argv: Sequence[str]) -> str:
    """Write a command as one would type it, with its secrets masked.

    Each argument is masked before it is quoted, for where a secret ends is not seen between a shell's quotes. What an
    option or a variable that names a secret is given (`--db-password …`, `DB_PASSWORD=…`) is masked whole; in a shell's
    script (`-c`) as in any text.

    Raises:
        AuditError: a pattern in `AUDIT["REDACT_PATTERNS"]` is no regular expression.
    """
    rules = _rules()
    told: list[str] = []
    previous, secret, header = "", False, False
    for each in argv:
        header = header and not each.startswith("-")
        given = None if _SCRIPT.fullmatch(previous) else _NAMES.match(each)
        names = given[0] if given else ""
        name = names.rstrip("=").rpartition("=")[2]
        if header or (secret and not each.startswith("--")) or _is_bearer(previous, each, rules):
            told.append(MASK)
        elif len(names) < len(each) and _is_secret(name, rules):
            told.append(f"{names}{MASK}")
        else:
            glued = "-H" if each.startswith("-H") else ""  # curl's
            told.append(shlex.quote(glued + _redact_text(each.removeprefix(glued), rules)))
        header = header or bool(_BARE_HEADER.fullmatch(each))
        named = each.startswith("--") and not each.startswith("--no-") and _is_secret(each, rules)
        secret = named or _announces(previous, each, rules)
        previous = each
    return _redact_custom(" ".join(told), rules)


def check() -> None:
    """Compile what `AUDIT` adds, so that a mistake in it shows before there is anything to mask.

    Raises:
        AuditError: a pattern in `AUDIT["REDACT_PATTERNS"]` is no regular expression; the message names it.
    """
    _rules()


class _Rules:
    """The words and patterns of one state of the settings."""

    __slots__ = ("keys", "patterns")

    def __init__(self, keys: tuple[str, ...], patterns: tuple[str, ...]) -> None:
        self.keys = frozenset("".join(_words(key)) for key in (*ALONE, *keys))
        self.patterns = []
        for pattern in patterns:
            try:
                self.patterns.append(re.compile(pattern))
            except re.error as error:
                raise AuditError(
                    f'AUDIT["REDACT_PATTERNS"]: {pattern!r} is not a regular expression: {error}.'
                ) from error


_compiled = lru_cache(maxsize=8)(_Rules)


def _rules() -> _Rules:
    settings = conf.settings()
    return _compiled(tuple(settings.REDACT_KEYS), tuple(settings.REDACT_PATTERNS))


def _redact(value: Any, rules: _Rules, depth: int) -> Any:
    if isinstance(value, str):
        return _redact_text(value, rules)
    if isinstance(value, dict | list | tuple) and depth > _MAX_DEPTH:
        raise InvalidValue("value", "…", f"is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, dict):
        return {
            key: MASK if _is_secret(key, rules) and not _is_bare(inner) else _redact(inner, rules, depth + 1)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_redact(inner, rules, depth + 1) for inner in value]
    return value


def _is_bare(value: Any) -> bool:
    return value is None or isinstance(value, bool)


_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[^\W_A-Za-z]+")
_ENDING_JOINED = frozenset(word.replace(" ", "") for word in ENDING)


def _words(key: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(key)]


@lru_cache(maxsize=4096)
def _is_known(key: str) -> bool:
    words = _words(key)
    while words and words[-1].isdigit():  # password1, password2
        words.pop()
    return any("".join(words[-count:]) in _ENDING_JOINED for count in range(1, _LONGEST + 1))


def _is_secret(key: Any, rules: _Rules) -> bool:
    if not isinstance(key, str) or len(key) > 200:
        return False
    return _is_known(key) or "".join(_words(key)) in rules.keys


def _spelled(words: frozenset[str]) -> str:
    """Write the alternatives of some words, however they are joined: `api_key`, `api-key`, `apiKey`."""
    return "|".join(word.replace(" ", "[ _-]?") for word in sorted(words, key=lambda word: (-len(word), word)))


# A value: in escaped quotes, in quotes (an end may be missing), in brackets, or up to a blank, `&`, `;` or `,`.
_VALUE = r"""
    (?P<value>
        \\+["'][^"'\\\r\n]+
      | "(?:[^"\\\r\n]|\\.)+
      | '(?:[^'\\\r\n]|\\.)+
      | (?:\[[^\]\r\n]*\]?|\{[^}\r\n]*\}?)?[^\s&;,"']?[^\s&;,]*
    )
"""
_KEY_QUOTE = r"""\\{0,4}["']"""
_FREE = r"(?<![A-Za-z0-9_])(?<![A-Za-z0-9_]-)"
_HEADER = r"(?<![A-Za-z0-9])(?:(?:proxy-)?authorization|(?:set-)?cookie)"


def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.VERBOSE)


# What gives a script to a shell, and an argument's names: `--env=DB_PASSWORD=`.
_SCRIPT = re.compile(r"-[A-Za-z]*c")
_NAMES = re.compile(r"(?:[\w.-]+=)+")
# A header's name as an argument of its own: all that follows is its value, as in a text to the end of the line.
_BARE_HEADER = _expression(rf"{_HEADER}[:=]")
_ASSIGNMENTS = (
    # password=…, "db_password": "…", apiKey: …; but not "/etc/passwd: …"
    _expression(rf"(?P<head>(?<!/)(?:{_spelled(ENDING)})\d?(?:{_KEY_QUOTE})?[ \t]{{0,4}}[:=]>?[ \t]{{0,4}}){_VALUE}"),
    # token=…, "token": …; but not "Unexpected token: …", nor nextToken=…
    _expression(
        rf"(?P<head>{_FREE}(?:{_spelled(ALONE)})(?:{_KEY_QUOTE}[ \t]{{0,4}}[:=]>?|[ \t]?=)[ \t]{{0,4}}){_VALUE}"
    ),
    # --db-password …
    _expression(
        rf"(?P<head>(?<![-\w])--(?:(?:[a-z0-9]{{1,15}}-){{0,3}}(?:{_spelled(ENDING)})|token|secret)[ \t]+(?!-)){_VALUE}"
    ),
)
_OPENING = re.compile(r"""\\*["']""")


def _mask_assigned(match: re.Match[str]) -> str:
    value = match["value"]
    opening = _OPENING.match(value)
    quote = opening[0] if opening else ""
    if not value or (quote and value.startswith(quote * 2)):
        return match[0]
    return f"{match['head']}{quote}{MASK}"


_PATTERNS = (
    # Authorization: …, to the end of the line, or of the quotes around the header
    (
        _expression(
            rf"""(?P<head>(?P<quote>["'])?{_HEADER}[ \t]{{0,4}}[:=][ \t]{{0,4}})
                 (?(quote)(?:(?!(?P=quote))[^\r\n])+|[^\r\n]+)"""
        ),
        rf"\g<head>{MASK}",
    ),
    # Bearer …, unless it is an English word that follows
    (
        _expression(
            r"""(?P<head>\bbearer[ \t]+)(?![A-Z][a-z]{0,18}\.?(?![A-Za-z0-9._~+/=-]))[A-Za-z0-9._~+/-]{6,}={0,2}"""
        ),
        rf"\g<head>{MASK}",
    ),
    # scheme://user:password@host
    (_expression(r"(?P<head>://[^\s/?\#:@]*:)[^\s/?\#]+(?=@)"), rf"\g<head>{MASK}"),
    # Tokens that say what they are: JSON web tokens, GitHub, GitLab, Slack
    (
        re.compile(
            r"(?<![A-Za-z0-9_-])(?:eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*"
            r"|gh[opsur]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20,}"
            r"|xox[abeoprs]-[A-Za-z0-9-]{10,})"
        ),
        MASK,
    ),
)
# No expression above finds anything in a text without one of these, and looking for them is fast.
_HINTS = re.compile(r"pass|secret|private|key|token|authorization|cookie|bearer|://|eyJ|gh._|github_|glpat-|xox", re.I)


def _redact_text(text: str, rules: _Rules) -> str:
    if "PRIVATE KEY" in text:
        text = _mask_private_keys(text)
    if _HINTS.search(text):
        for expression in _ASSIGNMENTS:
            text = expression.sub(_mask_assigned, text)
        for expression, replacement in _PATTERNS:
            text = expression.sub(replacement, text)
    return _redact_custom(text, rules)


def _redact_custom(text: str, rules: _Rules) -> str:
    for expression in rules.patterns:
        text = expression.sub(lambda _: MASK, text)
    return text


_KEY_BEGINS = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_ENDS = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")


def _mask_private_keys(text: str) -> str:
    """Mask each block from its first line to its last; a text cut inside one loses the part that is there."""
    kept = []
    position = 0
    if (end := _KEY_ENDS.search(text)) and not _KEY_BEGINS.search(text, 0, end.start()):
        lines = text[: end.start()].splitlines(keepends=True)
        while lines and " " not in lines[-1].strip():
            lines.pop()
        kept += [*lines, MASK]
        position = end.end()
    while begin := _KEY_BEGINS.search(text, position):
        kept += [text[position : begin.start()], MASK]
        end = _KEY_ENDS.search(text, begin.end())
        if end is None:
            return "".join(kept)
        position = end.end()
    return "".join([*kept, text[position:]])


def _announces(previous: str, word: str, rules: _Rules) -> bool:
    """Whether an argument is all that stands before a secret: `password:`, `PASSWORD=`, or the sign of it alone."""
    if word in {"=", ":"}:
        previous, word = "", f"{previous}{word}"
    key, sign = word[:-1], word[-1:]
    return (sign == "=" and _is_secret(key, rules)) or (sign == ":" and _is_known(key))


def _is_bearer(previous: str, word: str, rules: _Rules) -> bool:
    return previous.lower() == "bearer" and MASK in _redact_text(f"{previous} {word}", rules)
