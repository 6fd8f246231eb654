"""Texts that a terminal shows and does not obey; needs no Django.

Every value of a task is somebody's text. `safe` and `safe_json` leave nothing in it that a terminal would obey or that
would show other text than is there.
"""

from __future__ import annotations

import json
import unicodedata
from datetime import datetime
from uuid import UUID

__all__ = ["brief", "safe", "safe_json"]


def safe(value: object) -> str:
    """Write a value on one line that a terminal shows and does not obey.

    Control characters (ANSI escapes begin with one), line breaks, bidirectional and invisible formatting characters,
    surrogates and unassigned characters become escapes such as `\\n`, `\\x1b` and `\\u202e`.
    """
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if _harmless(each) else _escape(each) for each in text)


def safe_json(text: str) -> str:
    """Escape in a JSON document on one line what a terminal would obey, as JSON allows.

    Args:
        text: JSON without line breaks or other control characters between its values.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        each if _harmless(each) else json.dumps(each)[1:-1] if each != "\x7f" else "\\u007f" for each in text
    )


def brief(value: object) -> str:
    """Write a value for an error's message, in 200 characters: as Python shows it, moments and ids as people do."""
    try:
        text = str(value) if isinstance(value, datetime | UUID) else repr(value)
    except Exception:  # noqa: BLE001 - an integer of 5 000 digits, a list in a list 3 000 deep, anything's own __repr__
        return f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text)} characters)"


def _harmless(character: str) -> bool:
    # Zs beside the plain space shows as a space; Python counts it as not printable.
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
