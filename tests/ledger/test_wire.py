"""Rows that are hashed many at a time have the hashes that each has alone."""

import json
import uuid
from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.ledger.tlog.canonical import FORMS, LOG_V1, SALT_BYTES, TASK_V1, Form, Kind, Uncanonical, canonical, row_hash
from audit.ledger.tlog.wire import wire_bytes, wire_hashes

_EPOCH = 946_684_800_000_000
_SIZES = {"h": 15, "i": 31, "q": 63}


def _whole(code: str) -> st.SearchStrategy[tuple[int, bytes]]:
    most = 2 ** _SIZES[code]
    numbers = st.integers(0, 12) | st.integers(-most, most - 1)
    return numbers.map(lambda number: (number, pack(f"!{code}", number)))


def _array(names: list[str]) -> bytes:
    items = b"".join(pack("!i", len(name.encode())) + name.encode() for name in names)
    return pack("!iii", 1, 0, 25) + pack("!ii", len(names), 1) + items if names else pack("!iii", 0, 0, 25)


_TEXT = st.sampled_from(["", "alice", "a b\n%d\xff", "é" * 40]) | st.text(max_size=90)
# What `canonical` takes, and what PostgreSQL sends.
_VALUES: dict[Kind, st.SearchStrategy[tuple[Any, bytes]]] = {
    Kind.TEXT: _TEXT.map(lambda text: (text, text.encode())),
    Kind.NAMES: st.lists(_TEXT, max_size=3).map(lambda names: (names, _array(names))),
    Kind.DOCUMENT: _TEXT.map(json.dumps).map(lambda text: (text, b"\x01" + text.encode())),
    Kind.MOMENT: st.sampled_from([0, 1, 10**15 - 1, 10**15, 10**16 - 1, 10**16])
    .flatmap(lambda near: st.integers(near - 2, near + 2))
    .map(lambda moment: (moment, pack("!q", moment - _EPOCH))),
    Kind.IDENTIFIER: st.uuids().map(lambda value: (value, value.bytes)),
}


@st.composite
def _rows(draw: st.DrawFn, form: Form) -> list[tuple[dict[str, Any], list[bytes | None]]]:
    """Rows as `canonical` takes them, and as they come. Some columns hold the same throughout, others NULL at times."""
    count = draw(st.integers(1, 5))
    columns = []
    for column in form.stored:
        values = _VALUES[column.kind] if column.kind in _VALUES else draw(st.sampled_from([*map(_whole, _SIZES)]))
        one = draw(values | st.just((None, None)))
        several = st.lists(values | st.just((None, None)), min_size=count, max_size=count)
        columns.append(draw(several) if draw(st.booleans()) else [one] * count)
    names = [column.name for column in form.stored]
    return [
        (dict(zip(names, (given for given, _ in row), strict=True)), [sent for _, sent in row])
        for row in zip(*columns, strict=True)
    ]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_many_rows_have_the_hashes_that_each_has_alone(form: Form) -> None:
    @settings(max_examples=150, deadline=None, database=None)
    @given(_rows(form), st.binary(min_size=SALT_BYTES, max_size=SALT_BYTES))
    def check(rows: list[tuple[dict[str, Any], list[bytes | None]]], first: bytes) -> None:
        salts = [first[at:] + first[:at] for at in range(len(rows))]
        given = [row | {"salt": salt} for (row, _), salt in zip(rows, salts, strict=True)]
        sent = [values for _, values in rows]
        assert wire_hashes(form, salts, sent) == [row_hash(form, row) for row in given]
        assert [wire_bytes(form, *one) for one in zip(salts, sent, strict=True)] == [
            canonical(form, row) for row in given
        ]

    check()


SALTS = [bytes(SALT_BYTES), bytes(range(SALT_BYTES))]


def _changed(form: Form, name: str, *values: bytes | None) -> list[list[bytes | None]]:
    """A row for each value of one column; the others are NULL."""
    at = [column.name for column in form.stored].index(name)
    return [[value if place == at else None for place in range(len(form.stored))] for value in values]


@pytest.mark.parametrize(
    ("form", "name", "values"),
    [
        (LOG_V1, "at", [bytes(8), bytes(4), bytes(12)]),
        (LOG_V1, "at", [bytes(4), bytes(4)]),
        (LOG_V1, "id", [bytes(8), bytes(4), bytes(12)]),
        (LOG_V1, "id", [bytes(3), bytes(3)]),
        (LOG_V1, "id", [b"", b""]),
        (LOG_V1, "task_id", [b"a" * 16, b"a" * 15, b"a" * 17]),
        (LOG_V1, "task_id", [b"a" * 8, b"b" * 8]),
        (LOG_V1, "detail", [b"\x01{}", b"\x02{}"]),
        (TASK_V1, "services_touched", [_array([]), _array(["a"]) + b"\xff\xff\xff\xff"]),
    ],
)
def test_no_byte_is_read_as_the_neighbours(form: Form, name: str, values: list[bytes]) -> None:
    with pytest.raises(Uncanonical, match="a column is not of the type this version seals"):
        wire_hashes(form, [bytes(SALT_BYTES)] * len(values), _changed(form, name, *values))


@pytest.mark.parametrize("salts", [[bytes(16), bytes(15), bytes(17)], [b"", b"", b""]], ids=["of other sizes", "none"])
def test_a_salt_of_another_size_is_none(salts: list[bytes]) -> None:
    with pytest.raises(Uncanonical, match="has not 16 bytes"):
        wire_hashes(LOG_V1, salts, _changed(LOG_V1, "id", bytes(8), bytes(8), bytes(8)))


def test_rows_of_different_columns_are_refused() -> None:
    one, other = _changed(LOG_V1, "task_id", uuid.UUID(int=1).bytes, uuid.UUID(int=2).bytes)
    for wrong in ([one, other[1:]], [one, [*other, None]], [one[1:], other[1:]]):
        with pytest.raises(Uncanonical, match="has not the 17 columns"):
            wire_hashes(LOG_V1, SALTS, wrong)
    with pytest.raises(Uncanonical):
        wire_hashes(LOG_V1, SALTS[:1], [one, other])
