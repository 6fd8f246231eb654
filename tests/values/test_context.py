"""Who acts: blocks that nest, and keep to their own thread and asyncio task."""

import asyncio
import contextlib
import threading

import pytest

from audit.context import actor, get_actor
from audit.exceptions import InvalidValue


def test_blocks_nest_and_end_also_by_an_error():
    assert get_actor() == ""
    with actor("outer") as name:
        assert name == get_actor() == "outer"
        with contextlib.suppress(KeyError), actor("inner"):
            assert get_actor() == "inner"
            raise KeyError
        assert get_actor() == "outer"
    assert get_actor() == ""


def test_a_refused_name_leaves_the_block_around_it():
    with actor("outer"):
        with pytest.raises(InvalidValue), actor(""):
            pytest.fail("entered")
        assert get_actor() == "outer"


def test_a_function_may_be_decorated():
    @actor("nightly")
    def work():
        return get_actor()

    assert (work(), work(), get_actor()) == ("nightly", "nightly", "")


def test_each_asyncio_task_has_its_own():
    async def story(name):
        with actor(name):
            await asyncio.sleep(0)
            inner = await asyncio.create_task(child())
            await asyncio.sleep(0)
            return get_actor(), inner

    async def child():
        # A task begins with what its maker had, and changes nothing there.
        inherited = get_actor()
        with actor(f"{inherited}'s child"):
            await asyncio.sleep(0)
            return get_actor()

    async def stories():
        return await asyncio.gather(story("ann"), story("ben"))

    assert asyncio.run(stories()) == [("ann", "ann's child"), ("ben", "ben's child")]
    assert get_actor() == ""


def test_each_thread_has_its_own():
    seen, inside, done = [], threading.Event(), threading.Event()

    def other():
        with actor("other"):
            inside.set()
            done.wait(10)
            seen.append(get_actor())

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(10)
    with actor("mine"):
        assert get_actor() == "mine"
    assert get_actor() == ""
    done.set()
    thread.join()
    assert seen == ["other"]


def test_a_threads_function_sees_the_actor_of_the_async_caller():
    from asgiref.sync import async_to_sync, sync_to_async

    async def story():
        with actor("ann"):
            return await sync_to_async(get_actor)()

    assert async_to_sync(story)() == "ann"
