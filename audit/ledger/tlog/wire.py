"""The hashes of rows as PostgreSQL sends them in its binary format: `canonical.row_hash` for millions of rows.

Reading columns in binary asks the server for nothing but the values: no function of its catalog, which a superuser
could have replaced, writes a moment, an array or a hash for us, and no setting of the session changes a byte, save the
client's encoding, which the reader pins (`audit.ledger.binary_rows`).

Rows are written many at a time, one column after the other, because a call of a Python function for each value takes
several times as long as all else.
"""

import struct
from binascii import hexlify
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from hashlib import sha256
from itertools import repeat
from struct import Struct

from audit.ledger.tlog.canonical import SALT, Form, Kind, Uncanonical, names_text

__all__ = ["Row", "columns", "wire_bytes", "wire_hashes"]

Row = Sequence[bytes | None]
"""The binary value of each stored column of a row, in order; None is NULL."""

# PostgreSQL counts microseconds from 2000-01-01, the canonical form from 1970-01-01.
_EPOCH = 946_684_800_000_000

# Writes values of a column, each with its length and the colon in front; what all have in front may stand alone.
_Writer = Callable[[Sequence[bytes]], tuple[bytes, Iterable[bytes]]]


def columns(form: Form, alias: str) -> str:
    """List a form's stored columns as they are, in its order, for a SELECT in the binary format."""
    return ", ".join(f"{alias}.{column.name}" for column in form.stored)


def wire_hashes(form: Form, salts: Sequence[bytes], rows: Sequence[Row]) -> list[bytes]:
    """Compute what `canonical.row_hash` computes, of many rows.

    Args:
        form: the form of the rows' table and version.
        salts: the salt of each row's leaf.
        rows: one or more.

    Returns:
        32 bytes for each row.

    Raises:
        Uncanonical: a value is not what its column holds.
    """
    return [sha256(data).digest() for data in _written(b"\0", form, salts, rows)]


def wire_bytes(form: Form, salt: bytes, row: Row) -> bytes:
    """Write the canonical bytes of one row; errors as those of `wire_hashes`."""
    (data,) = _written(b"", form, [salt], [row])
    return data


def _written(same: bytes, form: Form, salts: Sequence[bytes], rows: Sequence[Row]) -> list[bytes]:
    """The canonical bytes of each row, behind some that are the same for all of them."""
    plan, place = _plan(form)
    if set(map(len, rows)) != {len(plan) - 1}:
        raise Uncanonical(form.name, None, f"the row has not the {len(plan) - 1} columns of this version")
    columns = list(zip(*rows, strict=True))
    columns.insert(place, tuple(salts))
    pieces: list[Iterable[bytes]] = []
    try:
        for (start, write), values in zip(plan, columns, strict=True):
            one = values[:1]
            alike = values == one * len(rows)
            front, written = _column(write, one if alike else values)
            same += start + front
            if alike:
                same += next(iter(written))
            else:
                pieces += repeat(same, len(rows)), written
                same = b""
        pieces.append(repeat(same + b"\n", len(rows)))
        return list(map(b"".join, zip(*pieces, strict=True)))
    except (ValueError, LookupError, struct.error) as error:
        raise Uncanonical(form.name, None, f"a column is not of the type this version seals: {error}") from None


@cache
def _plan(form: Form) -> tuple[list[tuple[bytes, _Writer]], int]:
    """What stands in front of the values of each column, and what writes them; and which of the columns is the salt."""
    names = [column.name for column in form.columns]
    starts = [b"\n%b " % name.encode() for name in names]
    starts[0] = b"%b v%d%b" % (form.name.encode(), form.version, starts[0])
    return [(start, _WRITERS[each.kind]) for start, each in zip(starts, form.columns, strict=True)], names.index(SALT)


def _column(write: _Writer, values: Row) -> tuple[bytes, Iterable[bytes]]:
    try:
        return write(values)  # type: ignore[arg-type]  # NULL has no length
    except TypeError:
        there = [value for value in values if value is not None]
        front, written = write(there) if there else (b"", ())
        each = iter(written)
        return b"", [b"-" if value is None else front + next(each) for value in values]


class _Kept(dict[bytes | None, bytes]):
    """Writes values of which many come again, such as who acted and statuses: these are kept."""

    def __init__(self, write: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self._write = write

    def __call__(self, values: Row) -> tuple[bytes, Iterable[bytes]]:
        return b"", map(self.__getitem__, values)

    def __missing__(self, value: bytes | None) -> bytes:
        written = b"-" if value is None else self._write(value)
        if len(written) <= _SHORT:
            if len(self) >= _KEPT:
                self.clear()
            self[value] = written
        return written


_KEPT = 4096
_SHORT = 64


def _text(value: bytes) -> bytes:
    return b"%d:%b" % (len(value), value)


def _document(value: bytes) -> bytes:
    if value[:1] != b"\x01":
        raise ValueError(f"JSONB of version {value[:1].hex()}")
    return b"%d:%b" % (len(value) - 1, value[1:])


_ARRAY = Struct("!iii")
_LENGTH = Struct("!i")


def _names(value: bytes) -> bytes:
    dimensions, _, _ = _ARRAY.unpack_from(value)
    if dimensions == 0:
        return b"2:[]"
    if dimensions > 1:
        raise ValueError("an array of several dimensions")
    at, names = 20, []
    while at < len(value):
        (length,) = _LENGTH.unpack_from(value, at)
        if length < 0:
            raise ValueError("an array that holds NULL")
        at += 4 + length
        names.append(value[at - length : at].decode())
    return _text(names_text(names))


def _integers(values: Sequence[bytes]) -> tuple[bytes, Iterable[bytes]]:
    return _digits(_numbers(values, _CODES))


def _moments(values: Sequence[bytes]) -> tuple[bytes, Iterable[bytes]]:
    return _digits(tuple(map(_EPOCH.__add__, _numbers(values, {8: "q"}))))


def _numbers(values: Sequence[bytes], codes: dict[int, str]) -> tuple[int, ...]:
    # All of one size: no byte of a value is read as its neighbour's.
    (size,) = set(map(len, values))
    return struct.unpack(f"!{len(values)}{codes[size]}", b"".join(values))


def _digits(numbers: tuple[int, ...]) -> tuple[bytes, Iterable[bytes]]:
    written = (b"%d " * len(numbers) % numbers).split()
    lengths = set(map(len, written))
    if len(lengths) == 1:
        return b"%d:" % lengths.pop(), written
    return b"", map(_text, written)


def _identifiers(values: Sequence[bytes]) -> tuple[bytes, Iterable[bytes]]:
    return b"36:", map(b"-".join, _IDENTIFIER.iter_unpack(_hexadecimal(values)))


def _salts(values: Sequence[bytes]) -> tuple[bytes, Iterable[bytes]]:
    return b"32:", [digits for (digits,) in _SALT.iter_unpack(_hexadecimal(values))]


def _hexadecimal(values: Sequence[bytes]) -> bytes:
    if set(map(len, values)) != {16}:
        raise ValueError("an identifier or a salt has not 16 bytes")
    return hexlify(b"".join(values))


_CODES = {2: "h", 4: "i", 8: "q"}
_IDENTIFIER = Struct("8s4s4s4s12s")
_SALT = Struct("32s")
_WRITERS: dict[Kind, _Writer] = {
    Kind.TEXT: _Kept(_text),
    Kind.NAMES: _Kept(_names),
    Kind.DOCUMENT: _Kept(_document),
    Kind.INTEGER: _integers,
    Kind.XID: _integers,
    Kind.MOMENT: _moments,
    Kind.IDENTIFIER: _identifiers,
    Kind.BYTES: _salts,
}
