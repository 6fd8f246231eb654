"""Masks secrets in JSON and in text: by names, by what stands around them, by the shape of tokens.

`texts` runs the rules for a text and decides which can find anything. `assignments`, `web`, `prose`, `markup` and
`shell` hold them by what stands around a secret. `keys` knows names, `shapes` the tokens of vendors, `commands` the
options of programs, `value` where a value begins and ends.

Broad patterns (anything with `key`, `token` or `pass` in it) hide what an audit trail is for. What a project knows
beyond this belongs into `AUDIT["REDACT_KEYS"]` and `AUDIT["REDACT_PATTERNS"]`.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from audit import conf
from audit.exceptions import AuditError, InvalidValue
from audit.values import validation
from audit.values.redaction.commands import secrets_of
from audit.values.redaction.keys import ALONE, ENDING, MASK, Kind, fold, is_opaque, is_reference, kind_of, words
from audit.values.redaction.texts import spans
from audit.values.redaction.value import Span

__all__ = ["ALONE", "ENDING", "MASK", "check", "redact", "redact_command", "redact_document", "redact_text"]

_MAX_DEPTH = 400


def redact(value: Any) -> Any:
    """Return a JSON value with its secrets masked; what was given stays as it is.

    Under a key that names a secret everything is masked, except null, true and false, which can hold none. All
    other text is treated as by `redact_text`.

    Args:
        value: any JSON: dict, list or tuple, str, number, bool or None. Anything else is returned as it is.

    Raises:
        AuditError: a pattern in `AUDIT["REDACT_PATTERNS"]` is not a regular expression.
        InvalidValue: nested deeper than any task may store.
    """
    rules = _rules()
    masked = _redact(value, rules, 0)
    # What is left of a value that was masked in part may be a secret by itself.
    return masked if masked == value else _redact(masked, rules, 0)


def redact_document(field: str, value: Any) -> Any:
    """Redact a document that is to be stored; one that cannot be is refused as it was given.

    Args:
        field: the name that an error gives it.
        value: any JSON, or a `JSONText`.

    Raises:
        AuditError: a pattern in `AUDIT["REDACT_PATTERNS"]` is not a regular expression.
        InvalidValue: see `validation.document`.
    """
    validation.document(field, value)
    return redact(json.loads(value) if isinstance(value, validation.JSONText) else value)


def redact_text(text: str) -> str:
    """Return a text with its secrets masked.

    Raises:
        AuditError: a pattern in `AUDIT["REDACT_PATTERNS"]` is not a regular expression.
    """
    return _redact_text(text, _rules())


def redact_command(argv: Sequence[str]) -> str:
    """Write a command as one would type it, with its secrets masked.

    Each argument is masked before it is quoted, for where a secret ends is not seen between a shell's quotes. What an
    option or a variable that names a secret is given (`--db-password …`, `DB_PASSWORD=…`) is masked whole, and what
    the options of known programs hold (`mysql -p…`, `curl -u user:…`); in a shell's script (`-c`) as in any text.

    Raises:
        AuditError: a pattern in `AUDIT["REDACT_PATTERNS"]` is not a regular expression.
    """
    rules = _rules()
    return _redact_custom(
        " ".join(
            f"{kept if not masked else shlex.quote(kept) if _needs_quotes(kept) else kept}{MASK}"
            if masked
            else shlex.quote(kept)
            for kept, masked in _words_masked(argv, rules)
        ),
        rules,
    )


def check() -> None:
    """Compile what `AUDIT` adds, so that a mistake in it shows before there is anything to mask.

    Raises:
        AuditError: a pattern in `AUDIT["REDACT_PATTERNS"]` is not a regular expression; the message names it.
    """
    _rules()


class _Rules:
    """The words and patterns of one state of the settings."""

    __slots__ = ("keys", "patterns")

    def __init__(self, keys: tuple[str, ...], patterns: tuple[str, ...]) -> None:
        self.keys = frozenset("".join(words(key)) for key in keys)
        self.patterns = []
        for pattern in patterns:
            try:
                self.patterns.append(re.compile(pattern))
            except re.error as error:
                raise AuditError(
                    f'AUDIT["REDACT_PATTERNS"]: {pattern!r} is not a regular expression: {error}.'
                ) from error

    def kind_of(self, name: Any) -> Kind | None:
        if not isinstance(name, str):
            return None
        if self.keys and "".join(words(name)) in self.keys:
            return Kind.ALL
        return kind_of(name)


_compiled = lru_cache(maxsize=8)(_Rules)


def _rules() -> _Rules:
    settings = conf.settings()
    return _compiled(tuple(settings.REDACT_KEYS), tuple(settings.REDACT_PATTERNS))


# Documents.

_NAMES = frozenset(
    [
        "name",
        "key",
        "id",
        "variable",
        "parametername",
        "parameterkey",
        "parameter",
        "header",
        "field",
        "var",
        "property",
        "k",
    ]
)
_VALUES = frozenset(["value", "val", "parametervalue", "content", "plaintext", "default", "stringvalue", "v"])


def _redact(value: Any, rules: _Rules, depth: int) -> Any:
    if isinstance(value, str):
        return _redact_text(value, rules)
    if isinstance(value, dict):
        return _redact_dict(value, rules, depth)
    if isinstance(value, list | tuple):
        return _redact_list(value, rules, depth)
    return value


def _check_depth(depth: int) -> None:
    if depth >= _MAX_DEPTH:
        raise InvalidValue("value", "…", f"is nested deeper than {_MAX_DEPTH} levels")


def _redact_dict(value: dict[Any, Any], rules: _Rules, depth: int) -> dict[Any, Any]:
    _check_depth(depth)
    named = _named(value, rules)
    is_secret = value.get("kind") == "Secret"
    masked: dict[Any, Any] = {}
    for key, inner in value.items():
        kind = rules.kind_of(key)
        if kind is None and named and isinstance(key, str) and key.lower() in _VALUES:
            kind = named
        if (is_secret and key in ("data", "stringData") and isinstance(inner, dict)) or (
            key == "secrets" and isinstance(inner, dict)
        ):
            inner = {each: MASK if isinstance(text, str) else text for each, text in inner.items()}
        shown = _redact_key(key, rules, masked) if isinstance(key, str) else key
        if kind and _holds(inner, kind):
            masked[shown] = MASK
        elif kind is Kind.TEXT and isinstance(inner, list | tuple):
            masked[shown] = _redact_list(inner, rules, depth + 1, _is_opaque_text)
        else:
            masked[shown] = _redact(inner, rules, depth + 1)
    return masked


def _redact_key(key: str, rules: _Rules, taken: dict[Any, Any]) -> str:
    """Mask what is secret in a key itself; two keys stay two."""
    shown = key if _is_plain_key(key) and not rules.patterns else _redact_text(key, rules)
    if shown == key:
        return key
    unique, number = shown, 2
    while unique in taken:
        unique, number = f"{shown} ({number})", number + 1
    return unique


@lru_cache(maxsize=4096)
def _is_plain_key(key: str) -> bool:
    """Whether nothing in a key is secret; documents have the same few."""
    return len(key) < 100 and _redact_text(key, _Rules((), ())) == key


def _named(value: dict[Any, Any], rules: _Rules) -> Kind | None:
    """What is secret in `{"name": "DB_PASSWORD", "value": …}`."""
    if not 2 <= len(value) <= 20:
        return None
    for key, inner in value.items():
        if isinstance(inner, str) and isinstance(key, str) and key.lower() in _NAMES and (kind := rules.kind_of(inner)):
            return kind
    return None


def _holds(value: Any, kind: Kind) -> bool:
    """Whether a value under a key of this kind is masked as a whole."""
    if value is None or isinstance(value, bool):
        return False
    if kind is Kind.ALL:
        return True
    if not isinstance(value, str) or not value or value == MASK:
        return False
    if kind is Kind.TEXT:
        return not is_reference(value) and value.lower() not in _SAYS_NOTHING
    if kind is Kind.OPAQUE:
        return is_opaque(value)
    return "://" not in value and "=" not in value and is_opaque(value, least=8)


_SAYS_NOTHING = frozenset(
    [
        "none",
        "true",
        "false",
        "yes",
        "no",
        "required",
        "optional",
        "missing",
        "invalid",
        "expired",
        "inherit",
        "ok",
        "failed",
        "passed",
    ]
)


def _is_opaque_text(value: Any) -> bool:
    return isinstance(value, str) and is_opaque(value)


def _redact_list(
    value: Sequence[Any], rules: _Rules, depth: int, is_secret: Callable[[Any], bool] = lambda _: False
) -> list[Any]:
    _check_depth(depth)
    if len(value) > 1 and isinstance(value[0], str) and _is_command(value):
        return [f"{kept}{MASK}" if masked else kept for kept, masked in _words_masked(value, rules)]
    if value and all(isinstance(each, list | tuple) and len(each) == 2 and isinstance(each[0], str) for each in value):
        # Headers and the like: ["Authorization", "…"], each as in a document.
        value = [_redact_pair(each, rules) for each in value]
    masked: list[Any] = []
    for inner in value:  # no comprehension, for each would be a frame a level
        masked.append(MASK if is_secret(inner) else _redact(inner, rules, depth + 1))
    return masked


def _is_command(value: Sequence[Any]) -> bool:
    return all(isinstance(each, str) for each in value) and (
        any(each.startswith("-") for each in value) or bool(secrets_of(value))
    )


def _redact_pair(value: Sequence[Any], rules: _Rules) -> list[Any]:
    kind = rules.kind_of(value[0])
    return [value[0], MASK if kind and _holds(value[1], kind) else value[1]]


# Text.

_UNSEEN = re.compile(
    "[\u00ad\u200b-\u200f\u2060\ufeff]|\x1b\\[[0-9;]{0,20}[A-Za-z]|\\\\(?:x1b|u001b|033|e)\\[[0-9;]{0,20}m"
)


# So short, and without a sign, it is a word or a number: no token has less than twelve characters.
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{0,11}")
# Short texts in which nothing was masked: the values of documents are the same few. None that holds a secret is kept.
_seen: set[str] = set()


def _redact_text(text: str, rules: _Rules) -> str:
    if len(text) > 5 and text not in _seen and not _PLAIN.fullmatch(text):
        if (masked := _masked(text)) != text:
            # What is left beside a mask may be a secret by itself.
            text = _masked(masked)
        elif len(text) < 200:
            if len(_seen) >= 4096:
                _seen.clear()
            _seen.add(text)
    return _redact_custom(text, rules)


def _masked(text: str) -> str:
    """Mask what the rules find; they look at a text without colours, unseen characters and look-alike letters."""
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


def _redact_custom(text: str, rules: _Rules) -> str:
    for expression in rules.patterns:
        text = expression.sub(lambda _: MASK, text)
    return text


# Commands.

# What gives a script to a shell, and an argument's names: `--env=DB_PASSWORD=`.
_SCRIPT = re.compile(r"-[A-Za-z]*c")
_NAMED = re.compile(r"(?:[^\W_][\w.-]*=|[-_][\w.-]*=)+")
# A header's name as an argument of its own: all that follows is its value, as in a text to the end of the line.
_BARE_HEADER = re.compile(r"(?:(?:proxy-)?authorization|(?:set-)?cookie)[:=]", re.IGNORECASE)


def _words_masked(argv: Sequence[str], rules: _Rules) -> list[tuple[str, bool]]:
    """Return each word's part to be kept, and whether a mask follows it."""
    known = secrets_of(argv)
    words_: list[tuple[str, bool]] = []
    previous, secret, header = "", False, False
    for index, each in enumerate(argv):
        header = header and not each.startswith("-")
        given = None if _SCRIPT.fullmatch(previous) else _NAMED.match(each)
        names = given[0] if given else ""
        name = names.rstrip("=").rpartition("=")[2]
        if known.get(index, 0) and secret and each[known[index] :] != MASK:
            words_.append((each[: known[index]], True))
        elif header or (secret and not each.startswith("--")) or _is_bearer(previous, each):
            words_.append(("", True))
        elif len(names) < len(each) and _is_secret(name, each[len(names) :], rules):
            words_.append((names, True))
        elif index in known and each[known[index] :] != MASK:
            words_.append((each[: known[index]], True))
        else:
            glued = "-H" if each.startswith("-H") else ""  # curl's
            words_.append((glued + _redact_text(each.removeprefix(glued), rules), False))
        header = header or bool(_BARE_HEADER.fullmatch(each))
        secret = _awaits(each, argv[index + 1] if index + 1 < len(argv) else "", rules) or _announces(
            previous, each, rules
        )
        previous = each
    return words_


def _is_secret(name: str, value: str, rules: _Rules) -> bool:
    kind = rules.kind_of(name)
    return kind is Kind.ALL or (kind is not None and _holds(value, kind))


def _awaits(option: str, value: str, rules: _Rules) -> bool:
    """Whether an option's argument is a secret: `--db-password`, `-storepass`."""
    name = option.lstrip("-")
    dashes = len(option) - len(name)
    if dashes not in (1, 2) or len(name) < 3 or name.startswith("no-") or "=" in name:
        return False
    kind = rules.kind_of(name)
    if dashes == 1 and kind is Kind.ALL:
        return True
    return kind is not None and (kind is Kind.ALL or _holds(value, kind))


def _announces(previous: str, word: str, rules: _Rules) -> bool:
    """Whether an argument is all that stands before a secret: `password:`, `PASSWORD=`, or the sign of it alone."""
    if word in {"=", ":"}:
        previous, word = "", f"{previous}{word}"
    key, sign = word[:-1], word[-1:]
    if sign not in {"=", ":"}:
        return False
    kind = rules.kind_of(key)
    return kind is Kind.ALL and (sign == "=" or key.lower() not in {"token", "secret"})


def _is_bearer(previous: str, word: str) -> bool:
    return previous.lower() == "bearer" and MASK in _masked(f"{previous} {word}")


def _needs_quotes(kept: str) -> bool:
    return bool(kept) and shlex.quote(kept) != kept
