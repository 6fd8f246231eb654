"""CSV: flat cells, one row a line, and nothing that a spreadsheet would compute."""

import csv
import io
import json

import pytest

from audit.interchange import (
    csv_lines,
)
from audit.models import Task
from tests.support.factories import finished


@pytest.mark.django_db
def test_csv_has_flat_cells_and_no_formulas() -> None:
    finished(summary="=HYPERLINK(1)", plan={"a": 'x,"y"\n'}, services=["a", "é"], correlation_id="-1")
    finished(summary="two\nlines", actor="@me")
    text = "".join(csv_lines(Task.objects.all()))
    first, second = csv.DictReader(io.StringIO(text, newline=""))
    assert first["summary"] == "'=HYPERLINK(1)"
    assert first["correlation_id"] == "'-1"
    assert second["summary"] == "two\nlines"
    assert second["requested_by"] == "'@me"
    assert json.loads(first["services_touched"]) == ["a", "é"]
    assert json.loads(first["plan"]) == {"a": 'x,"y"\n'}
    assert first["priority"] == "2"
    assert first["decided_at"].endswith("Z")
    assert first["parent"] == ""
    task = Task.objects.earliest("id")
    assert (first["revision"], first["executing_ms"]) == ("4", str(task.executing_ms))


@pytest.mark.django_db
@pytest.mark.parametrize("first", ["\t", "\r", "\n", "\x0b", "\x1f", "\x7f", "\x85"])
@pytest.mark.parametrize("rest", ["=1+1", "@x", "words"])
def test_csv_disarms_a_cell_that_begins_with_a_control_character(first: str, rest: str) -> None:
    """A spreadsheet may skip it and take the rest for a formula, or split the cell."""
    finished(summary=first + rest)
    text = "".join(csv_lines(Task.objects.all()))
    [row] = csv.DictReader(io.StringIO(text, newline=""))
    assert row["summary"] == f"'{first}{rest}"


@pytest.mark.django_db
@pytest.mark.parametrize("inside", ["\r", "\n", "\r\n", ",", '"'])
def test_csv_keeps_a_row_one_row(inside: str) -> None:
    """What stands behind an unquoted CR would be the first cell of a row, where nothing disarms it."""
    finished(summary=f"words{inside}=1+1", actor=f"a{inside}=b")
    text = "".join(csv_lines(Task.objects.all()))
    [row] = csv.DictReader(io.StringIO(text, newline=""))
    assert (row["summary"], row["requested_by"]) == (f"words{inside}=1+1", f"a{inside}=b")
    assert text.endswith("\n")
    assert not text.endswith("\r\n")
