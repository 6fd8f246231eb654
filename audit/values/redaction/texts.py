"""Where secrets stand in a text: values of names that hold one, headers, URLs, prose, markup, command lines.

Each rule yields spans of the text and changes nothing; what is masked is their union. So what stands around a secret
cannot change. Rules look at a folded text, in which look-alike letters are Latin ones.

Every rule takes linear time: repetitions are bounded, possessive, or exclude what begins the next attempt.
"""

import re
from collections.abc import Callable, Iterator

from audit.values.redaction.assignments import STEMS, assigned
from audit.values.redaction.commands import words_of
from audit.values.redaction.markup import elements, kubernetes, pairs
from audit.values.redaction.prose import calls, said, sql
from audit.values.redaction.shapes import key_blocks, shapes
from audit.values.redaction.shell import commands, files, listed, pgpass, redis
from audit.values.redaction.value import Span
from audit.values.redaction.web import headers, schemes, urls

__all__ = ["spans"]

_Rule = Callable[[str, str], Iterator[Span]]

# Each rule with what it finds nothing without, in small letters: to look for a few words takes a tenth of what a
# pattern takes. Those of the second table find nothing in a text without a name that may hold a secret.
_ALWAYS: tuple[tuple[_Rule, tuple[str, ...]], ...] = (
    (urls, ("@",)),
    (calls, ("(",)),
    (schemes, ("bearer", "basic", "api", "token", "negotiate", "ntlm", "sso-key")),
    (listed, ("'-", '"-')),
    (pgpass, (":",)),
    (redis, ("requirepass", "masterauth", "auth ")),
)
_WITH_NAMES: tuple[tuple[_Rule, tuple[str, ...]], ...] = (
    (assigned, (":", "=", ">", "→", "%", '"', "'", "-")),
    (headers, ("authorization", "cookie")),
    (said, ("pass", "pwd", "secret", "token", "key", "pin", "credential")),
    (sql, ("identified", "set password")),
    (pairs, ("val", "content", "plaintext", "default", "v'", 'v"', "v:", "v=")),
    (elements, ("</",)),
    (kubernetes, ("kind",)),
    (files, ("password", "stdin", "sudo", "passwd", "with-token", "smbclient", "cryptsetup")),
)
_LONG = 500
_NAMES = re.compile(f"{STEMS}|identified|sudo|stdin|smbclient|cryptsetup")


def spans(text: str, small: str) -> Iterator[Span]:
    """Yield where secrets stand in a text.

    Args:
        text: folded.
        small: the same in small letters, of the same length.
    """
    if "PRIVATE KEY" in text or "Private-Lines" in text:
        yield from key_blocks(text)
    yield from shapes(text)
    words = words_of(small)
    yield from commands(text, small, words)
    for rule, needed in _ALWAYS:
        if _has(small, needed):
            yield from rule(text, small)
    # In a long text most words are there many times; names in other letters than ASCII are not among them.
    if _NAMES.search(b" ".join(words).decode() if len(small) > _LONG and small.isascii() else small):
        for rule, needed in _WITH_NAMES:
            if _has(small, needed):
                yield from rule(text, small)


def _has(small: str, needed: tuple[str, ...]) -> bool:
    for each in needed:  # noqa: SIM110 - a generator takes longer than the search
        if each in small:
            return True
    return False
