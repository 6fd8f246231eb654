"""The hash of a row as PostgreSQL sends it in its binary format: `canonical.row_hash` for millions of rows.

Reading columns in binary asks the server for nothing but the values: no function of its catalog, which a superuser
could have replaced, writes a moment, an array or a hash for us, and no setting of the session changes a byte.
"""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from hashlib import sha256
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct.error says nothing alone
from typing import Any

from audit.ledger.tlog.canonical import Form, Kind, Uncanonical, names_text

__all__ = ["columns", "wire_bytes", "wire_hash"]

# PostgreSQL counts microseconds from 2000-01-01, the canonical form from 1970-01-01.
_EPOCH = 946_684_800_000_000

# Writes a value with its length and the colon in front.
_Writer = Callable[[bytes], bytes]


def columns(form: Form, alias: str) -> str:
    """List a form's columns as they are, in its order, for a SELECT in the binary format."""
    return ", ".join(f"{alias}.{column.name}" for column in form.columns)


def wire_hash(form: Form, values: Sequence[bytes | None]) -> bytes:
    """Compute what `canonical.row_hash` computes.

    Args:
        form: the form of the row's table and version.
        values: the binary value of each of its columns, in order; None is NULL.

    Returns:
        32 bytes.

    Raises:
        Uncanonical: a value is not what its column holds.
    """
    return sha256(b"\0" + wire_bytes(form, values)).digest()


def wire_bytes(form: Form, values: Sequence[bytes | None]) -> bytes:
    """Write the canonical bytes; arguments and errors as `wire_hash`."""
    header, plan = _plan(form)
    parts = [header]
    add = parts.append
    try:
        for (absent, name, write), value in zip(plan, values, strict=True):
            if value is None:
                add(absent)
            elif write is None:
                length = len(value)
                add(name)
                add(_LENGTHS[length] if length < _SHORT else b"%d:" % length)
                add(value)
            else:
                add(name)
                add(write(value))
    except (ValueError, IndexError, StructError) as error:
        raise Uncanonical(form.name, None, f"a column is not of the type this version seals: {error}") from None
    add(b"\n")
    return b"".join(parts)


@cache
def _plan(form: Form) -> tuple[bytes, list[tuple[bytes, bytes, _Writer | None]]]:
    """The header and, for each column, its line when it is NULL, the line's beginning when not, and what writes it.

    A line begins with the break that ends the one before.
    """
    header = b"%s v%d" % (form.name.encode(), form.version)
    return header, [
        (b"\n%s -" % column.name.encode(), b"\n%s " % column.name.encode(), _WRITERS[column.kind])
        for column in form.columns
    ]


_SHORT = 1024
_LENGTHS = [b"%d:" % length for length in range(_SHORT)]


@lru_cache(maxsize=4096)  # priorities, attempts, revisions: the same few over and over
def _integer(value: bytes) -> bytes:
    digits = b"%d" % int.from_bytes(value, "big", signed=True)
    return b"%d:%s" % (len(digits), digits)


def _moment(value: bytes) -> bytes:
    digits = b"%d" % (int.from_bytes(value, "big", signed=True) + _EPOCH)
    return _LENGTHS[len(digits)] + digits


def _identifier(value: bytes) -> bytes:
    digits = value.hex()
    return f"36:{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}".encode()


def _hexadecimal(value: bytes) -> bytes:
    return b"%d:%s" % (2 * len(value), value.hex().encode())


def _document(value: bytes) -> bytes:
    if value[:1] != b"\x01":
        raise ValueError(f"JSONB of version {value[:1].hex()}")
    return b"%d:%s" % (len(value) - 1, value[1:])


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
    text = names_text(names)
    return b"%d:%s" % (len(text), text)


_WRITERS: dict[Kind, Any] = {
    Kind.TEXT: None,
    Kind.INTEGER: _integer,
    Kind.XID: _integer,
    Kind.IDENTIFIER: _identifier,
    Kind.MOMENT: _moment,
    Kind.NAMES: _names,
    Kind.DOCUMENT: _document,
    Kind.BYTES: _hexadecimal,
}
