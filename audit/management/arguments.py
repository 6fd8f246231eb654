"""Types of arguments that several commands take: names, reasons, moments ahead."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import datetime, timedelta

from audit.decisions import MAX_REASON
from audit.exceptions import InvalidFilter, InvalidValue
from audit.reading.filters import parse_when
from audit.values import validation
from audit.values.terminal import brief

__all__ = ["actor", "ahead", "reason"]

_MAX_NAME = 500


def actor(text: str) -> str:
    """Take the name of whoever acts.

    Raises:
        ArgumentTypeError: it is empty or too long, or cannot be stored.
    """
    return _label(text, _MAX_NAME)


def reason(text: str) -> str:
    """Take a reason; it is as long as in the browser.

    Raises:
        ArgumentTypeError: it is empty or too long, or cannot be stored.
    """
    return _label(text, MAX_REASON)


def ahead(text: str) -> datetime | timedelta:
    """Take a moment to come, or a span of time from now.

    Raises:
        ArgumentTypeError: it is neither, or it is past.
    """
    try:
        when = parse_when("until", text)
    except InvalidFilter as error:
        raise ArgumentTypeError(f"{brief(error.value)} {error.problem.replace('back from', 'from')}") from None
    if isinstance(when, datetime) and validation.is_past(when):
        raise ArgumentTypeError(f"{text!r} is past; write a moment to come, or a span from now")
    return when


def _label(text: str, most: int) -> str:
    try:
        return validation.label("it", text, max_length=most)
    except InvalidValue as error:
        raise ArgumentTypeError(f"{brief(error.value)} {error.problem}") from None
