"""Projects with several databases: routers and `using=` decide, in every verb, and nothing touches the others."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from audit import record
from audit.exceptions import ConflictingTask, IllegalTransition, LeaseLost, TaskFrozen
from audit.ids import uuid7
from audit.models import ExecutionLog, PauseQueueEntry, Task
from audit.status import Status

pytestmark = pytest.mark.django_db(databases=["default", "other"])


class TrailRouter:
    """`audit` lives in `other`."""

    def db_for_read(self, model: type, **hints: Any) -> str | None:
        return "other" if model._meta.app_label == "audit" else None

    db_for_write = db_for_read


class ReplicaRouter:
    """Reads from `default`, which stands for a replica that lags behind for ever; writes to `other`."""

    def db_for_read(self, model: type, **hints: Any) -> str:
        return "default"

    def db_for_write(self, model: type, **hints: Any) -> str:
        return "other"


@pytest.fixture
def default_untouched() -> Iterator[None]:
    with CaptureQueriesContext(connections["default"]) as captured:
        yield
    assert captured.captured_queries == []


@pytest.fixture
def trail(default_untouched: None) -> Iterator[None]:
    with override_settings(DATABASE_ROUTERS=[TrailRouter()]):
        yield


@pytest.fixture
def replica(default_untouched: None) -> Iterator[None]:
    with override_settings(DATABASE_ROUTERS=[ReplicaRouter()]):
        yield


def _executing(**how: Any) -> Task:
    """A claimed task, wherever the router sends it, or at `using`."""
    using = how.get("using")
    tasks = Task.objects.using(using) if using else Task.objects
    task = tasks.request("deploy", services=["kuma"], plan={"step": 1}, actor="alice")
    task.approve(actor="bob", **how)
    [task] = tasks.claim(worker="w", lease=timedelta(minutes=1))
    return task


def _paused(**how: Any) -> PauseQueueEntry:
    task = _executing(**how)
    entry = task.pause(reason="insufficient_capacity", work_plan={"step": 2}, **how)
    assert entry.task_id == task.pk
    return entry


def _work(**how: Any) -> None:
    """Every verb, each on the rows that the ones before it wrote."""
    entries = PauseQueueEntry.objects.using(how["using"]) if how else PauseQueueEntry.objects
    tasks = Task.objects.using(how["using"]) if how else Task.objects
    task = _executing(**how)
    task.heartbeat(**how)
    task.touch("dns", **how)
    task.log("pull", **how)
    task.note("a note", **how)
    task.suggest("pin it", **how)
    task.request_cancel(actor="bob", **how)
    task.complete({"success": True}, **how)
    task.note("afterwards", **how)
    _executing(**how).fail(RuntimeError("no"), **how)
    _executing(**how).release(**how)
    [again] = tasks.claim(worker="w")
    again.complete(**how)
    tasks.request("deploy", actor="alice").reject(actor="bob", **how)
    entry = _paused(**how)
    entry.hold(**how)
    entry.defer(timedelta(hours=1), **how)
    assert entry.resume(**how).status == Status.APPROVED
    tasks.claim(worker="w")
    _paused(**how).cancel(reason="no", **how)
    _paused(**how)
    [claimed] = entries.claim(worker="w")
    claimed.release(**how)
    tasks.bulk_request([{"action": "backup"}])
    tasks.bulk_record([{"action": "backup", "status": "completed"}])
    assert tasks.recover_expired() == []


def _count(alias: str) -> int:
    return Task.objects.using(alias).count() + ExecutionLog.objects.using(alias).count()


def test_every_verb_goes_where_the_router_says(trail):
    _work()
    assert Task.objects.finished().exists()
    assert _count("other") > 30


def test_every_verb_goes_where_using_says(default_untouched):
    _work(using="other")
    assert _count("other") > 30


def test_verbs_of_an_instance_stay_on_its_database(default_untouched):
    """Without a router: the alias that an instance was read from, as Django's own `save()` has it."""
    task = Task.objects.using("other").request("deploy", actor="alice")
    task.approve(actor="bob")
    [task] = Task.objects.using("other").claim(worker="w")
    task.pause(reason="manual_pause")
    entry = PauseQueueEntry.objects.using("other").get()
    resumed = entry.resume()
    assert resumed._state.db == "other"
    task = Task.objects.using("other").get()
    task.priority = 1
    task.save()
    task.refresh_from_db()
    assert (task.priority, task._state.db) == (1, "other")


def test_every_verb_writes_to_the_primary_and_reads_there_what_it_needs(replica):
    _work()
    # Reads of one's own go to the replica, which has nothing.
    assert _count("other") > 30


def _with_a_strange_token(task: Task) -> None:
    task.claim_token = uuid7()
    task.heartbeat()


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda task: task.approve(actor="bob"), IllegalTransition),
        (lambda task: task.complete({}, actor="eve") or task.reject(), TaskFrozen),
        (_with_a_strange_token, LeaseLost),
    ],
)
def test_the_errors_of_verbs_are_reported_by_the_primary(replica, wrong: Callable[[Task], object], error):
    task = _executing()
    with pytest.raises(error):
        wrong(task)


def test_repeated_requests_are_compared_on_the_primary(replica):
    key = uuid7()
    first = Task.objects.request("deploy", id=key, actor="alice")
    assert Task.objects.request("deploy", id=key, actor="alice") == first
    with pytest.raises(ConflictingTask):
        Task.objects.request("backup", id=key, actor="alice")


def test_save_goes_to_the_primary(replica):
    task = Task(action="deploy")
    task.save()
    task.summary = "changed"
    task.save()
    assert (task.revision, task._state.db) == (2, "other")


def test_twins_for_async_code_go_the_same_way(trail):
    async def work() -> Task:
        task = await Task.objects.arequest("deploy", actor="alice")
        await task.aapprove(actor="bob")
        return task

    task = async_to_sync(work)()
    assert (task.status, task._state.db) == (Status.APPROVED, "other")


def test_record_goes_where_the_router_says(trail):
    with record("backup", services=["db"]) as recording:
        recording.log("dump")
    assert Task.objects.get().status == Status.COMPLETED


def test_record_goes_where_its_setting_says(default_untouched, settings):
    settings.AUDIT = {"RECORD_USING": "other"}
    with record("backup"):
        pass
    assert Task.objects.using("other").get().status == Status.COMPLETED
