"""The ids of rows, read from a URL, a form or a stored report: in one place, and never trusted."""

from __future__ import annotations

import re
from typing import overload
from uuid import UUID

__all__ = ["BadId", "read_id"]

_NUMBER = re.compile("[0-9]{1,18}")


class BadId(ValueError):
    """A text that is not an id of the wanted kind."""


@overload
def read_id(text: str, kind: type[UUID]) -> UUID: ...
@overload
def read_id(text: str, kind: type[int]) -> int: ...
@overload
def read_id(text: str, kind: type[UUID] | type[int]) -> UUID | int: ...
def read_id(text: str, kind: type[UUID] | type[int]) -> UUID | int:
    """Read an id.

    Args:
        text: what somebody sent.
        kind: `UUID` for a task, in any spelling of one; `int` for every other row, at most 18 digits.

    Raises:
        BadId: the text is no such id.
    """
    if kind is int and not _NUMBER.fullmatch(text):
        raise BadId(text)
    try:
        return kind(text)
    except ValueError:
        raise BadId(text) from None
