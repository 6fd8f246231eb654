"""A child process of a worker: runs one handler after the other, and ends with the worker.

The main thread runs handlers; a second one hears what the worker says meanwhile. A handler that is to be ended gets
`Stopped` raised by SIGTERM, which does nothing else here: a service manager sends it to every process of a service at
once, and work in flight has its time of grace.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import socket
import sys
import threading
from types import FrameType
from typing import Any

from audit.worker.messages import receive, send

__all__ = ["main"]


class _WorkerChannel:
    """The child's end of the connection to the worker; it is the `Channel` of its runs."""

    def __init__(self, connection: socket.socket) -> None:
        from audit.worker.run import Flags

        self.flags = Flags()
        self.work: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self.stoppable = False
        """Whether a handler runs, which `Stopped` may leave."""
        self._connection = connection
        self._pid = os.getpid()
        self._stop = False
        self._answers: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._asking = threading.Lock()
        self._sending = threading.Lock()
        self._main = threading.get_ident()

    def begin(self) -> None:
        """Forget what was said of the last piece of work."""
        from audit.worker.run import Flags

        self.flags = Flags()
        self._stop = False

    def say(self, *message: Any) -> None:
        """Send a message to the worker; without one, this process ends."""
        try:
            with self._sending:
                send(self._connection, message)
        except OSError:
            self._end_all()

    def ask(self, verb: str, arguments: dict[str, Any]) -> Any:
        """Have the worker carry out a verb."""
        if os.getpid() != self._pid:
            raise RuntimeError("A process that the handler forked cannot use its run; do it in the handler itself.")
        with self._asking:
            self.say("ask", verb, arguments)
            answer, problem = self._answers.get()
        if problem is not None:
            raise _rebuilt(*problem)
        return answer

    async def aask(self, verb: str, arguments: dict[str, Any]) -> Any:
        """Do the same from a coroutine that the handler runs itself."""
        return await asyncio.to_thread(self.ask, verb, arguments)

    def listen(self) -> None:
        """Hear what the worker says, until it is gone."""
        while (message := receive(self._connection)) is not None:
            match message:
                case ("work", *rest):
                    self.work.put(tuple(rest))
                case ("answer", answer, problem):
                    self._answers.put((answer, problem))
                case ("flag", name):
                    setattr(self.flags, name, True)
                case ("stop",):
                    self._stop = True
                    signal.pthread_kill(self._main, signal.SIGTERM)
                case ("leave",):
                    self.work.put(None)
                    return
        self._end_all()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Raise `Stopped` into the handler if the worker wants it to end."""
        from audit.worker.ending import Stopped

        if self._stop and self.stoppable:
            self.stoppable = False
            raise Stopped

    def _end_all(self) -> None:
        """End this process and what it has started: the worker is gone, and whatever they did would come to nothing."""
        if os.getpgrp() == self._pid == os.getpid():
            os.killpg(self._pid, signal.SIGKILL)
        os._exit(1)


def main(number: int) -> None:
    """Be the child at the other end of a socket.

    Args:
        number: the descriptor of the socket.
    """
    # Not by `process.signals`, which leaves alone what was ignored at the start: a handler ends by SIGTERM in any case.
    for each in (signal.SIGINT, signal.SIGHUP):
        signal.signal(each, _nothing)  # not SIG_IGN, which programs that a handler starts would inherit
    connection = socket.socket(fileno=number)
    connection.set_inheritable(False)
    begin = receive(connection)
    if begin is None:
        return
    _, environment = begin
    _set_up(environment)
    channel = _WorkerChannel(connection)
    signal.signal(signal.SIGTERM, channel.on_signal)
    threading.Thread(target=channel.listen, name="audit-worker-channel", daemon=True).start()
    channel.say("ready", sum(os.times()[:4]))
    try:
        while (work := channel.work.get()) is not None:
            _run(channel, environment["worker"], *work)
    finally:
        from django.db import connections

        with contextlib.suppress(Exception):
            connections.close_all()


def _nothing(number: int, frame: FrameType | None) -> None:
    pass


def _set_up(environment: dict[str, Any]) -> None:
    os.environ.update(environment["variables"])
    from django.conf import settings

    if environment["databases"]:
        settings.DATABASES = environment["databases"]
    import django

    django.setup()
    from audit.worker.handlers import discover

    discover()
    # Made anew by whoever needs them: what `ready()` of an app has opened here may be stale by then.
    from django.db import connections

    connections.close_all()


def _run(channel: _WorkerChannel, worker: str, action: str, task: Any) -> None:
    from audit.worker.connections import tidy
    from audit.worker.ending import End, Stopped, call, failed
    from audit.worker.handlers import registered
    from audit.worker.metering import ChildMeter, resident
    from audit.worker.run import Run

    handler = registered().get(action)
    channel.begin()
    meter = ChildMeter()
    run = Run(task, channel)
    try:
        if handler is None:
            end = failed("NoHandler", f"There is no handler of {action!r} in the audit_handlers.py of any app.")
        else:
            channel.stoppable = True
            try:
                end = call(handler, run, worker)
            finally:
                channel.stoppable = False
    except Stopped:
        end = End(verb="stopped")
    if os.getpid() != channel._pid:
        os._exit(0)  # forked by the handler, and come back out of it: the work is its parent's
    end.resources = meter.used()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    tidy()
    channel.say("ended", end, meter.resident or resident("self"), sum(os.times()[:4]))


def _rebuilt(kind: type[BaseException], state: dict[str, Any], arguments: tuple[Any, ...]) -> BaseException:
    """Make an exception anew of what `taken_apart` made of it."""
    error = kind.__new__(kind)
    error.args = arguments
    error.__dict__.update(state)
    return error
