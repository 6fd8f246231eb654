"""Signals of commands and workers, as real processes and threads get them."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from audit.process.signals import SignalHandlers, StopRequest, terminable

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


def eventually(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


@contextmanager
def running(what: str, folder: Path, ignoring: tuple[int, ...] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ready for signals, of which it ignores some since before it began."""

    def inherit() -> None:
        for number in (*INTERRUPTS, signal.SIGHUP):  # whoever runs the tests may ignore some
            signal.signal(number, signal.SIG_IGN if number in ignoring else signal.SIG_DFL)

    command = [sys.executable, "-m", "tests.support.stopping", what, str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=inherit)
    try:
        eventually(lambda: (folder / "ready").exists() or process.poll() is not None)
        assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.wait()


def files(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()} - {"ready"}


@pytest.mark.parametrize("number", INTERRUPTS)
def test_the_first_signal_asks_for_the_end(tmp_path: Path, number: int) -> None:
    with running("stop", tmp_path) as process:
        process.send_signal(number)
        eventually(lambda: files(tmp_path) == {"stopping"})
        (tmp_path / "end").touch()
        assert process.wait(120) == 0
    assert files(tmp_path) == {"stopping", "end", "stopped"}


@pytest.mark.parametrize("first", INTERRUPTS)
@pytest.mark.parametrize("second", INTERRUPTS)
def test_the_second_signal_ends_at_once(tmp_path: Path, first: int, second: int) -> None:
    with running("stop", tmp_path) as process:
        process.send_signal(first)
        eventually(lambda: files(tmp_path) == {"stopping"})
        process.send_signal(second)
        assert process.wait(120) == -second
    assert files(tmp_path) == {"stopping"}


def test_a_signal_that_was_ignored_stays_ignored(tmp_path: Path) -> None:
    with running("stop", tmp_path, ignoring=(signal.SIGINT,)) as process:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        eventually(lambda: files(tmp_path) == {"stopping"})
        process.send_signal(signal.SIGINT)
        (tmp_path / "end").touch()
        assert process.wait(120) == 0
    assert files(tmp_path) == {"stopping", "end", "stopped"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_block_is_unwound_and_the_signal_ends_the_process(tmp_path: Path, number: int) -> None:
    with running("unwind", tmp_path) as process:
        process.send_signal(number)
        assert process.wait(120) == -number
    assert files(tmp_path) == {"unwound"}


def test_under_nohup_a_hangup_unwinds_nothing(tmp_path: Path) -> None:
    with running("unwind", tmp_path, ignoring=(signal.SIGHUP,)) as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == -signal.SIGTERM
    assert files(tmp_path) == {"unwound"}


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """What a handler hears that somebody else has installed for SIGTERM."""
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    yield received
    signal.signal(signal.SIGTERM, before)


def test_what_was_there_comes_back_after_the_first_signal_and_after_the_block(heard: list[int]) -> None:
    theirs = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert not stop.wait(30)
        assert (heard, signal.getsignal(signal.SIGTERM)) == ([], theirs)
        os.kill(os.getpid(), signal.SIGTERM)
        eventually(lambda: heard == [signal.SIGTERM])
    with pytest.raises(ZeroDivisionError), StopRequest():  # noqa: PT012 - the block is the point
        assert signal.getsignal(signal.SIGTERM) != theirs
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) == theirs


def test_unwinding_leaves_a_handler_of_somebody_else_alone(heard: list[int]) -> None:
    theirs = signal.getsignal(signal.SIGTERM)
    with terminable():
        assert signal.getsignal(signal.SIGTERM) == theirs
        os.kill(os.getpid(), signal.SIGTERM)
        eventually(lambda: heard == [signal.SIGTERM])


def test_another_thread_installs_nothing_and_can_be_asked_to_stop() -> None:
    before = [signal.getsignal(number) for number in INTERRUPTS]
    found: list[Any] = []
    stops: list[StopRequest] = []

    def work() -> None:
        with terminable(), SignalHandlers(INTERRUPTS, lambda number, frame: None), StopRequest() as stop:
            found.append([signal.getsignal(number) for number in INTERRUPTS])
            stops.append(stop)
            while stop.wait(60):
                pass
            found.append("stopped")

    thread = threading.Thread(target=work)
    thread.start()
    eventually(lambda: bool(stops))
    stops[0].request()
    thread.join(120)
    assert found == [before, "stopped"]
    stops[0].request()  # once more, after its end


def test_a_request_before_the_wait_is_not_missed_and_a_wait_may_be_endless() -> None:
    with StopRequest() as stop:
        threading.Timer(0.2, stop.request).start()
        began = time.monotonic()
        assert not stop.wait(60)
        assert time.monotonic() - began < 50
        assert not stop.wait(10.0**10)
    with StopRequest() as stop:
        assert stop.wait(0)
        assert not stop.requested


def test_a_reader_that_leaves_is_a_request() -> None:
    reading, writing = os.pipe()
    try:
        with StopRequest(writing) as stop:
            assert stop.wait(0.01)
            os.close(reading)
            assert not stop.wait(60)
            assert stop.requested
    finally:
        os.close(writing)
