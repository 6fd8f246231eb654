"""`record` in async code: contexts that do not mix, and cancellation at any moment."""

import asyncio
import contextlib
import time
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError

from audit import record
from audit.context import get_actor
from audit.models import Task
from audit.recording import block, current_task

pytestmark = pytest.mark.django_db


def only() -> Task:
    return Task.objects.get()


def test_async_block_and_coroutine_function() -> None:
    class Called:
        async def __call__(self) -> UUID:
            return current_task().pk

    @record("inner")
    async def inner(n: int) -> tuple[int, UUID]:
        await asyncio.sleep(0)
        return n, current_task().pk

    async def main() -> None:
        async with record("outer", actor="alice") as outer:
            assert current_task() is outer
            assert get_actor() == "alice"
            await outer.alog("step")
            assert (await inner(7))[0] == 7
            await record("called")(Called())()
        assert current_task() is None
        assert outer.status == "completed"

    async_to_sync(main)()
    outer, *inners = Task.objects.order_by("id")
    assert [task.action for task in inners] == ["inner", "called"]
    assert {task.parent for task in inners} == {outer.pk}
    assert {task.status for task in (outer, *inners)} == {"completed"}


def test_async_failure_goes_on() -> None:
    async def main() -> None:
        async with record("outer"):
            raise ValueError("async")

    with pytest.raises(ValueError, match="async"):
        async_to_sync(main)()
    assert only().outcome["error_type"] == "ValueError"


def test_concurrent_asyncio_tasks_do_not_mix() -> None:
    async def work(n: int) -> None:
        async with record("outer", actor=f"actor-{n}") as outer:
            await asyncio.sleep(0.001 * (n % 3))
            async with record("inner") as inner:
                await asyncio.sleep(0.001 * (n % 2))
                assert (current_task(), get_actor()) == (inner, f"actor-{n}")
            assert (inner.parent, inner.requested_by) == (outer.pk, f"actor-{n}")
            assert current_task() is outer

    async def main() -> None:
        await asyncio.gather(*(work(n) for n in range(20)))

    async_to_sync(main)()
    assert Task.objects.filter(status="completed").count() == 40


def test_a_cancelled_asyncio_task_fails() -> None:
    async def main() -> None:
        started = asyncio.Event()

        async def work() -> None:
            async with record("work"):
                started.set()
                await asyncio.sleep(60)

        working = asyncio.ensure_future(work())
        await started.wait()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working

    async_to_sync(main)()
    assert (only().status, only().outcome["error_type"]) == ("failed", "CancelledError")


@pytest.mark.parametrize("passes", range(6))
def test_cancelled_at_any_moment_nothing_stays_open(passes: int) -> None:
    """Also while the task is being written, and while its end is."""

    async def work() -> None:
        async with record("work"):
            await asyncio.sleep(0)

    async def main() -> None:
        working = asyncio.ensure_future(work())
        for _ in range(passes):
            await asyncio.sleep(0)
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
        assert current_task() is None

    async_to_sync(main)()
    assert not Task.objects.live().exists()


def test_timeout_around_a_record() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):  # noqa: PT012 - the time begins with the work, however slow the machine is
            async with asyncio.timeout(None) as limit, record("slow"):
                limit.reschedule(asyncio.get_running_loop().time() + 0.05)
                await asyncio.sleep(60)

    async_to_sync(main)()
    assert (only().status, only().outcome["error_type"]) == ("failed", "CancelledError")


@pytest.mark.parametrize(
    ("moment", "status", "error_type"),
    [("insert_executing", "failed", "CancelledError"), ("finish", "completed", None)],
)
@pytest.mark.parametrize("failing", [False, True])
def test_cancelled_while_an_end_is_written(
    monkeypatch: pytest.MonkeyPatch, moment: str, status: str, error_type: str | None, failing: bool
) -> None:
    real = getattr(block, moment)
    cancel: list[Any] = []

    def slowly(*args: Any) -> Any:
        cancel[0].call_soon_threadsafe(cancel[1].cancel)
        time.sleep(0.1)
        return real(*args)

    async def work() -> None:
        async with record("work"):
            if failing:
                raise KeyError

    async def main() -> None:
        working = asyncio.ensure_future(work())
        cancel[:] = [asyncio.get_running_loop(), working]
        # An exception that is on its way already wins over the cancellation.
        with pytest.raises(KeyError if failing and moment == "finish" else asyncio.CancelledError):
            await working

    monkeypatch.setattr(block, moment, slowly)
    async_to_sync(main)()
    if failing and moment == "finish":
        status, error_type = "failed", "KeyError"
    assert (only().status, only().outcome.get("error_type")) == (status, error_type)


def test_a_start_that_fails_while_cancelled_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cancel: list[Any] = []

    def broken(*_: Any) -> None:
        cancel[0].call_soon_threadsafe(cancel[1].cancel)
        time.sleep(0.1)
        raise OperationalError("away")

    async def work() -> None:
        async with record("work"):
            pytest.fail("the block ran")

    async def main() -> None:
        working = asyncio.ensure_future(work())
        cancel[:] = [asyncio.get_running_loop(), working]
        with pytest.raises(asyncio.CancelledError):
            await working

    monkeypatch.setattr(block, "insert_executing", broken)
    async_to_sync(main)()
    assert "could not be written while its caller was cancelled: away" in caplog.text
