"""What work hands over as its result is stored, whatever it is; what was changed stands in the log."""

import dataclasses
import enum
import json
import uuid
from collections import OrderedDict, deque
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from django.test import override_settings
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from audit import record
from audit.exceptions import InvalidValue
from audit.models import ExecutionLog, Task
from audit.recording.fitting import fitted
from audit.values import validation
from audit.values.redaction import MASK

ID = uuid.UUID("01890a5d-ac96-774b-bcce-b302099a8057")


@dataclasses.dataclass
class Copied:
    files: int
    at: datetime


class Colour(enum.Enum):
    RED = ("r", 1)


class Level(enum.IntEnum):
    HIGH = 3


class Name(enum.StrEnum):
    BACKUP = "backup"


class Point(NamedTuple):
    x: int
    y: int


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text")


class BrokenList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError("no items")


MOMENT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)

AS_DJANGO = [
    (MOMENT, "2026-03-01T12:30:15.123Z"),
    (datetime(2026, 3, 1), "2026-03-01T00:00:00"),  # noqa: DTZ001 - a naive one is a result too
    (date(2026, 3, 1), "2026-03-01"),
    (time(1, 2, 3), "01:02:03"),
    (timedelta(days=1, seconds=2), "P1DT00H00M02S"),
    (Decimal("1.10"), "1.10"),
    (Decimal("NaN"), "NaN"),
    (ID, str(ID)),
    (gettext_lazy("Delete"), "Delete"),
]
AS_TEXT = [
    (time(1, 2, 3, tzinfo=UTC), "01:02:03+00:00"),
    (b"abc \xc3\xa9", "abc é"),
    (b"\xff\x00", r"b'\\xff\\x00'".replace("\\\\", "\\")),
    (bytearray(b"abc"), "abc"),
    (memoryview(b"abc"), "abc"),
    (float("nan"), "nan"),
    (float("inf"), "inf"),
    (float("-inf"), "-inf"),
    (complex(1, 2), "(1+2j)"),
    (Path("/srv/dump"), "/srv/dump"),
    (ip_address("10.0.0.1"), "10.0.0.1"),
    (ValueError("bad"), "ValueError('bad')"),
    (int, "<class 'int'>"),
    (10**5000, hex(10**5000)),
    ("a\0b", "a\\0b"),
    ("a\ud800b", "a\\ud800b"),
]
AS_JSON = [
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset({"b", "a"}), ["a", "b"]),
    ({1, "a"}, [1, "a"]),
    (deque([1, 2]), [1, 2]),
    ({"k": 1}.keys(), ["k"]),
    (range(3), [0, 1, 2]),
    (MappingProxyType({"a": 1}), {"a": 1}),
    (Copied(files=3, at=MOMENT), {"files": 3, "at": "2026-03-01T12:30:15.123Z"}),
    (Colour.RED, ["r", 1]),
    ({1: "int"}, {"1": "int"}),
    ({None: 1, True: 2, 1.5: 3}, {"null": 1, "true": 2, "1.5": 3}),
    ({(1, 2): "pair"}, {"(1, 2)": "pair"}),
    ({ID: 1, MOMENT.date(): 2, b"k": 3}, {str(ID): 1, "2026-03-01": 2, "k": 3}),
    ({1: "a", "1": "b", "1 (2)": "c"}, {"1 (3)": "a", "1": "b", "1 (2)": "c"}),
    ({"a\0": 1, "a\\0": 2}, {"a\\0 (2)": 1, "a\\0": 2}),
]
AS_IT_IS = [
    (OrderedDict(a=1), {"a": 1}),
    (Point(1, 2), [1, 2]),
    (Level.HIGH, 3),
    (Name.BACKUP, "backup"),
    (mark_safe("<b>"), "<b>"),
    ([1, 2.5, None, True, "é😀"], [1, 2.5, None, True, "é😀"]),
]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("value", "stored", "noted"),
    [
        *((value, stored, True) for value, stored in AS_DJANGO + AS_TEXT + AS_JSON),
        *((value, stored, False) for value, stored in AS_IT_IS),
    ],
    ids=lambda value: type(value).__name__,
)
def test_work_that_succeeded_is_completed(value: Any, stored: Any, noted: bool) -> None:
    with record("backup") as task:
        task.outcome["found"] = ["before", {"value": value}]
        task.resources_used = {"value": value}
    row = Task.objects.get(pk=task.pk)
    assert row.status == task.status == "completed"
    assert row.outcome == {"success": True, "found": ["before", {"value": stored}]}
    assert row.resources_used["value"] == stored
    assert row.resources_used["wall_s"] >= 0
    notes = ExecutionLog.objects.filter(task=task, kind="note")
    if noted:
        lines = notes.get().detail["changed"]
        assert [line for line in lines if line.startswith("outcome.found[1].value")]
        assert [line for line in lines if line.startswith("resources_used.value")]
    else:
        assert not notes


@pytest.mark.django_db
@pytest.mark.parametrize(
    "outcome", [MOMENT, {1}, b"x", float("nan"), "nul \0", Copied(1, MOMENT), object(), None, [ID]]
)
def test_a_result_that_is_no_object_is_stored_too(outcome: Any) -> None:
    with record("backup") as task:
        task.outcome = outcome
    row = Task.objects.get(pk=task.pk)
    assert row.status == "completed"
    assert (row.outcome == {"success": True}) == (outcome is None)


@pytest.mark.django_db
def test_the_exception_of_failed_work_is_kept_beside_what_was_changed() -> None:
    with pytest.raises(ZeroDivisionError), record("backup") as task:  # noqa: PT012 - the block is the point
        task.outcome = {"at": MOMENT, "n": float("nan")}
        raise ZeroDivisionError("real")
    row = Task.objects.get(pk=task.pk)
    assert (row.status, row.outcome["error_type"], row.outcome["success"]) == ("failed", "ZeroDivisionError", False)
    assert (row.outcome["n"], row.outcome["at"][:10]) == ("nan", "2026-03-01")
    assert len(ExecutionLog.objects.get(task=task, kind="note").detail["changed"]) == 2


@pytest.mark.django_db
def test_secrets_in_what_was_changed_are_masked() -> None:
    with record("backup") as task:
        task.outcome = {
            "login": Copied(files=1, at=MOMENT),
            "password": b"s3cret1",
            "said": b"password=s3cret2",
            ("password=s3cret3",): 1,
            "password=s3cret4 \0": {1},
        }
    row = Task.objects.get(pk=task.pk)
    assert row.outcome["password"] == MASK
    detail = ExecutionLog.objects.get(task=task, kind="note").detail
    assert "s3cret" not in f"{row.outcome} {detail}"


@pytest.mark.django_db
def test_too_large_a_result_is_cut_where_it_is_large(settings: Any) -> None:
    settings.AUDIT = {"MAX_JSON_BYTES": 100_000}
    with record("backup") as task:
        task.outcome = {"stdout": "é" * 300_000, "code": 7, "files": list(range(10)), "last": "kept"}
    row = Task.objects.get(pk=task.pk)
    assert row.status == "completed"
    assert row.outcome["stdout"].startswith("ééé")
    assert row.outcome["stdout"].endswith("…")
    assert len(row.outcome["stdout"]) > 20_000
    assert row.outcome | {"stdout": ""} == {
        "success": True,
        "stdout": "",
        "code": 7,
        "files": list(range(10)),
        "last": "kept",
    }
    assert "300000 characters" in str(ExecutionLog.objects.get(task=task, kind="note").detail)


@pytest.mark.django_db
def test_a_failure_beside_a_result_at_the_limit_is_stored(settings: Any) -> None:
    settings.AUDIT = {"MAX_JSON_BYTES": 20_000}
    with pytest.raises(ValueError, match="real"), record("backup") as task:  # noqa: PT012 - as above
        task.outcome = {"text": "x" * 19_950}
        raise ValueError("real")
    assert Task.objects.get(pk=task.pk).outcome["error_type"] == "ValueError"
    assert Task.objects.get(pk=task.pk).outcome["text"].startswith("xxx")


@pytest.mark.django_db
def test_a_worker_is_told_where_in_its_document_the_trouble_is() -> None:
    Task.objects.request("work").approve()
    (task,) = Task.objects.claim(worker="w")
    for value, path in [
        ({"hosts": [{"at": MOMENT}]}, "outcome.hosts[0].at: is a datetime"),
        ({"hosts": [1, {"n": float("nan")}]}, "outcome.hosts[1].n: is NaN or infinite"),
        ({"hosts": {"a": {2: 1}}}, "outcome.hosts.a: is a key"),
        ({"hosts": ["", "\0"]}, "outcome.hosts[1]: contains a NUL"),
    ]:
        with pytest.raises(InvalidValue) as caught:
            task.complete(value)
        assert str(caught.value).startswith(path)
    task.complete({"n": 1})


# The maker of documents itself


def test_what_holds_itself_or_is_too_deep_is_left_out_there() -> None:
    itself: list[Any] = [1]
    itself += [itself, itself]
    document, changes = fitted("outcome", {"a": itself, "b": [itself[0]]})
    assert document == {"a": [1, "(holds itself)", "(holds itself)"], "b": [1]}
    assert [line.split(":")[0] for line in changes] == ["outcome.a[1]", "outcome.a[2]"]
    deep: Any = "bottom"
    for _ in range(5000):
        deep = {"k": deep}
    document, changes = fitted("outcome", deep)
    validation.document("outcome", document)
    assert "nested too deep" in json.dumps(document)
    assert "deeper than 200 levels" in changes[0]


def test_one_object_in_many_places_is_written_in_each() -> None:
    shared = {"at": MOMENT}
    document, _ = fitted("outcome", [shared, shared])
    assert document == [{"at": "2026-03-01T12:30:15.123Z"}] * 2


def test_few_objects_that_would_be_many_values_are_cut(settings: Any) -> None:
    settings.AUDIT = {"MAX_JSON_BYTES": 10_000}
    many: Any = [1, {2}]
    for _ in range(100):
        many = [many, many]
    document, changes = fitted("outcome", many)
    validation.document("outcome", document)
    assert "left out" in str(changes)
    document, _ = fitted("outcome", range(10**12))
    assert document[:3] == [0, 1, 2]
    assert len(document) > 500


def test_objects_whose_own_code_fails_are_named() -> None:
    document, changes = fitted("outcome", {"a": Broken(), "b": BrokenList([MOMENT]), "c": 1})
    assert document == {
        "a": "(Broken, which could not be written)",
        "b": "(BrokenList, which could not be written)",
        "c": 1,
    }
    assert len(changes) == 2
    document, changes = fitted("outcome", {Broken(): 1})
    assert "could not be written" in document


def test_the_note_says_of_each_key_what_became_of_it() -> None:
    document, changes = fitted("outcome", {1: "a", "b\0": "b", "c": "c"})
    assert document == {"1": "a", "b\\0": "b", "c": "c"}
    assert changes == ["outcome.1: int, as a key, stored as text", "outcome.b\\0: str, as a key, changed"]


def test_the_note_is_bounded() -> None:
    _, changes = fitted("outcome", [{f"{'x' * 1000}{number}": MOMENT} for number in range(10_000)])
    assert len(changes) == 101
    assert max(map(len, changes)) < 300


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([3999, 4001, 4500]).map(lambda digits: -(10**digits)),
    st.floats(),
    st.text(st.characters(codec=None, exclude_categories=()), max_size=300),
    st.binary(max_size=300),
    st.decimals(allow_nan=False),
    st.datetimes(),
    st.uuids(),
    st.timedeltas(),
)
KEYS = st.one_of(
    st.text(st.characters(codec=None, exclude_categories=())), st.integers(), st.none(), st.floats(), st.uuids()
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(KEYS, inner), st.tuples(inner, inner), st.frozensets(LEAVES)
    ),
    max_leaves=60,
)


@given(value=VALUES, limit=st.integers(1_000, 20_000))
def test_whatever_it_is_it_can_be_stored(value: Any, limit: int) -> None:
    with override_settings(AUDIT={"MAX_JSON_BYTES": limit}):
        document, changes = fitted("outcome", value, lambda made: {"success": True, "made": made})
        validation.document("outcome", document)
        again, none = fitted("outcome", document)
        assert (again, none) == (document, [])
        assert all(validation.text("changed", change) for change in changes)
