"""The parts of a worker that need no worker: frames, GPU memory, deaths, children that do not start."""

from __future__ import annotations

import pickle
import signal
import socket
import struct

import pytest

from audit.worker import messages
from audit.worker.children import Death
from audit.worker.shift import _cause
from tests.support.worker import worker


def test_a_message_that_stops_in_the_middle_holds_nobody_up() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader = messages.Reader(ours)
        assert list(reader.read()) == []
        data = pickle.dumps(("ended", "x" * 100_000))
        framed = struct.pack("!Q", len(data)) + data
        theirs.sendall(framed[:50_000])
        assert list(reader.read()) == []
        theirs.sendall(framed[50_000:] + framed + framed[:3])
        assert list(reader.read()) == [("ended", "x" * 100_000)] * 2
        theirs.close()
        assert list(reader.read()) == []
        assert reader.ended


def test_a_side_that_is_gone_sends_nothing() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        messages.send(theirs, ("ready",))
        theirs.sendall(b"\0\0")
        theirs.close()
        assert messages.receive(ours) == ("ready",)
        assert messages.receive(ours) is None
        with pytest.raises(OSError, match="Broken pipe"):
            messages.send(ours, ("work",))


def test_a_death_is_described() -> None:
    assert (
        Death(code=-signal.SIGKILL, resources={})
        .describe()[1]
        .endswith("SIGKILL. Perhaps the system was short of memory.")
    )
    assert Death(code=-60, resources={}).describe() == (
        "Signal",
        "The process of the handler was killed by signal 60.",
        {"signal": "signal 60"},
    )
    assert Death(code=0, resources={}).describe()[1].startswith("The process of the handler ended with exit status 0")


@pytest.mark.django_db(transaction=True)
def test_children_that_do_not_start_end_the_worker_with_the_reason() -> None:
    with worker("--concurrency", "1", variables={"AUDIT_WORKER_BROKEN": "no such module"}) as running:
        assert running.wait() == 2
        assert running.said("A child process did not start; again in 1 s.")
        assert running.said("Child processes do not start (4 times): ImportError: no such module")


def test_a_pause_says_what_it_waits_for() -> None:
    assert _cause({"event": "build-42", "note": ""}) == ": it waits for the event 'build-42'"
    assert _cause({"reason": "awaiting_approval", "note": "look"}) == ": awaiting approval: look"
    assert _cause({}) == ""
