"""Bad values of records: each is named, and the good rows are stored."""

import json
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from audit import ids
from audit.exceptions import InvalidValue
from audit.interchange import (
    TaskRecord,
)
from audit.interchange.records import OriginRecord
from audit.models import Task
from audit.values.jsontext import JSONText
from tests.support.factories import sql
from tests.support.importing import AT, Run, line


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"id": "nonsense"}, "id", "is not a UUID (got 'nonsense')"),
        ({"id": str(uuid4())}, "id", "is a UUID of version 4"),
        ({"id": 7}, "id", "must be a UUID as a string (got 7)"),
        ({"id": None}, "id", "must be a UUID"),
        ({"parent": "x"}, "parent", "is not a UUID (got 'x')"),
        ({"action": ""}, "action", "must not be empty"),
        ({"action": "x" * 101}, "action", "has 101 characters; at most 100 are allowed"),
        ({"action": 5}, "action", "must be a string (got 5)"),
        ({"summary": None}, "summary", "must be a string (got None)"),
        ({"summary": "a\0b"}, "summary", "NUL character"),
        ({"summary": "\ud800"}, "summary", "lone surrogate at index 0"),
        ({"status": "done"}, "status", "must be one of pending, approved"),
        ({"status": ["completed"]}, "status", "must be one of"),
        ({"priority": 0}, "priority", "must be a whole number from 1 (highest) to 5 (got 0)"),
        ({"priority": 6}, "priority", "(got 6)"),
        ({"priority": "3"}, "priority", "(got '3')"),
        ({"priority": 3.0}, "priority", "(got 3.0)"),
        ({"priority": True}, "priority", "(got True)"),
        ({"services_touched": "kuma"}, "services_touched", "must be a list of service names (got 'kuma')"),
        ({"services_touched": {"a": 1}}, "services_touched", "must be a list"),
        ({"services_touched": ["a", None]}, "services_touched[1]", "must be a string (got None)"),
        ({"services_touched": ["a\0"]}, "services_touched[0]", "NUL"),
        (
            {"created_at": "2026-01-02T03:04:05"},
            "created_at",
            "names no time zone; write 2026-01-02T03:04:05Z if it is UTC",
        ),
        ({"created_at": "2026-13-02T03:04:05Z"}, "created_at", "is not a moment: month must be in 1..12"),
        ({"created_at": "yesterday"}, "created_at", "is not a moment such as"),
        ({"created_at": 1767323045}, "created_at", "must be a string such as 2026"),
        ({"created_at": "2026-01-02T03:04:05.1234567Z"}, "created_at", "is not a moment such as"),
        ({"created_at": "0001-01-01T00:00:00Z"}, "created_at", "must be between"),
        ({"finished_at": "infinity"}, "finished_at", "is not a moment"),
        ({"attempt": -1}, "attempt", "greater than or equal to 0 (got -1)"),
        ({"attempt": 2**31}, "attempt", "less than or equal to 2147483647"),
        ({"attempt": "1"}, "attempt", "valid integer (got '1')"),
        ({"on_expiry": "explode"}, "on_expiry", "must be one of requeue, fail (got 'explode')"),
        ({"suggestions": {"a": 1}}, "suggestions", "must be a list"),
        ({"plan": {"a": "x\0"}}, "plan", "NUL"),
        ({"outcome": {"\udc00": 1}}, "outcome", "lone surrogate"),
        ({"outcome": {"n": float("nan")}}, "outcome", "is NaN or infinite, which JSON cannot express"),
        ({"colour": "red"}, "colour", "is not a known field"),
        ({"pause_entry": {}}, "pause_entry", "is given, but the task is completed"),
        ({"pause_entry": 3}, "pause_entry", "must be an object"),
        ({"status": "paused", "pause_entry": {"held": "yes"}}, "pause_entry.held", "valid boolean"),
        ({"status": "paused", "pause_entry": {"reason": "lazy"}}, "pause_entry.reason", "must be one of insuff"),
        ({"status": "paused", "pause_entry": {"work_plan": "\0"}}, "pause_entry.work_plan", "NUL"),
        (
            {"status": "paused", "pause_entry": {"reason": "awaiting_approval", "held": False}},
            "pause_entry",
            "must be held",
        ),
        ({"status": "paused", "pause_entry": {"event": "build-42"}}, "pause_entry", "waits for an event"),
        ({"status": "executing", "finished_at": "2026-01-02T03:04:05Z"}, "finished_at", "but the task is executing"),
        ({"origin": [1]}, "origin", "must be an object"),
        ({"origin": {"x": float("nan")}}, "origin", "is NaN or infinite, which JSON cannot express"),
        ({"origin": {"revision": "x"}}, "origin.revision", "valid integer"),
        ({"origin": {"status_since": "xyz"}}, "origin.status_since", "is not a moment"),
        ({"executing_ms": -1}, "executing_ms", "greater than or equal to 0"),
        ({"paused_ms": 2**63}, "paused_ms", "less than or equal to 9223372036854775807"),
        ({"origin": {"log": [{"at": "now", "kind": "note"}]}}, "origin.log.0.at", "is not a moment"),
        ({"origin": {"log": [{"kind": "note"}]}}, "origin.log.0.at", "is required"),
        ({"origin": {"log": [{"at": "2026-01-02T03:04:05Z", "kind": "x"}]}}, "origin.log.0.kind", "must be one of"),
        ({"origin": {"log": [7]}}, "origin.log.0", "(got 7)"),
        ({"origin": {"log": {}}}, "origin.log", "valid list"),
        ({"origin": {"x": "\0"}}, "origin", "NUL"),
    ],
)
@pytest.mark.django_db
def test_bad_values_are_named_and_the_good_rows_stored(change: dict[str, Any], field: str, message: str) -> None:
    run = Run([line(), line(**change), line()], live=True)
    assert run.counts == (2, 0, 1)
    [refusal] = run.refusals
    assert str(refusal).startswith(f"f:2: {field}: "), refusal
    assert message in str(refusal)


@pytest.mark.django_db
def test_every_bad_value_of_a_line_is_named() -> None:
    run = Run([{"status": "nope", "priority": 9, "plan": 1}])
    assert [problem.field for problem in run.refusals[0].problems] == ["id", "action", "status", "priority"]
    assert "id: is required (got None)" in run.messages


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["", "[]", "{", "null", "7", '{"id":1} trailing', "{'id': 1}"])
def test_lines_that_are_no_json_object_are_refused(text: str) -> None:
    run = Run([text])
    assert run.counts == (0, 0, 1)
    assert run.messages.startswith("f:1: line: ")


@pytest.mark.django_db
def test_numbers_beyond_any_field_are_named() -> None:
    refusals = [
        Run([json.dumps(line(**{field: "X"})).replace('"X"', "7" * 5000)]).messages
        for field in ("attempt", "summary", "services_touched", "created_at")
    ]
    assert [each.partition(" (got 777777")[0] for each in refusals] == [
        "f:1: attempt: input should be a valid integer",
        "f:1: summary: must be a string",
        "f:1: services_touched: must be a list of service names",
        "f:1: created_at: must be a string such as 2026-11-24T05:48:03.123456Z",
    ]
    assert max(map(len, refusals)) < 400


@pytest.mark.django_db
def test_what_only_the_database_can_refuse_is_found_and_named() -> None:
    lines: list[Any] = [line() for _ in range(20)]
    lines[4] = json.dumps(line(outcome="X")).replace('"X"', "1e200000")
    lines[12] = json.dumps(line(plan="X")).replace('"X"', "[" * 20_000 + "]" * 20_000)
    run = Run(lines)
    assert run.counts == (18, 0, 2)
    refusals = run.messages.splitlines()
    assert refusals[0].startswith("f:5: outcome: was refused by PostgreSQL: value overflows numeric format")
    assert refusals[1].startswith("f:13: plan: was refused by PostgreSQL: stack depth limit exceeded")
    assert len(run.messages) < 2000
    assert Task.objects.count() == 18


@pytest.mark.django_db
def test_large_documents_are_stored_whole_or_refused_whole(settings: Any) -> None:
    run = Run([line(outcome={"text": "x" * 10_000_000})])
    assert run.counts == (1, 0, 0)
    assert sql("SELECT length(outcome ->> 'text') FROM audit_task") == [(10_000_000,)]
    settings.AUDIT = {"MAX_JSON_BYTES": 1000}
    lines = [json.dumps(line(outcome={"text": "é" * count}), ensure_ascii=False) for count in (600, 300)]
    run = Run(lines)
    assert run.counts == (1, 0, 1)
    assert 'f:1: outcome: is larger than the 1000 bytes allowed; store a reference, or raise AUDIT["MAX' in run.messages


@pytest.mark.parametrize(
    "text",
    [
        '{"x": NaN}',
        '{"log": [{"at": "2026-01-02T03:04:05Z", "kind": "note", "detail": {"a": -Infinity}}]}',
    ],
)
def test_the_text_of_an_origin_is_json_down_to_its_numbers(text: str) -> None:
    with pytest.raises(InvalidValue, match="NaN or infinite, which JSON cannot express"):
        OriginRecord.check_text(text)
    with pytest.raises(ValidationError, match="NaN or infinite, which JSON cannot express"):
        TaskRecord(id=ids.uuid7(), action="a", status="completed", origin=JSONText(text))


def test_documents_may_be_given_as_values() -> None:
    record = TaskRecord(id=str(ids.uuid7()), action="a", status="completed", plan={"a": [1.5]}, suggestions=[])
    assert (record.plan, record.suggestions) == ('{"a": [1.5]}', "[]")
    with pytest.raises(ValidationError, match="plan: is NaN or infinite, which JSON cannot express"):
        TaskRecord(id=ids.uuid7(), action="a", status="completed", plan=float("inf"))
    with pytest.raises(ValidationError, match="must be a list"):
        TaskRecord(id=ids.uuid7(), action="a", status="completed", suggestions="[]")
    with pytest.raises(ValidationError, match="origin"):
        TaskRecord(id=ids.uuid7(), action="a", status="completed", origin={"revision": -1})
    with pytest.raises(ValidationError, match="has no time zone"):
        TaskRecord(id=ids.uuid7(), action="a", status="completed", created_at=datetime(2026, 1, 1))  # noqa: DTZ001
    made = TaskRecord(id=ids.uuid7(), action="a", status="completed", created_at=AT, origin={"log": []})
    assert (made.created_at, made.origin) == (AT, '{"log": []}')
