"""Texts have bounds: explicit verbs and imports refuse what is longer, and recorded work is stored with it cut."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit import record
from audit.contrib.cloudtrail import task_of_event
from audit.exceptions import InvalidValue
from audit.ids import uuid7
from audit.interchange import Importer, Read, TaskRecord
from audit.interchange.records import problems
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.status import Status
from audit.values import validation
from tests.interchange.test_cloudtrail import event
from tests.support.commands import any_width, run
from tests.support.factories import assert_same, requested, task_in

pytestmark = pytest.mark.django_db

TEXT, NAME, SERVICE, SERVICES = 16_384, 500, 200, 500


def test_the_bounds() -> None:
    found = validation.MAX_TEXT, validation.MAX_LABEL, validation.MAX_SERVICE, validation.MAX_SERVICES
    assert found == (TEXT, NAME, SERVICE, SERVICES)


def _many(count: int) -> list[str]:
    return [f"s{number}" for number in range(count)]


_GIVEN: dict[str, tuple[str, Any, Any, str]] = {
    "action": ("action", "x" * 100, "x" * 101, "has 101 characters; at most 100 are allowed"),
    "summary": ("summary", "é" * TEXT, "é" * (TEXT + 1), f"has {TEXT + 1} characters; at most {TEXT} are allowed"),
    "correlation": (
        "correlation_id",
        "x" * NAME,
        "x" * (NAME + 1),
        f"has {NAME + 1} characters; at most {NAME} are allowed",
    ),
    "actor": ("actor", "x" * NAME, "x" * (NAME + 1), f"has {NAME + 1} characters; at most {NAME} are allowed"),
    "service": ("services[0]", ["é" * SERVICE], ["é" * (SERVICE + 1)], f"has {SERVICE + 1} characters; at most"),
    "services": ("services", _many(SERVICES), _many(SERVICES + 1), f"has {SERVICES + 1} names; at most {SERVICES}"),
}


@pytest.mark.parametrize("field", _GIVEN)
def test_a_request_takes_what_fits_and_names_what_does_not(field: str) -> None:
    name, fits, longer, problem = _GIVEN[field]
    key = name.partition("[")[0]
    assert_same(Task.objects.request(**{"action": "x", "actor": "a", key: fits}))
    for request in (Task.objects.request, lambda **given: Task.objects.bulk_request([given])):
        with pytest.raises(InvalidValue, match="at most") as refused:
            request(**{"action": "x", "actor": "a", key: longer})
        assert str(refused.value).startswith(f"{name}: {problem}")
        assert len(str(refused.value)) < 400
    assert Task.objects.count() == 1


_LONG = "x" * (TEXT + 1)
_VERBS = {
    "reject": (Status.PENDING, lambda task, text: task.reject(reason=text), "reason"),
    "request_cancel": (Status.EXECUTING, lambda task, text: task.request_cancel(reason=text), "reason"),
    "pause": (Status.EXECUTING, lambda task, text: task.pause(note=text), "note"),
    "cancel": (Status.PAUSED, lambda task, text: task.pause_entry.cancel(reason=text), "reason"),
    "note": (Status.PENDING, lambda task, text: task.note(text), "text"),
    "log": (Status.EXECUTING, lambda task, text: task.log("x", output_summary=text), "output_summary"),
    "suggest": (Status.PENDING, lambda task, text: task.suggest(text), "suggestion"),
    "suggest why": (Status.PENDING, lambda task, text: task.suggest("x", reason=text), "reason"),
}


@pytest.mark.parametrize("verb", _VERBS)
def test_a_verb_takes_what_fits_and_names_what_does_not(verb: str) -> None:
    status, call, field = _VERBS[verb]
    task = task_in(status)
    with pytest.raises(InvalidValue, match=f"^{field}: has {TEXT + 1} characters; at most {TEXT} are allowed"):
        call(task, _LONG)
    call(task, _LONG[1:])


def test_the_name_of_a_step_and_of_a_service_have_bounds() -> None:
    task = task_in("executing")
    with pytest.raises(InvalidValue, match=rf"^action: has {NAME + 1} characters; at most {NAME} are allowed"):
        task.log("x" * (NAME + 1))
    with pytest.raises(
        InvalidValue, match=rf"^services\[1\]: has {SERVICE + 1} characters; at most {SERVICE} are allowed"
    ):
        task.touch("a", "x" * (SERVICE + 1))
    task.log("x" * NAME)
    task.touch("x" * SERVICE)


def test_a_failure_has_the_bound_of_documents_alone() -> None:
    task = task_in("executing")
    task.fail(_LONG)
    assert task.outcome["output_summary"] == _LONG
    assert requested(plan={"k" * (TEXT + 1): _LONG}).plan == {"k" * (TEXT + 1): _LONG}


# Recorded work is stored, whatever it is called


def test_a_record_is_stored_with_what_is_too_long_cut_and_marked() -> None:
    with record("x", summary="é" * (TEXT + 1), services=["s" * 300, *_many(600)], actor="a") as task:
        task.log("x" * 600, output_summary=_LONG, detail={"whole": _LONG})
        task.note(_LONG)
        task.suggest(_LONG, reason=_LONG)
        task.touch("t" * 201)
    stored = Task.objects.get()
    assert stored.status == Status.COMPLETED
    assert stored.summary.endswith(f"é… ({TEXT + 1} characters)")
    assert len(stored.summary) == TEXT
    assert stored.services_touched[0].endswith("s… (300 characters)")
    assert stored.services_touched[1:499] == _many(498)
    assert stored.services_touched[499] == "… (601 services)"
    assert stored.services_touched[500].endswith("t… (201 characters)")
    assert {len(name) for name in stored.services_touched if name[:2] in ("ss", "tt")} == {SERVICE}
    step = ExecutionLog.objects.get(kind="step")
    assert (len(step.action), len(step.output_summary), step.detail) == (NAME, TEXT, {"whole": _LONG})
    for row in ExecutionLog.objects.filter(kind__in=["step", "note", "suggestion"]):
        assert row.output_summary.endswith(f"x… ({TEXT + 1} characters)")
    assert len(stored.suggestions[0]["reason"]) == TEXT


def test_a_record_cuts_behind_the_mask_of_a_secret() -> None:
    secret = "hunter2" + "x" * 40
    with record("x", actor="a") as task:
        task.note("y" * (TEXT - 30) + f" password={secret}")
    row = ExecutionLog.objects.get(kind="note")
    assert "hunter2" not in row.output_summary
    assert len(row.output_summary) <= TEXT


# Imports


def _line(**values: Any) -> str:
    return json.dumps({"id": str(uuid7()), "action": "x", "status": "completed", **values})


def _refused(line: str) -> str:
    from pydantic import ValidationError

    with pytest.raises((ValidationError, InvalidValue)) as refused:
        TaskRecord.of_line(line)
    error = refused.value
    return str(problems(error)[0] if isinstance(error, ValidationError) else error)


@pytest.mark.parametrize(
    ("field", "longest"),
    [("summary", TEXT), ("requested_by", NAME), ("actor", NAME), ("correlation_id", NAME), ("claimed_by", NAME)],
)
def test_an_import_refuses_a_text_that_is_too_long(field: str, longest: int) -> None:
    assert _refused(_line(**{field: "x" * (longest + 1)})).startswith(
        f"{field}: has {longest + 1} characters; at most {longest} are allowed"
    )
    Importer().run([Read(place="1", record=TaskRecord.of_line(_line(**{field: "x" * longest})))])
    assert Task.objects.filter(**{field: "x" * longest}).count() == 1


def test_an_import_refuses_services_that_are_too_long_or_too_many() -> None:
    assert _refused(_line(services_touched=["a", "x" * 201])).startswith("services_touched[1]: has 201 characters")
    assert _refused(_line(services_touched=_many(501))).startswith(
        "services_touched: has 501 names; at most 500 are allowed"
    )
    assert TaskRecord.of_line(_line(services_touched=[*_many(499), "x" * 200]))


def test_an_import_refuses_a_note_that_is_too_long() -> None:
    entry = {"reason": "manual_pause", "note": _LONG}
    assert _refused(_line(status="paused", pause_entry=entry)).startswith("pause_entry.note: has 16385 characters")


def test_the_log_of_an_imported_task_is_a_document() -> None:
    log = [{"at": "2026-01-02T03:04:05Z", "kind": "note", "output_summary": _LONG}]
    origin = TaskRecord.of_line(_line(origin={"log": log})).origin
    assert json.loads(origin or "")["log"][0]["output_summary"] == _LONG


def test_an_event_of_cloudtrail_is_imported_with_what_is_too_long_cut() -> None:
    long = "y" * (TEXT + 1)
    identity = {"type": "IAMUser", "arn": f"arn:aws:iam::1:user/{long}"}
    source = f"{'z' * 300}.amazonaws.com"
    made = task_of_event(json.dumps(event(errorCode=long, requestID=long, userIdentity=identity, eventSource=source)))
    assert (len(made.summary), len(made.actor), len(made.correlation_id)) == (TEXT, NAME, NAME)
    assert made.actor.endswith(f"y… ({TEXT + 21} characters)")
    assert [len(name) for name in made.services_touched] == [SERVICE]
    assert json.loads(made.outcome or "")["record"]["userIdentity"] == identity
    Importer().run([Read(place="1", record=made)])
    assert Task.objects.get().actor == made.actor


# What commands read of what is there


def test_no_command_reads_a_long_text_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    any_width(monkeypatch)
    task = task_in("executing", summary="summary" + "s" * 100)
    task.log("x", output_summary="output" + "o" * 100)
    task.pause(note="noted" + "n" * 100)
    monkeypatch.setattr(validation, "MAX_TEXT", 50)
    commands = (
        ("audit_list",),
        ("audit_list", "--format", "json"),
        ("audit_queue", "list"),
        ("audit_queue", "list", "--format", "json"),
        ("audit_tail",),
        ("audit_tail", "--format", "json"),
        ("audit_show", str(task.pk)),
        ("audit_show", str(task.pk), "--format", "json"),
    )
    columns = '"audit_task"."summary"|"audit_pause_queue"."note"|"audit_executionlog"."output_summary"'
    whole = re.compile(rf"(?<!LEFT\()(?:{columns})")
    for command in commands:
        with CaptureQueriesContext(connection) as asked:
            out, _ = run(*command)
        queries = [query["sql"] for query in asked.captured_queries]
        assert queries
        assert not [sql for sql in queries if whole.search(sql)], command
        assert "summary" + "s" * 42 + "…" in out, command
        assert "s" * 43 not in out, command
        if command[0] in ("audit_queue", "audit_show"):
            assert "noted" + "n" * 44 + "…" in out, command
        if command[0] == "audit_show":
            assert "output" + "o" * 43 + "…" in out, command
    monkeypatch.undo()
    any_width(monkeypatch)
    for command in commands:
        assert "s" * 100 in run(*command)[0].replace("\n", "").replace(" ", ""), command
    assert PauseQueueEntry.objects.get().note.endswith("n" * 100)


def test_a_follower_reads_the_beginning_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from audit.reading.beginnings import beginnings
    from audit.reading.following import Follower

    monkeypatch.setattr(validation, "MAX_TEXT", 50)
    follower = Follower("default", lambda tasks: beginnings(tasks, "summary"))
    follower.start()
    requested(summary="s" * 50)
    monkeypatch.setattr(validation, "MAX_TEXT", 20)
    assert [change.task.summary for change in follower.look()] == ["s" * 19 + "…"]
    assert Task.objects.since(timedelta(hours=1)).get().summary == "s" * 50
