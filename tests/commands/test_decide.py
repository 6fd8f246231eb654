"""`audit_decide`: the decisions of the browser, on the command line."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import OperationalError

from audit.management.commands import audit_decide
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.status import PauseReason, Status
from tests.support.commands import ESCAPED, HOSTILE, outcome, run
from tests.support.factories import requested, task_in

pytestmark = pytest.mark.django_db


def _decide(*arguments: object, reason: str = "seen") -> tuple[int, str, str]:
    return outcome("audit_decide", *arguments, "--reason", reason)


def test_it_approves_and_the_log_has_who_and_why() -> None:
    task = requested(action="deploy")
    assert _decide("approve", task.pk, "--actor", "bob") == (0, f"{task.pk}: approved (task {task.pk}, deploy)\n", "")
    task.refresh_from_db()
    assert (task.status, task.decided_by) == ("approved", "bob")
    note = task.execution_log.get(kind="note")
    assert (note.output_summary, note.actor, note.detail) == ("seen", "bob", {"decision": "approve"})


def test_it_rejects_many_and_names_those_that_it_cannot() -> None:
    first, paused, done = requested(), task_in(Status.PAUSED), task_in(Status.COMPLETED)
    code, out, err = _decide("reject", first.pk, paused.pk, done.pk, "01ffff", first.pk, reason="not now")
    assert code == 1
    assert [line.split(":")[1].split(" (")[0] for line in out.splitlines()] == [" rejected", " rejected"]
    assert f"{done.pk}: refused, " in err
    assert "01ffff: refused, it begins no task" in err
    assert err.splitlines()[-1].endswith("2 of 4 refused.")
    for task in (first, paused):
        task.refresh_from_db()
        assert (task.status, task.outcome["output_summary"]) == ("rejected", "not now")


def test_it_pauses_work_that_has_not_begun_until_somebody_resumes_it() -> None:
    task, runs = task_in(Status.APPROVED), task_in(Status.EXECUTING)
    code, out, err = _decide("pause", task.pk, runs.pk, "--actor", "bob", reason="the disk is full")
    assert (code, out) == (1, f"{task.pk}: paused (task {task.pk}, {task.action})\n")
    assert f"{runs.pk}: refused, " in err
    assert "Ask executing work to stop" in err
    runs.refresh_from_db()
    assert runs.status == "executing"
    entry = PauseQueueEntry.objects.get()
    assert (entry.task_id, entry.held, entry.note, entry.paused_by) == (task.pk, True, "the disk is full", "bob")
    assert (entry.reason, entry.resume_after) == (PauseReason.MANUAL_PAUSE, None)
    assert outcome("audit_queue", "resume", task.pk)[0] == 0
    task.refresh_from_db()
    assert task.status == "approved"


def test_a_pause_may_end_by_itself() -> None:
    task = task_in(Status.APPROVED)
    assert _decide("pause", task.pk, "--until", "2h")[0] == 0
    entry = PauseQueueEntry.objects.get()
    assert not entry.held
    assert entry.due_at - entry.paused_at == timedelta(hours=2)
    waits = task_in(Status.APPROVED)
    code, _, err = _decide("pause", waits.pk, "--until", "2001-01-01T00:00Z")
    assert code != 0
    assert "is past" in err
    waits.refresh_from_db()
    assert waits.status == "approved"


def test_it_asks_executing_work_to_stop() -> None:
    task, waits = task_in(Status.EXECUTING), requested()
    assert _decide("stop", task.pk, "--actor", "bob", reason="wrong host")[:2] == (
        0,
        f"{task.pk}: asked to stop (task {task.pk}, {task.action})\n",
    )
    task.refresh_from_db()
    assert task.status == "executing"
    assert task.cancel_requested_at is not None
    note = ExecutionLog.objects.get(task=task, action="request-cancel")
    assert (note.actor, note.output_summary) == ("bob", "wrong host")
    code, _, err = _decide("stop", waits.pk)
    assert code == 1
    assert "reject work that waits" in err


def test_nobody_decides_about_their_own_request_where_that_is_off(settings: LazySettings) -> None:
    settings.AUDIT = {"DECIDE_OWN": False}
    task = requested()
    code, _, err = _decide("approve", task.pk, "--actor", task.requested_by)
    assert code == 1
    assert "somebody else must decide it" in err
    assert Task.objects.get(pk=task.pk).status == "pending"
    assert _decide("reject", task.pk, "--actor", task.requested_by)[0] == 0


def test_json_has_what_came_of_each() -> None:
    task = requested()
    code, out, _ = _decide("approve", task.pk, "zz", "--format", "json")
    done, refused = json.loads(out)
    assert code == 1
    assert (done["done"], done["refused"], done["task_id"]) == ("approved", None, str(task.pk))
    assert (refused["done"], refused["task_id"]) == (None, None)
    assert refused["refused"]


def test_a_decision_needs_a_reason_that_can_be_stored() -> None:
    task = requested()
    for arguments, said in (
        ([], "--reason"),
        (["--reason", ""], "argument --reason: ''"),
        (["--reason", "x" * 2001], "2000"),
        (["--reason", "x", "--actor", ""], "argument --actor: ''"),
    ):
        code, out, err = outcome("audit_decide", "approve", task.pk, *arguments)
        assert (code != 0, out) == (True, "")
        assert said in err
    assert Task.objects.get(pk=task.pk).status == "pending"


def test_names_are_shown_harmlessly() -> None:
    task = requested(action=HOSTILE)
    assert ESCAPED in run("audit_decide", "approve", str(task.pk), "--reason", "x")[0]


def test_what_was_decided_is_said_though_the_next_one_meets_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = requested(), requested()
    carry_out = audit_decide.carry_out

    def fails(what: Any, task: Task, *rest: Any, **more: Any) -> Any:
        if task.pk == second.pk:
            raise OperationalError("the server is gone")
        return carry_out(what, task, *rest, **more)

    monkeypatch.setattr(audit_decide, "carry_out", fails)
    code, out, _ = outcome("audit_decide", "approve", first.pk, second.pk, "--reason", "x")
    assert code == 2
    assert out.startswith(f"{first.pk}: approved")
    assert Task.objects.get(pk=first.pk).status == "approved"
