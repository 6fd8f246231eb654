"""What a value looks like: a secret that a machine has made, or a mere reference to one."""

import re
from typing import Any

from audit.values.redaction.keys import MASK, Kind

__all__ = ["is_masked_whole", "is_opaque", "is_reference"]

_REFERENCE = re.compile(
    r"""
      \((?:sensitive|known)\b  # as Terraform shows one
    | \$\{[^}:]*\}? | \$\( | \$[A-Za-z_]+$ | %?\{\{ | %\( | %[sdr]$ | \{\w*\} | <[^<>]*> | [*xX•.…]{3,}$ | %\w+%$
    | (?:~|\.{1,2})/ | /(?:etc|home|usr|var|run|root|opt|tmp|mnt|srv|dev|proc|secrets?|keys?|app|data|vault|Users)/
    | /?(?:[\w.-]+/)+[\w.-]+\.[a-z]{2,4}$ | [A-Za-z]:\\ | [\w-]+\.(?:pem|key|crt|txt|json|ya?ml|env|ppk|py|sh)$
    | [A-Z]+(?:_[A-Z]+){2,}$ | arn:aws | (?:op|vault|ssm|file|gcp-?sm|aws-?sm|secretsmanager|awskms|projects):?/
    | (?:self|os|settings|config|env|cls|process|request|args|kwargs|options|data|secrets?|var|local|module)\.[A-Za-z_]
    | (?:[a-z_]+|[A-Z_]+)(?:\.(?:[a-z_]+|[A-Z_]+))+(?:[(\[]|$) | [a-z_][a-z_.]*\( | (?:lambda|await|new)\s
    """,
    re.VERBOSE,
)


def is_reference(value: str) -> bool:
    """Whether a value only says where the secret is: a variable, a path, a template, a call, stars."""
    return bool(_REFERENCE.match(value))


_PLAIN = re.compile(
    r"""
      [0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}
    | [a-z]+(?:[-_./:][a-z0-9]+)+ | v?\d[\d.,:/_-]* | v\d+ | \d+(?:\.\d+)?[A-Za-z]{1,3} | \d{4}-\d\d-\d\d[\dTZ:.+-]*
    | [A-Z][a-z]+\d? | [a-z]+\d{0,2} | [A-Z]+[-_]?\d{0,2} | [A-Z_]+\d? | (?:https?|arn|s3|gs):.* | [\w.-]+:\d{2,5}
    | (?:[\w.-]*/){2,}[\w.-]* | [A-Za-z]+/\d[\d.]* | sha(?:1|256|512)[:=-][0-9A-Za-z+/=]+ | [\w.+-]+@[\w-]+(?:\.[\w-]+)+
    """,
    re.VERBOSE,
)
_NOT_IN_SECRETS = re.compile(r"[\s()<>{}\"'|]|\[(?!masked)")


_DIGIT = re.compile(r"\d")
_LETTER = re.compile(r"[^\W\d_]")


def is_opaque(value: str, *, least: int = 6) -> bool:
    """Whether a text looks as if a machine had made it: letters with digits, with signs, or long and in mixed case."""
    if len(value) < least or _NOT_IN_SECRETS.search(value) or _PLAIN.fullmatch(value) or is_reference(value):
        return False
    digits = bool(_DIGIT.search(value))
    letters = bool(_LETTER.search(value))
    if digits and letters:
        return True
    mixed = letters and value != value.lower() and value != value.upper()
    if len(value) >= 20 and letters and value.isascii() and re.fullmatch(r"[A-Za-z0-9+/_=-]+", value):
        return mixed or len(set(value)) <= 3
    return letters and any(each in "!@#$%^&*~" for each in value[1:-1])


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


def is_masked_whole(value: Any, kind: Kind) -> bool:
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
