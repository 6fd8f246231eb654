"""Handlers that run in the worker's own process: coroutines in an event loop, functions in threads."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from audit.worker.connections import tidy
from audit.worker.ending import End, Stopped, call, call_async
from audit.worker.handlers import Handler
from audit.worker.run import Flags, Run

__all__ = ["EventLoop", "InProcessChannel", "Threads"]


class InProcessChannel:
    """The channel of a run inside the worker's process.

    Args:
        give: takes a verb, its arguments, and what is called with the answer or the problem, in any thread.
    """

    def __init__(self, give: Callable[[str, dict[str, Any], Callable[[Any, Exception | None], None]], None]) -> None:
        self.flags = Flags()
        self._give = give

    def ask(self, verb: str, arguments: dict[str, Any]) -> Any:
        """Have the worker carry out a verb, and wait."""
        return self._asked(verb, arguments).result()

    async def aask(self, verb: str, arguments: dict[str, Any]) -> Any:
        """Have the worker carry out a verb, and wait for it in the event loop."""
        return await asyncio.wrap_future(self._asked(verb, arguments))

    def _asked(self, verb: str, arguments: dict[str, Any]) -> Future[Any]:
        answer: Future[Any] = Future()

        def then(result: Any, problem: Exception | None) -> None:
            if not answer.cancelled():
                with contextlib.suppress(Exception):  # cancelled at this very moment
                    answer.set_result(result) if problem is None else answer.set_exception(problem)

        self._give(verb, arguments, then)
        return answer


class EventLoop:
    """A thread with an event loop for coroutine handlers.

    CPU and memory of one of them cannot be told from those of the rest; only its wall time is measured.
    """

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="audit-worker-loop", daemon=True).start()

    def start(self, handler: Handler, run: Run, ended: Callable[[End], None]) -> Callable[[], None]:
        """Start a handler.

        Args:
            handler: whose function is a coroutine function.
            run: for it.
            ended: called in the loop's thread with its end.

        Returns:
            What ends it: it is cancelled, and then ends as `stopped`.
        """
        stopped = threading.Event()

        async def work() -> None:
            began = time.monotonic()
            end = await call_async(handler, run, self._worker)
            if stopped.is_set() and end.verb == "fail":
                end = End(verb="stopped")
            end.resources = {"wall_s": round(time.monotonic() - began, 6)}
            ended(end)

        tasks: list[asyncio.Task[None]] = []

        def begin() -> None:
            tasks.append(self._loop.create_task(work()))
            # Cancelled before its first step, it never gets to say so.
            tasks[0].add_done_callback(lambda done: ended(End(verb="stopped")) if done.cancelled() else None)

        def stop() -> None:
            stopped.set()
            self._loop.call_soon_threadsafe(lambda: tasks[0].cancel())

        self._loop.call_soon_threadsafe(begin)
        return stop


class Threads:
    """Threads for handlers that want no process of their own; each is used for many tasks.

    A thread cannot be ended. It is asked to stop (`run.should_stop`), and its slot is taken until it does.
    """

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._work: queue.SimpleQueue[tuple[Handler, Run, Callable[[End], None]]] = queue.SimpleQueue()
        self._idle = 0
        self._changing = threading.Lock()

    def start(self, handler: Handler, run: Run, ended: Callable[[End], None]) -> Callable[[], None]:
        """Start a handler.

        Args:
            handler: whose function is a plain function.
            run: for it.
            ended: called in its thread with its end.

        Returns:
            What would end it, and does nothing.
        """
        with self._changing:
            if self._idle:
                self._idle -= 1
            else:
                threading.Thread(target=self._serve, name="audit-worker-thread", daemon=True).start()
        self._work.put((handler, run, ended))
        return lambda: None

    def _serve(self) -> None:
        while True:
            handler, run, ended = self._work.get()
            began, cpu = time.monotonic(), time.thread_time()
            try:
                end = call(handler, run, self._worker)
            except Stopped:
                end = End(verb="stopped")
            end.resources = {
                "wall_s": round(time.monotonic() - began, 6),
                "cpu_s": round(time.thread_time() - cpu, 6),
            }
            with contextlib.suppress(Exception):
                tidy()
            with self._changing:
                self._idle += 1
            ended(end)
