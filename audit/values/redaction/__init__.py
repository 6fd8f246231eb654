"""Masks secrets in JSON and in text: by names, by what stands around them, by the shape of tokens.

`documents` masks JSON, `arguments` a command, `masking` a text; `rules` are what a project adds. `texts` runs the rules
for a text and decides which can find anything. `assignments`, `web`, `prose`, `markup` and `shell` hold them by what
stands around a secret. `keys` knows names by the words of `vocabulary`, `looks` what a value looks like, `shapes` the
tokens of vendors, `commands` the options of programs, `value` where a value begins and ends.

All that is imported by its first use. To compile its patterns takes as long as to import the models, and most processes
mask nothing.

Broad patterns (anything with `key`, `token` or `pass` in it) hide what an audit trail is for. What a project knows
beyond this belongs into `AUDIT["REDACT_KEYS"]` and `AUDIT["REDACT_PATTERNS"]`.
"""

import json
import shlex
from collections.abc import Sequence
from typing import Any

from audit.values import validation
from audit.values.redaction.vocabulary import ALONE, ENDING, MASK

__all__ = ["ALONE", "ENDING", "MASK", "check", "redact", "redact_command", "redact_document", "redact_text"]


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
    from audit.values.redaction.documents import redacted
    from audit.values.redaction.rules import current

    rules = current()
    masked = redacted(value, rules)
    # What is left of a value that was masked in part may be a secret by itself.
    return masked if masked == value else redacted(masked, rules)


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
    from audit.values.redaction.masking import masked_text
    from audit.values.redaction.rules import current

    return masked_text(text, current())


def redact_command(argv: Sequence[str]) -> str:
    """Write a command as one would type it, with its secrets masked.

    Each argument is masked before it is quoted, for where a secret ends is not seen between a shell's quotes. What an
    option or a variable that names a secret is given (`--db-password …`, `DB_PASSWORD=…`) is masked whole, and what
    the options of known programs hold (`mysql -p…`, `curl -u user:…`); in a shell's script (`-c`) as in any text.

    Raises:
        AuditError: a pattern in `AUDIT["REDACT_PATTERNS"]` is not a regular expression.
    """
    from audit.values.redaction.arguments import masked_words
    from audit.values.redaction.masking import masked_by_patterns
    from audit.values.redaction.rules import current

    rules = current()
    typed = [
        f"{shlex.quote(kept) if kept else ''}{MASK}" if masked else shlex.quote(kept)
        for kept, masked in masked_words(argv, rules)
    ]
    return masked_by_patterns(" ".join(typed), rules)


def check() -> None:
    """Compile what `AUDIT` adds, so that a mistake in it shows before there is anything to mask.

    Raises:
        AuditError: a pattern in `AUDIT["REDACT_PATTERNS"]` is not a regular expression; the message names it.
    """
    from audit.values.redaction.rules import current

    current()
