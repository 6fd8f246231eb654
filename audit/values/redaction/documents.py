"""Masks secrets in JSON, by the names of its keys and in all its text."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from audit.exceptions import InvalidValue
from audit.values.redaction.arguments import masked_words
from audit.values.redaction.commands import secrets_of
from audit.values.redaction.keys import MASK, Kind
from audit.values.redaction.looks import is_masked_whole, is_opaque
from audit.values.redaction.masking import masked_text
from audit.values.redaction.rules import Rules

__all__ = ["redacted"]

_MAX_DEPTH = 400
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


def redacted(value: Any, rules: Rules, depth: int = 0) -> Any:
    """Return a JSON value with its secrets masked.

    Args:
        value: any JSON.
        rules: what the project adds.
        depth: at which level of a document it stands.

    Raises:
        InvalidValue: nested deeper than any task may store.
    """
    if isinstance(value, str):
        return masked_text(value, rules)
    if isinstance(value, dict):
        return _redact_dict(value, rules, depth)
    if isinstance(value, list | tuple):
        return _redact_list(value, rules, depth)
    return value


def _check_depth(depth: int) -> None:
    if depth >= _MAX_DEPTH:
        raise InvalidValue("value", "…", f"is nested deeper than {_MAX_DEPTH} levels")


def _redact_dict(value: dict[Any, Any], rules: Rules, depth: int) -> dict[Any, Any]:
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
        shown = _redact_key(key, rules, lambda name: name in masked or name in value) if isinstance(key, str) else key
        if kind and is_masked_whole(inner, kind):
            masked[shown] = MASK
        elif kind is Kind.TEXT and isinstance(inner, list | tuple):
            masked[shown] = _redact_list(inner, rules, depth + 1, _is_opaque_text)
        else:
            masked[shown] = redacted(inner, rules, depth + 1)
    return masked


def _redact_key(key: str, rules: Rules, taken: Callable[[str], bool]) -> str:
    """Mask what is secret in a key itself; two keys stay two."""
    shown = key if _is_plain_key(key) and not rules.patterns else masked_text(key, rules)
    if shown == key:
        return key
    unique, number = shown, 2
    while taken(unique):
        unique, number = f"{shown} ({number})", number + 1
    return unique


@lru_cache(maxsize=4096)
def _is_plain_key(key: str) -> bool:
    """Whether nothing in a key is secret; documents have the same few."""
    return len(key) < 100 and masked_text(key, Rules((), ())) == key


def _named(value: dict[Any, Any], rules: Rules) -> Kind | None:
    """What is secret in `{"name": "DB_PASSWORD", "value": …}`."""
    if not 2 <= len(value) <= 20:
        return None
    for key, inner in value.items():
        if isinstance(inner, str) and isinstance(key, str) and key.lower() in _NAMES and (kind := rules.kind_of(inner)):
            return kind
    return None


def _is_opaque_text(value: Any) -> bool:
    return isinstance(value, str) and is_opaque(value)


def _redact_list(
    value: Sequence[Any], rules: Rules, depth: int, is_secret: Callable[[Any], bool] = lambda _: False
) -> list[Any]:
    _check_depth(depth)
    if len(value) > 1 and isinstance(value[0], str) and _is_command(value):
        return [f"{kept}{MASK}" if masked else kept for kept, masked in masked_words(value, rules)]
    if value and all(isinstance(each, list | tuple) and len(each) == 2 and isinstance(each[0], str) for each in value):
        # Headers and the like: ["Authorization", "…"], each as in a document.
        value = [_redact_pair(each, rules) for each in value]
    masked: list[Any] = []
    for inner in value:  # no comprehension, for each would be a frame a level
        masked.append(MASK if is_secret(inner) else redacted(inner, rules, depth + 1))
    return masked


def _is_command(value: Sequence[Any]) -> bool:
    return all(isinstance(each, str) for each in value) and (
        any(each.startswith("-") for each in value) or bool(secrets_of(value))
    )


def _redact_pair(value: Sequence[Any], rules: Rules) -> list[Any]:
    kind = rules.kind_of(value[0])
    return [value[0], MASK if kind and is_masked_whole(value[1], kind) else value[1]]
