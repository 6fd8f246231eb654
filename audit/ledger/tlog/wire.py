"""The hash of a row as PostgreSQL sends it in its binary format: `canonical.row_hash` for millions of rows.

Reading columns in binary asks the server for nothing but the values: no function of its catalog, which a superuser
could have replaced, writes a moment, an array or a hash for us, and no setting of the session changes a byte, save the
client's encoding, which the reader pins (`audit.ledger.binary_rows`).
"""

from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256
from operator import getitem
from struct import Struct
from struct import error as StructError  # noqa: N812 - struct.error says nothing alone

from audit.ledger.tlog.canonical import SALT, Form, Kind, Uncanonical, names_text

__all__ = ["columns", "wire_bytes", "wire_hash"]

# PostgreSQL counts microseconds from 2000-01-01, the canonical form from 1970-01-01.
_EPOCH = 946_684_800_000_000

# Writes a value with its length and the colon in front.
_Writer = Callable[[bytes], bytes]


def columns(form: Form, alias: str) -> str:
    """List a form's stored columns as they are, in its order, for a SELECT in the binary format."""
    return ", ".join(f"{alias}.{column.name}" for column in form.stored)


def wire_hash(form: Form, salt: bytes, values: Sequence[bytes | None]) -> bytes:
    """Compute what `canonical.row_hash` computes.

    Args:
        form: the form of the row's table and version.
        salt: the salt of its leaf.
        values: the binary value of each stored column, in order; None is NULL.

    Returns:
        32 bytes.

    Raises:
        Uncanonical: a value is not what its column holds.
    """
    return sha256(b"\0" + wire_bytes(form, salt, values)).digest()


def wire_bytes(form: Form, salt: bytes, values: Sequence[bytes | None]) -> bytes:
    """Write the canonical bytes; arguments and errors as `wire_hash`."""
    header, plan, place = _plan(form)
    if len(values) != len(plan):
        raise Uncanonical(form.name, len(values), f"the row has not the {len(plan)} columns of this version")
    try:
        lines = [header, *map(getitem, plan, values)]
    except (ValueError, IndexError, StructError) as error:
        raise Uncanonical(form.name, None, f"a column is not of the type this version seals: {error}") from None
    lines.insert(place, b"\nsalt " + _hexadecimal(salt))
    lines.append(b"\n")
    return b"".join(lines)


class _Lines(dict[bytes | None, bytes]):
    """The line of a column for each of its values, kept for those that come again: who acted, statuses, counts."""

    def __init__(self, name: str, write: _Writer) -> None:
        super().__init__()
        self._name = b"\n%s " % name.encode()
        self._write = write

    def __missing__(self, value: bytes | None) -> bytes:
        if value is None:
            line = self._name + b"-"
        else:
            line = self._name + self._write(value)
            if len(value) > _SHORT:
                return line
        if len(self) >= _KEPT:
            self.clear()
        self[value] = line
        return line


class _Fresh(dict[bytes | None, bytes]):
    """The same of a column whose values hardly ever come again: keys and moments."""

    def __init__(self, name: str, write: _Writer) -> None:
        super().__init__({None: b"\n%s -" % name.encode()})
        self._name = b"\n%s " % name.encode()
        self._write = write

    def __missing__(self, value: bytes) -> bytes:
        return self._name + self._write(value)


_KEPT = 512
_SHORT = 64
_UNIQUE = (Kind.IDENTIFIER, Kind.MOMENT)
_BIGINT = Struct("!q")


@cache
def _plan(form: Form) -> tuple[bytes, list[_Lines | _Fresh], int]:
    """The header, the lines of each stored column, and the place of the salt's line behind the header.

    A line begins with the break that ends the one before.
    """
    header = b"%s v%d" % (form.name.encode(), form.version)
    names = [column.name for column in form.columns]
    lines = [
        (_Fresh if each.kind in _UNIQUE or each is form.columns[0] else _Lines)(each.name, _WRITERS[each.kind])
        for each in form.stored
    ]
    return header, lines, names.index(SALT) + 1


def _text(value: bytes) -> bytes:
    return b"%d:%s" % (len(value), value)


def _integer(value: bytes) -> bytes:
    return _text(b"%d" % int.from_bytes(value, "big", signed=True))


def _moment(value: bytes) -> bytes:
    micros = _BIGINT.unpack(value)[0] + _EPOCH
    if 10**15 <= micros < 10**16:  # from September 2001 to November 2286
        return b"16:%d" % micros
    return _text(b"%d" % micros)


def _identifier(value: bytes) -> bytes:
    digits = value.hex()
    return f"36:{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}".encode()


def _hexadecimal(value: bytes) -> bytes:
    return _text(value.hex().encode())


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
    return _text(names_text(names))


_WRITERS: dict[Kind, _Writer] = {
    Kind.TEXT: _text,
    Kind.INTEGER: _integer,
    Kind.XID: _integer,
    Kind.IDENTIFIER: _identifier,
    Kind.MOMENT: _moment,
    Kind.NAMES: _names,
    Kind.DOCUMENT: _document,
    Kind.BYTES: _hexadecimal,
}
