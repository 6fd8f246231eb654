"""UUIDv7 identifiers, made by the client, so that order by id is order by time (RFC 9562, section 5.7)."""

import hashlib
import os
import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from audit.exceptions import InvalidValue
from audit.values.moments import with_zone

__all__ = ["uuid7", "uuid7_time", "uuid7s"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_LAST_MILLISECOND = (1 << 48) - 1

_lock = threading.Lock()
_last = 0


def uuid7(at: datetime | None = None, key: str | bytes | None = None) -> UUID:
    """Make a UUIDv7.

    Without `at`, the ids of one process ascend strictly, also within a millisecond: twelve bits below the timestamp
    count fractions of a millisecond (RFC 9562, section 6.2, method 3).

    Args:
        at: the moment the id encodes, aware, in or after 1970; now when left out.
        key: makes the id repeatable. The 74 free bits come from the SHA-256 of the key, so that the same event gets the
            same id in each import. Needs `at`.

    Returns:
        The id: 48 bits of milliseconds since 1970, the version, and 74 bits of time fraction and chance, or of
        the key's hash.

    Raises:
        InvalidValue: `at` is not an aware moment or is before 1970, or `key` comes without `at` or is neither text nor
            bytes.
    """
    if at is None:
        if key is not None:
            raise InvalidValue("key", key, "needs `at`, or the id would not be repeatable")
        return uuid7s(1)[0]
    if not isinstance(at, datetime):
        raise InvalidValue("at", at, "must be a datetime")
    at = with_zone(at)
    if at.utcoffset() is None:
        raise InvalidValue("at", at, "is naive; give it a time zone")
    milliseconds = (at - _EPOCH) // _MILLISECOND
    if not 0 <= milliseconds <= _LAST_MILLISECOND:
        raise InvalidValue("at", at, "is before 1970, which a UUIDv7 cannot hold")
    if key is None:
        bits = int.from_bytes(os.urandom(10))
    else:
        try:
            data = key.encode() if isinstance(key, str) else bytes(memoryview(key))
        except (TypeError, UnicodeEncodeError):
            raise InvalidValue("key", key, "must be text without lone surrogates, or bytes") from None
        bits = int.from_bytes(hashlib.sha256(data).digest()[:10])
    return _assemble(milliseconds, bits >> 62 & 0xFFF, bits & ((1 << 62) - 1))


def uuid7s(count: int) -> list[UUID]:
    """Make many UUIDv7 of now at once, as `uuid7()` makes one; they ascend strictly.

    Args:
        count: how many.
    """
    chance = os.urandom(8 * count)
    first = _ticks(count)
    return [
        _assemble(ticks >> 12, ticks & 0xFFF, int.from_bytes(chance[each : each + 8]) >> 2)
        for ticks, each in zip(range(first, first + count), range(0, 8 * count, 8), strict=True)
    ]


def uuid7_time(value: UUID) -> datetime:
    """Read the moment, to the millisecond and in UTC, out of a UUIDv7.

    Raises:
        InvalidValue: the id is of another version.
    """
    if value.int >> 76 & 15 != 7:
        raise InvalidValue("id", value, "is not a UUIDv7")
    return _EPOCH + (value.int >> 80) * _MILLISECOND


def _ticks(count: int) -> int:
    """Take so many numbers in a row, counts of 1/4096 milliseconds since 1970, none of them twice in a process.

    Returns:
        The first.
    """
    global _last
    now = (time.time_ns() << 12) // 1_000_000
    with _lock:
        first = max(now, _last + 1)
        _last = first + count - 1
        return first


def _assemble(milliseconds: int, high: int, low: int) -> UUID:
    return UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)
