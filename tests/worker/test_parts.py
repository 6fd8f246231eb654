"""The parts of a worker that need no worker: frames, GPU memory, deaths, children that do not start."""

from __future__ import annotations

import os
import pickle
import select
import selectors
import signal
import socket
import struct
import threading
import time
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import Error, InterfaceError, OperationalError, transaction

from audit.models import Task
from audit.worker import messages, places
from audit.worker.calls import Calls, StopRequests
from audit.worker.children import Death
from audit.worker.clerk import is_away
from audit.worker.ending import End
from audit.worker.intake import Intake
from audit.worker.output import Output
from audit.worker.shift import _TRIES_TO_BEGIN, Shift, _cause
from audit.worker.store import Claimed
from audit.worker.summary import Summary
from tests.support.factories import sql
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


def test_a_line_without_an_end_is_passed_on_when_the_work_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    passed_on, to = os.pipe()
    monkeypatch.setattr("audit.worker.output._TO", to)
    output = Output()
    with output.given_away() as given:
        child = os.dup(given)
    try:
        os.write(child, b"first\nsecond")
        assert os.read(passed_on, 100) == b"first\n"
        assert output.take() == ("first\nsecond", 12)
        ready, _, _ = select.select([passed_on], [], [], 60)
        assert ready
        assert os.read(passed_on, 100) == b"second"
    finally:
        output.close()
        output._thread.join(60)
        for each in (child, passed_on, to):
            os.close(each)


def test_a_pause_says_what_it_waits_for() -> None:
    assert _cause({"event": "build-42", "note": ""}, came=False) == ": it waits for the event 'build-42'"
    assert _cause({"event": "build-42"}, came=True) == ": the event 'build-42' is there already, and it goes on"
    assert _cause({"reason": "awaiting_approval", "note": "look"}, came=False) == ": awaiting approval: look"
    assert _cause({}, came=False) == ""


def test_the_end_of_lost_work_is_not_sent() -> None:
    """Not even its note that a result was changed, which no claim fences."""
    said: list[str] = []
    owner: Any = SimpleNamespace(summary=Summary(), drain=False)
    shift = Shift(owner, None, None, StopRequests(), said.append)  # type: ignore[arg-type]
    forgotten: list[Claimed] = []
    shift._store = SimpleNamespace(forget=forgotten.append)  # type: ignore[assignment]
    shift._clerk = None  # type: ignore[assignment]  # whoever gives it a request fails
    shift._storing = 0
    claimed = Claimed(Task(action="deploy"), lost=True)
    job: Any = SimpleNamespace(claimed=claimed, handler=None, started=time.monotonic())
    shift._by_claim = {claimed: job}
    shift._ended(job, End(verb="complete", changes=["a set"]), None)
    assert (forgotten, shift._by_claim, shift._storing) == ([claimed], {}, 0)
    assert owner.summary.counts == {"lost": 1}
    assert said[0].endswith("nothing of it was stored")


def test_what_a_claim_brings_to_a_worker_that_stops_is_given_back() -> None:
    shift = Shift(SimpleNamespace(), None, None, StopRequests(), print)  # type: ignore[arg-type]
    asked: list[Any] = []
    ends: list[Any] = []
    shift._stop_at = time.monotonic() + 3600
    shift._store = SimpleNamespace(save_end=lambda *end: ends.append(end) or "released")  # type: ignore[assignment]
    shift._clerk = SimpleNamespace(give=lambda act, then, keep: asked.append((act, then)))  # type: ignore[assignment]
    claimed = Claimed(Task(action="deploy"))
    intake: Any = SimpleNamespace(waiting=deque([claimed]), under_way=False)
    shift._intake = intake
    shift._shut_down()
    assert not intake.waiting
    assert not shift._has_shut_down()
    [(act, then)] = asked
    then(act(), None)
    [(released, end, _)] = ends
    assert (released, end.verb) == (claimed, "release")
    assert shift._has_shut_down()


def test_a_worker_that_starts_tries_again_where_the_database_is_away_and_not_where_it_refuses() -> None:
    shift = Shift(SimpleNamespace(), None, None, StopRequests(), print)  # type: ignore[arg-type]
    begun: list[int] = []
    shift._begin = lambda: begun.append(shift._tries)
    shift._tries = 0
    with pytest.raises(ValueError, match="refused"):
        shift._on_begun(None, ValueError("refused"))
    assert begun == []
    shift._tries = 0
    for _ in range(_TRIES_TO_BEGIN - 1):
        shift._on_begun(None, OperationalError("away"))
    assert begun == list(range(1, _TRIES_TO_BEGIN))
    with pytest.raises(OperationalError, match="away"):
        shift._on_begun(None, OperationalError("away"))
    assert len(begun) == _TRIES_TO_BEGIN - 1


def test_what_is_lost_before_it_has_a_place_is_not_started() -> None:
    started: list[Claimed] = []
    places = SimpleNamespace(can_run=lambda handler: True, free=1)
    claims = [Claimed(Task(action="deploy"), lost=lost) for lost in (True, False, True)]
    forgotten: list[Claimed] = []
    nothing: Any = None
    intake = Intake(
        nothing,
        SimpleNamespace(of=lambda task: None),  # type: ignore[arg-type]
        store=SimpleNamespace(forget=forgotten.append),  # type: ignore[arg-type]
        upkeep=nothing,
        clerk=nothing,
        places=places,  # type: ignore[arg-type]
        start=started.append,
        unfinished=lambda: 0,
        say=lambda line: None,
    )
    intake.waiting.extend(claims)
    intake.start_waiting()
    assert (started, forgotten, list(intake.waiting)) == ([claims[1]], [claims[0], claims[2]], [])


def test_no_call_is_left_behind_and_none_wakes_twice() -> None:
    done: list[int] = []
    calls, count = Calls(), 2000
    with calls, selectors.DefaultSelector() as selector:
        givers = [
            threading.Thread(target=lambda: [calls.put(lambda: done.append(1)) for _ in range(count)]) for _ in range(3)
        ]
        for each in givers:
            each.start()
        while len(done) < 3 * count:
            calls.run()
            if len(done) < 3 * count:
                began = time.monotonic()
                assert calls.wait(selector, 60.0) == []
                assert time.monotonic() - began < 60.0
        for each in givers:
            each.join()
        # Who put something a moment ago has said so, and has not written to the pipe yet.
        while calls._woken in [key.fileobj for key, _ in selector.select(0)]:
            calls.wait(selector, 0)
        calls._is_woken = True
        assert calls.wait(selector, 0) == []
        calls._wake.send(b".")
        assert calls.wait(selector, 60.0) == []
        assert selector.select(0) == []
        calls.put(lambda: None)
        assert calls._woken in [key.fileobj for key, _ in selector.select(0)]


def test_calls_that_were_closed_can_be_opened_again() -> None:
    calls = Calls()
    with calls, selectors.DefaultSelector() as selector:
        calls.wait(selector, 0)
    calls.put(lambda: None)
    with calls, selectors.DefaultSelector() as selector:
        calls.run()
        calls.wait(selector, 0)
        calls.put(lambda: None)
        assert calls._woken in [key.fileobj for key, _ in selector.select(0)]


@pytest.mark.django_db
def test_a_server_that_takes_no_writes_is_away_and_one_that_refuses_is_not() -> None:
    problems = {}
    for kind, statement in (
        ("read-only", "SET LOCAL transaction_read_only = on; CREATE TABLE t ()"),
        ("refused", "SELECT 1 / 0"),
    ):
        with pytest.raises(Error) as caught, transaction.atomic():
            sql(statement)
        problems[kind] = is_away(caught.value)
    assert problems == {"read-only": True, "refused": False}
    assert is_away(OperationalError())
    assert is_away(InterfaceError())
    assert not is_away(ValueError())


class _Child(SimpleNamespace):
    __hash__ = object.__hash__


def test_children_that_do_nothing_are_looked_at_seldom_and_those_that_work_each_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr(places, "time", SimpleNamespace(monotonic=lambda: now[0]))
    handler: Any = SimpleNamespace(isolation="process", timeout=None)
    made = places.Places(
        "w1",
        {},  # type: ignore[arg-type]
        1,
        give=lambda *_: None,
        deliver=lambda call: None,
        ended=lambda *_: None,
        say=lambda line: None,
    )
    made._handlers = SimpleNamespace(of=lambda task: handler)  # type: ignore[assignment]
    looked: list[str] = []
    child: Any = _Child(
        ready=True,
        retired=False,
        retired_at=None,
        tasks=0,
        resident=0,
        run=lambda action, task: None,
        tell=lambda *_: None,
        reap=lambda: looked.append("reap"),
        sample=lambda: looked.append("sample"),
        measured=lambda resources: {},
    )
    made.children.append(child)
    made.look()
    assert looked == ["reap"]
    assert made.wakes_at(starting=True) == now[0] + 5.0
    made.start(Claimed(Task(action="deploy")))
    assert made.wakes_at(starting=True) == now[0] + 1.0
    now[0] += 1.0
    made.look()
    assert looked == ["reap", "sample", "reap"]
    assert made.wakes_at(starting=True) == now[0] + 1.0
    made._end_in_child(child, End(verb="complete"))
    now[0] += 1.0
    made.look()
    assert made.wakes_at(starting=True) == now[0] + 5.0
    made.selector.close()
