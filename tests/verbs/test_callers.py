"""The verbs seen by those who call them: under which name, inside a transaction, from async code, in every status."""

import asyncio
import inspect
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction

from audit.context import actor
from audit.exceptions import AuditError, IllegalTransition, InvalidValue, LeaseLost, StaleTask, TaskFrozen
from audit.ids import uuid7
from audit.models import Task
from audit.status import FINISHED, Status
from audit.verbs.entry import PauseQueueEntryVerbs
from audit.verbs.log import LogVerbs
from audit.verbs.task import TaskVerbs
from tests.support.factories import assert_same, finished, log_of, sql, task_in, unchanged

pytestmark = pytest.mark.django_db


def test_the_actor_is_the_argument_then_the_block_then_the_worker_then_the_role():
    role = "db:" + sql("SELECT session_user::text")[0][0]
    task = Task.objects.request("x")
    assert (task.actor, task.requested_by) == (role, "")
    with actor("outer"):
        task = Task.objects.request("x")
        assert (task.actor, task.requested_by) == ("outer", "outer")
        with actor("inner"):
            task.approve()
            assert task.actor == "inner"
        task.suggest("x", actor="argument")
        assert task.actor == "argument"
        [task] = Task.objects.claim("worker")
        assert (task.actor, task.claimed_by) == ("outer", "worker")
        task.heartbeat()
        assert task.actor == "outer"
    task.heartbeat()
    assert task.actor == "worker"
    assert task.log("x").actor == "worker"
    assert task.note("x").actor == role
    task.request_cancel()
    assert task.actor == role


# Inside a transaction, and outside


def test_a_refused_verb_leaves_the_callers_transaction_alone():
    tasks = {status: task_in(status) for status in Status}
    strangers = {status: Task.objects.get(pk=task.pk) for status, task in tasks.items()}
    for stranger in strangers.values():
        stranger.claim_token = uuid7()
    calls = [
        lambda t: t.approve(actor="x"),
        lambda t: t.reject(actor="x"),
        lambda t: t.request_cancel(actor="x"),
        lambda t: t.heartbeat(),
        lambda t: t.touch("x"),
        lambda t: t.log("x"),
        lambda t: t.release(),
        lambda t: t.complete(),
        lambda t: t.fail("x"),
        lambda t: t.pause(),
    ]
    refusals = 0
    with transaction.atomic():
        for task in strangers.values():
            for call in calls:
                sid = connection.savepoint()
                try:
                    call(task)
                except AuditError:
                    refusals += 1
                assert not connection.needs_rollback
                assert sql("SELECT 1") == [(1,)]
                connection.savepoint_rollback(sid)
                task.refresh_from_db()
                task.claim_token = uuid7()
    assert refusals > 50


def test_bad_values_are_refused_before_anything_is_sent(django_assert_num_queries):
    task = task_in(Status.EXECUTING)
    with django_assert_num_queries(0):
        for call in (
            lambda: task.complete({"x": float("nan")}),
            lambda: task.log(""),
            lambda: task.pause(reason="tired"),
            lambda: task.heartbeat(lease=timedelta(0)),
        ):
            with pytest.raises(InvalidValue):
                call()


# Async


@pytest.mark.parametrize("mixin", [TaskVerbs, LogVerbs, PauseQueueEntryVerbs])
def test_every_verb_has_an_async_twin(mixin):
    own = [name for name, value in vars(mixin).items() if inspect.isfunction(value) and not name.startswith("_")]
    twins = {name for name in own if inspect.iscoroutinefunction(vars(mixin)[name])}
    verbs = set(own) - twins
    assert verbs
    assert {f"a{name}" for name in verbs} == twins
    assert all(vars(mixin)[name].__name__ == name for name in twins)


def test_async_twins_carry_the_actor_of_their_own_asyncio_task():
    async def story(name):
        with actor(name):
            task = await Task.objects.arequest("x")
            await asyncio.sleep(0)
            await task.aapprove()
            await asyncio.sleep(0)
            [task] = await Task.objects.filter(pk=task.pk).aclaim("w")
            await task.aheartbeat()
            await task.alog("x")
            await task.atouch("x")
            await task.asuggest("y")
            await task.anote("z")
            await task.acomplete({"n": name})
            return task

    async def stories():
        return await asyncio.gather(story("ann"), story("ben"))

    for name, task in zip(("ann", "ben"), async_to_sync(stories)(), strict=True):
        assert {each[3] for each in log_of(task)} == {name}
        assert task.outcome == {"success": True, "n": name}
        assert_same(task)


def test_finished_tasks_refuse_every_verb_with_their_story():
    task = finished()
    for call in (
        lambda: task.approve(actor="x"),
        lambda: task.reject(actor="x"),
        lambda: task.request_cancel(actor="x"),
        lambda: task.heartbeat(),
        lambda: task.touch("x"),
        lambda: task.log("x"),
        lambda: task.release(),
        lambda: task.fail("x"),
        lambda: task.pause(),
    ):
        with unchanged(task), pytest.raises(TaskFrozen, match="completed since") as caught:
            call()
        assert caught.value.finished_at == task.finished_at


# Which verb raises what

_VERBS = {
    "approve": (lambda t: t.approve(actor="x"), Status.APPROVED),
    "reject": (lambda t: t.reject(actor="x"), Status.REJECTED),
    "request_cancel": (lambda t: t.request_cancel(actor="x"), ""),
    "heartbeat": (lambda t: t.heartbeat(), None),
    "touch": (lambda t: t.touch("x"), None),
    "log": (lambda t: t.log("x"), None),
    "release": (lambda t: t.release(), Status.APPROVED),
    "complete": (lambda t: t.complete(), Status.COMPLETED),
    "fail": (lambda t: t.fail("x"), Status.FAILED),
    "pause": (lambda t: t.pause(), Status.PAUSED),
}
OK = None
# What each verb does on a fresh instance: pending, approved, executing (by its holder), executing (by a stranger,
# without a token), paused.
_MATRIX = {
    "approve": (OK, IllegalTransition, IllegalTransition, IllegalTransition, IllegalTransition),
    "reject": (OK, OK, IllegalTransition, IllegalTransition, OK),
    "request_cancel": (IllegalTransition, IllegalTransition, OK, OK, IllegalTransition),
    "heartbeat": (LeaseLost, LeaseLost, OK, LeaseLost, LeaseLost),
    "touch": (OK, OK, OK, LeaseLost, OK),
    "log": (OK, OK, OK, LeaseLost, OK),
    "release": (LeaseLost, IllegalTransition, OK, LeaseLost, LeaseLost),
    "complete": (IllegalTransition, IllegalTransition, OK, LeaseLost, IllegalTransition),
    "fail": (IllegalTransition, IllegalTransition, OK, LeaseLost, OK),
    "pause": (IllegalTransition, OK, OK, LeaseLost, IllegalTransition),
}
_PLACES = ("pending", "approved", "executing", "stranger", "paused")


def _in_place(place):
    task = task_in("executing" if place == "stranger" else place)
    if place == "stranger":
        task.claim_token = None
    return task


@pytest.mark.parametrize("place", _PLACES)
@pytest.mark.parametrize("verb", _VERBS)
def test_which_verb_does_or_raises_what(verb, place):
    task = _in_place(place)
    call, leads_to = _VERBS[verb]
    expected = _MATRIX[verb][_PLACES.index(place)]
    if expected is OK:
        call(task)
        assert_same(task)
        return
    with unchanged(task), pytest.raises(expected) as caught:
        call(task)
    error = caught.value
    assert error.task_id == task.pk
    if expected is IllegalTransition:
        assert (error.from_status, error.to_status) == (task.status, leads_to)
    if expected is LeaseLost:
        assert (error.status, error.claim_token) == (task.status, None)
        assert error.claimed_by == ("orch-1" if place == "stranger" else "")


@pytest.mark.parametrize("verb", _VERBS)
@pytest.mark.parametrize("status", FINISHED)
def test_frozen_comes_before_everything_else(verb, status):
    """Also before a lost lease: a task that a stranger finished is frozen first of all."""
    task = task_in(status)
    task.claim_token = uuid7()
    with unchanged(task), pytest.raises(TaskFrozen):
        _VERBS[verb][0](task)


@pytest.mark.parametrize("verb", ["touch", "log", "release", "complete", "fail", "pause", "heartbeat"])
@pytest.mark.parametrize("place", _PLACES)
def test_a_lost_lease_comes_before_an_illegal_step(verb, place):
    task = _in_place(place)
    task.claim_token = lost = uuid7()
    with unchanged(task), pytest.raises(LeaseLost) as caught:
        _VERBS[verb][0](task)
    assert caught.value.claim_token == lost


def test_an_illegal_step_comes_before_a_stale_instance():
    task = task_in(Status.PENDING)
    stale = Task.objects.get(pk=task.pk)
    task.approve(actor="bob")
    with pytest.raises(IllegalTransition) as caught:
        stale.approve(actor="eve")
    assert (caught.value.from_status, caught.value.to_status) == ("approved", "approved")
    with pytest.raises(StaleTask):
        stale.save()


def test_verbs_work_on_an_instance_that_is_behind_when_the_row_allows_it():
    task = task_in(Status.PENDING)
    behind = Task.objects.get(pk=task.pk)
    task.suggest("x")
    behind.approve(actor="bob")
    assert_same(behind)
    assert behind.revision == 3


def test_a_verb_of_a_task_that_is_not_there():
    for call, _ in _VERBS.values():
        with pytest.raises(Task.DoesNotExist):
            call(Task(id=uuid7(), action="x", status="executing", claim_token=uuid7()))
