"""The end of what a process wrote, as it is stored."""

from __future__ import annotations

from audit.values.redaction import redact_text
from audit.values.validation import storable_text

__all__ = ["MARGIN", "tail_text"]

MARGIN = 8192
"""How many bytes to keep beyond the end that is stored, so that a secret at its cut is still recognised."""


def tail_text(kept: bytes, seen: int, limit: int) -> str:
    """Return the end of output: at most the limit, as UTF-8, with secrets masked and invalid bytes replaced.

    Args:
        kept: its last bytes, at least the limit and `MARGIN` if there were so many.
        seen: how many bytes there were.
        limit: how many bytes to return at most.
    """
    kept = kept[-(limit + MARGIN) :]
    text = redact_text(storable_text(_decoded(kept, cut=seen > len(kept))))
    encoded = text.encode()
    return text if len(encoded) <= limit else _decoded(encoded[-limit:], cut=True)


def _decoded(data: bytes, *, cut: bool) -> str:
    if cut:  # perhaps inside a character: what continues one without its beginning is left out
        start = next((index for index, byte in enumerate(data[:4]) if byte & 0xC0 != 0x80), 0)
        data = data[start:]
    return data.decode("utf-8", "replace")
