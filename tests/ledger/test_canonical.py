"""The canonical form in Python: its bytes, what it refuses, and the document that describes it."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from hypothesis import given
from hypothesis import strategies as st

from audit.ledger.tlog.canonical import (
    EPOCH_V1,
    LOG_V1,
    TASK_V1,
    Form,
    Kind,
    Uncanonical,
    canonical,
    leaf_hash,
    row_hash,
)
from tests.support.ledger_example import DOCUMENT, FILE, KINDS, remade

FORMS = [pytest.param(TASK_V1, id="task"), pytest.param(LOG_V1, id="log")]

EVERY_FORM = [*FORMS, pytest.param(EPOCH_V1, id="epoch")]

VALUES: dict[Kind, Any] = {
    Kind.TEXT: "alice",
    Kind.INTEGER: 3,
    Kind.XID: 74213,
    Kind.IDENTIFIER: UUID("01935a2e-7c00-7abc-8def-0123456789ab"),
    Kind.MOMENT: 1_732_375_200_000_000,
    Kind.NAMES: ["kuma"],
    Kind.DOCUMENT: '{"budget": 12.50}',
    Kind.BYTES: bytes(16),
}


def a_row(form: Form, **changes: Any) -> dict[str, Any]:
    return {column.name: VALUES[column.kind] for column in form.columns} | changes


def parse(data: bytes) -> tuple[str, list[tuple[str, bytes | None]]]:
    """Read canonical bytes by the document's grammar: the header, and the columns in their order."""
    header, _, rest = data.partition(b"\n")
    columns: list[tuple[str, bytes | None]] = []
    while rest:
        if found := re.match(rb"(\w+) -\n", rest):
            columns.append((found[1].decode(), None))
            rest = rest[found.end() :]
            continue
        found = re.match(rb"(\w+) (0|[1-9][0-9]*):", rest)
        assert found, rest[:100]
        end = found.end() + int(found[2])
        columns.append((found[1].decode(), rest[found.end() : end]))
        assert rest[end : end + 1] == b"\n"
        rest = rest[end + 1 :]
    return header.decode(), columns


def examples() -> list[tuple[Form, bytes, str]]:
    """The document's examples: form, bytes, hash."""
    blocks = re.findall(r"^```text\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    return [
        (form, data.encode(), digest.strip())
        for form, data, digest in zip((TASK_V1, LOG_V1), blocks[::2], blocks[1::2], strict=True)
    ]


def decoded(form: Form, data: bytes) -> dict[str, Any]:
    """A row as `canonical` takes it, read from its bytes."""
    read_as = {
        Kind.INTEGER: int,
        Kind.MOMENT: int,
        Kind.NAMES: json.loads,
        Kind.BYTES: lambda value: bytes.fromhex(value.decode()),
    }
    header, columns = parse(data)
    assert header == f"{form.name} v{form.version}"
    kinds = {column.name: column.kind for column in form.columns}
    return {name: None if value is None else read_as.get(kinds[name], bytes.decode)(value) for name, value in columns}


# The forms


@pytest.mark.parametrize("form", EVERY_FORM)
def test_every_column_of_the_table_is_sealed(form: Form) -> None:
    model = next(model for model in apps.get_app_config("audit").get_models() if model._meta.db_table == form.table)
    stored = [field.column for field in model._meta.concrete_fields]
    assert stored == [column.name for column in form.stored]
    assert [column.name for column in form.columns if column not in form.stored] == ["salt"]


@pytest.mark.parametrize("form", EVERY_FORM)
def test_the_document_lists_the_columns_of_version_1_which_never_change(form: Form) -> None:
    # Whoever changes them breaks every hash that was ever kept: until the first release `ledger_example` remakes the
    # document, and afterwards a new column needs a new version.
    assert form.version == 1
    section = DOCUMENT.split(f"### `{form.name} v1`")[1].split("\n## ")[0].split("\n### ")[0]
    assert re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE) == [
        (column.name, KINDS[column.kind]) for column in form.columns
    ]


def test_the_document_is_remade_by_its_command() -> None:
    assert remade(DOCUMENT) == DOCUMENT
    # What a change of the form leaves: tables, rows, hashes and byte counts of another one.
    old = DOCUMENT.replace("| `summary` | text |\n", "").replace("| `kind` | text |", "| `kind` | JSON |")
    old = old.replace("correlation_id 0:\n", "").replace("\npriority 1:2\n", "\npriority 1:2\ngone 3:yes\n")
    old = re.sub(r"^[0-9a-f]{64}$", "0" * 64, re.sub(r"\d+ bytes", "7 bytes", old), flags=re.MULTILINE)
    assert old != DOCUMENT
    assert _without_prose(remade(old)) == _without_prose(DOCUMENT)


def _without_prose(document: str) -> str:
    """What the command makes: the number of bytes of a hash or a summary is prose."""
    return re.sub(r"(?<!finished task, )(?<!it ended, )(?<!example's )\b\d+ bytes", "7 bytes", document)


def test_the_documents_examples_hold() -> None:
    for form, data, digest in examples():
        assert leaf_hash(data).hex() == digest == sha256(b"\0" + data).hexdigest()
        assert canonical(form, decoded(form, data)) == data
        assert f"{len(data)} bytes" in DOCUMENT


def test_only_the_standard_library_is_needed() -> None:
    program = "import sys, audit.ledger.tlog.canonical; print([name for name in sys.modules if 'django' in name])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=FILE.parent.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_select_asks_for_text_and_integers_where_settings_could_matter() -> None:
    assert TASK_V1.select("t").startswith("t.id AS id, t.action AS action, ")
    assert "t.plan::text AS plan" in TASK_V1.select("t")
    assert "(extract(epoch FROM at) * 1000000)::bigint AS at" in LOG_V1.select()
    assert LOG_V1.select().endswith("xid::text AS xid")


# The bytes


def _line(kind: Kind, value: Any) -> str:
    column = next(column for column in TASK_V1.columns if column.kind is kind)
    data = canonical(TASK_V1, a_row(TASK_V1, **{column.name: value})).decode()
    return re.search(rf"^{column.name} (.*?)\n(?=\w+ (-|\d+:)|\Z)", data, re.MULTILINE | re.DOTALL)[1]


@pytest.mark.parametrize(
    ("kind", "value", "line"),
    [
        (Kind.TEXT, None, "-"),
        (Kind.TEXT, "", "0:"),
        (Kind.TEXT, "-", "1:-"),
        (Kind.TEXT, "é\n-", "4:é\n-"),
        (Kind.TEXT, "e\u0301", "3:e\u0301"),
        (Kind.TEXT, "👩‍🚀", "11:👩‍🚀"),
        (Kind.INTEGER, -12, "3:-12"),
        (Kind.XID, 2**64 - 1, "20:18446744073709551615"),
        (Kind.XID, "74213", "5:74213"),
        (Kind.IDENTIFIER, "01935A2E-7C00-7ABC-8DEF-0123456789AB", "36:01935a2e-7c00-7abc-8def-0123456789ab"),
        (Kind.MOMENT, datetime(1970, 1, 1, tzinfo=UTC), "1:0"),
        (Kind.MOMENT, datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "2:-1"),
        (Kind.MOMENT, datetime(1970, 1, 1, 5, 30, 0, 7, tzinfo=timezone(timedelta(hours=5.5))), "1:7"),
        (Kind.MOMENT, datetime(1, 1, 2, tzinfo=UTC), "18:-62135510400000000"),
        (Kind.MOMENT, datetime(9998, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), "18:253370764799999999"),
        (Kind.MOMENT, -5, "2:-5"),
        (Kind.NAMES, [], "2:[]"),
        (Kind.NAMES, ["a,b"], '7:["a,b"]'),
        (Kind.NAMES, ["a", "b"], '9:["a","b"]'),
        (Kind.NAMES, ('"\\/\b\f\n\r\t\x01\x7f\u2028é',), '31:["\\"\\\\/\\b\\f\\n\\r\\t\\u0001\x7f\u2028é"]'),
        (Kind.DOCUMENT, '{"a": 12.50}', '12:{"a": 12.50}'),
        (Kind.BYTES, b"\x00\xff", "4:00ff"),
        (Kind.BYTES, memoryview(b"\x00\xff"), "4:00ff"),
    ],
)
def test_a_value_is_written_as_the_document_says(kind: Kind, value: Any, line: str) -> None:
    assert _line(kind, value) == line


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("summary", 5, "summary: is not text"),
        ("summary", "\ud800", "summary: contains a lone surrogate at index 0"),
        ("priority", True, "priority: is not a whole number"),
        ("priority", "3", "priority: is not a whole number"),
        ("priority", 3.0, "priority: is not a whole number"),
        ("finished_xid", "007", "finished_xid: is not a whole number"),
        ("finished_xid", "٣", "finished_xid: is not a whole number"),
        ("id", 5, "id: is not a UUID"),
        ("id", "nonsense", "id: badly formed"),
        ("created_at", datetime(2024, 1, 1), "created_at: is a datetime without a time zone"),  # noqa: DTZ001
        ("created_at", "2024-01-01", "created_at: is not a whole number"),
        ("services_touched", "kuma", "services_touched: is not a list of texts"),
        ("services_touched", ["kuma", None], "services_touched: is not a list of texts"),
        ("services_touched", ["\udfff"], "services_touched: contains a lone surrogate"),
        ("plan", {"budget": 12.5}, "plan: is parsed JSON"),
        ("salt", "00ff", "salt: is not bytes"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_name(column: str, value: Any, problem: str) -> None:
    with pytest.raises(Uncanonical, match=re.escape(problem)) as caught:
        canonical(TASK_V1, a_row(TASK_V1, **{column: value}))
    assert (caught.value.column, caught.value.value) == (column, value)
    assert repr(value)[:50] in str(caught.value)


def test_a_long_value_is_shown_short() -> None:
    with pytest.raises(Uncanonical, match=r"… \(1002 characters\)\)$") as caught:
        canonical(TASK_V1, a_row(TASK_V1, salt="x" * 1000))
    assert len(str(caught.value)) < 300


def test_a_missing_column_is_refused_and_another_is_not_looked_at() -> None:
    row = a_row(LOG_V1)
    assert row_hash(LOG_V1, row | {"other": b"?"}) == row_hash(LOG_V1, row)
    del row["detail"]
    with pytest.raises(Uncanonical, match=r"detail: the row lacks this column of audit\.executionlog v1"):
        canonical(LOG_V1, row)


@pytest.mark.parametrize("form", FORMS)
def test_every_column_changes_the_hash(form: Form) -> None:
    hashes = {row_hash(form, a_row(form, **{column.name: None})) for column in form.columns}
    assert len(hashes | {row_hash(form, a_row(form))}) == len(form.columns) + 1


_ANY_TEXT = st.none() | st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\n-:0 "), max_size=20)


@given(st.lists(_ANY_TEXT, min_size=5, max_size=5))
def test_bytes_say_which_row_they_came_from(values: list[str | None]) -> None:
    """No value can imitate another column: what was written is read back, line breaks and lengths included."""
    names = ["action", "summary", "decided_by", "actor", "plan"]
    row = a_row(TASK_V1, **dict(zip(names, values, strict=True)))
    header, columns = parse(canonical(TASK_V1, row))
    assert header == "audit.task v1"
    assert [name for name, _ in columns] == [column.name for column in TASK_V1.columns]
    written = dict(columns)
    assert [None if written[name] is None else written[name].decode() for name in names] == values
