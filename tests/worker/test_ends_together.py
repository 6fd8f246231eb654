"""Ends that come at the same time are stored by one statement, with the same rules as one alone."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from audit.exceptions import InvalidValue
from audit.models import ExecutionLog, Task
from audit.verbs import completions
from audit.verbs.completions import Completion, complete_many
from audit.worker import store as stores
from audit.worker.clerk import Clerk
from audit.worker.ending import End
from audit.worker.store import Claimed, Store
from tests.leases.test_claims_plans import nodes, plan_of
from tests.support.factories import sql
from tests.support.worker import approved

_INDEXED = ("Index Scan", "Bitmap Heap Scan", "Bitmap Index Scan")

pytestmark = pytest.mark.django_db(transaction=True)


def _store() -> Store:
    return Store("default", "w1", timedelta(seconds=60), on_lost=print, on_cancel=print)


def _claimed(store: Store, count: int) -> list[Claimed]:
    for _ in range(count):
        approved("deploy")
    found = store.claim(["deploy"], count)
    assert len(found) == count
    return found


def _end(number: int = 0, **changed: Any) -> End:
    return End(verb="complete", **{"outcome": {"number": number}, "resources": {"wall_s": 1.5}} | changed)


def _completion(task: Task, **changed: Any) -> Completion:
    values = {"task_id": task.pk, "token": task.claim_token, "outcome": {"a": 1}, "resources": None}
    return Completion(**values | changed)


def test_each_is_fenced_by_its_own_token() -> None:
    tasks = [each.task for each in _claimed(_store(), 4)]
    lost, taken, done, kept = tasks
    lost.release()
    [again] = Task.objects.claim("w2", limit=1)
    assert again.pk == lost.pk
    done.complete({"first": True})
    finished = complete_many(
        [
            _completion(lost),
            _completion(taken, token=again.claim_token),
            _completion(done),
            _completion(kept, resources={"cpu_s": 2}),
        ],
        actor="w1",
        using="default",
    )
    assert finished == {kept.pk}
    for each in tasks:
        each.refresh_from_db()
    assert [each.status for each in tasks] == ["executing", "executing", "completed", "completed"]
    assert (lost.claimed_by, done.outcome) == ("w2", {"success": True, "first": True})
    assert (kept.outcome, kept.resources_used) == ({"success": True, "a": 1}, {"cpu_s": 2})
    [move] = ExecutionLog.objects.filter(task=kept, to_status="completed")
    assert (move.actor, move.attempt, move.revision) == ("w1", 1, kept.revision)


def test_a_document_that_cannot_be_stored_completes_none() -> None:
    one, other = (each.task for each in _claimed(_store(), 2))
    with pytest.raises(InvalidValue):
        complete_many(
            [_completion(one), _completion(other, resources={"x": float("nan")})], actor="w1", using="default"
        )
    assert not Task.objects.exclude(status="executing").exists()


@pytest.mark.parametrize("analyzed", [True, False], ids=["analyzed", "never analyzed"])
def test_the_rows_are_looked_up_in_an_index(analyzed: bool) -> None:
    """Also by a plan that was made while the table was small, and is kept."""
    if analyzed:
        Task.objects.bulk_request([{"action": "other", "actor": "a"}] * 3000)
        sql("VACUUM ANALYZE audit_task")
    tasks = [each.task for each in _claimed(_store(), 5)]
    ids = [each.pk for each in tasks]
    params = ["w1", ids, [each.claim_token for each in tasks], ["{}"] * 5, ["{}"] * 5, ids]
    plan = plan_of(completions._COMPLETE, params)["Plan"]
    assert plan["Actual Rows"] == 5
    assert {each["Node Type"] for each in nodes(plan) if each.get("Alias") == "task"} <= {"ModifyTable", *_INDEXED}


def test_good_ends_take_one_statement_and_the_others_are_stored_alone() -> None:
    store = _store()
    claims = _claimed(store, 6)
    with CaptureQueriesContext(connection) as ran:
        answers = store.save_completed([(each, _end(n)) for n, each in enumerate(claims[:3])])
    assert (answers, len(ran)) == ([("completed", None)] * 3, 1)
    assert {each.task.pk for each in claims[:3]}.isdisjoint(each.task.pk for each in store._held)
    lost, changed, fine = claims[3:]
    sql("UPDATE audit_task SET status = 'approved' WHERE id = %s", [lost.task.pk])
    answers = store.save_completed([(lost, _end(1)), (changed, _end(2, changes=["outcome.x: cut"])), (fine, _end(3))])
    assert answers == [("lost", None), ("completed", None), ("completed", None)]
    [note] = ExecutionLog.objects.filter(kind="note")
    assert (note.task_id, note.detail) == (changed.task.pk, {"changed": ["outcome.x: cut"]})
    assert not store._held
    assert Task.objects.get(pk=fine.task.pk).outcome == {"success": True, "number": 3}


def test_an_end_that_is_refused_fails_its_task_alone() -> None:
    store = _store()
    one, odd, other = _claimed(store, 3)
    answers = store.save_completed([(one, _end()), (odd, _end(resources={"x": float("nan")})), (other, _end())])
    assert answers[0] == answers[2] == ("completed", None)
    # Nor can the refusal be stored, for it keeps the same resources.
    assert isinstance(answers[1][1], InvalidValue)
    assert sorted(Task.objects.values_list("status", flat=True)) == ["completed", "completed", "executing"]


@pytest.mark.parametrize("done", [True, False], ids=["carried out", "not carried out"])
def test_an_answer_that_is_lost_is_asked_for_again(done: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    store = _store()
    ends = [(each, _end(n)) for n, each in enumerate(_claimed(store, 3))]
    real = stores.complete_many

    def cut(*given: Any, **named: Any) -> Any:
        if done:
            real(*given, **named)
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(stores, "complete_many", cut)
    with pytest.raises(OperationalError):
        store.save_completed(ends)
    monkeypatch.setattr(stores, "complete_many", real)
    assert store.save_completed(ends) == [("completed", None)] * 3
    assert ExecutionLog.objects.filter(to_status="completed").count() == 3
    assert sorted(each.outcome["number"] for each in Task.objects.all()) == [0, 1, 2]
    assert not store._held


class _Worker:
    """The thread of a worker, whose clerk is held until it is let go."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.answered: list[Any] = []
        self.problems = 0
        self._answers = threading.Semaphore(0)
        self._go = threading.Event()
        self.clerk = Clerk("default", self._deliver, lambda line: None)
        self.clerk.give(lambda: self._go.wait(60), lambda result, problem: None)

    def _deliver(self, call: Any) -> None:
        call()
        self._answers.release()

    def together(self, items: list[Any]) -> list[tuple[Any, Exception | None]]:
        if self.problems:
            self.problems -= 1
            raise OperationalError("away")
        self.done.append(items)
        return [(f"stored {each}", None) for each in items]

    def give(self, item: Any, *, alone: bool = False) -> None:
        self.clerk.give(
            lambda: self.done.append(item) or f"stored {item}",
            lambda result, problem: self.answered.append((item, result, problem)),
            keep=True,
            together=None if alone else self.together,
            item=item,
        )

    def let_go(self) -> None:
        self._go.set()
        assert self.clerk.end(60)


def test_what_stands_together_is_done_together_and_in_order() -> None:
    """What a handler hands in before its end is stored before it."""
    owner = _Worker()
    for item in (1, 2):
        owner.give(item)
    owner.give("log", alone=True)
    for item in (3, 4, 5):
        owner.give(item)
    owner.give("another log", alone=True)
    owner.give(6)
    owner.let_go()
    assert owner.done == [[1, 2], "log", [3, 4, 5], "another log", 6]
    wanted = [1, 2, "log", 3, 4, 5, "another log", 6]
    assert owner.answered == [(each, f"stored {each}", None) for each in wanted]


def test_what_stands_together_is_kept_while_the_database_is_away() -> None:
    owner = _Worker()
    owner.problems = 2
    for item in (1, 2, 3):
        owner.give(item)
    owner.let_go()
    assert [each for group in owner.done for each in group] == [1, 2, 3]
    assert owner.answered == [(each, f"stored {each}", None) for each in (1, 2, 3)]
