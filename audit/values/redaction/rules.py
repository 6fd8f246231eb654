"""The words and patterns that a project adds to those of this package."""

import re
from functools import lru_cache
from typing import Any

from audit import conf
from audit.exceptions import AuditError
from audit.values.redaction.assignments import name_pattern
from audit.values.redaction.keys import Kind, kind_of, words

__all__ = ["Rules", "current"]


class Rules:
    """The words and patterns of one state of the settings."""

    __slots__ = ("keys", "names", "patterns")

    def __init__(self, keys: tuple[str, ...], patterns: tuple[str, ...]) -> None:
        self.keys = frozenset("".join(words(key)) for key in keys)
        if "" in self.keys:
            empty = next(key for key in keys if not words(key))
            raise AuditError(f'AUDIT["REDACT_KEYS"]: {empty!r} has no letter and no digit, so it names no key.')
        self.names = name_pattern([words(key) for key in keys]) if keys else None
        self.patterns = []
        for pattern in patterns:
            try:
                self.patterns.append(re.compile(pattern))
            except re.error as error:
                raise AuditError(
                    f'AUDIT["REDACT_PATTERNS"]: {pattern!r} is not a regular expression: {error}.'
                ) from error

    def kind_of(self, name: Any) -> Kind | None:
        """Say what is masked under a name; None for nothing."""
        if not isinstance(name, str):
            return None
        if self.keys and "".join(words(name)) in self.keys:
            return Kind.ALL
        return kind_of(name)


_compiled = lru_cache(maxsize=8)(Rules)


def current() -> Rules:
    """Return those of the settings.

    Raises:
        AuditError: a pattern in `AUDIT["REDACT_PATTERNS"]` is not a regular expression; the message names it.
    """
    settings = conf.settings()
    return _compiled(tuple(settings.REDACT_KEYS), tuple(settings.REDACT_PATTERNS))
