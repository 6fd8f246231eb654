"""Masks secrets in the arguments of a command."""

import re
from collections.abc import Sequence

from audit.values.redaction.commands import secrets_of
from audit.values.redaction.keys import MASK, Kind
from audit.values.redaction.looks import is_masked_whole
from audit.values.redaction.masking import masked_by_rules, masked_text
from audit.values.redaction.rules import Rules

__all__ = ["masked_words"]

# What gives a script to a shell, and an argument's names: `--env=DB_PASSWORD=`.
_SCRIPT = re.compile(r"-[A-Za-z]*c")
_NAMED = re.compile(r"(?:[^\W_][\w.-]*=|[-_][\w.-]*=)+")
# A header's name as an argument of its own: all that follows is its value, as in a text to the end of the line.
_BARE_HEADER = re.compile(r"(?:(?:proxy-)?authorization|(?:set-)?cookie)[:=]", re.IGNORECASE)


def masked_words(argv: Sequence[str], rules: Rules) -> list[tuple[str, bool]]:
    """Split what is secret off each word of a command.

    Args:
        argv: the words.
        rules: what the project adds.

    Returns:
        For each word the part to be kept, and whether a mask follows it.
    """
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
            words_.append((glued + masked_text(each.removeprefix(glued), rules), False))
        header = header or bool(_BARE_HEADER.fullmatch(each))
        secret = _awaits(each, argv[index + 1] if index + 1 < len(argv) else "", rules) or _announces(
            previous, each, rules
        )
        previous = each
    return words_


def _is_secret(name: str, value: str, rules: Rules) -> bool:
    kind = rules.kind_of(name)
    return kind is Kind.ALL or (kind is not None and is_masked_whole(value, kind))


def _awaits(option: str, value: str, rules: Rules) -> bool:
    """Whether an option's argument is a secret: `--db-password`, `-storepass`."""
    name = option.lstrip("-")
    dashes = len(option) - len(name)
    if dashes not in (1, 2) or len(name) < 3 or name.startswith("no-") or "=" in name:
        return False
    kind = rules.kind_of(name)
    return kind is not None and (kind is Kind.ALL or is_masked_whole(value, kind))


def _announces(previous: str, word: str, rules: Rules) -> bool:
    """Whether an argument is all that stands before a secret: `password:`, `PASSWORD=`, or the sign of it alone."""
    if word in {"=", ":"}:
        previous, word = "", f"{previous}{word}"
    key, sign = word[:-1], word[-1:]
    if sign not in {"=", ":"}:
        return False
    kind = rules.kind_of(key)
    return kind is Kind.ALL and (sign == "=" or key.lower() not in {"token", "secret"})


def _is_bearer(previous: str, word: str) -> bool:
    return previous.lower() == "bearer" and MASK in masked_by_rules(f"{previous} {word}")
