"""Records: byte for byte the same after import and export."""

import contextlib
import json
from typing import Any
from uuid import uuid4

import pytest

from audit import columns, ids
from audit.columns import Source as Says
from audit.interchange import (
    Importer,
    LogRecord,
    OriginRecord,
    PauseQueueEntryRecord,
    Read,
    Refusal,
    TaskRecord,
    csv_lines,
    json_lines,
)
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.status import Status
from audit.verbs.differences import GIVEN_ENTRY
from audit.verbs.inserts import GIVEN
from tests.support.factories import entry_of, finished, sql, task_in
from tests.support.importing import Run, both, line

# What Python's reader would lose, or not read at all.
AWKWARD = (
    '{"price": 12.50, "zero": 0.0, "exact": 1234567890.1234567890123456789012, "huge": 1e400, "tiny": 1.0e-30,'
    f' "long": {"7" * 5000}, "minus": -0.00, "deep": {"[" * 3000}1.10{"]" * 3000},'
    ' "text": "\\u00e9\\n\\"\\\\ \\ud83d\\ude00 \u2028"'
    ', "": [null, true, {}, []]}'
)


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
