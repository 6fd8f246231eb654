"""Values that could not be stored: refused before a statement is sent, with the field, the value and the way out."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from uuid import UUID, uuid1, uuid4

import pytest
from django.db import transaction

from audit.context import actor
from audit.exceptions import AuditError, InvalidValue
from audit.ids import uuid7
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.status import Status
from tests.support.factories import assert_same, claimed, entry_of, requested, task_in

pytestmark = pytest.mark.django_db

NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001 - naive on purpose
SURROGATE, NUL = "lone \ud800", "nul \0"
DOCUMENTS = ("plan", "estimated_resources", "outcome", "detail", "work_plan", "resources", "suggestions")


class _Unshowable:
    def __repr__(self):
        raise RuntimeError("no")


def _itself():
    loop = []
    loop.append(loop)
    return loop


def _deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


_TEXTS = [SURROGATE, NUL, None, 5, b"bytes", ["list"], True]
_REQUESTS = {
    "action": [*_TEXTS, "", " ", "x" * 101],
    "summary": [*_TEXTS, {}, 0, ""][:-1],
    "actor": [*[each for each in _TEXTS if each is not None], "", "\t", "x" * 501, "\U0001f600" * 501],
    "correlation_id": [*_TEXTS, "x" * 501],
    "services": [
        "kuma",
        b"kuma",
        5,
        None,
        [""],
        [" "],
        [None],
        [SURROGATE],
        [NUL],
        ["x" * 501],
        [["a"]],
        [_deep(3000)],
    ],
    "priority": [0, 6, -1, True, False, 2.0, "2", None, Decimal(2), 10**5000, _Unshowable()],
    "id": ["", "x", 5, uuid4(), uuid1(), str(uuid4()), "0" * 32, UUID(int=0), UUID(int=2**128 - 1), b"1" * 16],
    "parent": ["", "x", 5, "1234", [], "g" * 32],
    "available_at": [
        NAIVE,
        "now",
        5,
        date(2030, 1, 1),
        datetime.max.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
    ],
    "suggestions": [{"suggestion": "x"}, "x", 5, True],
    "on_expiry": ["", "x", None, "Fail", 5, []],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(name, value, id=f"{name}-{number}")
        for name in _REQUESTS
        for number, value in enumerate(_REQUESTS[name])
    ],
)
def test_a_request_names_the_field_and_the_value(field, value, django_assert_num_queries):
    values = {"action": "x"} | {field: value}
    with django_assert_num_queries(0), pytest.raises(InvalidValue) as caught:
        Task.objects.request(**values)
    error = caught.value
    assert error.field.partition("[")[0] == field
    assert isinstance(error, ValueError | AuditError)
    assert str(error).startswith(f"{error.field}: ")
    assert len(str(error)) < 600
    with django_assert_num_queries(0), pytest.raises(InvalidValue):
        Task.objects.bulk_request([{"action": "fine"}, values])


_JSON = {
    "NaN": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "NaN inside": {"a": [1, {"b": float("nan")}]},
    "NUL": NUL,
    "NUL inside": {"a": [NUL]},
    "NUL in a key": {NUL: 1},
    "surrogate": SURROGATE,
    "surrogate inside": [[SURROGATE]],
    "surrogate in a key": {"a": {SURROGATE: 1}},
    "number as a key": {1: 2},
    "None as a key": {None: 2},
    "huge number as a key": {10**5000: 2},
    "tuple as a key": {(1, 2): 3},
    "itself": _itself(),
    "deep": _deep(201),
    "very deep": _deep(50_000),
    "decimal": Decimal("1.50"),
    "datetime": [datetime(2030, 1, 1, tzinfo=UTC)],
    "bytes": {"a": b"x"},
    "set": {"a"},
    "object": object(),
    "unshowable": {"a": _Unshowable()},
    "uuid": [uuid7()],
    "long integer": 10**4000,
    "very long integer": {"a": -(10**5000)},
    "generator": (n for n in range(3)),
}


def _storing(name):
    """The call that stores a document under a name."""
    task = task_in(Status.EXECUTING)
    return {
        "plan": lambda value: Task.objects.request("x", plan=value),
        "estimated_resources": lambda value: Task.objects.request("x", estimated_resources=value),
        "suggestions": lambda value: Task.objects.request("x", suggestions=[value]),
        "outcome": lambda value: task.complete([value]),
        "resources": lambda value: task.complete(resources=value),
        "detail": lambda value: task.log("x", detail=value),
        "work_plan": lambda value: task.pause(work_plan=value),
    }[name]


@pytest.mark.parametrize("field", DOCUMENTS)
@pytest.mark.parametrize("kind", _JSON)
def test_what_json_has_no_form_for_is_refused(kind, field, django_assert_num_queries):
    call = _storing(field)
    with django_assert_num_queries(0), pytest.raises(InvalidValue) as caught:
        call(_JSON[kind])
    assert caught.value.field.startswith(field)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("field", DOCUMENTS)
@pytest.mark.parametrize(
    "value",
    [
        0, -0.0, 1e308, 5e-324, 10**3999, True, False, "", "\u2028 \U0001f600 \\u0000", [], {}, {"": ""},
        _deep(190), (1, (2, 3)), {"a": [None, {"b": 1.5}]}, IntEnum("Number", "ONE")(1), "x" * 100_000,
    ],
)  # fmt: skip
def test_what_json_has_is_stored_whole(value, field):
    _storing(field)(value)
    stored = _READ[field]()
    expected = [value] if field in {"suggestions", "outcome"} else value
    assert _sorted_out(stored) == _sorted_out(json.loads(json.dumps(expected)))


_READ = {
    "plan": lambda: Task.objects.latest("id").plan,
    "estimated_resources": lambda: Task.objects.latest("id").estimated_resources,
    "suggestions": lambda: Task.objects.latest("id").suggestions,
    "outcome": lambda: Task.objects.get(status="completed").outcome,
    "resources": lambda: Task.objects.get(status="completed").resources_used,
    "detail": lambda: ExecutionLog.objects.latest("id").detail,
    "work_plan": lambda: PauseQueueEntry.objects.get().work_plan,
}


def _sorted_out(value):
    """Tell booleans from numbers, which are equal to Python, and compare numbers as PostgreSQL keeps them."""
    if isinstance(value, list):
        return [_sorted_out(each) for each in value]
    if isinstance(value, dict):
        return {key: _sorted_out(each) for key, each in value.items()}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return ("number", float(value) if abs(value) < 10**300 else len(str(int(value))))
    return (type(value).__name__, value)


def _listed(value):
    return [_listed(each) for each in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize(
    "value", [1.5e15, 5e-324, 10**3999, "\\u0000 \u2028", [None], _deep(190), (1, (2,)), {"12.50": 12.50}]
)
def test_what_is_stored_reads_back_the_same(value):
    task = Task.objects.request("x", plan=value)
    assert_same(task)
    assert Task.objects.get(pk=task.pk).plan == _listed(value)


def test_ten_megabytes_are_stored_whole_and_more_than_the_limit_not_at_all(settings):
    task = task_in(Status.EXECUTING)
    megabytes = {"log": "é" * 5 * 1024 * 1024}
    task.complete(megabytes)
    assert Task.objects.get(pk=task.pk).outcome["log"] == megabytes["log"]
    task = task_in(Status.EXECUTING)
    with pytest.raises(InvalidValue, match=r"16777\d+ bytes.*MAX_JSON_BYTES|MAX_JSON_BYTES") as caught:
        task.complete({"log": "x" * 16 * 1024 * 1024})
    assert caught.value.field == "outcome"
    assert len(str(caught.value)) < 300
    settings.AUDIT = {"MAX_JSON_BYTES": 20}
    with pytest.raises(InvalidValue, match="larger than the 20 bytes"):
        task.complete({"n": "é" * 10})
    settings.AUDIT = {"MAX_JSON_BYTES": 64}
    task.complete({"n": "é" * 10})
    assert_same(task)


@pytest.mark.parametrize("character", ["x", "\U0001f600"])
def test_the_longest_names_fit_their_indexes(character):
    """Random, so that compression does not make room: what validation lets through, every index takes."""
    import random

    letters = [chr(ord(character) + n) for n in range(16)] if character == "\U0001f600" else list("0123456789abcdef")
    name = "".join(random.choices(letters, k=500))
    task = requested(actor=name, correlation_id=name, services=[name[:200]], action=name[:100])
    task.approve(actor=name)
    task = claimed(task, worker=name)
    task.touch("b" + name[1:200])
    task.complete()
    assert_same(task)


_VERBS = {
    "approve actor": (Status.PENDING, lambda t: t.approve(actor=""), "actor"),
    "approve actor type": (Status.PENDING, lambda t: t.approve(actor=5), "actor"),
    "reject reason": (Status.PENDING, lambda t: t.reject(reason=None), "reason"),
    "reject reason NUL": (Status.PENDING, lambda t: t.reject(reason=NUL), "reason"),
    "cancel reason": (Status.EXECUTING, lambda t: t.request_cancel(reason=SURROGATE), "reason"),
    "heartbeat lease": (Status.EXECUTING, lambda t: t.heartbeat(lease=60), "lease"),
    "heartbeat no lease": (Status.EXECUTING, lambda t: t.heartbeat(lease=timedelta(0)), "lease"),
    "heartbeat huge lease": (Status.EXECUTING, lambda t: t.heartbeat(lease=timedelta.max), "lease"),
    "touch nothing": (Status.EXECUTING, lambda t: t.touch(), "services"),
    "touch empty": (Status.EXECUTING, lambda t: t.touch("a", ""), "services[1]"),
    "touch NUL": (Status.EXECUTING, lambda t: t.touch(NUL), "services[0]"),
    "touch a list": (Status.EXECUTING, lambda t: t.touch(["a"]), "services[0]"),
    "log nothing": (Status.EXECUTING, lambda t: t.log(""), "action"),
    "log duration": (Status.EXECUTING, lambda t: t.log("x", duration_ms=-1), "duration_ms"),
    "log duration float": (Status.EXECUTING, lambda t: t.log("x", duration_ms=1.5), "duration_ms"),
    "log duration bool": (Status.EXECUTING, lambda t: t.log("x", duration_ms=True), "duration_ms"),
    "log duration huge": (Status.EXECUTING, lambda t: t.log("x", duration_ms=10**30), "duration_ms"),
    "log step bool": (Status.EXECUTING, lambda t: t.log("x", step_number=False), "step_number"),
    "log step text": (Status.EXECUTING, lambda t: t.log("x", step_number="1"), "step_number"),
    "log summary": (Status.EXECUTING, lambda t: t.log("x", output_summary=None), "output_summary"),
    "complete suggestions": (Status.EXECUTING, lambda t: t.complete(suggestions={"a": 1}), "suggestions"),
    "complete suggestions text": (Status.EXECUTING, lambda t: t.complete(suggestions="x"), "suggestions"),
    "fail outcome": (Status.EXECUTING, lambda t: t.fail("x", outcome=[1]), "outcome"),
    "fail error": (Status.EXECUTING, lambda t: t.fail(None), "error"),
    "fail error NUL": (Status.EXECUTING, lambda t: t.fail(NUL), "error"),
    "note nothing": (Status.COMPLETED, lambda t: t.note(" "), "text"),
    "note NUL": (Status.COMPLETED, lambda t: t.note(NUL), "text"),
    "suggest nothing": (Status.COMPLETED, lambda t: t.suggest(""), "suggestion"),
    "suggest reason": (Status.COMPLETED, lambda t: t.suggest("x", reason=5), "reason"),
}


@pytest.mark.parametrize("name", _VERBS)
def test_a_verb_names_the_field_and_sends_nothing(name, django_assert_num_queries):
    status, call, field = _VERBS[name]
    task = task_in(status)
    with transaction.atomic():
        with django_assert_num_queries(0), pytest.raises(InvalidValue) as caught:
            call(task)
        assert caught.value.field == field
        assert_same(task)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "done"),
        ("status", "pending"),
        ("status", None),
        ("status", []),
        ("attempt", -1),
        ("attempt", "1"),
        ("attempt", 2**31),
        ("expiries", True),
        ("finished_at", NAIVE),
        ("started_at", "2030-01-01"),
        ("claim_token", "x"),
        ("requested_by", None),
        ("requested_by", 0),
        ("decided_by", NUL),
        ("claimed_by", SURROGATE),
        ("actor", "x" * 501),
        ("origin", {1: 2}),
        ("services", "kuma"),
        ("revision", 5),
        ("status_was", "pending"),
        ("executing_ms", -1),
        ("paused_ms", 2**63),
        ("recorded_at", datetime(2030, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_record_names_what_is_wrong_and_stores_nothing(field, value, django_assert_num_queries):
    good = {"action": "x", "status": "completed"}
    with django_assert_num_queries(0), pytest.raises(InvalidValue, match=field):
        Task.objects.bulk_record([good, good | {field: value}])


@pytest.mark.parametrize("store", [Task.objects.bulk_request, Task.objects.bulk_record])
def test_the_columns_name_of_the_services_is_answered_with_the_word_to_use(store, django_assert_num_queries):
    good = {"action": "x"} | ({"status": "completed"} if store == Task.objects.bulk_record else {})
    with django_assert_num_queries(0), pytest.raises(InvalidValue, match="is called `services` here") as caught:
        store([good, good | {"services_touched": ["kuma"]}])
    assert (caught.value.field, caught.value.value) == ("services_touched", ["kuma"])


@pytest.mark.parametrize("name", ["", " ", None, 5, NUL, SURROGATE, "x" * 501])
def test_an_actor_block_refuses_a_name_that_could_not_be_stored(name):
    with pytest.raises(InvalidValue, match="actor"), actor(name):
        pytest.fail("entered")


def test_the_error_shows_a_long_value_shortened_and_any_value_somehow():
    error = InvalidValue("plan", "x" * 10_000, "is too long")
    assert len(str(error)) < 300
    assert "10002 characters" in str(error)
    assert error.value == "x" * 10_000
    assert str(InvalidValue("plan", _Unshowable(), "is odd")) == "plan: is odd (got a _Unshowable that cannot be shown)"
    moment = datetime(2026, 11, 24, 5, 48, tzinfo=UTC)
    assert str(InvalidValue("at", moment, "is odd")) == "at: is odd (got 2026-11-24 05:48:00+00:00)"
    key = uuid7()
    assert str(InvalidValue("id", key, "is odd")) == f"id: is odd (got {key})"
    assert "int that cannot be shown" in str(InvalidValue("n", 10**5000, "is large"))


@pytest.mark.parametrize("value", [5, "tomorrow", "2030-01-01"])
@pytest.mark.django_db
def test_where_a_span_is_taken_too_the_error_says_so(value):
    message = "must be a datetime or a timedelta"
    with pytest.raises(InvalidValue, match=f"resume_after: {message}"):
        task_in("approved").pause(resume_after=value)
    with pytest.raises(InvalidValue, match=f"until: {message}"):
        entry_of(task_in("paused")).defer(until=value)
    with pytest.raises(InvalidValue, match=f"since: {message}"):
        Task.objects.since(value)
