"""The canonical bytes of a row and their hash: the one home of what stands for a row for ever.

    audit.task v1
    id 36:0190d3c8-0000-7000-8000-000000000001
    action 6:deploy
    …
    decided_at -

One line a column: its name, then `-` for NULL, else the number of bytes, a colon and the value, which may hold
anything, line breaks included. `docs/ledger-format.md` has every rule and an example. The salt is not a column of the
table: the sealer draws it, and it stands in the row's leaf. Only the standard library is needed, so that a verifier
needs no more. The form of a version never changes; a new column makes a new version.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from hashlib import sha256
from typing import Any
from uuid import UUID

from audit.ledger.tlog.errors import LedgerError

__all__ = [
    "EPOCH_V1",
    "FORMS",
    "LOG_V1",
    "SALT",
    "SALT_BYTES",
    "TASK_V1",
    "Column",
    "Form",
    "Kind",
    "Uncanonical",
    "canonical",
    "leaf_hash",
    "names_text",
    "parse",
    "row_hash",
]


SALT = "salt"
"""The column of each form that the table lacks."""
SALT_BYTES = 16


class Uncanonical(LedgerError):
    """A value that has no canonical form, or bytes that are none: `column`, `value`."""

    def __init__(self, column: str, value: object, problem: str) -> None:
        self.column = column
        self.value = value
        shown = repr(value)
        if len(shown) > 200:
            shown = f"{shown[:200]}… ({len(shown)} characters)"
        super().__init__(f"{column}: {problem} (got {shown})")


class Kind(Enum):
    """What a column holds, and so how its value is written."""

    TEXT = auto()
    INTEGER = auto()
    XID = auto()
    IDENTIFIER = auto()
    MOMENT = auto()
    NAMES = auto()
    DOCUMENT = auto()
    BYTES = auto()


# How SQL hands a value over so that no setting of the session changes it; by name alone where none could.
_SELECTED = {
    Kind.XID: "{}::text",
    Kind.MOMENT: "(extract(epoch FROM {}) * 1000000)::bigint",
    Kind.DOCUMENT: "{}::text",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a canonical form."""

    name: str
    kind: Kind


# Each is itself and no other: comparing two, or looking one up for every row, need not look at their columns.
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Form:
    """What the canonical bytes of a table's rows hold, in order."""

    name: str
    """Which kind of row it is, e.g. `audit.task`; with the version the first line of the bytes."""
    table: str
    version: int
    """The `row_version` of the rows it is for."""
    columns: tuple[Column, ...]

    @property
    def stored(self) -> tuple[Column, ...]:
        """The columns that the table has: all but the salt."""
        return tuple(column for column in self.columns if column.name != SALT)

    def select(self, alias: str = "") -> str:
        """List the stored columns for a SELECT whose rows `canonical` takes, whatever the session's settings.

        Args:
            alias: name of the table in the statement, needed where it has several.
        """
        prefix = f"{alias}." if alias else ""
        return ", ".join(
            f"{_SELECTED.get(column.kind, '{}').format(prefix + column.name)} AS {column.name}"
            for column in self.stored
        )


TASK_V1 = Form(
    name="audit.task",
    table="audit_task",
    version=1,
    columns=(
        Column(name="id", kind=Kind.IDENTIFIER),
        Column(name="action", kind=Kind.TEXT),
        Column(name="summary", kind=Kind.TEXT),
        Column(name="status", kind=Kind.TEXT),
        Column(name="priority", kind=Kind.INTEGER),
        Column(name="services_touched", kind=Kind.NAMES),
        Column(name="plan", kind=Kind.DOCUMENT),
        Column(name="work_plan", kind=Kind.DOCUMENT),
        Column(name="estimated_resources", kind=Kind.DOCUMENT),
        Column(name="resources_used", kind=Kind.DOCUMENT),
        Column(name="outcome", kind=Kind.DOCUMENT),
        Column(name="suggestions", kind=Kind.DOCUMENT),
        Column(name="requested_by", kind=Kind.TEXT),
        Column(name="decided_by", kind=Kind.TEXT),
        Column(name="parent", kind=Kind.IDENTIFIER),
        Column(name="correlation_id", kind=Kind.TEXT),
        Column(name="created_at", kind=Kind.MOMENT),
        Column(name="recorded_at", kind=Kind.MOMENT),
        Column(name="available_at", kind=Kind.MOMENT),
        Column(name="approve_before", kind=Kind.MOMENT),
        Column(name="decided_at", kind=Kind.MOMENT),
        Column(name="started_at", kind=Kind.MOMENT),
        Column(name="finished_at", kind=Kind.MOMENT),
        Column(name="executing_ms", kind=Kind.INTEGER),
        Column(name="paused_ms", kind=Kind.INTEGER),
        Column(name="claimed_by", kind=Kind.TEXT),
        Column(name="claim_token", kind=Kind.IDENTIFIER),
        Column(name="lease_expires_at", kind=Kind.MOMENT),
        Column(name="attempt", kind=Kind.INTEGER),
        Column(name="expiries", kind=Kind.INTEGER),
        Column(name="failures", kind=Kind.INTEGER),
        Column(name="on_expiry", kind=Kind.TEXT),
        Column(name="cancel_requested_at", kind=Kind.MOMENT),
        Column(name="actor", kind=Kind.TEXT),
        Column(name="revision", kind=Kind.INTEGER),
        Column(name="status_was", kind=Kind.TEXT),
        Column(name="status_since", kind=Kind.MOMENT),
        Column(name="origin", kind=Kind.DOCUMENT),
        Column(name="row_version", kind=Kind.INTEGER),
        Column(name=SALT, kind=Kind.BYTES),
        Column(name="finished_xid", kind=Kind.XID),
    ),
)

LOG_V1 = Form(
    name="audit.executionlog",
    table="audit_executionlog",
    version=1,
    columns=(
        Column(name="id", kind=Kind.INTEGER),
        Column(name="task_id", kind=Kind.IDENTIFIER),
        Column(name="at", kind=Kind.MOMENT),
        Column(name="kind", kind=Kind.TEXT),
        Column(name="from_status", kind=Kind.TEXT),
        Column(name="to_status", kind=Kind.TEXT),
        Column(name="revision", kind=Kind.INTEGER),
        Column(name="actor", kind=Kind.TEXT),
        Column(name="db_role", kind=Kind.TEXT),
        Column(name="attempt", kind=Kind.INTEGER),
        Column(name="step_number", kind=Kind.INTEGER),
        Column(name="action", kind=Kind.TEXT),
        Column(name="duration_ms", kind=Kind.INTEGER),
        Column(name="output_summary", kind=Kind.TEXT),
        Column(name="detail", kind=Kind.DOCUMENT),
        Column(name="row_version", kind=Kind.INTEGER),
        Column(name=SALT, kind=Kind.BYTES),
        Column(name="xid", kind=Kind.XID),
    ),
)

EPOCH_V1 = Form(
    name="audit.epoch",
    table="audit_ledger_epoch",
    version=1,
    columns=(
        Column(name="number", kind=Kind.INTEGER),
        Column(name="origin", kind=Kind.TEXT),
        Column(name="size", kind=Kind.INTEGER),
        Column(name="previous", kind=Kind.TEXT),
        Column(name="reason", kind=Kind.TEXT),
        Column(name="actor", kind=Kind.TEXT),
        Column(name="started_at", kind=Kind.MOMENT),
        Column(name="row_version", kind=Kind.INTEGER),
        Column(name=SALT, kind=Kind.BYTES),
    ),
)

FORMS = (TASK_V1, LOG_V1, EPOCH_V1)
"""Every form there ever was."""


def canonical(form: Form, row: Mapping[str, Any]) -> bytes:
    """Write the bytes that stand for a row.

    Args:
        form: the form of the row's table and `row_version`.
        row: the value of each column by name, and the leaf's `salt`; others are not looked at. None is NULL. JSONB
            comes as its own text (`column::text`), because Python's numbers forget that 12.50 was not 12.5; moments as
            aware datetimes or integer microseconds since 1970-01-01 UTC; ids as UUID or text; a transaction id as a
            number or its digits; service names as a list; bytes as bytes or memoryview. `Form.select` asks for them so.

    Raises:
        Uncanonical: a column is missing, or a value is not what its column holds.
    """
    lines = [b"%s v%d\n" % (form.name.encode(), form.version)]
    for column in form.columns:
        name = column.name
        try:
            value = row[name]
        except KeyError:
            raise Uncanonical(name, None, f"the row lacks this column of {form.name} v{form.version}") from None
        if value is None:
            lines.append(b"%s -\n" % name.encode())
            continue
        try:
            written = _WRITERS[column.kind](value)
        except (ValueError, TypeError) as error:
            raise Uncanonical(name, value, str(error)) from None
        lines.append(b"%s %d:%s\n" % (name.encode(), len(written), written))
    return b"".join(lines)


def parse(data: bytes) -> tuple[Form, dict[str, Any]]:
    """Read canonical bytes, and nothing that `canonical` would not have written.

    Returns:
        The form, and the value of each column by name: None for NULL; text and JSONB as str, numbers, transaction ids
        and moments (microseconds since 1970-01-01 UTC) as int, ids as UUID, names as a list, bytes as bytes.

    Raises:
        Uncanonical: another form, or anything that differs from it by a single byte.
    """
    header, _, _ = data.partition(b"\n")
    form = next((each for each in FORMS if header == b"%s v%d" % (each.name.encode(), each.version)), None)
    if form is None:
        raise Uncanonical("header", header[:200], "names no form that is known here")
    row: dict[str, Any] = {}
    position = len(header) + 1
    for column in form.columns:
        found = re.compile(rb"%s (?:-\n|(0|[1-9][0-9]{0,9}):)" % column.name.encode()).match(data, position)
        if not found:
            raise Uncanonical(column.name, data[position : position + 80], "is not the next column")
        position = found.end()
        if found[1] is None:
            row[column.name] = None
            continue
        value = data[position : position + int(found[1])]
        try:
            row[column.name] = _READERS[column.kind](value)
        except (ValueError, RecursionError):
            raise Uncanonical(column.name, value, f"is not written as {column.kind.name.lower()}") from None
        position += len(value) + 1
    # The readers take some spellings that are not the canonical one, and this also looks at what stands in between.
    if canonical(form, row) != data:
        raise Uncanonical("bytes", data, f"are not what {form.name} v{form.version} makes of these values")
    return form, row


def leaf_hash(data: bytes) -> bytes:
    """Hash canonical bytes as a leaf of an RFC 6962 tree: SHA-256 of a zero byte and the data; 32 bytes."""
    return sha256(b"\0" + data).digest()


def row_hash(form: Form, row: Mapping[str, Any]) -> bytes:
    """Compute what the leaf of an untouched row holds; arguments as those of `canonical`; 32 bytes.

    Raises:
        Uncanonical: as `canonical`.
    """
    return leaf_hash(canonical(form, row))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_DIGITS = re.compile("0|[1-9][0-9]*", re.ASCII)


def _text(value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError("is not text")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"contains a lone surrogate at index {error.start}, which is not valid Unicode") from None


def _integer(value: object) -> bytes:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("is not a whole number")
    return b"%d" % value


def _xid(value: object) -> bytes:
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return value.encode()
    return _integer(value)


def _identifier(value: object) -> bytes:
    if isinstance(value, UUID):
        return str(value).encode()
    if isinstance(value, str):
        return str(UUID(value)).encode()
    raise TypeError("is not a UUID")


def _moment(value: object) -> bytes:
    if not isinstance(value, datetime):
        return _integer(value)
    if value.utcoffset() is None:
        raise ValueError("is a datetime without a time zone")
    return _integer((value - _EPOCH) // _MICROSECOND)


def _names(value: object) -> bytes:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise TypeError("is not a list of texts")
    return names_text(value)


def names_text(value: Sequence[str]) -> bytes:
    """Write service names as the JSON array that stands for them."""
    # PostgreSQL's to_json and Python escape the same characters the same way; the database tests hold them to it.
    return _text(_JSON.encode(value))


def _document(value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError("is parsed JSON, which is not what was stored; read the column as `column::text`")
    return _text(value)


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError("is not bytes")
    return value.hex().encode()


_WRITERS = {
    Kind.TEXT: _text,
    Kind.INTEGER: _integer,
    Kind.XID: _xid,
    Kind.IDENTIFIER: _identifier,
    Kind.MOMENT: _moment,
    Kind.NAMES: _names,
    Kind.DOCUMENT: _document,
    Kind.BYTES: _bytes,
}

_READERS: dict[Kind, Callable[[bytes], Any]] = {
    Kind.TEXT: bytes.decode,
    Kind.INTEGER: int,
    Kind.XID: int,
    Kind.IDENTIFIER: lambda value: UUID(value.decode()),
    Kind.MOMENT: int,
    Kind.NAMES: json.loads,
    Kind.DOCUMENT: bytes.decode,
    Kind.BYTES: lambda value: bytes.fromhex(value.decode()),
}
