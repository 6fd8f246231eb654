"""Values at their limits: the last one that is taken, and the first that is not."""

from datetime import timedelta
from typing import Any

import pytest

from audit.exceptions import InvalidValue
from audit.values import validation
from audit.values.validation import (
    EARLIEST,
    LATEST,
    LONGEST_SPAN,
    MAX_DEPTH,
    MAX_INTEGER,
    MAX_LABEL,
    MAX_SERVICE,
    MAX_SERVICES,
    MAX_TEXT,
    document,
    fitted_services,
    fitted_text,
)

TICK = timedelta(microseconds=1)


def _deep(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = [value]
    return value


def _names(count: int) -> list[str]:
    return [f"service {number}" for number in range(count)]


@pytest.mark.parametrize(
    ("check", "taken", "refused"),
    [
        ("text", "x" * MAX_TEXT, "x" * (MAX_TEXT + 1)),
        ("label", "x" * MAX_LABEL, "x" * (MAX_LABEL + 1)),
        ("label", "x", " "),
        ("services", ["x" * MAX_SERVICE], ["x" * (MAX_SERVICE + 1)]),
        ("services", _names(MAX_SERVICES), _names(MAX_SERVICES + 1)),
        ("services", ["x"] * (MAX_SERVICES + 1), ["x", ""]),
        ("priority", 1, 0),
        ("priority", 5, 6),
        ("whole", 1, 0),
        ("whole", 2**31 - 1, 2**31),
        ("span", TICK, timedelta(0)),
        ("span", LONGEST_SPAN, LONGEST_SPAN + TICK),
        ("moment", EARLIEST, EARLIEST - TICK),
        ("moment", LATEST - TICK, LATEST),
        ("document", _deep(MAX_DEPTH), _deep(MAX_DEPTH + 1)),
        ("document", MAX_INTEGER - 1, MAX_INTEGER),
        ("document", 1 - MAX_INTEGER, -MAX_INTEGER),
        ("document", [10**18, "a" * 10], [10**18, "\0"]),
    ],
)
def test_the_last_value_that_is_taken_and_the_first_that_is_not(check: str, taken: Any, refused: Any) -> None:
    checked = getattr(validation, check)("field", taken)
    if check not in ("document", "services"):
        assert checked == taken
    with pytest.raises(InvalidValue) as error:
        getattr(validation, check)("field", refused)
    assert error.value.field.startswith("field")


@pytest.mark.parametrize("letter", ["x", "é", "€", "😀"])
def test_a_document_is_measured_in_bytes(settings: Any, letter: str) -> None:
    settings.AUDIT = {"MAX_JSON_BYTES": 1024}
    room = (1024 - 2) // len(letter.encode())
    assert len(document("field", letter * room).encode()) <= 1024
    with pytest.raises(InvalidValue, match="is larger than the 1024 bytes allowed"):
        document("field", letter * (room + 1))


def test_a_text_is_cut_only_where_it_is_too_long() -> None:
    assert fitted_text("x" * 100, 100) == "x" * 100
    cut = fitted_text("x" * 101, 100)
    assert cut == "x" * 82 + "… (101 characters)"
    assert len(cut) == 100


def test_services_are_cut_only_where_they_are_too_many() -> None:
    assert fitted_services(_names(MAX_SERVICES)) == _names(MAX_SERVICES)
    assert fitted_services(_names(MAX_SERVICES + 1)) == [
        *_names(MAX_SERVICES - 1),
        f"… ({MAX_SERVICES + 1} services)",
    ]
    assert fitted_services(["x" * MAX_SERVICE, "x" * MAX_SERVICE]) == ["x" * MAX_SERVICE]
