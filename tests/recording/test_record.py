"""`record` in a block and as a decorator, sync and async: what is stored, and what reaches the caller."""

import asyncio
import contextvars
import copy
import os
import pickle
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test.utils import CaptureQueriesContext

import audit
from audit import record
from audit.context import actor, get_actor
from audit.exceptions import IllegalTransition, InvalidValue
from audit.models import ExecutionLog, Task
from audit.recording import current_task
from audit.values.redaction import MASK
from tests.support.factories import assert_same

pytestmark = pytest.mark.django_db


def stored(task: Task) -> Task:
    return Task.objects.get(pk=task.pk)


def only() -> Task:
    return Task.objects.get()


def steps(task: Task) -> list[tuple[str | None, str | None]]:
    found = ExecutionLog.objects.filter(task=task, kind="transition").order_by("id")
    return list(found.values_list("from_status", "to_status"))


def test_public_name() -> None:
    assert audit.record is record
    assert "record" in audit.__all__
    with pytest.raises(AttributeError, match="no attribute 'recrod'"):
        audit.recrod  # noqa: B018


def test_a_block_is_a_task_from_executing_to_completed() -> None:
    parent = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
    with record(
        "backup",
        summary="Nightly",
        services=["db", "nas"],
        plan={"password": "stays"},
        actor="alice",
        parent=parent,
        correlation_id="batch-7",
        estimated_resources={"wall_s": 3},
    ) as task:
        assert isinstance(task, Task)
        row = stored(task)
        assert (row.status, row.attempt, row.on_expiry, row.revision) == ("executing", 1, "fail", 1)
        assert row.claimed_by.endswith(f":{os.getpid()}")
        assert row.claim_token == task.claim_token
        assert row.lease_expires_at - row.started_at == timedelta(seconds=60)
        assert row.started_at == row.created_at
    assert_same(task)
    assert type(task) is Task
    assert (task.status, task.action, task.summary) == ("completed", "backup", "Nightly")
    assert (task.services_touched, task.plan) == (["db", "nas"], {"password": "stays"})
    assert (task.requested_by, task.actor, task.decided_by) == ("alice", "alice", "")
    assert (task.parent, task.correlation_id, task.estimated_resources) == (parent, "batch-7", {"wall_s": 3})
    assert task.outcome == {"success": True}
    assert task.resources_used.keys() == {"wall_s", "cpu_s", "peak_rss_bytes", "peak_rss_source"}
    assert task.resources_used["peak_rss_bytes"] > 5_000_000
    assert task.finished_at > task.started_at
    assert steps(task) == [(None, "executing"), ("executing", "completed")]


def test_one_statement_at_each_end() -> None:
    with CaptureQueriesContext(connection) as queries, record("quick"):
        pass
    assert [query["sql"].split()[0] for query in queries] == ["INSERT", "UPDATE"]


def test_what_the_block_says_is_stored_at_the_end() -> None:
    with record("backup") as task:
        task.outcome["files"] = 3
        task.touch("db")
        task.suggest("compress")
        assert task.outcome == {"files": 3}
        task.resources_used = {"gpu_vram_bytes": 7}
        task.refresh_from_db()
        task.log("copy", output_summary="ok")
        assert stored(task).outcome is None
    assert task.outcome == {"success": True, "files": 3}
    assert task.resources_used["gpu_vram_bytes"] == 7
    assert task.resources_used["wall_s"] > 0
    assert (task.services_touched, task.suggestions[0]["suggestion"]) == (["db"], "compress")
    assert_same(task)


@pytest.mark.parametrize("outcome", [["a", 1], "done", 7, {"success": False}])
def test_an_outcome_of_any_shape(outcome: Any) -> None:
    with record("backup") as task:
        task.outcome = outcome
    assert stored(task).outcome == outcome


def test_an_exception_fails_the_task_and_goes_on() -> None:
    error = ValueError("could not reach postgres://u:hunter2@db")
    with pytest.raises(ValueError, match="could not reach") as caught, record("backup") as task:  # noqa: PT012 - the block is the point
        task.outcome["files"] = 3
        raise error
    assert caught.value is error
    assert not getattr(error, "__notes__", [])
    assert_same(task)
    assert task.status == "failed"
    assert task.outcome.pop("traceback").startswith("Traceback (most recent call last):\n")
    assert task.outcome == {
        "success": False,
        "error_type": "ValueError",
        "output_summary": f"could not reach postgres://u:{MASK}@db",
        "files": 3,
    }
    assert task.resources_used["wall_s"] > 0
    assert steps(task) == [(None, "executing"), ("executing", "failed")]


def test_an_outcome_that_is_no_object_survives_a_failure() -> None:
    with pytest.raises(KeyError), record("backup") as task:  # noqa: PT012 - as above
        task.outcome = ["a"]
        raise KeyError("x")
    assert (task.outcome["outcome"], task.outcome["error_type"]) == (["a"], "KeyError")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, asyncio.CancelledError, GeneratorExit, MemoryError])
def test_every_exception_fails(kind: type[BaseException]) -> None:
    with pytest.raises(kind), record("backup") as task:
        raise kind
    assert (stored(task).status, stored(task).outcome["error_type"]) == ("failed", kind.__name__)


@pytest.mark.parametrize(
    ("code", "status", "exit_status"),
    [(None, "completed", None), (0, "completed", None), (3, "failed", 3), ("bad", "failed", None)],
)
def test_leaving_by_exit(code: Any, status: str, exit_status: int | None) -> None:
    with pytest.raises(SystemExit) as caught, record("backup") as task:
        raise SystemExit(code)
    assert caught.value.code == code
    assert stored(task).status == status
    assert stored(task).outcome.get("exit_status") == exit_status
    assert stored(task).outcome["success"] == (status == "completed")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")


@pytest.mark.parametrize(
    "error",
    [Unprintable(), ValueError("nul \0 and \ud800"), ExceptionGroup("two", [ValueError("a"), TypeError("b")])],
)
def test_exceptions_that_are_hard_to_store(error: Exception) -> None:
    with pytest.raises(type(error)), record("backup") as task:
        raise error
    assert stored(task).status == "failed"
    assert stored(task).outcome["error_type"] == type(error).__qualname__


def test_huge_exceptions_are_bounded(settings: Any) -> None:
    settings.AUDIT = {"TRACEBACK_CHARS": 1000, "MAX_JSON_BYTES": 50_000}

    def fall(depth: int) -> None:
        if depth:
            fall(depth - 1)
        raise ValueError("x" * 20_000_000)

    with pytest.raises(ValueError, match="xxx"), record("backup") as task:
        fall(50)
    outcome = stored(task).outcome
    assert outcome["output_summary"] == "x" * 1000 + "… (20000000 characters)"
    assert len(outcome["traceback"]) == 1001


def test_a_secret_at_the_cut_of_a_traceback_is_masked(settings: Any) -> None:
    settings.AUDIT = {"TRACEBACK_CHARS": 100}
    with pytest.raises(ValueError, match="x"), record("backup") as task:
        raise ValueError("password=" + "s3cret" * 5 + " " + "x" * 90)
    assert "s3cret" not in str(stored(task).outcome)


def test_outcome_and_log_are_redacted() -> None:
    with record("backup", plan={"token": "t0k"}, summary="s") as task:
        task.outcome = {"password": "p4ss", "said": "Authorization: Basic x"}
        task.log("step", output_summary="token=t0k", detail={"cookie": "c"})
        task.note("password=p4ss", detail={"api_key": "k"})
        async_to_sync(task.alog)("step", detail={"secret": "s"})
        async_to_sync(task.anote)("password=p4ss")
    assert stored(task).outcome == {"success": True, "password": MASK, "said": f"Authorization: {MASK}"}
    log = list(ExecutionLog.objects.filter(task=task).exclude(kind="transition").order_by("id"))
    assert [row.detail for row in log] == [{"cookie": MASK}, {"api_key": MASK}, {"secret": MASK}, None]
    assert [row.output_summary for row in log] == [f"token={MASK}", f"password={MASK}", "", f"password={MASK}"]
    assert stored(task).plan == {"token": "t0k"}


def _now(task: Task, verb: str, *args: Any, **options: Any) -> None:
    getattr(task, verb)(*args, **options)


def _awaited(task: Task, verb: str, *args: Any, **options: Any) -> None:
    async_to_sync(getattr(task, f"a{verb}"))(*args, **options)


@pytest.mark.parametrize("call", [_now, _awaited], ids=["sync", "async"])
def test_what_the_block_hands_to_verbs_is_redacted(call: Any) -> None:
    with record("backup") as task:
        call(task, "log", "step password=p4ss")
        call(task, "suggest", "use password=p4ss", reason="token=t0k was old")
        call(task, "complete", {"password": "p4ss"}, resources={"wall_s": 1})
    row = stored(task)
    assert (row.status, row.outcome) == ("completed", {"success": True, "password": MASK})
    assert row.suggestions
    assert "t0k" not in str(row.suggestions)

    with record("backup") as failing:
        call(failing, "fail", "password=p4ss", outcome={"api_key": "k3y"}, suggestions=["rotate token=t0k"])
    row = stored(failing)
    assert (row.status, row.outcome["api_key"], row.outcome["output_summary"]) == ("failed", MASK, f"password={MASK}")
    assert row.suggestions == [f"rotate token={MASK}"]
    written = str(list(ExecutionLog.objects.filter(task__in=[task, failing]).values_list("action", "detail")))
    written += str(list(ExecutionLog.objects.filter(task__in=[task, failing]).values_list("output_summary")))
    assert MASK in written
    assert not [each for each in ("p4ss", "t0k", "k3y") if each in written]


@pytest.mark.parametrize("call", [_now, _awaited], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({}, {}),
        ({"resources": {"gpu_s": 2, "wall_s": 5}}, {"gpu_s": 2, "wall_s": 5}),
        ({"resources": [1]}, None),
    ],
    ids=["nothing given", "an object", "no object"],
)
def test_what_a_block_used_is_measured_when_a_verb_ends_it(call: Any, given: Any, shown: Any) -> None:
    for verb in ("complete", "fail"):
        with record("backup") as task:
            call(task, verb, **given)
        used = stored(task).resources_used
        if shown is None:
            assert used == [1]
        else:
            assert used.keys() == {"wall_s", "cpu_s", "peak_rss_bytes", "peak_rss_source"} | shown.keys()
            assert used["peak_rss_bytes"] > 5_000_000
            assert used | shown == used
    with record("backup") as task:
        task.resources_used = {"gpu_s": 3}
        call(task, "complete", {"n": 1})
    assert stored(task).resources_used.keys() == {"wall_s", "cpu_s", "peak_rss_bytes", "peak_rss_source", "gpu_s"}


def test_a_verb_of_the_block_refuses_a_document_as_it_was_given() -> None:
    with pytest.raises(InvalidValue, match="outcome"), record("backup") as task:
        task.complete({"n": float("nan")})
    assert stored(task).status == "failed"


def test_a_broken_redaction_stops_the_work_before_it_begins(settings: Any) -> None:
    settings.AUDIT = {"REDACT_PATTERNS": ["("]}
    with pytest.raises(audit.exceptions.AuditError, match="REDACT_PATTERNS"), record("backup"):
        pytest.fail("the block ran")
    assert not Task.objects.exists()


def test_recorded_work_is_never_handed_on() -> None:
    with record("backup") as task:
        for verb in (task.release, task.pause, async_to_sync(task.arelease), async_to_sync(task.apause)):
            with pytest.raises(IllegalTransition, match="whoever records it"):
                verb()
    assert task.status == "completed"


@pytest.mark.parametrize("verb", ["complete", "fail"])
def test_a_block_may_end_its_task_itself(verb: str) -> None:
    with record("backup") as task:
        getattr(task, verb)(outcome={"mine": True})
    assert stored(task).outcome["mine"] is True
    assert stored(task).status == {"complete": "completed", "fail": "failed"}[verb]
    assert type(task) is Task


def test_the_task_of_a_block_copies_and_pickles_as_a_task() -> None:
    with record("backup") as task:
        _assert_copies(task)
        assert task.execution_log.count() == 1
    _assert_copies(task)


def test_the_task_of_a_block_is_used_as_any_other() -> None:
    with record("backup") as task:
        task.log("step")
        assert ExecutionLog.objects.filter(task=task, kind="step").get().task == task
        with record("child", parent=task) as child:
            assert child.parent == task.pk
        assert {task: 1}[stored(task)] == 1
    assert "_hook" not in task.__dict__


def test_what_the_block_has_given_outlives_reading_the_row_again() -> None:
    with record("backup") as task:
        task.outcome["files"] = 3
        task.resources_used = {"gpu_s": 2}
        task.refresh_from_db()
        assert (task.outcome, task.resources_used) == ({"files": 3}, {"gpu_s": 2})
        task.touch("db")
        task.outcome["bytes"] = 4
    assert stored(task).outcome == {"success": True, "files": 3, "bytes": 4}
    assert stored(task).resources_used["gpu_s"] == 2


def _assert_copies(task: Task) -> None:
    for made in (copy.copy(task), copy.deepcopy(task), pickle.loads(pickle.dumps(task))):
        assert made == task
        assert isinstance(made, Task)
        assert "_hook" not in made.__dict__


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"action": ""}, "action"),
        ({"action": "x" * 101}, "action"),
        ({"services": "db"}, "services"),
        ({"actor": ""}, "actor"),
        ({"parent": "zzz"}, "parent"),
        ({"plan": {"x": float("inf")}}, "plan"),
        ({"using": "nope"}, "using"),
        ({"lease": timedelta(0)}, "lease"),
    ],
)
def test_bad_arguments_are_named_and_nothing_runs(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidValue, match=f"^{field}"), record(**{"action": "backup", **options}):
        pytest.fail("the block ran")
    assert not Task.objects.exists()
    assert current_task() is None


def test_actor_of_the_block_and_around_it() -> None:
    with actor("bob"), record("around") as around:
        pass
    with actor("bob"), record("named", actor="alice") as named:
        assert get_actor() == "alice"
        named.log("step")
        inside = Task.objects.request("inside")
    with record("nobody") as nobody:
        pass
    assert get_actor() == ""
    assert (around.requested_by, around.actor) == ("bob", "bob")
    assert (named.requested_by, named.actor, inside.requested_by) == ("alice", "alice", "alice")
    assert set(named.execution_log.values_list("actor", flat=True)) == {"alice"}
    assert (nobody.requested_by, nobody.actor) == ("", nobody.claimed_by)


def test_nested_records_know_their_parent() -> None:
    other = Task.objects.request("other")
    assert current_task() is None
    with record("outer") as outer:
        assert current_task() is outer
        with record("inner") as inner:
            assert current_task() is inner
            with record("innermost", parent=other) as innermost:
                pass
        assert current_task() is outer
        with pytest.raises(KeyError), record("failing") as failing:
            raise KeyError
        assert current_task() is outer
    assert current_task() is None
    assert (outer.parent, inner.parent, failing.parent) == (None, outer.pk, outer.pk)
    assert innermost.parent == other.pk


def test_a_record_is_used_again_but_not_twice_at_once() -> None:
    recording = record("backup")
    with recording as first, pytest.raises(RuntimeError, match="is open"), recording:
        pytest.fail("the block ran")
    with recording as second:
        pass
    assert first.pk != second.pk
    assert (first.status, second.status) == ("completed", "completed")
    with pytest.raises(RuntimeError, match="is not open"):
        recording.end()


def test_a_generator_that_is_closed_early() -> None:
    def numbers() -> Iterator[int]:
        with record("generate", actor="alice"):
            yield 1
            yield 2

    assert list(numbers()) == [1, 2]
    assert only().status == "completed"
    closed = numbers()
    next(closed)
    closed.close()
    task = Task.objects.latest("id")
    assert (task.status, task.outcome["error_type"]) == ("failed", "GeneratorExit")
    assert current_task() is None


# As a decorator


def test_each_call_is_a_record() -> None:
    @record("add", services=["calc"])
    def add(a: int, *, b: int) -> int:
        """Add."""
        return a + b

    assert (add.__name__, add.__doc__) == ("add", "Add.")
    assert [add(1, b=2), add(3, b=4)] == [3, 7]
    assert [task.status for task in Task.objects.touching("calc")] == ["completed"] * 2


def test_a_recorded_function_may_call_itself() -> None:
    @record("count")
    def count(n: int) -> int:
        return 1 + count(n - 1) if n else 0

    assert count(3) == 3
    outer, *inner = Task.objects.order_by("id")
    assert outer.parent is None
    assert [task.parent for task in inner] == [outer.pk, inner[0].pk, inner[1].pk]


def test_a_method_and_a_failing_call() -> None:
    class Worker:
        @record("work")
        def work(self) -> None:
            raise LookupError(self)

    with pytest.raises(LookupError):
        Worker().work()
    assert only().outcome["error_type"] == "LookupError"


def test_what_cannot_be_decorated() -> None:
    def generator() -> Iterator[int]:
        yield 1

    async def asynchronous() -> Any:
        yield 1

    for function in (generator, asynchronous):
        with pytest.raises(TypeError, match="generator function"):
            record("x")(function)
    with pytest.raises(TypeError, match="takes a function"):
        record("x")(Task)
    with pytest.raises(TypeError, match="takes a function"):
        record("x")(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r'@record\("action"\)'):
        record(generator)  # type: ignore[arg-type]


def test_left_in_another_context_than_entered() -> None:
    """As a fixture does whose two halves run in tasks of their own."""
    recording = record("work", actor="alice")
    contextvars.copy_context().run(recording.__enter__)
    recording.__exit__(None, None, None)
    assert only().status == "completed"
    assert (current_task(), get_actor()) == (None, "")
