"""Records and files: byte for byte the same after import and export, and every bad value named."""

import contextlib
import csv
import io
import json
import os
import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import ProgrammingError, connection, connections
from pydantic import ValidationError

from audit import columns, ids
from audit.columns import Source as Says
from audit.exceptions import AuditError, InvalidValue
from audit.interchange import (
    Importer,
    LogRecord,
    OriginRecord,
    PauseQueueEntryRecord,
    Read,
    Refusal,
    Source,
    TaskRecord,
    csv_lines,
    find_sources,
    importing,
    json_lines,
    read_json_lines,
    whole_file,
)
from audit.interchange.records import problems
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.status import Status
from audit.verbs.existing import GIVEN_ENTRY
from audit.verbs.inserts import GIVEN
from tests.support.factories import entry_of, finished, sql, task_in

both = pytest.mark.django_db(databases=["default", "other"])

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
# What Python's reader would lose, or not read at all.
AWKWARD = (
    '{"price": 12.50, "zero": 0.0, "exact": 1234567890.1234567890123456789012, "huge": 1e400, "tiny": 1.0e-30,'
    f' "long": {"7" * 5000}, "minus": -0.00, "deep": {"[" * 3000}1.10{"]" * 3000},'
    ' "text": "\\u00e9\\n\\"\\\\ \\ud83d\\ude00 \u2028"'
    ', "": [null, true, {}, []]}'
)


def line(**values: Any) -> dict[str, Any]:
    return {"id": str(ids.uuid7()), "action": "deploy", "status": "completed", **values}


def reads(*lines: dict[str, Any] | str) -> Iterator[Read]:
    for number, each in enumerate(lines, 1):
        text = each if isinstance(each, str) else json.dumps(each)
        try:
            yield Read(place=f"f:{number}", record=TaskRecord.of_line(text))
        except InvalidValue as error:
            yield Read.bad(f"f:{number}", error)
        except ValidationError as error:
            yield Read.bad(f"f:{number}", *problems(error))


class Run:
    """An import, with what it refused."""

    def __init__(self, lines: Iterable[dict[str, Any] | str], **options: Any) -> None:
        self.refusals: list[Refusal] = []
        importer = Importer(on_refusal=self.refusals.append, **options)
        importer.run(reads(*lines))
        counts = importer.counts
        self.counts = (counts.stored, counts.present, counts.refused)

    @property
    def messages(self) -> str:
        return "\n".join(map(str, self.refusals))


# There and back


def everything() -> None:
    """Tasks in every status, every kind of log row, and what is hard to write down."""
    tasks = [task_in(status) for status in Status]
    for task in tasks:
        task.note("Seen", actor="carol", detail={"ratio": 1.5})
        task.suggest("Sleep more", reason="é\n\t\x01", actor="carol")
    worker = task_in(Status.EXECUTING, plan={"a": "\x7f\u2028😀\\u0000"})
    worker.log("pull", duration_ms=812, output_summary="ok", detail={"x": [1, 2]})
    worker.touch("extra")
    worker.heartbeat()
    worker.pause(reason="awaiting_event", work_plan={"rest": [1.5]}, note="=1+1", held=False, actor="dave")
    PauseQueueEntry.objects.filter(task_id=worker.pk).claim(worker="orch-9")
    lost = task_in(Status.EXECUTING, on_expiry="fail")
    sql("UPDATE audit_task SET lease_expires_at = now() - interval '1 hour' WHERE id = %s", [lost.pk])
    Task.objects.recover_expired()
    task_in(Status.EXECUTING).request_cancel(actor="erin", reason="no")
    moment = "'0001-01-02 00:00:00.000001+00'"
    sql(
        "INSERT INTO audit_task (id, action, status, services_touched, plan, outcome, created_at, finished_at, parent)"
        f" VALUES (%s, ' ', 'failed', ARRAY['b', '', 'b', 'a\"\\,{{}}é'], %s, '\"text\"', {moment}, {moment}, %s),"
        " (%s, 'late', 'rejected', '{}', '[]', '0.10', '9999-12-30 23:59:59.999999+00', NULL, NULL)",
        [ids.uuid7(), AWKWARD, uuid4(), ids.uuid7()],
    )
    [key] = Task.objects.bulk_record([{"action": "x", "status": "completed"}])
    sql(
        "INSERT INTO audit_executionlog (task_id, kind, detail) VALUES (%s, 'note', %s)",
        [key, f"[{'8' * 5000}, 2.50]"],
    )
    # What no verb writes, and raw SQL may: another variant of UUIDs, suggestions in another form, counts below zero.
    sql(
        "INSERT INTO audit_task (id, action, status, available_at, suggestions)"
        " VALUES ('01900000-0000-7000-c000-000000000000', 'x', 'failed', now(), '{\"a\": 1}')"
    )
    sql("INSERT INTO audit_executionlog (task_id, kind, revision, attempt) VALUES (%s, 'note', -2, -1)", [key])
    sql("UPDATE audit_pause_queue SET attempt = -1 WHERE task_id = %s", [worker.pk])


@both
def test_export_of_an_import_is_the_same_bytes() -> None:
    everything()
    lines = list(json_lines(Task.objects.all()))
    assert len(lines) == Task.objects.count() >= 13
    refused: list[Refusal] = []
    read = [Read(place="", record=TaskRecord.of_line(each)) for each in lines]
    counts = Importer(using="other", live=True, on_refusal=refused.append).run(read)
    assert (counts.stored, [str(each) for each in refused]) == (len(lines), [])
    assert list(json_lines(Task.objects.using("other"))) == lines
    # This database's own stamps are true: it saw them now, at revision 1.
    assert not Task.objects.using("other").exclude(revision=1).exists()
    assert ExecutionLog.objects.using("other").count() == len(lines)
    assert {*Task.objects.using("other").finished()} == {*Task.objects.finished()}
    # The entry of a paused task came along, claim and all.
    names = ("work_plan", "reason", "note", "paused_by", "paused_at", "due_at", "held", "priority", "claimed_by")
    entries = [
        list(PauseQueueEntry.objects.using(db).order_by("task_id").values_list("task_id", "claim_token", *names))
        for db in ("default", "other")
    ]
    assert entries[0] == entries[1]
    assert any(token for _, token, *_ in entries[0])
    # Once more adds nothing, in either.
    for using in ("other", "default"):
        counts = Importer(using=using, live=True, on_refusal=refused.append).run(read)
        assert (counts.stored, counts.present, [str(each) for each in refused]) == (0, len(lines), [])


@both
def test_numbers_are_stored_as_they_were_written() -> None:
    text = '{"price":12.50,"exact":1234567890.1234567890123456789012}'
    stored = line(plan="PLAN", outcome="PLAN", origin={"log": [], "x": "PLAN"})
    assert Run([json.dumps(stored).replace('"PLAN"', text)]).counts == (1, 0, 0)
    [row] = sql("SELECT plan::text, outcome::text, origin::text FROM audit_task")
    expected = '{"exact": 1234567890.1234567890123456789012, "price": 12.50}'
    assert row == (expected, expected, f'{{"x": {expected}, "log": []}}')


@pytest.mark.django_db
def test_an_origin_that_python_cannot_read_is_stored() -> None:
    text = json.dumps(line(origin={"x": "DEEP"})).replace('"DEEP"', "[" * 3000 + "7" * 5000 + "]" * 3000)
    assert Run([text, text]).counts == (1, 1, 0)


@both
def test_what_happens_after_an_import_is_reported_with_where_it_came_from() -> None:
    finished()
    [before] = json_lines(Task.objects.all())
    assert Run([before], using="other").counts == (1, 0, 0)
    Task.objects.using("other").get().note("Post mortem", actor="zoe")
    [after] = json_lines(Task.objects.using("other"))
    origin, first = json.loads(after)["origin"], json.loads(before)["origin"]
    assert [row["kind"] for row in origin["log"]] == ["transition", "note"]
    assert origin["log"][1]["output_summary"] == "Post mortem"
    assert origin["origin"] == first
    assert after.split('"origin":')[0] == before.split('"origin":')[0]
    # The first database lacks that note, and cannot take it into a frozen row.
    again = Run([after])
    assert again.counts == (0, 0, 1)
    assert "other content in: origin" in again.messages
    # The second one has everything that the first file says.
    assert Run([before], using="other").counts == (0, 1, 0)


@pytest.mark.django_db
def test_the_session_does_not_change_a_byte() -> None:
    everything()
    before = list(json_lines(Task.objects.all())), list(csv_lines(Task.objects.all()))
    for setting in (
        "TimeZone TO 'Asia/Kathmandu'",
        "DateStyle TO 'German, DMY'",
        "IntervalStyle TO 'sql_standard'",
        "bytea_output TO 'escape'",
        "extra_float_digits TO -10",
        "quote_all_identifiers TO on",
        "standard_conforming_strings TO off",
        "array_nulls TO off",
    ):
        with contextlib.suppress(Exception):
            sql(f"SET LOCAL {setting}")
    assert (list(json_lines(Task.objects.all())), list(csv_lines(Task.objects.all()))) == before


@pytest.mark.django_db
def test_a_line_is_json_with_every_column_in_order() -> None:
    task = task_in(Status.PAUSED)
    [text] = json_lines(Task.objects.all())
    assert text.endswith("}\n")
    exported = json.loads(text)
    assert list(exported) == [*(name for name in GIVEN if name != "origin"), "pause_entry", "origin"]
    assert set(exported) == {*GIVEN, "pause_entry"} == set(TaskRecord.model_fields)
    task.refresh_from_db()
    assert exported["created_at"] == f"{task.created_at:%Y-%m-%dT%H:%M:%S.%fZ}"
    assert exported["pause_entry"]["paused_by"] == entry_of(task).paused_by == "bob"
    log = [(row["from_status"], row["to_status"]) for row in exported["origin"]["log"]]
    assert log == [(None, "pending"), ("pending", "approved"), ("approved", "paused")]
    assert exported["origin"]["revision"] == task.revision == 3
    assert exported["origin"]["status_was"] == "approved"
    assert exported["origin"]["log"][0]["xid"] == ExecutionLog.objects.earliest("id").xid
    assert list(exported["origin"]["log"][1]["detail"]) == ["plan_sha256"]


def test_every_column_travels() -> None:
    def names(model: Any) -> set[str]:
        return {field.column for field in model._meta.concrete_fields}

    stamps = columns.by_name(columns.TASK, Says.DATABASE)
    assert names(Task) == {*GIVEN, *stamps}
    # The entry's own number is of its database, and when it is due follows from what travels.
    assert names(PauseQueueEntry) - {"id", "task_id", "due_at", "revision"} == {*GIVEN_ENTRY}
    assert {*PauseQueueEntryRecord.model_fields} == {*GIVEN_ENTRY}
    assert {*LogRecord.model_fields} == names(ExecutionLog) - {"task_id"}
    assert {*OriginRecord.model_fields} == {*stamps, "pause_revision", "log", "origin"}


@pytest.mark.django_db
def test_export_streams_in_order_of_id_by_one_statement_in_a_transaction() -> None:
    Task.objects.bulk_record([{"action": f"a{n}", "status": "completed"} for n in range(300)])
    lines = json_lines(Task.objects.order_by("-created_at").with_action(*(f"a{n}" for n in range(50, 250))))
    ids = [json.loads(next(lines))["id"]]
    # A cursor of the server that does not outlive the transaction, and so holds no copy of the result.
    assert sql("SELECT is_holdable FROM pg_cursors") == [(False,)]
    ids += [json.loads(each)["id"] for each in lines]
    assert len(ids) == 200
    assert ids == sorted(ids)
    assert sql("SELECT 1 FROM pg_cursors") == []
    assert list(json_lines(Task.objects.none())) == []


@pytest.mark.django_db
def test_an_export_that_is_given_up_closes_its_cursor() -> None:
    Task.objects.bulk_record([{"action": "a", "status": "completed"}] * 30)
    lines = json_lines(Task.objects.all())
    next(lines)
    lines.close()  # type: ignore[attr-defined]
    assert sql("SELECT 1 FROM pg_cursors") == []


# CSV


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


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_an_export_is_never_readable_by_more_than_the_file_that_it_replaces(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text("before")
    path.chmod(mode)
    umask = os.umask(0)
    try:
        with whole_file(path) as file:
            [temporary] = tmp_path.glob(".tasks.jsonl.*.tmp")
            assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
            file.write("after")
    finally:
        os.umask(umask)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("after", mode)
    assert list(tmp_path.iterdir()) == [path]


# Bad input


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


# What may come in


@pytest.mark.django_db
def test_live_tasks_stay_out_unless_asked_for() -> None:
    lines = [line(status=status) for status in ("pending", "approved", "executing", "paused", "rejected")]
    run = Run(lines)
    assert run.counts == (1, 0, 4)
    assert run.messages.startswith("f:1: status: is the status of a task that is not finished; --live")
    assert Run(lines, live=True).counts == (4, 1, 0)
    executing = Task.objects.get(status="executing")
    assert executing.claim_token
    entry = PauseQueueEntry.objects.get()
    assert entry.held
    assert not PauseQueueEntry.objects.due()


@pytest.mark.django_db
def test_failures_deadlines_and_the_event_waited_for_travel() -> None:
    deadline = AT + timedelta(days=1)
    lines = [
        line(status="paused", failures=3, pause_entry={"reason": "awaiting_event", "event": "build-42"}),
        line(status="pending", approve_before=deadline.isoformat()),
    ]
    assert Run(lines, live=True).counts == (2, 0, 0)
    assert Run(list(json_lines(Task.objects.all())), live=True).counts == (0, 2, 0)
    assert Task.objects.get(status="paused").failures == 3
    assert PauseQueueEntry.objects.get().event == "build-42"
    assert Task.objects.get(status="pending").approve_before == deadline


@pytest.mark.django_db
def test_a_sparse_pause_entry_is_filled_in() -> None:
    later = AT + timedelta(days=1)
    entry = {"reason": "awaiting_event", "resume_after": later.isoformat(), "held": False}
    lines = [line(status="paused", actor="ann", pause_entry=entry)]
    assert Run(lines, live=True).counts == (1, 0, 0)
    stored = PauseQueueEntry.objects.get()
    assert (stored.reason, stored.due_at, stored.held) == ("awaiting_event", later, False)
    assert Run(lines, live=True).counts == (0, 1, 0)
    entry["note"] = "other"
    run = Run(lines, live=True)
    assert run.counts == (0, 0, 1)
    assert "other content in: pause_entry.note" in run.messages


@pytest.mark.django_db
def test_stamps_are_kept_and_missing_ones_filled_in() -> None:
    moments = {
        name: (AT + timedelta(hours=hour)).isoformat()
        for hour, name in enumerate(("created_at", "available_at", "decided_at", "started_at", "finished_at"))
    }
    token = uuid4()
    given = line(**moments, claim_token=str(token), claimed_by="w", attempt=3, expiries=1, decided_by="bob", actor="a")
    assert Run([given, line()]).counts == (2, 0, 0)
    full, sparse = Task.objects.order_by("id")
    assert {name: getattr(full, name).isoformat() for name in moments} == moments
    assert (full.claim_token, full.claimed_by, full.attempt, full.expiries) == (token, "w", 3, 1)
    assert (full.decided_by, full.actor) == ("bob", "a")
    assert sparse.finished_at
    assert sparse.created_at
    assert sparse.actor.startswith("db:")
    assert full.recorded_at > AT + timedelta(days=1)
    assert Run([given, line(id=str(sparse.id))]).counts == (0, 2, 0)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"summary": "other"}, "summary"),
        ({"status": "failed"}, "status"),
        ({"services_touched": ["b", "a"]}, "services_touched"),
        ({"plan": None}, "plan"),
        ({"outcome": 12.5}, "outcome"),
        ({"created_at": AT.replace(microsecond=0).isoformat()}, "created_at"),
        ({"parent": str(uuid4())}, "parent"),
        ({"origin": {"revision": 5}}, "origin"),
        ({"actor": "mallory"}, "actor"),
    ],
)
def test_other_content_under_a_known_id_is_refused(change: dict[str, Any], name: str) -> None:
    first = line(services_touched=["a", "b"], plan={"a": 1}, outcome="X", created_at=AT.isoformat(), actor="ann")
    text = json.dumps(first).replace('"X"', "12.50")
    assert Run([text, text]).counts == (1, 1, 0)
    run = Run([json.dumps(first | change).replace('"X"', "12.50")])
    assert run.counts == (0, 0, 1)
    assert str(run.refusals[0]) == (
        f"f:1: id: is the id of a task that is already here, with other content in: {name} (got '{first['id']}')"
    )


@pytest.mark.django_db
def test_strict_is_all_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "_ROWS_A_BATCH", 2)
    lines = [line() for _ in range(7)]
    run = Run([*lines, line(priority=9)], strict=True)
    assert run.counts == (0, 0, 1)
    assert not Task.objects.exists()
    assert Run(lines, strict=True).counts == (7, 0, 0)
    assert Task.objects.count() == 7


@pytest.mark.django_db
def test_a_dry_run_asks_the_database_and_keeps_nothing() -> None:
    bad = json.dumps(line(outcome="X")).replace('"X"', "1e200000")
    assert Run([line(), bad, line()], dry_run=True).counts == (2, 0, 1)
    assert Run([line(), line()], dry_run=True, strict=True).counts == (2, 0, 0)
    assert not Task.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(("strict", "stored"), [(False, 4), (True, 0)])
def test_an_interruption_leaves_whole_batches(monkeypatch: pytest.MonkeyPatch, strict: bool, stored: int) -> None:
    monkeypatch.setattr(importing, "_ROWS_A_BATCH", 2)

    def interrupted() -> Iterator[Read]:
        yield from reads(*(line() for _ in range(5)))
        raise KeyboardInterrupt

    importer = Importer(strict=strict)
    with pytest.raises(KeyboardInterrupt):
        importer.run(interrupted())
    assert importer.counts.stored == Task.objects.count() == stored


@pytest.mark.django_db
def test_batches_are_bounded_in_rows_and_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(importing, "_ROWS_A_BATCH", 4)
    monkeypatch.setattr(importing, "_CHARACTERS_A_BATCH", 1000)
    importer = Importer(on_batch=lambda counts: seen.append(counts.stored))
    importer.run(reads(*(line() for _ in range(6)), *(line(plan="x" * 600) for _ in range(3))))
    assert seen == [4, 8, 9]


@pytest.mark.django_db
def test_a_database_without_the_tables_is_no_refusal() -> None:
    importer = Importer()

    def elsewhere(execute: Any, statement: str, params: Any, many: bool, context: Any) -> Any:
        return execute("SELECT * FROM nowhere", None, many, context)

    with pytest.raises(ProgrammingError, match="nowhere"), connection.execute_wrapper(elsewhere):
        importer.run(reads(line()))
    assert importer.counts.refused == 0


@pytest.mark.django_db
def test_redaction_masks_outcomes_and_logs_and_keeps_plans_and_numbers() -> None:
    log = [
        {
            "at": AT.isoformat(),
            "kind": "transition",
            "detail": {"password": "hush", "work_plan": {"password": "needed"}, "n": "NUMBER"},
            "output_summary": "password=hush",
        },
        {"at": AT.isoformat(), "kind": "note", "detail": None},
    ]
    origin = {"log": log, "origin": {"log": log}}
    text = json.dumps(line(plan={"password": "needed"}, outcome={"password": "hush", "n": "NUMBER"}, origin=origin))
    text = text.replace('"NUMBER"', "12.50")
    assert Run([text], redact=True).counts == (1, 0, 0)
    [stored] = json_lines(Task.objects.all())
    assert "hush" not in stored
    assert stored.count("needed") == 3
    assert stored.count("12.50") == 3
    assert Run([text]).counts == (0, 0, 1)
    assert Run([line(origin=None), line(origin={}), line(outcome=None)], redact=True).counts == (3, 0, 0)
    deep = json.dumps(line(outcome="X")).replace('"X"', "[" * 4000 + "]" * 4000)
    assert "too deep" in Run([deep], redact=True).messages


# Files


def read_file(path: Path) -> list[Read]:
    [source] = find_sources([str(path)], [])
    return list(read_json_lines(source))


def test_lines_are_counted_and_empty_ones_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    good = json.dumps(line(summary="é"), ensure_ascii=False)
    path.write_bytes(b"\xef\xbb\xbf" + f"{good}\r\n\n  \n{{\n{good}".encode() + b"\n\xff\xfe\n")
    found = read_file(path)
    assert [each.place for each in found] == [f"{path}:{number}" for number in (1, 4, 5, 6)]
    assert [each.record is not None for each in found] == [True, False, True, False]
    assert "is not UTF-8, at byte 0" in str(found[3].problems[0])


def test_a_line_without_end_is_refused_without_reading_it_into_memory(tmp_path: Path, settings: Any) -> None:
    settings.AUDIT = {"IMPORT_MAX_RECORD_BYTES": 2000}
    path = tmp_path / "tasks.jsonl"
    good = json.dumps(line())
    path.write_text(f"{good}\n{'x' * 9000}\n{good}\n{'y' * 3000}")
    found = read_file(path)
    assert [each.place.rpartition(":")[2] for each in found] == ["1", "2", "3", "4"]
    assert [each.record is not None for each in found] == [True, False, True, False]
    assert str(found[1].problems[0]) == (
        'line: is longer than 2000 bytes; if it is sound, raise AUDIT["IMPORT_MAX_RECORD_BYTES"]'
    )


def test_compressed_files_and_damaged_ones(tmp_path: Path) -> None:
    import gzip

    text = "".join(json.dumps(line()) + "\n" for _ in range(200)).encode()
    whole, cut, plain = (tmp_path / f"{name}.jsonl.gz" for name in ("a", "b", "c"))
    whole.write_bytes(gzip.compress(text))
    cut.write_bytes(gzip.compress(text)[:-2000])
    plain.write_bytes(text)  # as a browser stores what a server sent compressed
    assert all(each.record for each in read_file(whole))
    *good, last = read_file(cut)
    assert all(each.record for each in good)
    assert "cannot be read after line" in str(last.problems[0])
    assert [each.record is not None for each in read_file(plain)] == [True] * 200


def test_directories_are_searched_and_missing_paths_named(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.jsonl", "a.ndjson.gz", "deep/c.ndjson", "README.md", "x.json"):
        (tmp_path / name).touch()
    names = [
        str(Path(each.name).relative_to(tmp_path))
        for each in find_sources([str(tmp_path)], [".jsonl", ".ndjson", ".ndjson.gz"])
    ]
    assert names == ["a.ndjson.gz", "b.jsonl", "deep/c.ndjson"]
    assert find_sources(["-"], [])[0] == Source(name="standard input", path=None)
    with pytest.raises(AuditError, match=r"nowhere\.jsonl does not exist"):
        find_sources([str(tmp_path / "nowhere.jsonl")], [])
    with pytest.raises(AuditError, match=r"contains no file whose name ends in \.xml"):
        find_sources([str(tmp_path)], [".xml"])


def test_a_whole_file_appears_at_once_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("before")
    interrupted = whole_file(path)
    interrupted.__enter__().write("half")
    assert interrupted.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None) is False
    assert path.read_text() == "before"
    before = path.stat().st_ino
    with whole_file(path) as file:
        file.write("é\n")
        assert path.read_text() == "before"
    assert path.stat().st_ino != before
    assert path.read_bytes() == "é\n".encode()
    assert list(tmp_path.iterdir()) == [path]
    link = tmp_path / "link"
    link.symlink_to(path)
    with whole_file(link) as file:
        file.write("through")
    assert link.is_symlink()
    assert path.read_text() == "through"
    with whole_file(Path("/dev/null")) as file:
        file.write("gone")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "no" / "where"):
        pass


@both
def test_the_alias_is_the_routers_choice_or_the_callers() -> None:
    given = line()
    assert Run([given], using="other").counts == (1, 0, 0)
    assert not Task.objects.exists()
    assert connections["other"].alias == Task.objects.using("other").get()._state.db
    assert Run([given]).counts == (1, 0, 0)
